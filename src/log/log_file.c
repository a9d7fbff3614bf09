/* log_file.c - the log in segment files: opening, appending over rotations, reading, closing.
 *
 * Puts together recovery, the writer and the segments. The directory holds "lock" and the segments.
 * The loop thread decides where a commit goes, and makes the file of the next segment itself when
 * the last is used up: so a full disk is met before a commit depends on the space.
 * Owns: the lock file, the segments, the writer. Thread: the loop thread. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "log/io.h"
#include "log/kind.h"
#include "log/recovery.h"
#include "log/segment.h"
#include "log/writer.h"

#define READ_AHEAD_BYTES 1024 /* First read of a record; most need no second. */

/* The log. */
struct file_log {
  struct cg_log log;            /* The shared part. */
  char *directory;              /* Where it lies. */
  int lock;                     /* Handle of the lock file; -1: not open. */
  uint8_t log_id[16];           /* The same in all segments. */
  struct cg_segment **segments; /* By number; the last may not be published yet. */
  uint32_t segment_count;       /* How many. */
  uint32_t segment_capacity;    /* Room in the table; 0: exactly segment_count. */
  struct cg_log_seal *seals;    /* Of sealed segments, by number. */
  uint32_t seal_count;          /* How many are noted. */
  uint32_t seal_capacity;       /* Room in the table. */
  uint64_t cut_bytes;           /* Cut by recovery. */
  struct cg_writer writer;      /* Started last. */
};

static const struct cg_log_kind file_kind;

static struct file_log *of(struct cg_log *log) {
  return (struct file_log *)log; /* The shared part is the first member. */
}

/* --- segments --- */

/* 64 well-mixed bits from the seed and a count, or from the system when there is no seed. */
static enum cg_code draw(const struct file_log *file, uint64_t count, uint64_t *value,
                         struct cg_err *err) {
  uint64_t seed = file->log.options.nonce_seed;
  if (seed == 0) {
    if (getrandom(value, sizeof(*value), 0) != sizeof(*value))
      return cg_err_set(err, CG_EIO, "getrandom: %s", strerror(errno));
    return CG_OK;
  }
  uint64_t mixed = seed + (count + 1) * UINT64_C(0x9e3779b97f4a7c15); /* SplitMix64. */
  mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
  *value = mixed ^ mixed >> 31;
  return CG_OK;
}

/* Puts a segment at the end of the table. */
static void add_segment(struct file_log *file, struct cg_segment *segment) {
  if (file->segment_count >= file->segment_capacity) {
    file->segment_capacity = file->segment_count > 0 ? file->segment_count * 2 : 8;
    file->segments =
        cg_realloc(file->segments, file->segment_capacity * sizeof(struct cg_segment *));
  }
  file->segments[file->segment_count++] = segment;
}

/* Makes the file of the segment after the last; it is not in the table yet. */
static enum cg_code make_segment(struct file_log *file, struct cg_segment **segment,
                                 struct cg_err *err) {
  if (file->segment_count == UINT32_MAX)
    return cg_err_set(err, CG_ELIMIT, "%s: no more segment numbers", file->directory);
  uint64_t nonce;
  enum cg_code code = draw(file, 2 + (uint64_t)file->segment_count, &nonce, err);
  if (code != CG_OK)
    return code;
  struct cg_segment_header header = {
      .number = file->segment_count,
      .first_position = file->log.next_position,
      .nonce = (uint32_t)(nonce >> 32),
      .created_ms = cg_clock_wall_ms(&file->log.options.clock),
      .segment_bytes = file->log.options.segment_bytes,
  };
  memcpy(header.log_id, file->log_id, sizeof(header.log_id));
  return cg_segment_reserve(segment, file->log.options.fs, file->directory, &header, err);
}

