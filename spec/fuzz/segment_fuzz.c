/* segment_fuzz.c - any bytes as a log's only segment: opening, reading and verifying must not
 * crash.
 *
 * Each input is tried as it is, and once more with every CRC made right, so that what lies behind
 * the CRCs is reached too. A log that opens must be readable to its end, take a commit, and open
 * again with it.
 * The corpus was made by spec/fuzz/make_log_corpus.c from real logs.
 * Owns: nothing between calls. Thread: one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define INPUT_BYTES_MAX ((size_t)1 << 20)
#define PATH "/log/segment-0000000000.log"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

static uint32_t load_32(const uint8_t *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

static void store_32(uint8_t *bytes, uint32_t value) {
  memcpy(bytes, &value, sizeof(value));
}

/* Makes the CRCs of one commit right and links it to *chain; returns its size, 0: there is none. */
static size_t repair_commit(uint8_t *commit, size_t size, uint32_t nonce, uint32_t *chain) {
  size_t stated = size < CG_COMMIT_HEADER_BYTES ? 0 : load_32(commit + 4);
  if (stated < CG_COMMIT_HEADER_BYTES + CG_COMMIT_END_BYTES || stated > size || stated % 8 != 0)
    return 0;
  store_32(commit + 20, *chain);
  store_32(commit + 44, cg_crc32c(nonce, commit, 44));
  uint32_t check = cg_crc32c(nonce, commit + 44, 4);
  size_t at = CG_COMMIT_HEADER_BYTES, end = stated - CG_COMMIT_END_BYTES;
  for (uint32_t index = 0; index < load_32(commit + 16) && at + CG_RECORD_HEADER_BYTES <= end;
       index++) {
    size_t record_size = load_32(commit + at);
    if (record_size < CG_RECORD_HEADER_BYTES || record_size > end - at)
      break;
    store_32(commit + at + 4, cg_crc32c(nonce, commit + at + 8, record_size - 8));
    check = cg_crc32c(check, commit + at + 4, 4);
    at += record_size;
  }
  memcpy(commit + end, "CGE1", 4);
  store_32(commit + end + 4, check);
  *chain = check;
  return stated;
}

/* Makes every CRC right that can be reached. */
static void repair(uint8_t *bytes, size_t size) {
  if (size < CG_SEGMENT_HEADER_BYTES)
    return;
  store_32(bytes + 92, cg_crc32c(0, bytes, 92));
  uint32_t nonce = load_32(bytes + 48), chain = 0;
  size_t at = CG_SEGMENT_HEADER_BYTES, commit_size;
  while ((commit_size = repair_commit(bytes + at, size - at, nonce, &chain)) > 0)
    at += commit_size;
}

/* Reads what a replay gives, so that a pointer to the outside is noticed. */
static void touch(void *arg, const struct cg_record *record, cg_log_place place) {
  uint64_t *sum = arg;
  *sum = cg_crc32c((uint32_t)*sum, record->stream, record->stream_size);
  *sum = cg_crc32c((uint32_t)*sum, record->type, record->type_size);
  *sum = cg_crc32c((uint32_t)*sum, record->metadata, record->metadata_size);
  *sum = cg_crc32c((uint32_t)*sum, record->data, record->data_size) + place;
}

/* Reads all by cursor; returns the records. */
static uint64_t read_all(struct cg_log *log) {
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, 0);
  struct cg_record record;
  uint64_t count = 0, sum = 0;
  enum cg_code code;
  while ((code = cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL)) == CG_OK) {
    touch(&sum, &record, 0);
    count++;
  }
  require(code == CG_END);
  cg_log_cursor_free(cursor);
  return count;
}

/* Opens the segment, and when that succeeds uses the log. */
static void try_bytes(const uint8_t *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_clock_virtual clock = {0};
  uint64_t sum = 0;
  struct cg_log_options options = {.fs = sim_fs_calls(sim),
                                   .clock = cg_clock_of(&clock),
                                   .segment_bytes = 64 << 10,
                                   .nonce_seed = 1,
                                   .manual = true,
                                   .replay = touch,
                                   .replay_arg = &sum};
  sim_fs_put_directory(sim, "/log");
  sim_fs_put(sim, PATH, bytes, size);
  struct cg_log *log;
  enum cg_code verified =
      cg_log_verify("/log", sim_fs_calls(sim), &(struct cg_log_verify){0}, NULL);
  struct cg_err err;
  if (cg_log_open_file(&log, "/log", &options, &err) == CG_OK) {
    require(verified == CG_OK);
    uint64_t count = read_all(log);
    struct log_model model = {0};
    require(log_model_append(&model, log, 2, 100, NULL) == CG_OK);
    cg_log_turn(log);
    require(read_all(log) == count + 2);
    require(cg_log_close(log, NULL) == CG_OK);
    require(cg_log_open_file(&log, "/log", &options, NULL) == CG_OK);
    require(read_all(log) == count + 2);
    cg_log_abandon(log);
    log_model_deinit(&model);
  }
  sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size > INPUT_BYTES_MAX)
    return 0;
  try_bytes(bytes, size);
  uint8_t *copy = cg_alloc(size);
  if (size > 0)
    memcpy(copy, bytes, size);
  repair(copy, size);
  try_bytes(copy, size);
  cg_free(copy);
  return 0;
}
