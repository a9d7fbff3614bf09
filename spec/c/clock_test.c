/* clock_test.c - the virtual clock stands still until turned; the system's moves on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "base/clock.h"

static void test_virtual_clock_is_turned_by_hand(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = 5000, .mono_ns = 10};
  struct cg_clock clock = cg_clock_of(&time);
  assert_int_equal(cg_clock_wall_ms(&clock), 5000);
  assert_int_equal(cg_clock_mono_ns(&clock), 10);

  cg_clock_virtual_advance(&time, 3);
  assert_int_equal(cg_clock_wall_ms(&clock), 5003);
  assert_int_equal(cg_clock_mono_ns(&clock), 3000010);

  struct cg_clock copy = clock;
  time.wall_ms = -7;
  assert_int_equal(cg_clock_wall_ms(&copy), -7);
  assert_int_equal(cg_clock_mono_ns(&copy), 3000010);
}

static void test_system_clock_agrees_with_the_system(void **state) {
  (void)state;
  struct cg_clock clock = cg_clock_system();
  int64_t before_s = time(NULL);
  int64_t wall_ms = cg_clock_wall_ms(&clock);
  int64_t after_s = time(NULL);
  /* time() reads a coarse clock that may lag by one tick. */
  assert_true(wall_ms >= before_s * 1000 && wall_ms <= (after_s + 2) * 1000);

  uint64_t last_ns = cg_clock_mono_ns(&clock);
  uint64_t first_ns = last_ns;
  for (int i = 0; i < 100000 || last_ns == first_ns; i++) {
    uint64_t now_ns = cg_clock_mono_ns(&clock);
    assert_true(now_ns >= last_ns);
    last_ns = now_ns;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_virtual_clock_is_turned_by_hand),
      cmocka_unit_test(test_system_clock_agrees_with_the_system),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