/* Makes the first segment of a new log and says where it ends. */
static enum cg_code make_first(struct file_log *file, struct cg_writer_tail *tail,
                               struct cg_err *err) {
  uint64_t halves[2];
  enum cg_code code = draw(file, 0, &halves[0], err);
  if (code == CG_OK)
    code = draw(file, 1, &halves[1], err);
  if (code != CG_OK)
    return code;
  memcpy(file->log_id, halves, sizeof(file->log_id));
  struct cg_segment *segment;
  code = make_segment(file, &segment, err);
  if (code != CG_OK)
    return code;
  add_segment(file, segment);
  *tail = (struct cg_writer_tail){.segment = segment,
                                  .offset = CG_SEGMENT_HEADER_BYTES,
                                  .next_position = 1,
                                  .marked_position = 1};
  return cg_segment_publish(segment, 0, err);
}

/* --- opening and closing --- */

/* Makes the directory, and its name durable while the log is not there yet. */
static enum cg_code make_directory(struct file_log *file, struct cg_err *err) {
  const struct cg_fs *fs = file->log.options.fs;
  int result;
  unsigned interrupt_count = 0;
  do {
    result = fs->mkdir(fs->arg, file->directory);
  } while (result == -EINTR && ++interrupt_count < CG_IO_INTERRUPTS_MAX);
  if (result < 0 && result != -EEXIST)
    return cg_err_set(err, result == -ENOTDIR ? CG_EINVAL : cg_err_from_errno(-result),
                      "make directory %s: %s", file->directory, strerror(-result));
  return CG_OK;
}

/* Takes the lock file, so that no other process can open the log. */
static enum cg_code take_lock(struct file_log *file, struct cg_err *err) {
  const struct cg_fs *fs = file->log.options.fs;
  char *path = cg_segment_path(file->directory, "lock");
  enum cg_code code = CG_OK;
  file->lock = cg_io_open(fs, path, CG_FS_OPEN_ALWAYS);
  if (file->lock < 0) {
    int error = -file->lock;
    code = error == ENOTDIR
               ? cg_err_set(err, CG_EINVAL, "%s is not a directory", file->directory)
               : cg_err_set(err, cg_err_from_errno(error), "open %s: %s", path, strerror(error));
    goto done;
  }
  int result;
  unsigned interrupt_count = 0;
  do {
    result = fs->lock(fs->arg, file->lock);
  } while (result == -EINTR && ++interrupt_count < CG_IO_INTERRUPTS_MAX);
  if (result == -EWOULDBLOCK)
    code = cg_err_set(err, CG_EBUSY, "the log in %s is open in another process; end that first",
                      file->directory);
  else if (result < 0)
    code = cg_err_set(err, cg_err_from_errno(-result), "lock %s: %s", path, strerror(-result));

done:
  cg_free(path);
  return code;
}

/* Syncs the directory above, where the log's own name stands. */
static enum cg_code sync_parent(struct file_log *file, struct cg_err *err) {
  char *parent = cg_strndup(file->directory, strlen(file->directory));
  size_t size = strlen(parent);
  while (size > 1 && parent[size - 1] == '/')
    size--;
  while (size > 0 && parent[size - 1] != '/')
    size--;
  while (size > 1 && parent[size - 1] == '/')
    size--;
  parent[size] = 0;
  int result = cg_io_sync_dir(file->log.options.fs, size > 0 ? parent : ".");
  enum cg_code code = CG_OK;
  if (result < 0)
    code = cg_err_set(err, cg_err_from_errno(-result), "sync the directory above %s: %s",
                      file->directory, strerror(-result));
  cg_free(parent);
  return code;
}

/* Frees everything but the writer. */
static void free_log(struct file_log *file) {
  for (uint32_t index = 0; index < file->segment_count; index++)
    cg_segment_free(file->segments[index]);
  cg_free(file->segments);
  cg_free(file->seals);
  if (file->lock >= 0)
    file->log.options.fs->close(file->log.options.fs->arg, file->lock);
  cg_free(file->directory);
  cg_free(file);
}

