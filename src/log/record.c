/* record.c - the bytes of segment header, commit, record and mark, as the tables in record.h draw
 * them.
 *
 * Works on plain memory by fixed offsets, through little-endian loads and stores, so that nothing
 * depends on how a compiler lays out a struct.
 * Owns: nothing. Thread: any. */
#include "log/record.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define SEGMENT_MAGIC "CATGASEG"
#define SEGMENT_VERSION 1           /* As the writer makes it. */
#define SEGMENT_VERSION_REWRITTEN 2 /* With an end of its own, and perhaps holes or blocks. */
#define SEGMENT_COMPRESSED 1        /* The only flag of version 2. */
#define SEGMENT_CRC_OFFSET 92 /* Where the header's CRC stands; it covers what is before it. */
#define COMMIT_MAGIC "CGC1"
#define COMMIT_CRC_OFFSET 44 /* As above, of a commit header. */
#define END_MAGIC "CGE1"
#define RECORD_CRC_OFFSET 4 /* Where a record's CRC stands. */
#define RECORD_CRC_BEGIN 8  /* First byte a record's CRC covers. */

/* Whether `size` bytes are all zero. */
static bool is_zero(const uint8_t *bytes, size_t size) {
  for (size_t index = 0; index < size; index++)
    if (bytes[index] != 0)
      return false;
  return true;
}

/* --- records --- */

size_t cg_record_begin(struct cg_buf *buf, const struct cg_record *record) {
  assert(record->stream_size <= CG_RECORD_STREAM_BYTES_MAX);
  assert(record->type_size <= CG_RECORD_TYPE_BYTES_MAX);
  size_t record_offset = buf->size;
  size_t size = CG_RECORD_HEADER_BYTES + (size_t)record->stream_size + record->type_size +
                record->metadata_size;
  uint8_t *bytes = cg_buf_room(buf, size);

  memset(bytes, 0, 8); /* Sizes come with cg_record_finish, the CRC with the log. */
  cg_bytes_store_64(bytes + 8, record->version);
  cg_bytes_store_64(bytes + 16, (uint64_t)record->time_ms);
  cg_bytes_store_64(bytes + 24, record->id);
  cg_bytes_store_16(bytes + 32, record->flags);
  cg_bytes_store_16(bytes + 34, record->stream_size);
  cg_bytes_store_16(bytes + 36, record->type_size);
  cg_bytes_store_16(bytes + 38, 0);
  cg_bytes_store_32(bytes + 40, record->metadata_size);
  cg_bytes_store_32(bytes + 44, 0);

  uint8_t *part = bytes + CG_RECORD_HEADER_BYTES;
  if (record->stream_size > 0)
    memcpy(part, record->stream, record->stream_size);
  part += record->stream_size;
  if (record->type_size > 0)
    memcpy(part, record->type, record->type_size);
  part += record->type_size;
  if (record->metadata_size > 0)
    memcpy(part, record->metadata, record->metadata_size);
  buf->size += size;
  return record_offset;
}

void cg_record_finish(struct cg_buf *buf, size_t record_offset) {
  assert(record_offset <= buf->size && buf->size - record_offset >= CG_RECORD_HEADER_BYTES);
  static const uint8_t padding[8] = {0};
  size_t size = buf->size - record_offset;
  size_t record_size = (size + 7) & ~(size_t)7;
  assert(record_size <= UINT32_MAX);
  cg_buf_append(buf, padding, record_size - size);

  uint8_t *bytes = buf->data + record_offset;
  size_t data_offset = CG_RECORD_HEADER_BYTES + (size_t)cg_bytes_load_16(bytes + 34) +
                       cg_bytes_load_16(bytes + 36) + cg_bytes_load_32(bytes + 40);
  assert(data_offset <= size);
  cg_bytes_store_32(bytes, (uint32_t)record_size);
  cg_bytes_store_32(bytes + 44, (uint32_t)(size - data_offset));
}

