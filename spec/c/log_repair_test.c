/* log_repair_test.c - a repair cuts a log at its first damage, keeps all before it, puts aside what
 * it touches, and may be killed at any call. */
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

#define PATH_BYTES 128
#define COMMITS 70 /* They fill three segments. */
#define RECORDS 2  /* Of a commit. */
#define SEGMENTS 3
#define NOW_MS INT64_C(1750000000000) /* 2025-06-15T15:06:40Z */
#define ASIDE "/log/aside-20250615T150640Z"
#define CALLS_MAX 400 /* More calls of one repair would be a mistake. */

/* A closed log of three segments, with damage. */
struct world {
  struct sim_fs *sim;              /* The disk. */
  struct log_model model;          /* What was appended. */
  uint8_t *originals[SEGMENTS];    /* The damaged files, before repair; NULL: missing. */
  size_t original_sizes[SEGMENTS]; /* Their sizes. */
};

/* A kind of damage: what it does, and how many commits stay. */
typedef size_t (*damage_fn)(struct world *world);

static void name_of(char path[PATH_BYTES], const char *directory, int number) {
  snprintf(path, PATH_BYTES, "%s/segment-%010d.log", directory, number);
}

static struct cg_log_options options_of(struct world *world) {
  return (struct cg_log_options){.fs = sim_fs_calls(world->sim),
                                 .segment_bytes = 64 << 10,
                                 .nonce_seed = 1,
                                 .manual = true,
                                 .replay = log_model_see,
                                 .replay_arg = &world->model};
}

static void make_log(struct world *world, uint64_t seed, damage_fn damage, size_t *kept_count) {
  *world = (struct world){.sim = sim_fs_new(seed)};
  struct cg_log_options options = options_of(world);
  struct cg_log *log;
  log_model_begin(&world->model);
  assert_int_equal(cg_log_open_file(&log, "/log", &options, NULL), CG_OK);
  for (int count = 0; count < COMMITS; count++) {
    assert_int_equal(log_model_append(&world->model, log, RECORDS, 2000, NULL), CG_OK);
    cg_log_turn(log);
  }
  assert_int_equal(cg_log_close(log, NULL), CG_OK);
  sim_fs_put(world->sim, "/models.sqlite", "derived", 7);
  *kept_count = damage(world);
  for (int number = 0; number < SEGMENTS; number++) {
    char path[PATH_BYTES];
    size_t size = 0;
    name_of(path, "/log", number);
    const uint8_t *bytes = sim_fs_bytes(world->sim, path, &size);
    if (!bytes)
      continue;
    world->originals[number] = malloc(size);
    memcpy(world->originals[number], bytes, size);
    world->original_sizes[number] = size;
    sim_fs_put(world->sim, path, world->originals[number], size); /* Durable damage. */
  }
}

static void free_world(struct world *world) {
  for (int number = 0; number < SEGMENTS; number++)
    free(world->originals[number]);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

/* --- kinds of damage --- */

static size_t first_of(const struct world *world, uint64_t segment) {
  size_t commit = 0;
  while (world->model.commits[commit].place >> 32 < segment)
    commit++;
  return commit;
}

/* Flips a bit of a commit. */
static size_t flip(struct world *world, size_t commit) {
  char path[PATH_BYTES];
  size_t size;
  uint64_t place = world->model.commits[commit].place;
  name_of(path, "/log", (int)(place >> 32));
  sim_fs_bytes(world->sim, path, &size)[(place & UINT32_MAX) * 8 + 30] ^= 4;
  return commit;
}

static size_t flip_first(struct world *world) {
  return flip(world, 0);
}

static size_t flip_early(struct world *world) {
  return flip(world, 5);
}

static size_t flip_middle(struct world *world) {
  return flip(world, first_of(world, 1) + 3);
}

static size_t flip_begin_of_middle(struct world *world) {
  return flip(world, first_of(world, 1));
}

static size_t flip_late(struct world *world) {
  return flip(world, first_of(world, 2) + 1);
}

static size_t flip_header(struct world *world) {
  size_t size;
  sim_fs_bytes(world->sim, "/log/segment-0000000001.log", &size)[50] ^= 1;
  return first_of(world, 1);
}

static size_t lose_middle(struct world *world) {
  sim_fs_remove(world->sim, "/log/segment-0000000001.log");
  return first_of(world, 1);
}

static size_t lose_content(struct world *world) {
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world->sim, "/log/segment-0000000001.log", &size);
  memset(bytes + CG_SEGMENT_HEADER_BYTES, 0, size - CG_SEGMENT_HEADER_BYTES);
  return first_of(world, 1);
}

