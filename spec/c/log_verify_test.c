/* log_verify_test.c - cg_log_verify names every fault, goes on behind it, and changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define FIRST "/log/segment-0000000000.log"
#define SECOND "/log/segment-0000000001.log"
#define LINES_MAX 20

/* A closed log and what verify has said of it. */
struct world {
  struct sim_fs *sim;          /* The disk. */
  struct log_model model;      /* What was appended. */
  char faults[LINES_MAX][256]; /* Lines reported as faults. */
  int fault_count;             /* How many. */
  char notes[LINES_MAX][256];  /* Other lines. */
  int note_count;              /* How many. */
  struct cg_log_verify verify; /* The last check. */
  uint64_t done_bytes;         /* Last told by progress. */
  uint64_t total_bytes;        /* The same. */
};

static void on_line(void *arg, bool is_fault, const char *line) {
  struct world *world = arg;
  int *count = is_fault ? &world->fault_count : &world->note_count;
  assert_true(*count < LINES_MAX);
  snprintf(is_fault ? world->faults[(*count)++] : world->notes[(*count)++], 256, "%s", line);
}

static void on_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes) {
  struct world *world = arg;
  assert_true(done_bytes > world->done_bytes && done_bytes <= total_bytes);
  world->done_bytes = done_bytes;
  world->total_bytes = total_bytes;
}

/* Makes a log of three segments; the last batch holds five commits, marked or not. */
static void make_log(struct world *world, bool is_marked) {
  *world = (struct world){.sim = sim_fs_new(5)};
  struct cg_log_options options = {
      .fs = sim_fs_calls(world->sim), .segment_bytes = 64 << 10, .nonce_seed = 1, .manual = true};
  struct cg_log *log;
  assert_int_equal(cg_log_open_file(&log, "/log", &options, NULL), CG_OK);
  for (int count = 0; count < 70; count++) {
    assert_int_equal(log_model_append(&world->model, log, 2, 2000, NULL), CG_OK);
    if (count < 65)
      cg_log_turn(log);
  }
  cg_log_turn(log);
  if (is_marked)
    cg_log_close(log, NULL);
  else
    cg_log_abandon(log);
  sim_fs_kill(world->sim);
}

static enum cg_code verify_at(struct world *world, const char *path) {
  world->fault_count = world->note_count = 0;
  world->verify = (struct cg_log_verify){.report = on_line, .progress = on_progress, .arg = world};
  return cg_log_verify(path, sim_fs_calls(world->sim), &world->verify, NULL);
}

static enum cg_code verify(struct world *world) {
  return verify_at(world, "/log");
}