void cg_record_append(struct cg_buf *buf, const struct cg_record *record) {
  cg_buf_room(buf, cg_record_size(record->stream_size, record->type_size, record->metadata_size,
                                  record->data_size));
  size_t record_offset = cg_record_begin(buf, record);
  if (record->data_size > 0)
    cg_buf_append(buf, record->data, record->data_size);
  cg_record_finish(buf, record_offset);
}

enum cg_code cg_record_decode(const uint8_t *bytes, size_t size, struct cg_record *record,
                              size_t *record_size, struct cg_err *err) {
  if (size < CG_RECORD_HEADER_BYTES)
    return cg_err_set(err, CG_ECORRUPT, "record cut short: %zu bytes of its header", size);
  uint32_t stated_size = cg_bytes_load_32(bytes);
  *record = (struct cg_record){
      .version = cg_bytes_load_64(bytes + 8),
      .time_ms = (int64_t)cg_bytes_load_64(bytes + 16),
      .id = cg_bytes_load_64(bytes + 24),
      .flags = cg_bytes_load_16(bytes + 32),
      .stream_size = cg_bytes_load_16(bytes + 34),
      .type_size = cg_bytes_load_16(bytes + 36),
      .metadata_size = cg_bytes_load_32(bytes + 40),
      .data_size = cg_bytes_load_32(bytes + 44),
  };
  uint64_t parts_size = (uint64_t)CG_RECORD_HEADER_BYTES + record->stream_size + record->type_size +
                        record->metadata_size + record->data_size;
  if (stated_size > size || stated_size != ((parts_size + 7) & ~UINT64_C(7)))
    return cg_err_set(err, CG_ECORRUPT,
                      "record sizes do not fit: %u stated, %llu in parts, %zu there", stated_size,
                      (unsigned long long)parts_size, size);
  if (record->stream_size > CG_RECORD_STREAM_BYTES_MAX ||
      record->type_size > CG_RECORD_TYPE_BYTES_MAX)
    return cg_err_set(err, CG_ECORRUPT, "record names too long: stream %u bytes, type %u bytes",
                      record->stream_size, record->type_size);
  if (cg_bytes_load_16(bytes + 38) != 0 || !is_zero(bytes + parts_size, stated_size - parts_size))
    return cg_err_set(err, CG_ECORRUPT, "record padding is not zero");

  record->stream = (const char *)bytes + CG_RECORD_HEADER_BYTES;
  record->type = record->stream + record->stream_size;
  record->metadata = (const uint8_t *)record->type + record->type_size;
  record->data = record->metadata + record->metadata_size;
  *record_size = stated_size;
  return CG_OK;
}

size_t cg_record_fit(const uint8_t *bytes, size_t size) {
  if (size < CG_RECORD_HEADER_BYTES)
    return 0;
  uint64_t parts_size = (uint64_t)CG_RECORD_HEADER_BYTES + cg_bytes_load_16(bytes + 34) +
                        cg_bytes_load_16(bytes + 36) + cg_bytes_load_32(bytes + 40) +
                        cg_bytes_load_32(bytes + 44);
  uint32_t stated_size = cg_bytes_load_32(bytes);
  bool is_fit = stated_size <= size && stated_size == ((parts_size + 7) & ~UINT64_C(7)) &&
                !(cg_bytes_load_16(bytes + 32) & CG_RECORD_HOLE);
  return is_fit ? stated_size : 0;
}

uint32_t cg_record_crc(const uint8_t *bytes, size_t record_size, uint32_t nonce) {
  assert(record_size >= CG_RECORD_HEADER_BYTES);
  return cg_crc32c(nonce, bytes + RECORD_CRC_BEGIN, record_size - RECORD_CRC_BEGIN);
}

uint32_t cg_record_stored_crc(const uint8_t *bytes) {
  return cg_bytes_load_32(bytes + RECORD_CRC_OFFSET);
}

