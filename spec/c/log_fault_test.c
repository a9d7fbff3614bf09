/* log_fault_test.c - every file call of the log fails once, or from some call on.
 *
 * After a fault nothing may be acknowledged that is not on the disk, a failed write or sync must be
 * final, and the log must open well afterwards. A full disk refuses appends and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define CALLS_MAX 400 /* More than the story below makes. */

/* A log on a simulated disk. */
struct world {
  struct sim_fs *sim;            /* The disk. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* NULL: not open. */
  unsigned progress_count;       /* Calls of progress. */
};

static void count_progress(void *arg) {
  struct world *world = arg;
  world->progress_count++;
}

static void init_world(struct world *world, uint64_t seed) {
  *world = (struct world){.sim = sim_fs_new(seed)};
  world->options = (struct cg_log_options){
      .fs = sim_fs_calls(world->sim),
      .clock = cg_clock_of(&world->clock),
      .segment_bytes = 64 << 10,
      .nonce_seed = 1,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &world->model,
      .progress = count_progress,
      .progress_arg = world,
  };
  world->model.acknowledged_position = 1;
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

/* Opens and checks what comes back. */
static enum cg_code open_log(struct world *world, struct cg_err *err) {
  log_model_begin(&world->model);
  enum cg_code code = cg_log_open_file(&world->log, "/log", &world->options, err);
  if (code != CG_OK)
    return code;
  const char *fault = log_model_settle(&world->model);
  if (fault)
    fail_msg("%s", fault);
  return CG_OK;
}

static void must_open(struct world *world) {
  struct cg_err err;
  if (open_log(world, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static void abandon(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  world->log = NULL;
}

/* Opens, appends over three segments with a turn now and then, reopens, appends, closes. */
static void play(struct world *world) {
  struct cg_err err;
  for (int round = 0; round < 2; round++) {
    if (open_log(world, &err) != CG_OK) {
      world->log = NULL;
      sim_fs_kill(world->sim);
      return;
    }
    for (int count = 0; count < 30; count++) {
      log_model_append(&world->model, world->log, 2, 4000, &err);
      if (count % 3 == 0)
        cg_log_turn(world->log);
      world->model.acknowledged_position = cg_log_durable_position(world->log);
    }
    cg_clock_virtual_advance(&world->clock, 200);
    while (cg_log_turn(world->log))
      continue;
    world->model.acknowledged_position = cg_log_durable_position(world->log);
    uint64_t end = cg_log_next_position(world->log);
    enum cg_code code = cg_log_close(world->log, &err);
    world->log = NULL;
    if (code == CG_OK)
      world->model.acknowledged_position = end;
    else
      assert_int_equal(code, CG_EFAILED);
    if (round == 0 && code != CG_OK)
      return;
  }
}

/* Plays with a fault at call `call`; false when the story makes fewer calls. */
static bool play_with(enum sim_fault fault, int error, uint64_t call, bool is_lasting) {
  struct world world;
  init_world(&world, call);
  sim_fs_fault(world.sim, fault, error, call, is_lasting);
  play(&world);
  bool has_faulted = sim_fs_has_faulted(world.sim);
  sim_fs_kill(world.sim);
  must_open(&world); /* After the end of the process. */
  abandon(&world);
  sim_fs_crash(world.sim);
  must_open(&world); /* After a loss of power: what came back before must come back again. */
  const char *wrong = log_model_compare(&world.model, world.log);
  if (wrong)
    fail_msg("error %d at call %llu: %s", error, (unsigned long long)call, wrong);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, NULL), CG_OK);
  cg_log_turn(world.log);
  assert_int_equal(cg_log_durable_position(world.log), cg_log_next_position(world.log));
  free_world(&world);
  return has_faulted;
}

/* At every call of the story, once and lasting. */
static void play_everywhere(enum sim_fault fault, int error) {
  uint64_t call = 1;
  while (call < CALLS_MAX && play_with(fault, error, call, false)) {
    play_with(fault, error, call, true);
    call++;
  }
  assert_true(call > 100 && call < CALLS_MAX);
}

static void test_an_io_error_at_any_call_never_leads_to_a_false_acknowledgement(void **state) {
  (void)state;
  play_everywhere(SIM_FAULT_ERROR, EIO);
}

static void test_a_full_disk_at_any_call_never_leads_to_a_false_acknowledgement(void **state) {
  (void)state;
  play_everywhere(SIM_FAULT_ERROR, ENOSPC);
}

/* Interrupted and short calls are no failures at all: everything must be acknowledged. */
static void test_interrupted_and_short_calls_are_carried_through(void **state) {
  (void)state;
  for (uint64_t call = 1; call < CALLS_MAX; call++)
    for (int kind = 0; kind < 3; kind++) {
      struct world world;
      init_world(&world, call);
      sim_fs_fault(world.sim, kind == 0 ? SIM_FAULT_ERROR : SIM_FAULT_SHORT, EINTR, call,
                   kind == 2);
      play(&world);
      assert_int_equal(world.model.count, 60);
      assert_int_equal(world.model.acknowledged_position, 121);
      sim_fs_kill(world.sim);
      sim_fs_crash(world.sim);
      must_open(&world);
      assert_int_equal(world.model.count, 60);
      free_world(&world);
    }
}

static void test_endless_interruption_is_an_error_in_the_end(void **state) {
  (void)state;
  play_everywhere(SIM_FAULT_ERROR, EINTR);
}

static void test_a_failed_sync_is_final(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  init_world(&world, 1);
  must_open(&world);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_OK);
  assert_true(cg_log_turn(world.log));
  uint64_t durable = cg_log_durable_position(world.log);
  assert_int_equal(durable, 2);
  unsigned progress_count = world.progress_count;

  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_OK);
  sim_fs_fault(world.sim, SIM_FAULT_ERROR, EIO, 2, false); /* The write goes well. */
  cg_log_turn(world.log);
  assert_true(sim_fs_has_faulted(world.sim));
  assert_int_equal(cg_log_failed(world.log, &err), CG_EFAILED);
  assert_non_null(strstr(err.message, "sync /log/segment-0000000000.log"));
  assert_int_equal(world.progress_count, progress_count + 1);
  assert_int_equal(cg_log_durable_position(world.log), durable);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_EFAILED);

  uint64_t calls = sim_fs_call_count(world.sim);
  assert_false(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 1000);
  assert_false(cg_log_turn(world.log));
  assert_int_equal(sim_fs_call_count(world.sim), calls);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  assert_int_equal(cg_log_read(world.log, world.model.commits[0].place, buf, &record, &err), CG_OK);
  cg_buf_unref(buf);
  assert_int_equal(cg_log_close(world.log, &err), CG_EFAILED);
  world.log = NULL;
  free_world(&world);
}

