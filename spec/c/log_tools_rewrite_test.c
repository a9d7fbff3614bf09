/* log_tools_rewrite_test.c - the tools for files on logs with rewritten segments: records that were
 * dropped stay dropped, all others come through a backup and, before the damage, a repair. */
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

#define RECORDS 2   /* Of a commit. */
#define SEALED 4    /* Segments that are sealed. */
#define REWRITTEN 3 /* Of these, rewritten: the first ones. */
#define NOW_MS INT64_C(1750000000000)

/* A log whose first segments have been rewritten. */
struct world {
  struct sim_fs *sim;                     /* The disk. */
  struct log_model model;                 /* What was appended. */
  struct cg_log *log;                     /* Open while it is not NULL. */
  uint64_t dropped_position;              /* Below it every third record has been dropped. */
  uint64_t segment_positions[SEALED + 1]; /* First position of each segment. */
  bool is_compressed;                     /* Rewriting compresses. */
  uint64_t next_position;                 /* What may be seen next. */
  uint64_t seen_count;                    /* Records seen. */
};

static bool is_kept(const struct world *world, uint64_t position) {
  return position >= world->dropped_position || position % 3 != 0;
}

static bool keep(void *arg, const struct cg_record *record) {
  (void)arg;
  return record->position % 3 != 0;
}

/* Sees a record of an open or a cursor: nothing that is kept may be missing. */
static void see(void *arg, const struct cg_record *record, cg_log_place place) {
  struct world *world = arg;
  (void)place;
  while (!is_kept(world, world->next_position))
    world->next_position++;
  assert_int_equal(record->position, world->next_position);
  const struct log_model_commit *commit = log_model_find(&world->model, record->position);
  assert_true(commit && log_model_matches(commit, record));
  world->next_position++;
  world->seen_count++;
}

static enum cg_code open_at(struct world *world, const char *path, struct cg_log **log,
                            struct cg_err *err) {
  struct cg_log_options options = {.fs = sim_fs_calls(world->sim),
                                   .segment_bytes = 64 << 10,
                                   .nonce_seed = 1,
                                   .manual = true,
                                   .replay = see,
                                   .replay_arg = world};
  world->next_position = 1;
  world->seen_count = 0;
  return cg_log_open_file(log, path, &options, err);
}

/* Rewrites a sealed segment and puts it in place. */
static void rewrite(struct world *world, uint32_t number) {
  const struct cg_log_seal *seals;
  assert_true(number < cg_log_seals(world->log, &seals));
  struct cg_log_seal seal = seals[number];
  struct cg_log_rewrite asked = {
      .keep = keep, .compress = world->is_compressed, .nonce_seed = 1 + seal.nonce};
  assert_int_equal(cg_log_rewrite("/log", sim_fs_calls(world->sim), &seal, &asked, NULL), CG_OK);
  assert_int_equal(cg_log_replace(world->log, &seal, NULL), CG_OK);
}

/* Makes the log and leaves it open; nothing is rewritten yet. */
static void make_log(struct world *world, bool is_compressed) {
  *world = (struct world){.sim = sim_fs_new(5), .is_compressed = is_compressed};
  const struct cg_log_seal *seals;
  assert_int_equal(open_at(world, "/log", &world->log, NULL), CG_OK);
  do {
    assert_int_equal(log_model_append(&world->model, world->log, RECORDS, 2000, NULL), CG_OK);
    cg_log_turn(world->log);
  } while (cg_log_seals(world->log, &seals) < SEALED);
  for (int number = 0; number < SEALED; number++)
    world->segment_positions[number] = seals[number].first_position;
  world->segment_positions[SEALED] = seals[SEALED - 1].end_position;
}

static void rewrite_all(struct world *world) {
  for (uint32_t number = 0; number < REWRITTEN; number++)
    rewrite(world, number);
  world->dropped_position = world->segment_positions[REWRITTEN];
}