uint32_t cg_record_stated_size(const uint8_t *bytes, size_t size) {
  return size < 4 ? 0 : cg_bytes_load_32(bytes);
}

/* --- segment header --- */

void cg_segment_header_encode(const struct cg_segment_header *header,
                              uint8_t bytes[CG_SEGMENT_HEADER_BYTES]) {
  memset(bytes, 0, CG_SEGMENT_HEADER_BYTES);
  memcpy(bytes, SEGMENT_MAGIC, 8);
  cg_bytes_store_32(bytes + 8, header->is_rewritten ? SEGMENT_VERSION_REWRITTEN : SEGMENT_VERSION);
  cg_bytes_store_32(bytes + 12, CG_SEGMENT_HEADER_BYTES);
  memcpy(bytes + 16, header->log_id, sizeof(header->log_id));
  cg_bytes_store_64(bytes + 32, header->number);
  cg_bytes_store_64(bytes + 40, header->first_position);
  cg_bytes_store_32(bytes + 48, header->nonce);
  cg_bytes_store_32(bytes + 52, header->chain);
  cg_bytes_store_64(bytes + 56, (uint64_t)header->created_ms);
  cg_bytes_store_64(bytes + 64, header->segment_bytes);
  if (header->is_rewritten) {
    assert(header->table_offset % 8 == 0 && header->table_offset / 8 <= UINT32_MAX);
    cg_bytes_store_32(bytes + 72, header->is_compressed ? SEGMENT_COMPRESSED : 0);
    cg_bytes_store_32(bytes + 76, header->end_chain);
    cg_bytes_store_64(bytes + 80, header->end_position);
    cg_bytes_store_32(bytes + 88, (uint32_t)(header->table_offset / 8));
  }
  cg_bytes_store_32(bytes + SEGMENT_CRC_OFFSET, cg_crc32c(0, bytes, SEGMENT_CRC_OFFSET));
}

/* Reads what format version 2 adds. */
static enum cg_code decode_rewritten(const uint8_t *bytes, struct cg_segment_header *header,
                                     struct cg_err *err) {
  uint32_t flags = cg_bytes_load_32(bytes + 72);
  header->is_rewritten = true;
  header->is_compressed = flags & SEGMENT_COMPRESSED;
  header->end_chain = cg_bytes_load_32(bytes + 76);
  header->end_position = cg_bytes_load_64(bytes + 80);
  header->table_offset = (uint64_t)cg_bytes_load_32(bytes + 88) * 8;
  bool has_table = header->table_offset >= CG_SEGMENT_HEADER_BYTES;
  if ((flags & ~(uint32_t)SEGMENT_COMPRESSED) != 0 ||
      header->end_position < header->first_position ||
      (header->is_compressed ? !has_table : header->table_offset != 0))
    return cg_err_set(err, CG_ECORRUPT, "segment header: flags, end or table do not fit");
  return CG_OK;
}