/* The last segment's file is a copy of the first one's. */
static size_t misplace(struct world *world) {
  size_t size;
  const uint8_t *bytes = sim_fs_bytes(world->sim, "/log/segment-0000000000.log", &size);
  sim_fs_put(world->sim, "/log/segment-0000000002.log", bytes, size);
  return first_of(world, 2);
}

static const damage_fn DAMAGES[] = {flip_first,           flip_early,   flip_middle,
                                    flip_begin_of_middle, flip_late,    flip_header,
                                    lose_middle,          lose_content, misplace};
#define DAMAGE_COUNT (sizeof(DAMAGES) / sizeof(DAMAGES[0]))

/* --- what must hold --- */

static enum cg_code repair_now(struct world *world, struct cg_log_repair *repair,
                               struct cg_err *err) {
  enum cg_code code = cg_log_repair_plan("/log", sim_fs_calls(world->sim), repair, err);
  repair->derived[0] = "/models.sqlite";
  repair->derived[1] = "/never.sqlite";
  return code != CG_OK ? code
                       : cg_log_repair_run("/log", sim_fs_calls(world->sim), NOW_MS, repair, err);
}

/* The log is whole, opens, and holds exactly the first commits. */
static void check_log(struct world *world, size_t kept_count) {
  struct cg_log_verify verify = {0};
  struct cg_err err;
  assert_int_equal(cg_log_verify("/log", sim_fs_calls(world->sim), &verify, &err), CG_OK);
  assert_int_equal(verify.counts.torn_bytes, 0);
  struct cg_log_options options = options_of(world);
  struct cg_log *log;
  world->model.acknowledged_position = kept_count * RECORDS + 1;
  log_model_begin(&world->model);
  assert_int_equal(cg_log_open_file(&log, "/log", &options, &err), CG_OK);
  assert_null(log_model_settle(&world->model));
  assert_int_equal(world->model.count, kept_count);
  assert_int_equal(cg_log_next_position(log), kept_count * RECORDS + 1);
  assert_int_equal(log_model_append(&world->model, log, RECORDS, 2000, NULL), CG_OK);
  assert_int_equal(cg_log_close(log, NULL), CG_OK);
  assert_int_equal(cg_log_verify("/log", sim_fs_calls(world->sim), &verify, &err), CG_OK);
}

/* Whether the bytes of a segment as it was are in its place or in one of the asides. */
static bool is_kept(struct world *world, int number) {
  char path[PATH_BYTES], directory[64] = "/log";
  for (int count = 0; count < 4; count++) {
    size_t size;
    if (count > 0)
      snprintf(directory, sizeof(directory), count > 1 ? ASIDE "-%d" : ASIDE, count);
    name_of(path, directory, number);
    const uint8_t *bytes = sim_fs_bytes(world->sim, path, &size);
    if (bytes && size == world->original_sizes[number] &&
        memcmp(bytes, world->originals[number], size) == 0)
      return true;
  }
  return false;
}

static void check_kept(struct world *world) {
  for (int number = 0; number < SEGMENTS; number++)
    assert_true(!world->originals[number] || is_kept(world, number));
}

/* --- the tests --- */

static void test_the_log_is_cut_at_the_damage_and_all_is_put_aside(void **state) {
  (void)state;
  for (size_t index = 0; index < DAMAGE_COUNT; index++) {
    struct world world;
    size_t kept_count;
    make_log(&world, 5, DAMAGES[index], &kept_count);
    struct cg_log *log;
    struct cg_log_options options = options_of(&world);
    log_model_begin(&world.model);
    world.model.is_blind = true;
    assert_int_equal(cg_log_open_file(&log, "/log", &options, NULL), CG_ECORRUPT);
    world.model.is_blind = false;
    struct cg_log_repair repair = {0};
    struct cg_err err;
    assert_int_equal(repair_now(&world, &repair, &err), CG_OK);
    assert_true(repair.is_needed);
    assert_string_equal(repair.aside, ASIDE);
    assert_int_equal(repair.first_position, kept_count * RECORDS + 1);
    if (DAMAGES[index] != misplace)
      assert_int_equal(repair.last_position, COMMITS * RECORDS);
    size_t size;
    const char *readme = (const char *)sim_fs_bytes(world.sim, ASIDE "/README", &size);
    assert_non_null(readme);
    assert_non_null(memmem(readme, size, repair.fault, strlen(repair.fault)));
    assert_non_null(sim_fs_bytes(world.sim, ASIDE "/models.sqlite", &size));
    assert_null(sim_fs_bytes(world.sim, "/models.sqlite", &size));
    check_kept(&world);
    sim_fs_crash(world.sim); /* All of it is durable. */
    check_kept(&world);
    check_log(&world, kept_count);
    assert_int_equal(cg_log_repair_plan("/log", sim_fs_calls(world.sim), &repair, &err), CG_OK);
    assert_false(repair.is_needed);
    free_world(&world);
  }
}

