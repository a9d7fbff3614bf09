/* log_forged_test.c - a commit that was changed and given right checks is met by the chain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/log_world.h"

#define PATH "/log/segment-0000000001.log"

static bool see_nothing(void *arg, const struct cg_record *record, cg_log_place place) {
  (void)arg;
  (void)record;
  (void)place;
  return true;
}

/* A commit whose bytes were changed and whose CRCs were all made right again: only the chain, which
 * the next commit carries, tells. */
static void test_a_commit_with_other_bytes_and_right_checks_is_refused(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, 64 << 10);
  while (world.model.count == 0 || world.model.commits[world.model.count - 1].place >> 32 < 2) {
    assert_int_equal(log_model_append(&world.model, world.log, 3, 3000, NULL), CG_OK);
    cg_log_turn(world.log);
  }
  const struct cg_log_seal *seals;
  assert_int_equal(cg_log_seals(world.log, &seals), 2);
  struct cg_log_seal seal = seals[1];
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_kill(world.sim);

  size_t size, forged = 0;
  while (world.model.commits[forged].place >> 32 != 1)
    forged++;
  forged += 2;
  uint8_t *bytes = sim_fs_bytes(world.sim, PATH, &size);
  uint64_t begin = log_world_begin_of(&world, forged);
  struct cg_segment_header segment;
  struct cg_commit_header commit;
  assert_int_equal(cg_segment_header_decode(bytes, size, &segment, NULL), CG_OK);
  assert_true(cg_commit_header_decode(bytes + begin, size - begin, segment.nonce, &commit));
  bytes[begin + CG_COMMIT_HEADER_BYTES + CG_RECORD_HEADER_BYTES] ^= 1; /* The stream's name. */
  cg_commit_finish(bytes + begin, &commit, segment.nonce);

  struct cg_err err;
  struct cg_log_scan scan = {.record = see_nothing};
  assert_int_equal(cg_log_scan("/log", sim_fs_calls(world.sim), &seal, &scan, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000001.log"));
  long next = (long)log_world_begin_of(&world, forged + 1);
  log_world_expect_refused(&world, "segment-0000000001.log", next);
  log_world_free(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_commit_with_other_bytes_and_right_checks_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