enum cg_code cg_segment_header_decode(const uint8_t *bytes, size_t size,
                                      struct cg_segment_header *header, struct cg_err *err) {
  if (size < CG_SEGMENT_HEADER_BYTES)
    return cg_err_set(err, CG_ECORRUPT, "segment header cut short: %zu of %d bytes", size,
                      CG_SEGMENT_HEADER_BYTES);
  if (memcmp(bytes, SEGMENT_MAGIC, 8) != 0)
    return cg_err_set(err, CG_ECORRUPT, "segment header: wrong magic, not a segment of a log");
  if (cg_bytes_load_32(bytes + SEGMENT_CRC_OFFSET) != cg_crc32c(0, bytes, SEGMENT_CRC_OFFSET))
    return cg_err_set(err, CG_ECORRUPT, "segment header: wrong CRC");
  uint32_t version = cg_bytes_load_32(bytes + 8);
  if (version != SEGMENT_VERSION && version != SEGMENT_VERSION_REWRITTEN)
    return cg_err_set(err, CG_ECORRUPT,
                      "segment header: format version %u, this program reads %d and %d", version,
                      SEGMENT_VERSION, SEGMENT_VERSION_REWRITTEN);
  if (cg_bytes_load_32(bytes + 12) != CG_SEGMENT_HEADER_BYTES)
    return cg_err_set(err, CG_ECORRUPT, "segment header: %u header bytes stated, must be %d",
                      cg_bytes_load_32(bytes + 12), CG_SEGMENT_HEADER_BYTES);
  if ((version == SEGMENT_VERSION && !is_zero(bytes + 72, SEGMENT_CRC_OFFSET - 72)) ||
      !is_zero(bytes + SEGMENT_CRC_OFFSET + 4, CG_SEGMENT_HEADER_BYTES - SEGMENT_CRC_OFFSET - 4))
    return cg_err_set(err, CG_ECORRUPT, "segment header: unused bytes are not zero");

  *header = (struct cg_segment_header){
      .number = cg_bytes_load_64(bytes + 32),
      .first_position = cg_bytes_load_64(bytes + 40),
      .nonce = cg_bytes_load_32(bytes + 48),
      .chain = cg_bytes_load_32(bytes + 52),
      .created_ms = (int64_t)cg_bytes_load_64(bytes + 56),
      .segment_bytes = cg_bytes_load_64(bytes + 64),
  };
  memcpy(header->log_id, bytes + 16, sizeof(header->log_id));
  return version == SEGMENT_VERSION ? CG_OK : decode_rewritten(bytes, header, err);
}

/* --- commits --- */

/* Goes on with a check by one more CRC. */
static uint32_t check_add(uint32_t check, uint32_t crc) {
  uint8_t bytes[4];
  cg_bytes_store_32(bytes, crc);
  return cg_crc32c(check, bytes, sizeof(bytes));
}

uint32_t cg_commit_finish(uint8_t *commit, const struct cg_commit_header *header, uint32_t nonce) {
  assert(header->size >= CG_COMMIT_HEADER_BYTES + CG_COMMIT_END_BYTES && header->size % 8 == 0);
  memcpy(commit, COMMIT_MAGIC, 4);
  cg_bytes_store_32(commit + 4, header->size);
  cg_bytes_store_64(commit + 8, header->first_position);
  cg_bytes_store_32(commit + 16, header->record_count);
  cg_bytes_store_32(commit + 20, header->chain);
  cg_bytes_store_64(commit + 24, header->durable_position);
  cg_bytes_store_64(commit + 32, (uint64_t)header->time_ms);
  cg_bytes_store_32(commit + 40, header->gap_count);
  uint32_t header_crc = cg_crc32c(nonce, commit, COMMIT_CRC_OFFSET);
  cg_bytes_store_32(commit + COMMIT_CRC_OFFSET, header_crc);

  uint32_t check = check_add(nonce, header_crc);
  uint8_t *record = commit + CG_COMMIT_HEADER_BYTES;
  uint8_t *end = commit + header->size - CG_COMMIT_END_BYTES;
  for (uint32_t index = 0; index < header->record_count; index++) {
    size_t record_size = cg_bytes_load_32(record);
    assert(record_size <= (size_t)(end - record));
    uint32_t crc = cg_record_crc(record, record_size, nonce);
    cg_bytes_store_32(record + RECORD_CRC_OFFSET, crc);
    check = check_add(check, crc);
    record += record_size;
  }
  assert(record == end);
  memcpy(end, END_MAGIC, 4);
  cg_bytes_store_32(end + 4, check);
  return check;
}

