/* log_kinds_test.c - what only one kind of log does: snapshots of the memory kind, modes of
 * durability and marks of the file kind. What all have in common is in log_contract_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/kind_world.h"

static void open_log(struct kind_world *world) {
  struct cg_err err;
  if (kind_world_open(world, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static void free_world(struct kind_world *world) {
  if (world->log)
    assert_null(kind_world_check(world));
  kind_world_deinit(world);
}

static void append(struct kind_world *world, uint32_t record_count, uint32_t data_max) {
  struct cg_err err;
  if (log_model_append(&world->model, world->log, record_count, data_max, &err) != CG_OK)
    fail_msg("%s", err.message);
}

/* --- the memory kind alone --- */

static void test_a_snapshot_holds_the_whole_commits_below_a_position(void **state) {
  (void)state;
  struct kind_world world;
  kind_world_init(&world, KIND_WORLD_MEMORY, 3);
  open_log(&world);
  for (int count = 0; count < 50; count++)
    append(&world, 1 + (uint32_t)count % 3, 100);
  cg_log_turn(world.log);
  size_t all = world.model.count;
  for (uint64_t until = 0; until <= cg_log_next_position(world.log) + 1; until++) {
    struct cg_log *snapshot = cg_log_memory_snapshot(world.log, until);
    size_t count = 0;
    while (count < all &&
           world.model.commits[count].first_position + world.model.commits[count].record_count <=
               until)
      count++;
    struct cg_log_options options = world.options;
    struct cg_log *reopened;
    options.snapshot = snapshot;
    log_model_begin(&world.model);
    assert_int_equal(cg_log_open_memory(&reopened, &options, NULL), CG_OK);
    assert_null(world.model.fault);
    assert_int_equal(world.model.seen_commit, count);
    assert_int_equal(cg_log_next_position(reopened), world.model.seen_position);
    assert_int_equal(cg_log_durable_position(reopened), world.model.seen_position);
    world.model.count = count;
    assert_null(log_model_compare(&world.model, snapshot));
    assert_null(log_model_compare(&world.model, reopened));
    world.model.count = all;
    cg_log_close(snapshot, NULL);
    cg_log_abandon(reopened);
  }
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_a_memory_log_that_is_not_manual_is_durable_at_once(void **state) {
  (void)state;
  struct kind_world world;
  kind_world_init(&world, KIND_WORLD_MEMORY, 1);
  world.options.manual = false;
  open_log(&world);
  append(&world, 2, 10);
  assert_int_equal(cg_log_durable_position(world.log), 3);
  assert_int_equal(world.progress_count, 1);
  free_world(&world);
}

/* --- the file kind alone --- */

static void test_the_modes_say_when_a_commit_counts_as_durable(void **state) {
  (void)state;
  for (int mode = CG_DURABILITY_FSYNC; mode <= CG_DURABILITY_MEMORY; mode++) {
    struct kind_world world;
    kind_world_init(&world, KIND_WORLD_FILE, 3);
    world.options.durability = (enum cg_durability)mode;
    open_log(&world);
    uint64_t syncs = sim_fs_sync_count(world.sim);
    append(&world, 1, 100);
    assert_int_equal(cg_log_durable_position(world.log), mode == CG_DURABILITY_MEMORY ? 2 : 1);
    assert_true(cg_log_turn(world.log));
    assert_int_equal(cg_log_durable_position(world.log), 2);
    assert_int_equal(sim_fs_sync_count(world.sim), syncs + (mode == CG_DURABILITY_FSYNC));
    cg_clock_virtual_advance(&world.clock, 49);
    assert_false(cg_log_turn(world.log));
    cg_clock_virtual_advance(&world.clock, 1);
    assert_int_equal(cg_log_turn(world.log), mode != CG_DURABILITY_FSYNC);
    assert_int_equal(sim_fs_sync_count(world.sim), syncs + 1);
    free_world(&world);
  }
}

static void test_an_idle_log_writes_one_mark_after_the_delay(void **state) {
  (void)state;
  struct kind_world world;
  kind_world_init(&world, KIND_WORLD_FILE, 3);
  open_log(&world);
  assert_false(cg_log_turn(world.log));
  append(&world, 1, 100);
  assert_true(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 99);
  assert_false(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 1);
  assert_true(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 10000);
  assert_false(cg_log_turn(world.log));
  append(&world, 1, 100); /* Behind a mark it goes on as ever. */
  assert_true(cg_log_turn(world.log));
  assert_null(log_model_compare(&world.model, world.log));
  kind_world_crash(&world, true);
  open_log(&world);
  assert_null(log_model_settle(&world.model));
  assert_int_equal(world.model.count, 2);
  free_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_snapshot_holds_the_whole_commits_below_a_position),
      cmocka_unit_test(test_a_memory_log_that_is_not_manual_is_durable_at_once),
      cmocka_unit_test(test_the_modes_say_when_a_commit_counts_as_durable),
      cmocka_unit_test(test_an_idle_log_writes_one_mark_after_the_delay),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
