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

#include "base/mem.h"
#include "log/log.h"
#include "support/log_bytes.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define INPUT_BYTES_MAX ((size_t)1 << 20)
#define PATH "/log/segment-0000000000.log"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

/* Reads all by cursor; returns the records. */
static uint64_t read_all(struct cg_log *log) {
  struct log_bytes_sum sum;
  require(log_bytes_read(log, &sum) == CG_OK);
  return sum.count;
}

/* Opens the segment, and when that succeeds uses the log. */
static void try_bytes(const uint8_t *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  struct cg_clock_virtual clock = {0};
  struct log_bytes_sum sum = {0};
  struct cg_log_options options = {.fs = sim_fs_calls(sim),
                                   .clock = cg_clock_of(&clock),
                                   .segment_bytes = 64 << 10,
                                   .nonce_seed = 1,
                                   .manual = true,
                                   .replay = log_bytes_see,
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
  log_bytes_repair(copy, size);
  try_bytes(copy, size);
  cg_free(copy);
  return 0;
}
