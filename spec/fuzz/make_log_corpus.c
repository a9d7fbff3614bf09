/* make_log_corpus.c - writes the corpora of segment_fuzz, sealed_fuzz, restore_fuzz and record_fuzz
 * from real logs.
 *
 * Usage, after `make` and `make test-programs`, in the root of the tree:
 *   cc -std=c11 -D_GNU_SOURCE -Isrc -Ispec/c spec/fuzz/make_log_corpus.c build/libsupport.a \
 *     build/libcatga.a -pthread -o build/make_log_corpus && build/make_log_corpus spec/fuzz/corpus
 * Every file is a segment without the zeros at its end, a manifest of a backup, or a record or
 * commit out of a log.
 * Owns: nothing. Thread: one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/log.h"
#include "support/log_bytes.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define PATH "/log/segment-0000000000.log"

/* How a log was left. */
enum shape { SHAPE_EMPTY, SHAPE_CLOSED, SHAPE_OPEN, SHAPE_TORN, SHAPE_DAMAGED, SHAPES };

static void save(const char *directory, const char *name, const uint8_t *bytes, size_t size) {
  char path[512];
  snprintf(path, sizeof(path), "%s/%s", directory, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

/* Makes a log of that shape and saves its segment. */
static void make_segment(const char *directory, enum shape shape) {
  static const char *const names[] = {"empty", "closed", "open", "torn", "damaged"};
  struct sim_fs *sim = sim_fs_new(1);
  struct log_model model = {0};
  struct cg_clock_virtual clock = {.wall_ms = 1700000000000};
  struct cg_log_options options = {.fs = sim_fs_calls(sim),
                                   .clock = cg_clock_of(&clock),
                                   .segment_bytes = 64 << 10,
                                   .nonce_seed = 1,
                                   .manual = true};
  struct cg_log *log;
  if (cg_log_open_file(&log, "/log", &options, NULL) != CG_OK)
    exit(1);
  for (int count = 0; shape != SHAPE_EMPTY && count < 4; count++) {
    log_model_append(&model, log, 1 + (uint32_t)count % 3, 60, NULL);
    if (shape == SHAPE_CLOSED || shape == SHAPE_DAMAGED)
      cg_log_turn(log);
  }
  cg_log_turn(log);
  if (shape == SHAPE_CLOSED)
    cg_log_close(log, NULL);
  else
    cg_log_abandon(log);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(sim, PATH, &size);
  if (shape == SHAPE_TORN || shape == SHAPE_DAMAGED)
    bytes[model.commits[1].place * 8 + 60] ^= 1;
  while (size > CG_SEGMENT_HEADER_BYTES && bytes[size - 1] == 0)
    size--;
  save(directory, names[shape], bytes, size);
  log_model_deinit(&model);
  sim_fs_free(sim);
}

static bool drop(void *arg, const struct cg_record *record) {
  (void)arg;
  (void)record;
  return false;
}

/* Saves the second segment of the small log, rewritten in some ways. */
static void make_sealed(const char *directory) {
  static const struct {
    const char *name;
    struct cg_log_rewrite rewrite;
  } ways[] = {
      {"rewritten", {.keep = log_bytes_is_small, .nonce_seed = 3}},
      {"dropped", {.keep = drop, .nonce_seed = 3}},
      {"compressed", {.compress = true, .nonce_seed = 3}},
      {"both", {.keep = log_bytes_is_small, .compress = true, .nonce_seed = 3}},
  };
  for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
    struct sim_fs *sim = sim_fs_new(1);
    log_bytes_make(sim);
    struct cg_clock_virtual clock;
    struct cg_log_options options = log_bytes_options(sim, &clock);
    struct cg_log *log;
    const struct cg_log_seal *seals;
    if (cg_log_open_file(&log, "/log", &options, NULL) != CG_OK || cg_log_seals(log, &seals) < 2)
      exit(1);
    struct cg_log_seal seal = seals[1];
    if (cg_log_rewrite("/log", options.fs, &seal, &ways[way].rewrite, NULL) != CG_OK ||
        cg_log_replace(log, &seal, NULL) != CG_OK)
      exit(1);
    cg_log_abandon(log);
    char path[64];
    size_t size;
    log_bytes_path(1, path);
    const uint8_t *bytes = sim_fs_bytes(sim, path, &size);
    save(directory, ways[way].name, bytes, size);
    sim_fs_free(sim);
  }
}

/* Saves the manifest of a backup. */
static void make_manifest(const char *directory) {
  struct sim_fs *sim = sim_fs_new(1);
  log_bytes_make(sim);
  struct cg_log_backup backup = {.now_ms = 1700000000000};
  if (cg_log_backup("/log", "/b", sim_fs_calls(sim), &backup, NULL) != CG_OK)
    exit(1);
  size_t size;
  const uint8_t *bytes = sim_fs_bytes(sim, "/b/manifest", &size);
  save(directory, "whole", bytes, size);
  save(directory, "cut", bytes, size / 2);
  sim_fs_free(sim);
}

/* Saves a few records and commits. */
static void make_records(const char *directory) {
  static const uint8_t blank[CG_COMMIT_HEADER_BYTES] = {0};
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  char name[32];
  for (uint32_t count = 0; count < 4; count++) {
    struct log_model_commit commit = {
        .first_position = 1, .record_count = count, .data_max = count * 20, .salt = count};
    log_model_encode(&commit, buf);
    struct cg_buf *whole = cg_buf_take(NULL, 0);
    cg_buf_append(whole, blank, CG_COMMIT_HEADER_BYTES);
    cg_buf_append(whole, buf->data, buf->size);
    cg_buf_append(whole, blank, CG_COMMIT_END_BYTES);
    struct cg_commit_header header = {.size = (uint32_t)whole->size,
                                      .record_count = count,
                                      .first_position = 1,
                                      .durable_position = 1};
    cg_commit_finish(whole->data, &header, 1); /* The nonce that record_fuzz reads with. */
    snprintf(name, sizeof(name), "commit-%u", count);
    save(directory, name, whole->data, whole->size);
    snprintf(name, sizeof(name), "record-%u", count);
    if (count > 0)
      save(directory, name, buf->data, cg_record_stated_size(buf->data, buf->size));
    cg_buf_unref(whole);
  }
  cg_buf_unref(buf);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY, with segment/, sealed/, restore/ and record/ in it\n",
            argv[0]);
    return 2;
  }
  char directory[400];
  snprintf(directory, sizeof(directory), "%s/segment", argv[1]);
  for (int shape = 0; shape < SHAPES; shape++)
    make_segment(directory, (enum shape)shape);
  snprintf(directory, sizeof(directory), "%s/sealed", argv[1]);
  make_sealed(directory);
  snprintf(directory, sizeof(directory), "%s/restore", argv[1]);
  make_manifest(directory);
  snprintf(directory, sizeof(directory), "%s/record", argv[1]);
  make_records(directory);
  return 0;
}