bool cg_commit_header_decode(const uint8_t *bytes, size_t size, uint32_t nonce,
                             struct cg_commit_header *header) {
  if (size < CG_COMMIT_HEADER_BYTES || memcmp(bytes, COMMIT_MAGIC, 4) != 0)
    return false;
  uint32_t crc = cg_bytes_load_32(bytes + COMMIT_CRC_OFFSET);
  if (crc != cg_crc32c(nonce, bytes, COMMIT_CRC_OFFSET))
    return false;
  *header = (struct cg_commit_header){
      .size = cg_bytes_load_32(bytes + 4),
      .record_count = cg_bytes_load_32(bytes + 16),
      .gap_count = cg_bytes_load_32(bytes + 40),
      .first_position = cg_bytes_load_64(bytes + 8),
      .durable_position = cg_bytes_load_64(bytes + 24),
      .time_ms = (int64_t)cg_bytes_load_64(bytes + 32),
      .chain = cg_bytes_load_32(bytes + 20),
      .crc = crc,
  };
  size_t empty_size = CG_COMMIT_HEADER_BYTES + CG_COMMIT_END_BYTES;
  uint64_t record_bytes_min = (uint64_t)header->record_count * CG_RECORD_HEADER_BYTES;
  return header->size % 8 == 0 && header->size >= empty_size + record_bytes_min &&
         header->size <= CG_COMMIT_BYTES_MAX &&
         (header->record_count > 0 || (header->size == empty_size && header->gap_count == 0));
}

/* Whether a record with the flag of holes is one. */
static bool is_hole(const struct cg_record *record, size_t record_size) {
  return record->flags == CG_RECORD_HOLE && record_size == CG_RECORD_HEADER_BYTES &&
         record->version >= 1 && record->version <= UINT32_MAX;
}

enum cg_code cg_commit_check(const uint8_t *bytes, size_t size, uint32_t nonce,
                             struct cg_commit_header *header, uint32_t *check, struct cg_err *err) {
  if (!cg_commit_header_decode(bytes, size, nonce, header))
    return cg_err_set(err, CG_ECORRUPT, "no valid commit header");
  if (header->size > size)
    return cg_err_set(err, CG_ECORRUPT, "commit cut short: %zu of %u bytes", size, header->size);

  uint32_t sum = check_add(nonce, header->crc);
  uint64_t gap_count = 0;
  const uint8_t *at = bytes + CG_COMMIT_HEADER_BYTES;
  const uint8_t *end = bytes + header->size - CG_COMMIT_END_BYTES;
  for (uint32_t index = 0; index < header->record_count; index++) {
    struct cg_record record;
    size_t record_size;
    enum cg_code code = cg_record_decode(at, (size_t)(end - at), &record, &record_size, err);
    if (code != CG_OK)
      return cg_err_prefix(err, "record %u of the commit", index), code;
#ifndef CG_PLANT_SKIP_CRC /* Left out only to prove that the tests would notice. */
    if (cg_record_stored_crc(at) != cg_record_crc(at, record_size, nonce))
      return cg_err_set(err, CG_ECORRUPT, "record %u of the commit: wrong CRC", index);
#endif
    if ((record.flags & CG_RECORD_HOLE) && !is_hole(&record, record_size))
      return cg_err_set(err, CG_ECORRUPT, "record %u of the commit: no right hole", index);
    header->hole_count += record.flags & CG_RECORD_HOLE ? 1 : 0;
    gap_count += cg_record_positions(&record) - 1;
    sum = check_add(sum, cg_record_stored_crc(at));
    at += record_size;
  }
  if (at != end)
    return cg_err_set(err, CG_ECORRUPT, "%zu bytes too many after the records of the commit",
                      (size_t)(end - at));
  if (gap_count != header->gap_count)
    return cg_err_set(err, CG_ECORRUPT, "the holes of the commit do not fit its header");
  if (memcmp(end, END_MAGIC, 4) != 0 || cg_bytes_load_32(end + 4) != sum)
    return cg_err_set(err, CG_ECORRUPT, "wrong end mark of the commit");
  *check = sum;
  return CG_OK;
}