/* Recovers what is there, or makes a new log. */
static enum cg_code recover(struct file_log *file, struct cg_writer_tail *tail,
                            struct cg_err *err) {
  struct cg_recovery recovery;
  enum cg_code code = cg_recovery_run(&recovery, file->directory, &file->log.options, err);
  if (code != CG_OK)
    return code;
  file->segments = recovery.segments;
  file->segment_count = recovery.segment_count;
  file->segment_capacity = recovery.segment_count;
  file->cut_bytes = recovery.cut_bytes;
  if (recovery.segment_count == 0) {
    code = sync_parent(file, err);
    return code == CG_OK ? make_first(file, tail, err) : code;
  }
  *tail = recovery.tail;
  memcpy(file->log_id, tail->segment->header.log_id, sizeof(file->log_id));
  return CG_OK;
}

enum cg_code cg_log_open_file(struct cg_log **log, const char *path,
                              const struct cg_log_options *options, struct cg_err *err) {
  struct file_log *file = cg_alloc(sizeof(*file));
  file->lock = -1;
  file->directory = cg_strndup(path, strlen(path));
  struct cg_writer_tail tail;
  enum cg_code code = cg_log_init(&file->log, &file_kind, options, err);
  if (code == CG_OK)
    code = make_directory(file, err);
  if (code == CG_OK)
    code = take_lock(file, err);
  if (code == CG_OK)
    code = recover(file, &tail, err);
  if (code == CG_OK) {
    file->log.next_position = tail.next_position;
    atomic_store_explicit(&file->log.durable_position, tail.next_position, memory_order_release);
    code = cg_writer_start(&file->writer, &file->log, &tail, err);
  }
  if (code != CG_OK) {
    free_log(file);
    return code;
  }
  *log = &file->log;
  return CG_OK;
}

static enum cg_code file_close(struct cg_log *log, struct cg_err *err) {
  struct file_log *file = of(log);
  cg_writer_stop(&file->writer, CG_WRITER_FINISH);
  enum cg_code code = cg_log_failed(log, err);
  free_log(file);
  return code;
}

static void file_abandon(struct cg_log *log) {
  struct file_log *file = of(log);
  cg_writer_stop(&file->writer, CG_WRITER_ABANDON);
  free_log(file);
}

/* --- appending --- */

static enum cg_code file_append(struct cg_log *log, const uint8_t *records, size_t size,
                                uint32_t record_count, cg_log_place *place, struct cg_err *err) {
  struct file_log *file = of(log);
  struct cg_segment *last = file->segments[file->segment_count - 1];
  if (!atomic_load_explicit(&last->is_reserved, memory_order_relaxed)) {
    enum cg_code code = cg_segment_reserve_again(last, err);
    if (code != CG_OK)
      return code;
  }
  enum cg_code code =
      cg_writer_append(&file->writer, NULL, records, size, record_count, place, err);
  if (code == CG_END) {
    struct cg_segment *next;
    code = make_segment(file, &next, err);
    if (code != CG_OK)
      return code;
    add_segment(file, next);
    code = cg_writer_append(&file->writer, next, records, size, record_count, place, err);
    assert(code == CG_OK); /* There was room for it a moment ago, and only this thread uses it. */
  }
  if (code == CG_OK && log->options.durability == CG_DURABILITY_MEMORY)
    cg_log_publish(log, log->next_position + record_count);
  return code;
}

/* --- reading --- */