static void close_log(struct world *world) {
  assert_int_equal(cg_log_close(world->log, NULL), CG_OK);
  world->log = NULL;
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

/* The log in a directory is whole and holds what is kept of the records below `end_position`. */
static void check_log(struct world *world, const char *path, uint64_t end_position) {
  struct cg_log_verify verify = {0};
  struct cg_log *log;
  struct cg_err err;
  if (cg_log_verify(path, sim_fs_calls(world->sim), &verify, &err) != CG_OK ||
      open_at(world, path, &log, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(verify.counts.end_position, end_position);
  assert_int_equal(cg_log_next_position(log), end_position);
  while (!is_kept(world, world->next_position) && world->next_position < end_position)
    world->next_position++;
  assert_int_equal(world->next_position, end_position);
  assert_int_equal(verify.counts.record_count, world->seen_count);
  struct cg_buf *records = cg_buf_take(NULL, 64);
  cg_record_append(records, &(struct cg_record){.stream = "s", .stream_size = 1});
  cg_log_place place;
  assert_int_equal(cg_log_append(log, records->data, records->size, 1, end_position, &place, NULL),
                   CG_OK);
  cg_buf_unref(records);
  assert_int_equal(cg_log_close(log, NULL), CG_OK);
  assert_int_equal(cg_log_verify(path, sim_fs_calls(world->sim), &verify, &err), CG_OK);
}

static void test_a_backup_takes_rewritten_segments_again(void **state) {
  (void)state;
  for (int is_compressed = 0; is_compressed < 2; is_compressed++) {
    struct world world;
    struct cg_err err;
    make_log(&world, is_compressed);
    uint64_t end_position = cg_log_next_position(world.log);
    struct cg_log_backup backup = {.until_position = end_position, .now_ms = NOW_MS};
    assert_int_equal(cg_log_backup("/log", "/b", sim_fs_calls(world.sim), &backup, &err), CG_OK);
    assert_int_equal(backup.copied_count, SEALED + 1);
    rewrite_all(&world);
    assert_int_equal(cg_log_backup("/log", "/b", sim_fs_calls(world.sim), &backup, &err), CG_OK);
    assert_int_equal(backup.copied_count, REWRITTEN + 1); /* And the last. */
    assert_int_equal(backup.end_position, end_position);
    assert_int_equal(cg_log_backup("/log", "/b", sim_fs_calls(world.sim), &backup, &err), CG_OK);
    assert_int_equal(backup.copied_count, 1);
    assert_int_equal(cg_log_restore("/b", "/d", sim_fs_calls(world.sim), &backup, &err), CG_OK);
    check_log(&world, "/d/log", end_position);
    free_world(&world);
  }
}

/* A position right behind a rewritten segment ends the backup there, with the next one's header. */
static void test_a_backup_that_ends_behind_a_rewritten_segment(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  make_log(&world, false);
  for (uint32_t number = 0; number < SEALED; number++)
    rewrite(&world, number);
  uint64_t end_position = world.segment_positions[SEALED];
  world.dropped_position = end_position;
  struct cg_log_backup backup = {.until_position = end_position, .now_ms = NOW_MS};
  assert_int_equal(cg_log_backup("/log", "/b", sim_fs_calls(world.sim), &backup, &err), CG_OK);
  assert_int_equal(backup.end_position, end_position);
  assert_int_equal(cg_log_restore("/b", "/d", sim_fs_calls(world.sim), &backup, &err), CG_OK);
  check_log(&world, "/d/log", end_position);
  free_world(&world);
}

static void name_of(char path[64], int number) {
  snprintf(path, 64, "/log/segment-%010d.log", number);
}

static void repair(struct world *world, struct cg_log_repair *plan) {
  struct cg_err err;
  struct cg_log *log;
  assert_int_equal(open_at(world, "/log", &log, NULL), CG_ECORRUPT);
  if (cg_log_repair_plan("/log", sim_fs_calls(world->sim), plan, &err) != CG_OK ||
      cg_log_repair_run("/log", sim_fs_calls(world->sim), NOW_MS, plan, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_true(plan->is_needed);
  check_log(world, "/log", plan->first_position);
}

static void test_a_repair_that_leaves_a_rewritten_segment_last(void **state) {
  (void)state;
  for (int is_compressed = 0; is_compressed < 2; is_compressed++)
    for (int missing = 1; missing <= REWRITTEN; missing++) {
      struct world world;
      struct cg_log_repair plan = {0};
      char path[64];
      make_log(&world, is_compressed);
      rewrite_all(&world);
      close_log(&world);
      name_of(path, missing);
      sim_fs_remove(world.sim, path);
      repair(&world, &plan);
      assert_int_equal(plan.first_position, world.segment_positions[missing]);
      assert_int_equal(plan.segment, missing - 1);
      assert_int_equal(plan.moved_count, SEALED - missing);
      free_world(&world);
    }
}

static void test_a_repair_within_a_rewritten_segment(void **state) {
  (void)state;
  for (int is_compressed = 0; is_compressed < 2; is_compressed++)
    for (size_t part = 1; part < 20; part++) {
      struct world world;
      struct cg_log_repair plan = {0};
      char path[64];
      size_t size, end;
      make_log(&world, is_compressed);
      rewrite_all(&world);
      close_log(&world);
      name_of(path, 1);
      uint8_t *bytes = sim_fs_bytes(world.sim, path, &size);
      for (end = size; bytes[end - 1] == 0;)
        end--;
      bytes[CG_SEGMENT_HEADER_BYTES + (end - CG_SEGMENT_HEADER_BYTES) * part / 20] ^= 4;
      repair(&world, &plan);
      assert_in_range(plan.first_position, world.segment_positions[1],
                      world.segment_positions[2] - 1);
      free_world(&world);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_backup_takes_rewritten_segments_again),
      cmocka_unit_test(test_a_backup_that_ends_behind_a_rewritten_segment),
      cmocka_unit_test(test_a_repair_that_leaves_a_rewritten_segment_last),
      cmocka_unit_test(test_a_repair_within_a_rewritten_segment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
