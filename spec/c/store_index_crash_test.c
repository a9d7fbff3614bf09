/* store_index_crash_test.c - the index of sealed segments: any story of commits, turns and crashes
 * is that of a model, whatever happens to the files of the index.
 *
 * CATGA_SEEDS=n runs n / 40 stories instead of 25, and from 10,000 on every bit of a table is
 * flipped, not only a sample; CATGA_SEED=n runs one story. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "support/index_world.h"
#include "support/log_world.h"

#define SEEDS_DEFAULT 25
#define STEPS 400       /* Of a story. */
#define FLIPS 600       /* Of the sample. */
#define CALLS_MAX 2000u /* File calls at which a fault is tried. */

static struct index_world *world;

/* --- stories --- */

/* Removes a file of the index by chance. */
static int remove_some(void *arg, const char *name) {
  char path[128];
  snprintf(path, sizeof(path), "/data/index/%s", name);
  if (sim_fs_random(world->sim, *(uint64_t *)arg) == 0)
    sim_fs_remove(world->sim, path);
  return 0;
}

static void restart(void) {
  switch (sim_fs_random(world->sim, 3)) {
  case 0:
    index_world_close(world);
    break;
  case 1:
    index_world_kill(world);
    break;
  default:
    index_world_crash(world);
  }
  uint64_t one_of = 1 + sim_fs_random(world->sim, 4);
  if (sim_fs_random(world->sim, 2) == 0)
    index_world_each_table(world, remove_some, &one_of);
  index_world_open(world);
}

static void story(uint64_t seed) {
  world = index_world_new(seed);
  world->options.streams_cached_max = 1 + (uint32_t)sim_fs_random(world->sim, 200);
  index_world_close(world);
  index_world_open(world);
  for (int step = 0; step < STEPS; step++) {
    uint64_t chance = sim_fs_random(world->sim, 100);
    for (uint64_t n = sim_fs_random(world->sim, 6); n > 0; n--)
      index_world_commit(world);
    if (chance < 30)
      index_world_sync(world);
    else if (chance < 70)
      cg_store_turn(world->store);
    else if (chance < 75)
      index_world_turn(world);
    else if (chance < 90)
      index_world_check_some(world, 5);
    else if (chance < 93)
      restart();
  }
  index_world_check(world);
  restart();
  index_world_check(world);
  index_world_free(world);
}

static void any_story_is_that_of_the_model(void **state) {
  (void)state;
  const char *seeds = getenv("CATGA_SEEDS"), *seed = getenv("CATGA_SEED");
  if (seed != NULL) {
    story(strtoull(seed, NULL, 10));
    return;
  }
  uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) / 40 + 1 : SEEDS_DEFAULT;
  for (uint64_t number = 1; number <= count; number++) {
    story(number);
  }
}

/* --- faults --- */

/* A disk with sealed segments that have no tables yet, and one merge to be done. */
static void prepare(uint64_t seed) {
  world = index_world_new(seed);
  index_world_fill(world, 3);
  index_world_turn(world);
  index_world_fill(world, 5);
}

static void power_may_be_lost_at_any_call_of_builder_and_merger(void **state) {
  (void)state;
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    prepare(call);
    sim_fs_fault(world->sim, SIM_FAULT_CRASH, 0, call, false);
    index_world_turn(world);
    bool has_faulted = sim_fs_has_faulted(world->sim);
    index_world_crash(world);
    index_world_open(world);
    index_world_turn(world);
    index_world_check(world);
    index_world_free(world);
    if (!has_faulted) {
      assert_true(call > 50);
      return;
    }
  }
  fail_msg("there was always one more call");
}

static void opening_may_lose_power_at_any_call(void **state) {
  (void)state;
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    prepare(call);
    index_world_close(world);
    sim_fs_fault(world->sim, SIM_FAULT_CRASH, 0, call, false);
    struct cg_err err;
    enum cg_code code = cg_store_open(&world->store, &world->options, &err);
    bool has_faulted = sim_fs_has_faulted(world->sim);
    if (code == CG_OK)
      cg_store_abandon(world->store);
    world->store = NULL;
    sim_fs_crash(world->sim);
    index_world_open(world);
    index_world_check(world);
    index_world_free(world);
    if (!has_faulted)
      return;
  }
  fail_msg("there was always one more call");
}

static void no_error_of_a_file_call_makes_a_wrong_answer(void **state) {
  (void)state;
  static const int errors[] = {EIO, ENOSPC, EINTR};
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    prepare(call);
    bool is_lasting = call % 2 == 0;
    sim_fs_fault(world->sim, SIM_FAULT_ERROR, errors[call % 3], call, is_lasting);
    index_world_turn(world);
    bool has_faulted = sim_fs_has_faulted(world->sim);
    sim_fs_fault(world->sim, SIM_FAULT_NONE, 0, 0, false);
    index_world_check(world);
    cg_clock_virtual_advance(&world->clock, 11000); /* Then it is tried again. */
    index_world_turn(world);
    index_world_check_some(world, 20);
    index_world_kill(world);
    index_world_open(world); /* Removes files that could not be removed. */
    assert_int_equal(index_world_table_count(world), 2);
    index_world_check_some(world, 20);
    index_world_free(world);
    if (!has_faulted)
      return;
  }
  fail_msg("there was always one more call");
}

/* --- damage --- */

static int first_name(void *arg, const char *name) {
  snprintf(arg, 128, "/data/index/%s", name);
  return 1;
}

static void no_flipped_bit_makes_a_wrong_answer(void **state) {
  (void)state;
  char path[128];
  size_t size;
  world = index_world_new(1);
  index_world_fill(world, 5);
  index_world_turn(world);
  index_world_close(world);
  bool is_torture = log_world_is_torture();
  for (uint64_t flip = 0;; flip++) {
    index_world_each_table(world, first_name, path); /* Another one after it was built again. */
    uint8_t *bytes = sim_fs_bytes(world->sim, path, &size);
    if (flip >= (is_torture ? size * 8 : FLIPS))
      break;
    uint64_t bit = is_torture ? flip : sim_fs_random(world->sim, size * 8);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    index_world_open(world);
    index_world_check_some(world, 3);
    if (flip % 50 == 0)
      index_world_check(world);
    index_world_kill(world);
    bytes = sim_fs_bytes(world->sim, path, &size);
    if (bytes != NULL && flip % 7 == 0) { /* It may not have been touched. */
      sim_fs_remove(world->sim, path);
      index_world_open(world);
      index_world_kill(world);
    }
  }
  index_world_open(world);
  index_world_check(world);
  index_world_free(world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_story_is_that_of_the_model),
      cmocka_unit_test(power_may_be_lost_at_any_call_of_builder_and_merger),
      cmocka_unit_test(opening_may_lose_power_at_any_call),
      cmocka_unit_test(no_error_of_a_file_call_makes_a_wrong_answer),
      cmocka_unit_test(no_flipped_bit_makes_a_wrong_answer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
