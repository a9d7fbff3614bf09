/* log_backup_test.c - a backup holds the log up to a position, costs what is new, can be restored
 * whatever happens to a later run, and a restore is all or nothing. */
#include <errno.h>
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

#define RECORDS 2 /* Of a commit. */
#define DATA_MAX 2000
#define NOW_MS INT64_C(1750000000000)
#define SEEDS 6        /* Ways to lose power at a call. */
#define CALLS_MAX 2000 /* More calls of one run would be a mistake. */

/* A log, its backup, and what was appended. */
struct world {
  struct sim_fs *sim;          /* The disk. */
  struct log_model model;      /* What was appended. */
  struct cg_log *log;          /* Open while it is not NULL. */
  struct cg_log_backup backup; /* The last run. */
};

static struct cg_log_options options_of(struct world *world) {
  return (struct cg_log_options){.fs = sim_fs_calls(world->sim),
                                 .segment_bytes = 64 << 10,
                                 .nonce_seed = 1,
                                 .manual = true,
                                 .replay = log_model_see,
                                 .replay_arg = &world->model};
}

static void open_log(struct world *world) {
  struct cg_log_options options = options_of(world);
  log_model_begin(&world->model);
  assert_int_equal(cg_log_open_file(&world->log, "/log", &options, NULL), CG_OK);
  assert_null(log_model_settle(&world->model));
}

static void append(struct world *world, int count) {
  for (int index = 0; index < count; index++) {
    assert_int_equal(log_model_append(&world->model, world->log, RECORDS, DATA_MAX, NULL), CG_OK);
    cg_log_turn(world->log);
  }
}

static void close_log(struct world *world) {
  assert_int_equal(cg_log_close(world->log, NULL), CG_OK);
  world->log = NULL;
}

