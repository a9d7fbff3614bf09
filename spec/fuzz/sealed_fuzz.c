/* sealed_fuzz.c - any bytes as a sealed segment of a log, rewritten or compressed ones among them:
 * verifying, opening, reading, scanning and rewriting must not crash, and must agree.
 *
 * Each input takes the place of the second of three segments: as it is; with every CRC made right,
 * and its header joined to the other segments; and, when its commits are not compressed, once more
 * with them in blocks.
 * The corpus was made by spec/fuzz/make_log_corpus.c from the same log.
 * Owns: the log's bytes. Thread: one. */
#include <stdlib.h>
#include <string.h>

#include "support/log_bytes.h"

#define INPUT_BYTES_MAX ((size_t)1 << 20)
#define NUMBER 1 /* Of the segment. */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Bytes of the log's segments as they were made. */
static struct cg_buf *segments[LOG_BYTES_SEGMENTS];

static void require(bool is_true) {
  if (!is_true)
    abort();
}

static void release_segments(void) {
  for (uint64_t number = 0; number < LOG_BYTES_SEGMENTS; number++)
    cg_buf_unref(segments[number]);
}

static void make_segments(void) {
  struct sim_fs *sim = sim_fs_new(1);
  log_bytes_make(sim);
  for (uint64_t number = 0; number < LOG_BYTES_SEGMENTS; number++) {
    char path[64];
    size_t size;
    log_bytes_path(number, path);
    const uint8_t *bytes = sim_fs_bytes(sim, path, &size);
    segments[number] = cg_buf_take(NULL, size);
    cg_buf_append(segments[number], bytes, size);
  }
  sim_fs_free(sim);
  atexit(release_segments);
}

static void put_log(struct sim_fs *sim, const uint8_t *bytes, size_t size) {
  sim_fs_put_directory(sim, "/log");
  for (uint64_t number = 0; number < LOG_BYTES_SEGMENTS; number++) {
    char path[64];
    log_bytes_path(number, path);
    if (number == NUMBER)
      sim_fs_put(sim, path, bytes, size);
    else
      sim_fs_put(sim, path, segments[number]->data, segments[number]->size);
  }
}

static bool see_scanned(void *arg, const struct cg_record *record, cg_log_place place) {
  log_bytes_see(arg, record, place);
  return true;
}

/* Scans and rewrites the segment: whole, that must give the same records again. */
static void use_segment(struct sim_fs *sim, struct cg_log *log, bool is_whole, bool compress) {
  const struct cg_log_seal *seals;
  require(cg_log_seals(log, &seals) == LOG_BYTES_SEGMENTS - 1);
  struct cg_log_seal seal = seals[NUMBER];
  struct log_bytes_sum scanned = {0}, before, after;
  struct cg_log_scan scan = {.record = see_scanned, .arg = &scanned};
  struct cg_err err;
  enum cg_code code = cg_log_scan("/log", sim_fs_calls(sim), &seal, &scan, &err);
  require((code == CG_OK) == is_whole);
  code = log_bytes_read(log, &before); /* A cursor checks records, not all of their commits. */
  require(code == CG_OK || !is_whole);
  struct cg_log_rewrite rewrite = {.compress = compress, .level = 1, .nonce_seed = 7};
  code = cg_log_rewrite("/log", sim_fs_calls(sim), &seal, &rewrite, &err);
  require((code == CG_OK) == is_whole);
  if (code != CG_OK)
    return;
  require(cg_log_replace(log, &seal, &err) == CG_OK);
  require(log_bytes_read(log, &after) == CG_OK);
  require(before.count == after.count && before.crc == after.crc);
}

/* An index would say that it knows all of the sealed segments. */
static uint32_t skip_all(void *arg, const uint8_t log_id[16], const struct cg_log_seal *seals,
                         uint32_t count, struct cg_err *err) {
  (void)arg;
  (void)log_id;
  (void)seals;
  (void)err;
  return count;
}

static void try_bytes(const uint8_t *bytes, size_t size) {
  struct sim_fs *sim = sim_fs_new(1);
  put_log(sim, bytes, size);
  struct cg_clock_virtual clock;
  struct log_bytes_sum replayed = {0}, read;
  struct cg_log_options options = log_bytes_options(sim, &clock);
  options.replay = log_bytes_see;
  options.replay_arg = &replayed;
  struct cg_log *log;
  struct cg_err err;
  bool is_whole =
      cg_log_verify("/log", sim_fs_calls(sim), &(struct cg_log_verify){0}, &err) == CG_OK;
  enum cg_code code = cg_log_open_file(&log, "/log", &options, &err);
  require((code == CG_OK) == is_whole);
  if (code == CG_OK) {
    require(log_bytes_read(log, &read) == CG_OK);
    require(read.count == replayed.count && read.crc == replayed.crc);
    use_segment(sim, log, true, true);
    cg_log_abandon(log);
  }
  options.replay = NULL;
  options.resume = skip_all;
  if (cg_log_open_file(&log, "/log", &options, &err) == CG_OK) {
    use_segment(sim, log, is_whole, false);
    cg_log_abandon(log);
  }
  sim_fs_free(sim);
}

/* Makes the header fit between the other segments: log, number, positions and chains. */
static void join(uint8_t *bytes, size_t size) {
  if (size < CG_SEGMENT_HEADER_BYTES)
    return;
  const uint8_t *own = segments[NUMBER]->data, *next = segments[NUMBER + 1]->data;
  memcpy(bytes + 16, own + 16, 32);
  memcpy(bytes + 52, own + 52, 4);
  memcpy(bytes + 64, own + 64, 8);
  if (bytes[8] == 2) {
    memcpy(bytes + 76, next + 52, 4);
    memcpy(bytes + 80, next + 40, 8);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (segments[0] == NULL)
    make_segments();
  if (size > INPUT_BYTES_MAX)
    return 0;
  try_bytes(bytes, size);
  struct cg_buf *copy = cg_buf_take(NULL, size), *packed = cg_buf_take(NULL, size);
  cg_buf_append(copy, bytes, size);
  join(copy->data, size);
  log_bytes_repair(copy->data, size);
  try_bytes(copy->data, size);
  if (log_bytes_pack(copy->data, size, packed))
    try_bytes(packed->data, packed->size);
  cg_buf_unref(copy);
  cg_buf_unref(packed);
  return 0;
}
