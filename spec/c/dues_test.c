/* dues_test.c - streams that are due come out in order, however many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/dues.h"

static void they_come_out_in_order_and_not_early(void **state) {
  (void)state;
  struct cg_dues dues = {0};
  struct cg_due due;
  assert_false(cg_dues_next(&dues, &due));
  assert_false(cg_dues_pop(&dues, INT64_MAX, &due));
  uint32_t random = 1;
  for (uint64_t i = 0; i < 100000; i++) {
    random = random * 1664525u + 1013904223u;
    assert_true(cg_dues_push(&dues, (struct cg_due){.due_ms = random % 1000, .stream = i}));
  }
  int64_t last_ms = 0;
  uint64_t last_stream = 0;
  for (int i = 0; i < 100000; i++) {
    assert_true(cg_dues_next(&dues, &due));
    assert_false(cg_dues_pop(&dues, due.due_ms - 1, &due));
    assert_true(cg_dues_pop(&dues, due.due_ms, &due));
    assert_true(due.due_ms >= last_ms);
    assert_true(i == 0 || due.due_ms > last_ms || due.stream > last_stream);
    last_ms = due.due_ms;
    last_stream = due.stream;
  }
  assert_int_equal(dues.count, 0);
  assert_true(dues.capacity <= 128);
  cg_dues_deinit(&dues);
  assert_null(dues.heap);
}

static void one_that_is_removed_does_not_come_out(void **state) {
  (void)state;
  struct cg_dues dues = {0};
  uint32_t random = 7;
  for (uint64_t i = 0; i < 10000; i++) {
    random = random * 1664525u + 1013904223u;
    assert_true(cg_dues_push(&dues, (struct cg_due){.due_ms = random % 100, .stream = i}));
  }
  for (uint64_t i = 0; i < 10000; i += 3)
    assert_true(cg_dues_remove(&dues, i));
  assert_false(cg_dues_remove(&dues, 0));
  assert_false(cg_dues_remove(&dues, 10000));
  int64_t last_ms = 0;
  struct cg_due due;
  int count = 0;
  for (; cg_dues_pop(&dues, INT64_MAX, &due); count++) {
    assert_true(due.due_ms >= last_ms && due.stream % 3 != 0);
    last_ms = due.due_ms;
  }
  assert_int_equal(count, 10000 - 3334);
  cg_dues_deinit(&dues);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(they_come_out_in_order_and_not_early),
                                     cmocka_unit_test(one_that_is_removed_does_not_come_out)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
