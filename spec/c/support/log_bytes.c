/* log_bytes.c - bytes of segments for fuzz targets.
 *
 * A fault of the small log itself ends the program. Owns: nothing. Thread: any. */
#include "support/log_bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "log/blocks.h"

#define SMALL_COMMITS 6  /* Of a segment. */
#define SMALL_BYTES 1000 /* Data of a small record is shorter. */
#define LARGE_BYTES 40000

static void must(bool holds) {
  if (!holds)
    abort();
}

/* --- checksums --- */

/* Makes the CRCs of one commit right and links it to *chain; returns its size, 0: there is none. */
static size_t repair_commit(uint8_t *commit, size_t size, uint32_t nonce, uint32_t *chain) {
  size_t stated = size < CG_COMMIT_HEADER_BYTES ? 0 : cg_bytes_load_32(commit + 4);
  if (stated < CG_COMMIT_HEADER_BYTES + CG_COMMIT_END_BYTES || stated > size || stated % 8 != 0)
    return 0;
  cg_bytes_store_32(commit + 20, *chain);
  cg_bytes_store_32(commit + 44, cg_crc32c(nonce, commit, 44));
  uint32_t check = cg_crc32c(nonce, commit + 44, 4);
  size_t at = CG_COMMIT_HEADER_BYTES, end = stated - CG_COMMIT_END_BYTES;
  for (uint32_t index = 0;
       index < cg_bytes_load_32(commit + 16) && at + CG_RECORD_HEADER_BYTES <= end; index++) {
    size_t record_size = cg_bytes_load_32(commit + at);
    if (record_size < CG_RECORD_HEADER_BYTES || record_size > end - at)
      break;
    cg_bytes_store_32(commit + at + 4, cg_crc32c(nonce, commit + at + 8, record_size - 8));
    check = cg_crc32c(check, commit + at + 4, 4);
    at += record_size;
  }
  memcpy(commit + end, "CGE1", 4);
  cg_bytes_store_32(commit + end + 4, check);
  *chain = check;
  return stated;
}

/* Makes the CRCs of the blocks and their table right. */
static void repair_blocks(uint8_t *bytes, size_t size, uint32_t nonce) {
  size_t table = (size_t)cg_bytes_load_32(bytes + 88) * 8, at = CG_SEGMENT_HEADER_BYTES;
  while (at + 8 <= size && at < table && cg_bytes_load_32(bytes + at) <= size - at - 8) {
    size_t frame_size = cg_bytes_load_32(bytes + at);
    cg_bytes_store_32(bytes + at + 4, cg_crc32c(nonce, bytes + at + 8, frame_size));
    at += (8 + frame_size + 7) & ~(size_t)7;
  }
  if (table < size && size - table > 4)
    cg_bytes_store_32(bytes + size - 4, cg_crc32c(nonce, bytes + table, size - table - 4));
}

void log_bytes_repair(uint8_t *bytes, size_t size) {
  if (size < CG_SEGMENT_HEADER_BYTES)
    return;
  cg_bytes_store_32(bytes + 92, cg_crc32c(0, bytes, 92));
  uint32_t nonce = cg_bytes_load_32(bytes + 48), chain = cg_bytes_load_32(bytes + 52);
  if (cg_bytes_load_32(bytes + 8) == 2 && cg_bytes_load_32(bytes + 72) == 1) {
    repair_blocks(bytes, size, nonce);
    return;
  }
  size_t at = CG_SEGMENT_HEADER_BYTES, commit_size;
  while ((commit_size = repair_commit(bytes + at, size - at, nonce, &chain)) > 0)
    at += commit_size;
}