/* Reads and checks the record at `offset`, in two reads when it is large. */
static enum cg_code read_at(struct cg_segment *segment, uint64_t offset, struct cg_buf *buf,
                            struct cg_record *record, struct cg_err *err) {
  size_t record_size;
  size_t want = READ_AHEAD_BYTES;
  for (;;) {
    uint8_t *bytes = cg_buf_room(buf, want);
    int64_t count = cg_io_read(segment->fs, segment->handle, bytes, want, offset);
    if (count < 0)
      return cg_err_set(err, CG_EIO, "read segment %" PRIu64 " in %s at offset %" PRIu64 ": %s",
                        segment->header.number, segment->directory, offset, strerror((int)-count));
    uint64_t stated = cg_record_stated_size(bytes, (size_t)count);
    if (want == READ_AHEAD_BYTES && stated > want && stated <= CG_COMMIT_BYTES_MAX) {
      want = (size_t)stated;
      continue;
    }
    enum cg_code code = cg_record_decode(bytes, (size_t)count, record, &record_size, err);
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

static enum cg_code file_read(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                              struct cg_record *record, struct cg_err *err) {
  struct file_log *file = of(log);
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
static void turn_reader(struct file_log *file, struct cg_log_cursor *cursor, bool is_new) {
  struct cg_segment *segment = file->segments[cursor->number];
  uint64_t written_place = atomic_load_explicit(&file->writer.written_place, memory_order_acquire);
  /* A segment before the one being written is whole: all of it may be read. */
  uint64_t limit = segment->header.segment_bytes;
  if (cursor->number == written_place >> 32)
    limit = (written_place & UINT32_MAX) * 8;
  else if (cursor->number > written_place >> 32)
    limit = 0;
  if (is_new)
    cg_reader_turn(&cursor->reader, segment->handle, segment->header.nonce, limit);
  else
    cg_reader_extend(&cursor->reader, limit);
}

/* Sets the cursor to a waypoint at or before its position. */
static void locate(struct file_log *file, struct cg_log_cursor *cursor) {
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
static enum cg_code cursor_failed(const struct file_log *file, const struct cg_log_cursor *cursor,
                                  enum cg_code code, struct cg_err *err) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, cursor->number);
  cg_err_prefix(err, "%s/%s: offset %" PRIu64, file->directory, name, cursor->offset);
  return code;
}

/* Reads on in the files up to the commit that holds the cursor's position. */
static enum cg_code fetch_written(struct file_log *file, struct cg_log_cursor *cursor,
                                  struct cg_err *err) {
  if (!cursor->is_located)
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
    if (code == CG_OK &&
        commit.header.first_position + commit.header.record_count <= cursor->position) {
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

static enum cg_code file_fetch(struct cg_log *log, struct cg_log_cursor *cursor,
                               struct cg_err *err) {
  struct file_log *file = of(log);
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

/* --- sealed segments --- */

static uint32_t file_seals(struct cg_log *log, const struct cg_log_seal **seals) {
  struct file_log *file = of(log);
  /* What the writer set in a header is seen with the number. */
  uint64_t count = atomic_load_explicit(&file->writer.published_number, memory_order_acquire);
  if (count > file->seal_capacity) {
    file->seal_capacity = (uint32_t)count * 2;
    file->seals = cg_realloc(file->seals, file->seal_capacity * sizeof(*file->seals));
  }
  for (; file->seal_count < count; file->seal_count++)
    file->seals[file->seal_count] =
        cg_segment_seal(file->segments[file->seal_count], file->segments[file->seal_count + 1]);
  *seals = file->seals;
  return file->seal_count;
}

static void file_id(const struct cg_log *log, uint8_t log_id[16]) {
  memcpy(log_id, ((const struct file_log *)log)->log_id, 16);
}

static void file_waypoints(struct cg_log *log, uint64_t number,
                           const struct cg_log_waypoint *waypoints, uint32_t count) {
  struct file_log *file = of(log);
  if (number >= atomic_load_explicit(&file->writer.published_number, memory_order_acquire))
    return; /* Not sealed: its own go on growing. */
  file->segments[number]->given = waypoints;
  file->segments[number]->given_count = count;
}

static void file_flush(struct cg_log *log) {
  cg_writer_flush(&of(log)->writer);
}

static bool file_turn(struct cg_log *log) {
  return cg_writer_turn(&of(log)->writer);
}

static void file_stats(struct cg_log *log, struct cg_log_stats *stats) {
  struct file_log *file = of(log);
  stats->sync_count = atomic_load_explicit(&file->writer.sync_count, memory_order_relaxed);
  stats->write_bytes = atomic_load_explicit(&file->writer.write_bytes, memory_order_relaxed);
  stats->segment_count = file->segment_count;
  stats->cut_bytes = file->cut_bytes;
}

static const struct cg_log_kind file_kind = {
    .append = file_append,
    .read = file_read,
    .fetch = file_fetch,
    .seals = file_seals,
    .id = file_id,
    .waypoints = file_waypoints,
    .flush = file_flush,
    .turn = file_turn,
    .stats = file_stats,
    .close = file_close,
    .abandon = file_abandon,
};