/* The cache keeps bytes that a failed sync has marked as clean. Once they were shown to somebody
 * after reopening, a loss of power must not take them back. */
static void test_what_comes_back_after_a_failed_sync_is_made_durable(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 50; seed++) {
    struct world world;
    init_world(&world, seed);
    must_open(&world);
    for (int count = 0; count < 5; count++)
      assert_int_equal(log_model_append(&world.model, world.log, 1, 3000, NULL), CG_OK);
    sim_fs_fault(world.sim, SIM_FAULT_ERROR, EIO, 2, false);
    cg_log_turn(world.log);
    abandon(&world);
    sim_fs_kill(world.sim);
    must_open(&world);
    assert_int_equal(world.model.count, 5);
    abandon(&world);
    sim_fs_crash(world.sim);
    must_open(&world);
    assert_int_equal(world.model.count, 5);
    free_world(&world);
  }
}

static void test_a_full_disk_refuses_appends_until_there_is_space(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  init_world(&world, 1);
  sim_fs_limit_space(world.sim, 2 * (64 << 10));
  must_open(&world);
  enum cg_code code;
  while ((code = log_model_append(&world.model, world.log, 1, 3000, &err)) == CG_OK)
    cg_log_turn(world.log);
  assert_int_equal(code, CG_EFULL);
  assert_int_equal(cg_log_failed(world.log, NULL), CG_OK);
  assert_int_equal(cg_log_durable_position(world.log), cg_log_next_position(world.log));
  assert_null(log_model_compare(&world.model, world.log));
  for (int count = 0; count < 20; count++) /* What is small enough still fits the last segment. */
    code = log_model_append(&world.model, world.log, 1, 3000, &err);
  assert_int_equal(code, CG_EFULL);

  sim_fs_limit_space(world.sim, 3 * (64 << 10));
  for (int count = 0; count < 10; count++)
    assert_int_equal(log_model_append(&world.model, world.log, 1, 3000, &err), CG_OK);
  assert_int_equal(world.model.commits[world.model.count - 1].place >> 32, 2);
  cg_log_turn(world.log);
  assert_int_equal(cg_log_durable_position(world.log), cg_log_next_position(world.log));
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.log = NULL;
  must_open(&world);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

/* The zeros ahead cannot be written: appends wait, what was appended is written, and it goes on. */
static void test_no_space_for_the_zeros_ahead_refuses_appends_for_a_while(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  init_world(&world, 1);
  world.options.segment_bytes = 16 << 20;
  must_open(&world);
  while (cg_log_failed(world.log, NULL) == CG_OK) {
    assert_int_equal(log_model_append(&world.model, world.log, 1, 60000, &err), CG_OK);
    /* After the commit's write and sync comes the growth, when it is due. */
    sim_fs_fault(world.sim, SIM_FAULT_ERROR, ENOSPC, 3, true);
    cg_log_turn(world.log);
    if (sim_fs_has_faulted(world.sim))
      break;
  }
  assert_int_equal(cg_log_failed(world.log, NULL), CG_OK);
  assert_int_equal(cg_log_durable_position(world.log), cg_log_next_position(world.log));
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_EFULL);
  cg_log_turn(world.log);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_EFULL);
  sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);
  unsigned progress_count = world.progress_count;
  cg_log_turn(world.log);
  assert_int_equal(world.progress_count, progress_count + 1);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_OK);
  cg_log_turn(world.log);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_a_full_disk_at_opening_still_lets_read(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  init_world(&world, 1);
  must_open(&world);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 3000, &err), CG_OK);
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.log = NULL;
  size_t size;
  const uint8_t *bytes = sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size);
  uint8_t copy[16384];
  memcpy(copy, bytes, sizeof(copy)); /* As a copied file: short, and nothing reserved. */
  sim_fs_put(world.sim, "/log/segment-0000000000.log", copy, sizeof(copy));
  sim_fs_limit_space(world.sim, 32 << 10);
  must_open(&world);
  assert_null(log_model_compare(&world.model, world.log));
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_EFULL);
  sim_fs_limit_space(world.sim, 64 << 10);
  assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), CG_OK);
  cg_log_turn(world.log);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_opening_says_what_is_wrong_with_the_directory(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  struct cg_log *second;
  init_world(&world, 1);
  must_open(&world);
  assert_int_equal(cg_log_open_file(&second, "/log", &world.options, &err), CG_EBUSY);
  assert_non_null(strstr(err.message, "/log"));
  assert_int_equal(cg_log_open_file(&second, "/none/log", &world.options, &err), CG_ENOTFOUND);
  sim_fs_put(world.sim, "/file", "x", 1);
  assert_int_equal(cg_log_open_file(&second, "/file", &world.options, &err), CG_EINVAL);
  world.options.segment_bytes = 100000;
  assert_int_equal(cg_log_open_file(&second, "/other", &world.options, &err), CG_EINVAL);
  free_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_an_io_error_at_any_call_never_leads_to_a_false_acknowledgement),
      cmocka_unit_test(test_a_full_disk_at_any_call_never_leads_to_a_false_acknowledgement),
      cmocka_unit_test(test_interrupted_and_short_calls_are_carried_through),
      cmocka_unit_test(test_endless_interruption_is_an_error_in_the_end),
      cmocka_unit_test(test_a_failed_sync_is_final),
      cmocka_unit_test(test_what_comes_back_after_a_failed_sync_is_made_durable),
      cmocka_unit_test(test_a_full_disk_refuses_appends_until_there_is_space),
      cmocka_unit_test(test_no_space_for_the_zeros_ahead_refuses_appends_for_a_while),
      cmocka_unit_test(test_a_full_disk_at_opening_still_lets_read),
      cmocka_unit_test(test_opening_says_what_is_wrong_with_the_directory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