static void test_lost_positions_are_counted(void **state) {
  (void)state;
  struct world world;
  size_t kept_count;
  struct cg_log_repair repair = {0};
  make_log(&world, 5, flip_middle, &kept_count);
  assert_int_equal(cg_log_repair_plan("/log", sim_fs_calls(world.sim), &repair, NULL), CG_OK);
  assert_int_equal(repair.segment, 1);
  assert_true(repair.is_cut);
  assert_int_equal(repair.moved_count, 1);
  assert_int_equal(repair.readable_count, (COMMITS - kept_count - 1) * RECORDS);
  free_world(&world);

  make_log(&world, 5, lose_middle, &kept_count);
  assert_int_equal(cg_log_repair_plan("/log", sim_fs_calls(world.sim), &repair, NULL), CG_OK);
  assert_int_equal(repair.segment, 1);
  assert_int_equal(repair.offset, 0);
  assert_int_equal(repair.moved_count, 1);
  assert_int_equal(repair.readable_count, (COMMITS - first_of(&world, 2)) * RECORDS);
  free_world(&world);
}

static size_t no_damage(struct world *world) {
  (void)world;
  return COMMITS;
}

static size_t lose_first(struct world *world) {
  sim_fs_remove(world->sim, "/log/segment-0000000000.log");
  return 0;
}

static size_t flip_first_header(struct world *world) {
  size_t size;
  sim_fs_bytes(world->sim, "/log/segment-0000000000.log", &size)[50] ^= 1;
  return 0;
}

static void test_what_cannot_be_repaired_is_left_alone(void **state) {
  (void)state;
  const damage_fn damages[] = {lose_first, flip_first_header};
  for (int index = 0; index < 2; index++) {
    struct world world;
    size_t kept_count;
    struct cg_log_repair repair = {0};
    struct cg_err err;
    make_log(&world, 5, damages[index], &kept_count);
    uint64_t syncs = sim_fs_sync_count(world.sim);
    assert_int_equal(repair_now(&world, &repair, &err), CG_ECORRUPT);
    assert_non_null(strstr(err.message, "segment-0000000000.log: offset 0: "));
    assert_non_null(strstr(err.message, "cannot be repaired"));
    assert_int_equal(sim_fs_sync_count(world.sim), syncs);
    check_kept(&world);
    free_world(&world);
  }
}

static void test_a_good_log_and_a_torn_tail_need_no_repair(void **state) {
  (void)state;
  struct world world;
  size_t kept_count;
  struct cg_log_repair repair = {0};
  make_log(&world, 5, no_damage, &kept_count);
  uint64_t syncs = sim_fs_sync_count(world.sim);
  assert_int_equal(repair_now(&world, &repair, NULL), CG_OK);
  assert_false(repair.is_needed);

  /* A commit, unmarked, that a crash has torn. */
  struct cg_log_options options = options_of(&world);
  struct cg_log *log;
  log_model_begin(&world.model);
  assert_int_equal(cg_log_open_file(&log, "/log", &options, NULL), CG_OK);
  assert_int_equal(cg_log_repair_plan("/log", sim_fs_calls(world.sim), &repair, NULL), CG_EBUSY);
  assert_int_equal(log_model_append(&world.model, log, RECORDS, 500, NULL), CG_OK);
  cg_log_turn(log);
  cg_log_abandon(log);
  sim_fs_kill(world.sim);
  flip(&world, COMMITS);
  syncs = sim_fs_sync_count(world.sim);
  assert_int_equal(repair_now(&world, &repair, NULL), CG_OK);
  assert_false(repair.is_needed);
  assert_int_equal(sim_fs_sync_count(world.sim), syncs);
  free_world(&world);
}