bool log_bytes_pack(const uint8_t *bytes, size_t size, struct cg_buf *out) {
  if (size < CG_SEGMENT_HEADER_BYTES)
    return false;
  struct cg_block_packer packer;
  cg_block_packer_init(&packer, 1, cg_bytes_load_32(bytes + 48));
  cg_buf_append(out, bytes, CG_SEGMENT_HEADER_BYTES);
  for (size_t at = CG_SEGMENT_HEADER_BYTES; at < size;) {
    size_t part = size - at < CG_BLOCK_BYTES ? size - at : CG_BLOCK_BYTES;
    must(cg_block_packer_add(&packer, bytes + at, part, NULL) == CG_OK);
    cg_buf_append(out, packer.packed->data, packer.packed->size);
    at += part;
  }
  uint32_t table = (uint32_t)(packer.offset / 8);
  cg_block_packer_table(&packer);
  cg_buf_append(out, packer.table->data, packer.table->size);
  cg_block_packer_deinit(&packer);
  cg_bytes_store_32(out->data + 72, 1);
  cg_bytes_store_32(out->data + 88, table);
  cg_bytes_store_32(out->data + 92, cg_crc32c(0, out->data, 92));
  return true;
}

/* --- the small log --- */

struct cg_log_options log_bytes_options(struct sim_fs *sim, struct cg_clock_virtual *clock) {
  *clock = (struct cg_clock_virtual){.wall_ms = 1700000000000};
  return (struct cg_log_options){.fs = sim_fs_calls(sim),
                                 .clock = cg_clock_of(clock),
                                 .segment_bytes = 64 << 10,
                                 .nonce_seed = 1,
                                 .manual = true};
}

/* Appends a commit of `count` records with `data_size` bytes of data each. */
static void append(struct cg_log *log, uint32_t count, uint32_t data_size) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  uint8_t *data = cg_alloc(data_size);
  memset(data, 'x', data_size);
  uint64_t position = cg_log_next_position(log);
  for (uint32_t index = 0; index < count; index++) {
    struct cg_record record = {.version = position + index,
                               .time_ms = 1700000000000,
                               .id = position + index,
                               .stream = "Order-1",
                               .stream_size = 7,
                               .type = "Happened",
                               .type_size = 8,
                               .data = data,
                               .data_size = data_size};
    cg_record_append(buf, &record);
  }
  cg_log_place place;
  must(cg_log_append(log, buf->data, buf->size, count, position, &place, NULL) == CG_OK);
  while (cg_log_turn(log))
    ;
  cg_free(data);
  cg_buf_unref(buf);
}

void log_bytes_make(struct sim_fs *sim) {
  struct cg_clock_virtual clock;
  struct cg_log_options options = log_bytes_options(sim, &clock);
  struct cg_log *log;
  must(cg_log_open_file(&log, "/log", &options, NULL) == CG_OK);
  for (uint32_t segment = 0; segment < LOG_BYTES_SEGMENTS; segment++) {
    for (uint32_t commit = 0; commit < SMALL_COMMITS; commit++)
      append(log, 1 + commit % 3, commit * 20);
    append(log, 1, LARGE_BYTES);
  }
  const struct cg_log_seal *seals;
  must(cg_log_seals(log, &seals) == LOG_BYTES_SEGMENTS - 1);
  must(cg_log_close(log, NULL) == CG_OK);
}

bool log_bytes_is_small(void *arg, const struct cg_record *record) {
  (void)arg;
  return record->data_size < SMALL_BYTES;
}

void log_bytes_path(uint64_t number, char path[64]) {
  snprintf(path, 64, "/log/segment-%010" PRIu64 ".log", number);
}

/* --- reading --- */

void log_bytes_see(void *arg, const struct cg_record *record, cg_log_place place) {
  (void)place;
  struct log_bytes_sum *sum = arg;
  sum->count++;
  sum->crc = cg_crc32c(sum->crc, &record->position, sizeof(record->position));
  sum->crc = cg_crc32c(sum->crc, record->stream, record->stream_size);
  sum->crc = cg_crc32c(sum->crc, record->type, record->type_size);
  sum->crc = cg_crc32c(sum->crc, record->metadata, record->metadata_size);
  sum->crc = cg_crc32c(sum->crc, record->data, record->data_size);
}

enum cg_code log_bytes_read(struct cg_log *log, struct log_bytes_sum *sum) {
  *sum = (struct log_bytes_sum){0};
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, 0);
  struct cg_record record;
  struct cg_err err;
  enum cg_code code;
  while ((code = cg_log_cursor_next(cursor, UINT64_MAX, &record, &err)) == CG_OK)
    log_bytes_see(sum, &record, 0);
  cg_log_cursor_free(cursor);
  return code == CG_END ? CG_OK : code;
}
