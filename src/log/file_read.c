/* file_read.c - the log in segment files: reading by place and in order.
 *
 * What is written comes from the files, what is not from the batches of the writer; between the two
 * lies the writer's written_place, which only grows.
 * Owns: nothing. Thread: the loop thread. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "log/log_file.h"

#define READ_AHEAD_BYTES 1024 /* First read of a record; most need no second. */

/* Reads and checks the record at `offset`, in two reads when it is large. */
static enum cg_code read_at(struct cg_segment *segment, uint64_t offset, struct cg_buf *buf,
                            struct cg_record *record, struct cg_err *err) {
  size_t record_size;
  size_t want = READ_AHEAD_BYTES;
  for (;;) {
    uint8_t *bytes = cg_buf_room(buf, want);
    size_t count;
    enum cg_code code = cg_segment_read(segment, bytes, want, offset, &count, err);
    uint64_t stated = cg_record_stated_size(bytes, count);
    if (code == CG_OK && want == READ_AHEAD_BYTES && stated > want &&
        stated <= CG_COMMIT_BYTES_MAX) {
      want = (size_t)stated;
      continue;
    }
    if (code == CG_OK)
      code = cg_record_decode(bytes, count, record, &record_size, err);
    if (code == CG_OK &&
        cg_record_stored_crc(bytes) != cg_record_crc(bytes, record_size, segment->header.nonce))
      code = cg_err_set(err, CG_ECORRUPT, "record has a wrong CRC");
    if (code != CG_OK) {
      char name[CG_SEGMENT_NAME_BYTES];
      cg_segment_name(name, segment->header.number);
      return cg_err_prefix(err, "%s/%s: offset %" PRIu64, segment->directory, name, offset), code;
    }
    buf->size = record_size;
    return CG_OK;
  }
}

enum cg_code cg_file_read_record(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                                 struct cg_record *record, struct cg_err *err) {
  struct cg_log_file *file = cg_log_file_of(log);
  uint64_t number = place >> 32, offset = (place & UINT32_MAX) * 8;
  if (number >= file->segment_count)
    return cg_err_set(err, CG_ENOTFOUND, "no segment %" PRIu64 " in %s", number, file->directory);
  if (cg_writer_copy_record(&file->writer, place, buf)) {
    size_t size;
    return cg_record_decode(buf->data, buf->size, record, &size, err);
  }
  /* Also when it was written just now, between two looks. */
  if (place >= atomic_load_explicit(&file->writer.written_place, memory_order_acquire))
    return cg_err_set(err, CG_ENOTFOUND, "no record in segment %" PRIu64 " at offset %" PRIu64,
                      number, offset);
  return read_at(file->segments[number], offset, buf, record, err);
}

/* Sets the cursor's reader to the cursor's segment, up to what is written of it. */
static void turn_reader(struct cg_log_file *file, struct cg_log_cursor *cursor, bool is_new) {
  struct cg_segment *segment = file->segments[cursor->number];
  uint64_t written_place = atomic_load_explicit(&file->writer.written_place, memory_order_acquire);
  /* A segment before the one being written is whole: all of it may be read. */
  uint64_t limit = segment->header.segment_bytes;
  if (cursor->number == written_place >> 32)
    limit = (written_place & UINT32_MAX) * 8;
  else if (cursor->number > written_place >> 32)
    limit = 0;
  if (is_new)
    cg_reader_turn(&cursor->reader, segment, limit);
  else
    cg_reader_extend(&cursor->reader, limit);
}

/* Sets the cursor to a waypoint at or before its position. */
static void locate(struct cg_log_file *file, struct cg_log_cursor *cursor) {
  uint32_t low = 0, high = file->segment_count;
  while (low < high) { /* Finds the first segment that begins behind the position. */
    uint32_t middle = low + (high - low) / 2;
    if (file->segments[middle]->header.first_position <= cursor->position)
      low = middle + 1;
    else
      high = middle;
  }
  assert(low > 0);
  cursor->number = low - 1;
  cursor->offset = cg_segment_seek(file->segments[low - 1], cursor->position);
  cursor->is_located = true;
  turn_reader(file, cursor, true);
}

/* Adds file and offset to an error met by a cursor. */
static enum cg_code cursor_failed(const struct cg_log_file *file,
                                  const struct cg_log_cursor *cursor, enum cg_code code,
                                  struct cg_err *err) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, cursor->number);
  cg_err_prefix(err, "%s/%s: offset %" PRIu64, file->directory, name, cursor->offset);
  return code;
}

/* Reads on in the files up to the commit that holds the cursor's position. */
static enum cg_code fetch_written(struct cg_log_file *file, struct cg_log_cursor *cursor,
                                  struct cg_err *err) {
  /* A rewritten segment has another nonce, and its commits lie elsewhere. */
  if (!cursor->is_located || cursor->reader.nonce != file->segments[cursor->number]->header.nonce)
    locate(file, cursor);
  else
    turn_reader(file, cursor, false);
  for (;;) {
    struct cg_reader_commit commit;
    enum cg_code code = cg_reader_header(&cursor->reader, cursor->offset, &commit.header, err);
    if (code == CG_END && cursor->number + 1 < file->segment_count) {
      cursor->number++;
      cursor->offset = CG_SEGMENT_HEADER_BYTES;
      turn_reader(file, cursor, true);
      continue;
    }
    if (code == CG_END)
      code = cg_err_set(err, CG_ECORRUPT, "commit of position %" PRIu64 " is missing",
                        cursor->position);
    if (code == CG_OK && cg_commit_end_position(&commit.header) <= cursor->position) {
      cursor->offset += commit.header.size;
      continue;
    }
    if (code == CG_OK)
      code = cg_reader_commit(&cursor->reader, cursor->offset, &commit, err);
    if (code == CG_OK && commit.header.first_position > cursor->position)
      code = cg_err_set(err, CG_ECORRUPT, "commit of position %" PRIu64 " is missing",
                        cursor->position);
    if (code != CG_OK)
      return cursor_failed(file, cursor, code, err);
    cursor->offset += commit.header.size;
    cursor->at = commit.records;
    cursor->left_size = commit.records_size;
    cursor->left_count = commit.header.record_count;
    cursor->at_position = commit.header.first_position;
    return CG_OK;
  }
}

enum cg_code cg_file_read_fetch(struct cg_log *log, struct cg_log_cursor *cursor,
                                struct cg_err *err) {
  struct cg_log_file *file = cg_log_file_of(log);
  if (cursor->position < cg_writer_readable_position(&file->writer))
    return fetch_written(file, cursor, err);
  struct cg_batch_commit commit;
  cursor->copy->size = 0;
  if (!cg_writer_copy_commit(&file->writer, cursor->position, cursor->copy, &commit))
    return fetch_written(file, cursor, err); /* It was written just now. */
  cursor->at = cursor->copy->data;
  cursor->left_size = cursor->copy->size;
  cursor->left_count = commit.record_count;
  cursor->at_position = commit.first_position;
  cursor->number = commit.place >> 32;
  cursor->offset = (commit.place & UINT32_MAX) * 8 + commit.size;
  cursor->is_located = true;
  turn_reader(file, cursor, true);
  return CG_OK;
}