/* Derived files know more than a log that looks whole. */
static void test_a_lost_end_puts_aside_what_is_derived(void **state) {
  (void)state;
  struct world world;
  size_t kept_count;
  size_t size;
  make_log(&world, 5, no_damage, &kept_count);
  const uint64_t end_position = COMMITS * RECORDS + 1;
  struct cg_log_repair repair = {.proven_position = end_position};
  assert_int_equal(repair_now(&world, &repair, NULL), CG_OK);
  assert_false(repair.is_needed); /* Exactly what is there. */
  repair.proven_position = end_position + 5;
  assert_int_equal(repair_now(&world, &repair, NULL), CG_OK);
  assert_true(repair.is_needed);
  assert_false(repair.is_cut);
  assert_int_equal(repair.moved_count, 0);
  assert_int_equal(repair.first_position, end_position);
  assert_int_equal(repair.last_position, end_position + 4);
  assert_null(sim_fs_bytes(world.sim, "/models.sqlite", &size));
  assert_non_null(sim_fs_bytes(world.sim, ASIDE "/models.sqlite", &size));
  check_log(&world, COMMITS);
  free_world(&world);
}

static void test_a_plan_of_another_state_is_refused(void **state) {
  (void)state;
  struct world world;
  size_t kept_count;
  struct cg_log_repair repair = {0};
  make_log(&world, 5, flip_late, &kept_count);
  assert_int_equal(cg_log_repair_plan("/log", sim_fs_calls(world.sim), &repair, NULL), CG_OK);
  flip_early(&world);
  assert_int_equal(cg_log_repair_run("/log", sim_fs_calls(world.sim), NOW_MS, &repair, NULL),
                   CG_ECONFLICT);
  free_world(&world);
}

/* Repairs with a fault at a call; false when the repair makes fewer calls. */
static bool repair_with_fault(damage_fn damage, enum sim_fault fault, uint64_t call) {
  struct world world;
  size_t kept_count;
  struct cg_log_repair repair = {0};
  struct cg_err err;
  make_log(&world, 77 + call, damage, &kept_count);
  sim_fs_fault(world.sim, fault, EIO, call, false);
  enum cg_code code = repair_now(&world, &repair, &err);
  bool is_met = sim_fs_has_faulted(world.sim);
  if (fault == SIM_FAULT_CRASH && is_met)
    assert_int_not_equal(code, CG_OK);
  if (fault == SIM_FAULT_CRASH)
    sim_fs_crash(world.sim);
  else
    sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);
  check_kept(&world);
  assert_int_equal(repair_now(&world, &repair, &err), CG_OK);
  check_kept(&world);
  size_t size;
  if (fault == SIM_FAULT_CRASH) /* What is derived has not stayed with a log that was cut. */
    assert_null(sim_fs_bytes(world.sim, "/models.sqlite", &size));
  check_log(&world, kept_count);
  free_world(&world);
  return is_met;
}

static void test_it_may_be_killed_at_any_call(void **state) {
  (void)state;
  for (size_t index = 0; index < DAMAGE_COUNT; index++) {
    uint64_t call = 1;
    while (repair_with_fault(DAMAGES[index], SIM_FAULT_CRASH, call))
      assert_true(++call < CALLS_MAX);
    assert_true(call > 10);
  }
}

static void test_it_can_be_repeated_after_an_error_at_any_call(void **state) {
  (void)state;
  for (size_t index = 0; index < DAMAGE_COUNT; index++) {
    uint64_t call = 1;
    while (repair_with_fault(DAMAGES[index], SIM_FAULT_ERROR, call))
      assert_true(++call < CALLS_MAX);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_log_is_cut_at_the_damage_and_all_is_put_aside),
      cmocka_unit_test(test_lost_positions_are_counted),
      cmocka_unit_test(test_what_cannot_be_repaired_is_left_alone),
      cmocka_unit_test(test_a_good_log_and_a_torn_tail_need_no_repair),
      cmocka_unit_test(test_a_lost_end_puts_aside_what_is_derived),
      cmocka_unit_test(test_a_plan_of_another_state_is_refused),
      cmocka_unit_test(test_it_may_be_killed_at_any_call),
      cmocka_unit_test(test_it_can_be_repeated_after_an_error_at_any_call),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