static void make_world(struct world *world, uint64_t seed, int commit_count) {
  *world = (struct world){.sim = sim_fs_new(seed)};
  open_log(world);
  append(world, commit_count);
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

static enum cg_code run_backup(struct world *world, uint64_t until_position, struct cg_err *err) {
  world->backup = (struct cg_log_backup){.until_position = until_position, .now_ms = NOW_MS};
  return cg_log_backup("/log", "/b", sim_fs_calls(world->sim), &world->backup, err);
}

static enum cg_code run_restore(struct world *world, const char *data, struct cg_err *err) {
  world->backup = (struct cg_log_backup){0};
  return cg_log_restore("/b", data, sim_fs_calls(world->sim), &world->backup, err);
}

/* The log in a directory is whole and holds exactly the first `count` commits. */
static void check_log(struct world *world, const char *path, size_t count) {
  struct cg_log_verify verify = {0};
  struct cg_err err = {0};
  assert_int_equal(cg_log_verify(path, sim_fs_calls(world->sim), &verify, &err), CG_OK);
  assert_int_equal(verify.counts.end_position, count * RECORDS + 1);
  struct log_model model = {.commits = calloc(count + 1, sizeof(struct log_model_commit)),
                            .count = count,
                            .capacity = count + 1,
                            .acknowledged_position = count * RECORDS + 1};
  if (count > 0)
    memcpy(model.commits, world->model.commits, count * sizeof(struct log_model_commit));
  struct cg_log_options options = options_of(world);
  options.replay_arg = &model;
  struct cg_log *log;
  log_model_begin(&model);
  assert_int_equal(cg_log_open_file(&log, path, &options, &err), CG_OK);
  assert_null(log_model_settle(&model));
  assert_null(log_model_compare(&model, log));
  assert_int_equal(cg_log_next_position(log), count * RECORDS + 1);
  cg_log_abandon(log);
  log_model_deinit(&model);
}

/* The backup restores to exactly the first `count` commits. */
static void check_restore(struct world *world, const char *data, size_t count) {
  struct cg_err err = {0};
  char path[64];
  snprintf(path, sizeof(path), "%s/log", data);
  if (run_restore(world, data, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(world->backup.end_position, count * RECORDS + 1);
  check_log(world, path, count);
}

/* --- what a backup holds --- */

static void test_a_closed_log_is_backed_up_and_restored(void **state) {
  (void)state;
  struct world world;
  make_world(&world, 5, 70);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  assert_true(world.backup.is_first);
  assert_int_equal(world.backup.segment_count, 3);
  assert_int_equal(world.backup.copied_count, 3);
  assert_int_equal(world.backup.end_position, 70 * RECORDS + 1);
  sim_fs_crash(world.sim); /* All of it is durable. */
  check_restore(&world, "/d", 70);
  sim_fs_crash(world.sim);
  check_log(&world, "/d/log", 70);
  check_log(&world, "/b/log", 70); /* The backup is a log itself. */
  free_world(&world);
}

static void test_an_open_log_is_backed_up_to_a_position(void **state) {
  (void)state;
  struct world world;
  make_world(&world, 5, 70);
  struct cg_err err;
  assert_int_equal(run_backup(&world, 0, &err), CG_EBUSY);
  assert_int_equal(run_backup(&world, 70 * RECORDS + 1, &err), CG_OK);
  check_restore(&world, "/d", 70);
  append(&world, 3);
  assert_int_equal(run_backup(&world, 71 * RECORDS + 2, &err), CG_OK); /* Whole commits only. */
  check_restore(&world, "/e", 71);
  /* A position inside a segment that is sealed by now: all of that is durable. */
  append(&world, 40);
  uint64_t last = world.model.commits[world.model.count - 1].place >> 32;
  size_t sealed_count = 0;
  while (world.model.commits[sealed_count].place >> 32 < last)
    sealed_count++;
  assert_int_equal(run_backup(&world, 71 * RECORDS + 1, &err), CG_OK);
  check_restore(&world, "/f", sealed_count);
  assert_int_equal(run_backup(&world, 500 * RECORDS, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "said to be durable"));
  free_world(&world);
}

static void test_the_next_run_copies_what_is_new(void **state) {
  (void)state;
  struct world world;
  make_world(&world, 5, 70);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  assert_false(world.backup.is_first);
  assert_int_equal(world.backup.copied_count, 1); /* The last one. */
  open_log(&world);
  append(&world, 60);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  assert_int_equal(world.backup.segment_count, 5);
  assert_int_equal(world.backup.copied_count, 3); /* The third was not sealed. */
  check_restore(&world, "/d", 130);

  /* A file of the backup that has gone is copied again. */
  sim_fs_remove(world.sim, "/b/log/segment-0000000001.log");
  struct cg_err err;
  assert_int_equal(run_restore(&world, "/e", &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000001.log is missing"));
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  assert_int_equal(world.backup.copied_count, 2);
  check_restore(&world, "/e", 130);
  free_world(&world);
}

static void test_an_empty_log_and_no_log(void **state) {
  (void)state;
  struct world world;
  make_world(&world, 5, 0);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  check_restore(&world, "/d", 0);
  assert_int_equal(
      cg_log_backup("/none", "/c", sim_fs_calls(world.sim), &(struct cg_log_backup){0}, NULL),
      CG_ENOTFOUND);
  assert_int_equal(
      cg_log_restore("/none", "/e", sim_fs_calls(world.sim), &(struct cg_log_backup){0}, NULL),
      CG_ENOTFOUND);
  free_world(&world);
}

/* --- what is refused --- */

static void test_a_damaged_log_is_not_taken_over_a_good_backup(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  make_world(&world, 5, 70);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  open_log(&world);
  append(&world, 60);
  close_log(&world);
  size_t size;
  uint64_t place = world.model.commits[75].place; /* Of the third segment. */
  char path[64];
  snprintf(path, sizeof(path), "/log/segment-%010d.log", (int)(place >> 32));
  sim_fs_bytes(world.sim, path, &size)[(place & UINT32_MAX) * 8 + 30] ^= 1;
  assert_int_equal(run_backup(&world, 0, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, path));
  check_restore(&world, "/d", 70);
  assert_null(sim_fs_bytes(world.sim, "/b/log/segment-0000000003.log.backup-2", &size));
  free_world(&world);
}

static void test_other_logs_are_refused(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  make_world(&world, 5, 40);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  /* Another log. */
  struct cg_log_options options = {.fs = sim_fs_calls(world.sim), .nonce_seed = 9, .manual = true};
  struct cg_log *log;
  assert_int_equal(cg_log_open_file(&log, "/other", &options, NULL), CG_OK);
  cg_log_close(log, NULL);
  struct cg_log_backup backup = {0};
  assert_int_equal(cg_log_backup("/other", "/b", sim_fs_calls(world.sim), &backup, &err),
                   CG_ECONFLICT);
  assert_non_null(strstr(err.message, "another log"));
  /* A directory with a log that is no backup, also the log's own. */
  sim_fs_put_directory(world.sim, "/x");
  assert_int_equal(cg_log_open_file(&log, "/x/log", &options, NULL), CG_OK);
  cg_log_close(log, NULL);
  assert_int_equal(cg_log_backup("/log", "/x", sim_fs_calls(world.sim), &backup, &err), CG_EEXISTS);
  assert_int_equal(cg_log_backup("/x/log", "/x", sim_fs_calls(world.sim), &backup, &err),
                   CG_EEXISTS);
  /* The log has lost records. */
  check_restore(&world, "/d", 40);
  size_t size;
  uint64_t place = world.model.commits[39].place;
  char path[64];
  snprintf(path, sizeof(path), "/log/segment-%010d.log", (int)(place >> 32));
  uint8_t *bytes = sim_fs_bytes(world.sim, path, &size);
  memset(bytes + (place & UINT32_MAX) * 8 - 48, 0, size - (place & UINT32_MAX) * 8 + 48);
  assert_int_equal(run_backup(&world, 0, &err), CG_ECONFLICT);
  assert_non_null(strstr(err.message, "lost records"));
  check_restore(&world, "/e", 40);
  free_world(&world);
}

/* The files of a small backup, and a way to restore other bytes in their place. */
struct files {
  uint8_t *manifest;    /* Its bytes. */
  size_t manifest_size; /* How many. */
  uint8_t *segment;     /* Bytes of its only segment. */
  size_t segment_size;  /* How many. */
};

static uint8_t *copy_of(struct world *world, const char *path, size_t *size) {
  const uint8_t *bytes = sim_fs_bytes(world->sim, path, size);
  uint8_t *copy = malloc(*size);
  memcpy(copy, bytes, *size);
  return copy;
}

static void make_files(struct files *files) {
  struct world world;
  make_world(&world, 5, 3);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  files->manifest = copy_of(&world, "/b/manifest", &files->manifest_size);
  files->segment = copy_of(&world, "/b/log/segment-0000000000.log", &files->segment_size);
  free_world(&world);
}

static enum cg_code restore_files(const struct files *files) {
  struct world world = {.sim = sim_fs_new(1)};
  sim_fs_put_directory(world.sim, "/b");
  sim_fs_put_directory(world.sim, "/b/log");
  sim_fs_put(world.sim, "/b/manifest", files->manifest, files->manifest_size);
  sim_fs_put(world.sim, "/b/log/segment-0000000000.log", files->segment, files->segment_size);
  enum cg_code code = run_restore(&world, "/d", NULL);
  size_t size;
  assert_int_equal(sim_fs_bytes(world.sim, "/d/log/segment-0000000000.log", &size) != NULL,
                   code == CG_OK);
  sim_fs_free(world.sim);
  return code;
}

static void test_every_bit_of_a_backup_counts(void **state) {
  (void)state;
  struct files files;
  make_files(&files);
  assert_int_equal(restore_files(&files), CG_OK);
  for (size_t bit = 0; bit < files.manifest_size * 8; bit++) {
    files.manifest[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(restore_files(&files), CG_ECORRUPT);
    files.manifest[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (size_t bit = 0; bit < files.segment_size * 8; bit += 17) {
    files.segment[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(restore_files(&files), CG_ECORRUPT);
    files.segment[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  free(files.manifest);
  free(files.segment);
}

static void test_a_backup_that_is_cut_is_refused(void **state) {
  (void)state;
  struct files files;
  make_files(&files);
  size_t whole = files.manifest_size;
  for (files.manifest_size = 0; files.manifest_size < whole; files.manifest_size++)
    assert_int_equal(restore_files(&files), CG_ECORRUPT);
  for (files.segment_size--; files.segment_size > 0; files.segment_size /= 2)
    assert_int_equal(restore_files(&files), CG_ECORRUPT);
  free(files.manifest);
  free(files.segment);
}

static void test_a_restore_needs_an_empty_directory(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  make_world(&world, 5, 40);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  sim_fs_put_directory(world.sim, "/d");
  sim_fs_put(world.sim, "/d/ids", "x", 1);
  assert_int_equal(run_restore(&world, "/d", &err), CG_EEXISTS);
  assert_non_null(strstr(err.message, "there is ids"));
  assert_int_equal(run_restore(&world, "/b", &err), CG_EEXISTS);
  check_restore(&world, "/e", 40);
  assert_int_equal(run_restore(&world, "/e", &err), CG_EEXISTS);
  /* A log whose first segment is missing is somebody's, too. */
  sim_fs_remove(world.sim, "/e/log/segment-0000000000.log");
  assert_int_equal(run_restore(&world, "/e", &err), CG_EEXISTS);
  free_world(&world);
}

/* --- what kills leave --- */

/* Backs up, works on, and backs up again with a fault at a call; false when it makes fewer. */
static bool backup_with_fault(enum sim_fault fault, uint64_t call, uint64_t seed, bool is_first) {
  struct world world;
  struct cg_err err = {0};
  make_world(&world, seed, 40);
  close_log(&world);
  if (!is_first) {
    assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
    open_log(&world);
    append(&world, 60);
    close_log(&world);
  }
  size_t old_count = is_first ? 0 : 40, new_count = is_first ? 40 : 100;
  sim_fs_fault(world.sim, fault, EIO, call, false);
  enum cg_code code = run_backup(&world, 0, &err);
  bool is_met = sim_fs_has_faulted(world.sim);
  if (fault == SIM_FAULT_CRASH)
    sim_fs_crash(world.sim);
  else
    sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);

  /* The backup before, or this one; and its folder is a log without damage all the time. */
  enum cg_code restored = run_restore(&world, "/d", &err);
  if (restored == CG_OK)
    check_log(&world, "/d/log",
              world.backup.end_position == old_count * RECORDS + 1 && code != CG_OK ? old_count
                                                                                    : new_count);
  else
    assert_true(is_first && restored == CG_ENOTFOUND);
  struct cg_log_verify verify = {0};
  enum cg_code verified = cg_log_verify("/b/log", sim_fs_calls(world.sim), &verify, &err);
  if (verified != CG_OK && !(is_first && verified == CG_ENOTFOUND))
    fail_msg("call %llu: %s", (unsigned long long)call, err.message);
  if (run_backup(&world, 0, &err) != CG_OK)
    fail_msg("call %llu: %s", (unsigned long long)call, err.message);
  check_restore(&world, "/e", new_count);
  check_log(&world, "/b/log", new_count);
  free_world(&world);
  return is_met;
}

static void test_a_backup_may_be_killed_at_any_call(void **state) {
  (void)state;
  for (int is_first = 0; is_first < 2; is_first++) {
    uint64_t call = 1;
    bool is_met = true;
    for (; is_met; call++)
      for (uint64_t seed = 0; seed < SEEDS; seed++)
        is_met = backup_with_fault(SIM_FAULT_CRASH, call, call * SEEDS + seed, is_first);
    assert_true(call < CALLS_MAX);
    assert_true(call > 20);
  }
}

static void test_a_backup_can_be_repeated_after_an_error_at_any_call(void **state) {
  (void)state;
  uint64_t call = 1;
  while (backup_with_fault(SIM_FAULT_ERROR, call, call, false))
    assert_true(++call < CALLS_MAX);
}

/* A run is killed, and the next one meets a damaged log: what can be restored is still whole. */
static bool fail_after_kill(uint64_t call) {
  struct world world;
  struct cg_err err = {0};
  make_world(&world, 3000 + call, 40);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  open_log(&world);
  append(&world, 60);
  close_log(&world);
  sim_fs_fault(world.sim, SIM_FAULT_CRASH, 0, call, false);
  enum cg_code code = run_backup(&world, 0, &err);
  bool is_met = sim_fs_has_faulted(world.sim);
  sim_fs_crash(world.sim);
  size_t size;
  sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size)[20] ^= 1;
  assert_int_equal(run_backup(&world, 0, &err), CG_ECORRUPT);
  if (run_restore(&world, "/d", &err) != CG_OK)
    fail_msg("call %llu: %s", (unsigned long long)call, err.message);
  bool is_old = world.backup.end_position == 40 * RECORDS + 1;
  assert_true(code != CG_OK || !is_old);
  check_log(&world, "/d/log", is_old ? 40 : 100);
  free_world(&world);
  return is_met;
}

static void test_a_failed_run_after_a_killed_one_loses_nothing(void **state) {
  (void)state;
  uint64_t call = 1;
  while (fail_after_kill(call))
    assert_true(++call < CALLS_MAX);
}

/* Restores with a fault at a call; false when it makes fewer. */
static bool restore_with_fault(enum sim_fault fault, uint64_t call) {
  struct world world;
  struct cg_err err = {0};
  make_world(&world, 2000 + call, 70);
  close_log(&world);
  assert_int_equal(run_backup(&world, 0, NULL), CG_OK);
  sim_fs_fault(world.sim, fault, EIO, call, false);
  enum cg_code code = run_restore(&world, "/d", &err);
  bool is_met = sim_fs_has_faulted(world.sim);
  if (fault == SIM_FAULT_CRASH)
    sim_fs_crash(world.sim);
  else
    sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);

  size_t size;
  if (sim_fs_bytes(world.sim, "/d/log/segment-0000000000.log", &size)) {
    check_log(&world, "/d/log", 70);
  } else {
    assert_int_not_equal(code, CG_OK);
    if (run_restore(&world, "/d", &err) != CG_OK)
      fail_msg("call %llu: %s", (unsigned long long)call, err.message);
    check_log(&world, "/d/log", 70);
  }
  free_world(&world);
  return is_met;
}

static void test_a_restore_is_all_or_nothing(void **state) {
  (void)state;
  uint64_t call = 1;
  while (restore_with_fault(SIM_FAULT_CRASH, call))
    assert_true(++call < CALLS_MAX);
  assert_true(call > 20);
  call = 1;
  while (restore_with_fault(SIM_FAULT_ERROR, call))
    assert_true(++call < CALLS_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_closed_log_is_backed_up_and_restored),
      cmocka_unit_test(test_an_open_log_is_backed_up_to_a_position),
      cmocka_unit_test(test_the_next_run_copies_what_is_new),
      cmocka_unit_test(test_an_empty_log_and_no_log),
      cmocka_unit_test(test_a_damaged_log_is_not_taken_over_a_good_backup),
      cmocka_unit_test(test_other_logs_are_refused),
      cmocka_unit_test(test_every_bit_of_a_backup_counts),
      cmocka_unit_test(test_a_backup_that_is_cut_is_refused),
      cmocka_unit_test(test_a_restore_needs_an_empty_directory),
      cmocka_unit_test(test_a_backup_may_be_killed_at_any_call),
      cmocka_unit_test(test_a_backup_can_be_repeated_after_an_error_at_any_call),
      cmocka_unit_test(test_a_failed_run_after_a_killed_one_loses_nothing),
      cmocka_unit_test(test_a_restore_is_all_or_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