static void free_world(struct world *world) {
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

/* The first byte of a commit in its file. */
static uint8_t *commit_at(struct world *world, const char *path, size_t commit) {
  size_t size;
  return sim_fs_bytes(world->sim, path, &size) +
         (world->model.commits[commit].place & UINT32_MAX) * 8 - CG_COMMIT_HEADER_BYTES;
}

static void test_a_good_log_has_no_faults(void **state) {
  (void)state;
  for (int is_marked = 0; is_marked < 2; is_marked++) {
    struct world world;
    make_log(&world, is_marked);
    uint64_t syncs = sim_fs_sync_count(world.sim);
    assert_int_equal(verify(&world), CG_OK);
    assert_int_equal(world.fault_count, 0);
    assert_int_equal(sim_fs_sync_count(world.sim), syncs);
    free_world(&world);
  }
}

static void test_every_fault_is_named(void **state) {
  (void)state;
  struct world world;
  make_log(&world, true);
  commit_at(&world, FIRST, 3)[70] ^= 1;
  commit_at(&world, FIRST, 9)[4] ^= 1;
  size_t second = 0;
  while (world.model.commits[second].place >> 32 == 0)
    second++;
  memset(commit_at(&world, SECOND, second + 2), 0, 60);
  assert_int_equal(verify(&world), CG_ECORRUPT);
  assert_int_equal(world.fault_count, 3);
  char text[64];
  snprintf(text, sizeof(text), "segment-0000000000.log: offset %llu: ",
           (unsigned long long)((world.model.commits[3].place & UINT32_MAX) * 8 - 48));
  assert_memory_equal(world.faults[0], text, strlen(text));
  assert_memory_equal(world.faults[1], "segment-0000000000.log", 22);
  assert_memory_equal(world.faults[2], "segment-0000000001.log", 22);
  free_world(&world);
}

static void test_a_torn_tail_is_told_and_is_no_fault(void **state) {
  (void)state;
  struct world world;
  make_log(&world, false);
  size_t commit = world.model.count - 3;
  char path[64];
  snprintf(path, sizeof(path), "/log/segment-%010d.log",
           (int)(world.model.commits[commit].place >> 32));
  commit_at(&world, path, commit)[60] ^= 1;
  assert_int_equal(verify(&world), CG_OK);
  assert_int_equal(world.fault_count, 0);
  assert_int_equal(world.note_count, 1);
  assert_non_null(strstr(world.notes[0], "torn tail"));
  free_world(&world);

  make_log(&world, true); /* With a mark behind it, it is one. */
  commit_at(&world, path, commit)[60] ^= 1;
  assert_int_equal(verify(&world), CG_ECORRUPT);
  assert_int_equal(world.fault_count, 1);
  free_world(&world);
}

static void test_missing_and_foreign_segments_are_faults(void **state) {
  (void)state;
  struct world world;
  make_log(&world, true);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, SECOND, &size);
  bytes[20] ^= 1; /* Its header. */
  assert_int_equal(verify(&world), CG_ECORRUPT);
  assert_int_equal(world.fault_count, 1);
  assert_non_null(strstr(world.faults[0], "segment-0000000001.log: offset 0:"));
  sim_fs_remove(world.sim, SECOND);
  assert_int_equal(verify(&world), CG_ECORRUPT);
  assert_int_equal(world.fault_count, 1);
  assert_non_null(strstr(world.faults[0], "segment-0000000001.log: the file is missing"));
  assert_int_equal(verify_at(&world, "/none"), CG_ENOTFOUND);
  free_world(&world);
}

static void test_what_was_read_is_counted(void **state) {
  (void)state;
  struct world world;
  make_log(&world, false);
  assert_int_equal(verify(&world), CG_OK);
  const struct cg_log_counts *counts = &world.verify.counts;
  assert_int_equal(counts->segment_count, 3);
  assert_int_equal(counts->commit_count, 70);
  assert_int_equal(counts->record_count, 140);
  assert_int_equal(counts->first_position, 1);
  assert_int_equal(counts->end_position, 141);
  assert_int_equal(counts->bytes, 3 * (64 << 10));
  assert_int_equal(counts->torn_bytes, 0);
  assert_true(counts->commit_bytes < counts->bytes);
  commit_at(&world, FIRST, 3)[70] ^= 1; /* What is damaged does not count. */
  assert_int_equal(verify(&world), CG_ECORRUPT);
  assert_int_equal(counts->commit_count, 69);
  assert_int_equal(counts->fault_count, 1);
  free_world(&world);
}

static void test_progress_is_told_by_bytes(void **state) {
  (void)state;
  struct world world = {.sim = sim_fs_new(5)};
  struct cg_log_options options = {
      .fs = sim_fs_calls(world.sim), .segment_bytes = 2 << 20, .nonce_seed = 1, .manual = true};
  struct cg_log *log;
  assert_int_equal(cg_log_open_file(&log, "/log", &options, NULL), CG_OK);
  for (int count = 0; count < 60; count++) {
    assert_int_equal(log_model_append(&world.model, log, 1, 200000, NULL), CG_OK);
    cg_log_turn(log);
  }
  cg_log_close(log, NULL);
  assert_int_equal(verify(&world), CG_OK);
  assert_int_equal(world.total_bytes, world.verify.counts.bytes);
  assert_true(world.done_bytes > world.total_bytes / 2);
  free_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_was_read_is_counted),
      cmocka_unit_test(test_progress_is_told_by_bytes),
      cmocka_unit_test(test_a_good_log_has_no_faults),
      cmocka_unit_test(test_every_fault_is_named),
      cmocka_unit_test(test_a_torn_tail_is_told_and_is_no_fault),
      cmocka_unit_test(test_missing_and_foreign_segments_are_faults),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
