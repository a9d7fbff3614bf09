/* log_rewrite_fault_test.c - rewriting sealed segments while calls fail or the power is lost: the
 * old segment or the new one is left; and every flipped bit of a rewritten one is noticed.
 * CATGA_BITS=n flips every nth bit. */
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

#include "support/rewrite_world.h"

#define BIT_STEP 499 /* Every so manyth bit is flipped. */

/* Flips bits of a rewritten file, and expects that a scan and an open notice. */
static void check_bits(bool is_compressing) {
  struct rewrite_world world;
  struct cg_err err;
  rewrite_world_begin(&world, 80, 1, KEEP_HALF, is_compressing);
  rewrite_world_replace(&world, 0);
  struct cg_log_seal seal = rewrite_world_seal(&world, 0);
  struct cg_log_scan face = {.record = rewrite_world_see_scanned, .arg = &world};
  rewrite_world_leave(&world);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size);
  const char *text = getenv("CATGA_BITS");
  size_t step = text ? strtoul(text, NULL, 10) : BIT_STEP, count = 0;
  for (size_t bit = 0; bit < size * 8; bit += step) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    enum cg_code code = cg_log_scan("/log", sim_fs_calls(world.sim), &seal, &face, &err);
    if (code != CG_ECORRUPT)
      fail_msg("bit %zu was not noticed by a scan: %d", bit, code);
    if (!strstr(err.message, "segment-0000000000.log: offset "))
      fail_msg("'%s' names no place", err.message);
    if (count++ % 4 == 0) {
      code = rewrite_world_open(&world, &err);
      if (code != CG_ECORRUPT)
        fail_msg("bit %zu was not noticed by an open: %d", bit, code);
      sim_fs_kill(world.sim);
    }
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_int_equal(rewrite_world_open(&world, NULL), CG_OK);
  rewrite_world_end(&world);
}

static void test_every_flipped_bit_of_a_rewritten_segment_is_noticed(void **state) {
  (void)state;
  check_bits(false);
}

static void test_every_flipped_bit_of_a_compressed_segment_is_noticed(void **state) {
  (void)state;
  check_bits(true);
}

/* --- crashes and errors --- */

/* Rewrites segment 1 with a fault at the `call`th call; false when it was not reached. Expects that
 * the log has the old segment or the new one, now and, after a crash, then. */
static bool strike(bool is_compressing, enum sim_fault fault, int error, uint64_t call) {
  struct rewrite_world world;
  struct cg_err err;
  rewrite_world_begin(&world, 90 + call, 3, KEEP_HALF, is_compressing);
  struct cg_log_seal seal = rewrite_world_seal(&world, 1), old = seal;
  sim_fs_fault(world.sim, fault, error, call, false);
  enum cg_code code = rewrite_world_rewrite(&world, &seal, &err);
  bool is_left = code != CG_OK && rewrite_world_has_new_file(&world, 1);
  if (code == CG_OK)
    code = cg_log_replace(world.log, &seal, &err);
  bool has_faulted = sim_fs_has_faulted(world.sim);
  if (fault != SIM_FAULT_CRASH) {
    sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);
    struct cg_log_seal now = rewrite_world_seal(&world, 1);
    assert_true(now.nonce == old.nonce || now.nonce == seal.nonce);
    assert_false(is_left);
    if (code == CG_OK)
      assert_int_equal(now.nonce, seal.nonce);
    /* Of segment 1 alone: what is before it stays. */
    rewrite_world_begin_seeing(&world, old.first_position);
    world.rewritten_position = now.nonce == old.nonce ? 0 : old.end_position;
    rewrite_world_expect_scanned(&world, &now);
    rewrite_world_expect_places(&world, &now);
  }
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_crash(world.sim);
  world.rewritten_position = 0;
  world.options.replay = NULL;
  if (rewrite_world_open(&world, &err) != CG_OK)
    fail_msg("fault %d at call %llu: %s", fault, (unsigned long long)call, err.message);
  for (uint32_t number = 0; number < 3; number++)
    assert_false(rewrite_world_has_new_file(&world, number));
  struct cg_log_seal now = rewrite_world_seal(&world, 1);
  assert_true(now.nonce == old.nonce || now.nonce == seal.nonce);
  world.rewritten_position = now.nonce == old.nonce ? 0 : old.end_position;
  rewrite_world_expect_scanned(&world, &now);
  if (code == CG_OK)
    assert_int_equal(now.nonce, seal.nonce); /* What was reported done is there. */
  rewrite_world_end(&world);
  return has_faulted;
}

static void check_strikes(bool is_compressing) {
  uint64_t calls = 0;
  while (strike(is_compressing, SIM_FAULT_CRASH, 0, calls + 1))
    calls++;
  assert_true(calls > 10);
  for (uint64_t call = 1; call <= calls; call++) {
    assert_true(strike(is_compressing, SIM_FAULT_ERROR, EIO, call));
    assert_true(strike(is_compressing, SIM_FAULT_ERROR, ENOSPC, call));
    assert_true(strike(is_compressing, SIM_FAULT_ERROR, EINTR, call));
    assert_true(strike(is_compressing, SIM_FAULT_SHORT, 0, call));
  }
}

static void test_a_fault_at_any_call_leaves_the_old_segment_or_the_new_one(void **state) {
  (void)state;
  check_strikes(false);
}

static void test_a_fault_at_any_call_leaves_one_of_them_when_it_compresses(void **state) {
  (void)state;
  check_strikes(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_flipped_bit_of_a_rewritten_segment_is_noticed),
      cmocka_unit_test(test_every_flipped_bit_of_a_compressed_segment_is_noticed),
      cmocka_unit_test(test_a_fault_at_any_call_leaves_the_old_segment_or_the_new_one),
      cmocka_unit_test(test_a_fault_at_any_call_leaves_one_of_them_when_it_compresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
