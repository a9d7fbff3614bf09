/* log_flip_crash_test.c - every bit of a segment of 64 KiB flipped, one at a time, in a log that
 * was closed and in one that idled until its mark: damage is refused with file and offset, or, as
 * no commit was touched, all of them come back. None is ever cut in silence.
 * Of all 524,288 bits each 17th is tried; all of them with CATGA_SEEDS from 10,000 (make
 * torture). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log/segment.h"
#include "support/log_world.h"

#define SEGMENT_BYTES (64u << 10)
#define STRIDE 17 /* Odd, so that all bits of a byte get their turn. */

/* Flips one bit after the other. */
static void flip_all(struct log_world *world) {
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world->sim, LOG_WORLD_PATH, &size);
  size_t count = world->model.count;
  uint64_t end = log_world_end_of(world, bytes, count - 1) + CG_SEGMENT_MARK_BYTES;
  uint64_t stride = log_world_is_torture() ? 1 : STRIDE;
  for (uint64_t bit = 0; bit < size * 8; bit += stride) {
    bytes = sim_fs_bytes(world->sim, LOG_WORLD_PATH, &size);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (bit / 8 < end - CG_SEGMENT_MARK_BYTES)
      log_world_expect_refused(world, "segment-0000000000.log", -1);
    else
      log_world_expect_commits(world, count); /* The mark itself, or zeros behind it. */
    bytes = sim_fs_bytes(world->sim, LOG_WORLD_PATH, &size);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
}

/* A log that was written to in many batches, up to nearly all of its segment. */
static void open_full(struct log_world *world) {
  log_world_open(world, SEGMENT_BYTES);
  log_world_fill(world, SEGMENT_BYTES - 14000, false);
}

static void test_every_flipped_bit_of_a_closed_segment_is_met(void **state) {
  (void)state;
  struct log_world world;
  open_full(&world);
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.log = NULL;
  sim_fs_kill(world.sim);
  flip_all(&world);
  log_world_free(&world);
}

static void test_every_flipped_bit_of_an_idle_segment_is_met(void **state) {
  (void)state;
  struct log_world world;
  open_full(&world);
  world.clock.mono_ns += UINT64_C(1000000000); /* Beyond the delay of the mark. */
  while (cg_log_turn(world.log))
    continue;
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_kill(world.sim);
  flip_all(&world);
  log_world_free(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_flipped_bit_of_a_closed_segment_is_met),
      cmocka_unit_test(test_every_flipped_bit_of_an_idle_segment_is_met),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
