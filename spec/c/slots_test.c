/* slots_test.c - streams in memory: what is dropped and evicted, in fair turns, and numbers that
 * never come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/slots.h"

static struct cg_slots slots;

static int setup(void **state) {
  (void)state;
  cg_slots_init(&slots, 1);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  cg_slots_deinit(&slots);
  return 0;
}

static uint64_t make(uint32_t number) {
  char name[32];
  int size = snprintf(name, sizeof(name), "S%u", number);
  return cg_slots_number(&slots, cg_slots_make(&slots, name, (size_t)size));
}

static bool is_stale(uint64_t number) {
  return cg_slots_look(&slots, number) == NULL;
}

static void turn_all(uint64_t covered_position, uint32_t used_max) {
  for (int turn = 0; cg_slots_turn(&slots, covered_position, used_max, 7); turn++)
    assert_true(turn < 10000);
}

static void entries_of_covered_records_are_dropped(void **state) {
  (void)state;
  uint64_t number = make(1);
  struct cg_slot *slot = cg_slots_look(&slots, number);
  for (uint32_t i = 0; i < 100; i++)
    cg_slots_push(slot, (struct cg_entry){.place = i, .position = 10 + i * 3});
  turn_all(10, 1000);
  assert_int_equal(slot->held, 100);
  turn_all(11, 1000);
  assert_int_equal(slot->held, 99);
  turn_all(10 + 3 * 60, 1000);
  assert_int_equal(slot->base, 60);
  assert_int_equal(slot->held, 40);
  assert_int_equal(slot->entries[0].place, 60);
  assert_int_equal(slot->entries[39].place, 99);
  cg_slots_push(slot, (struct cg_entry){.place = 100, .position = 1000});
  assert_int_equal(cg_slot_count(slot), 101);
  turn_all(1001, 1000);
  assert_int_equal(slot->held, 0);
  assert_int_equal(cg_slot_count(slot), 101);
  assert_null(slot->entries);
}

static void every_stream_that_is_not_used_leaves_in_its_turn(void **state) {
  (void)state;
  uint64_t first[50];
  for (uint32_t i = 0; i < 50; i++)
    first[i] = make(i);
  for (uint32_t i = 0; i < 500; i++) {
    make(1000 + i);
    turn_all(1 + i / 10, 60); /* Tables come meanwhile. */
  }
  for (uint32_t i = 0; i < 50; i++)
    assert_true(is_stale(first[i]));
  assert_int_equal(slots.used, 60);
  assert_int_equal(slots.evicted_count, 490);
}

static void what_is_found_by_name_stays(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 50; i++) {
    make(100 + i);
    turn_all(0, 20); /* Not all have been found since the last look. */
  }
  uint64_t wanted = make(7);
  for (uint32_t i = 0; i < 500; i++) {
    make(1000 + i);
    assert_int_equal(cg_slots_find(&slots, "S7", 2), (uint32_t)wanted);
    turn_all(0, 20);
  }
  assert_false(is_stale(wanted));
}

static void what_is_unfinished_or_not_in_a_table_stays(void **state) {
  (void)state;
  uint64_t unfinished = make(1), held = make(2), other = make(3);
  cg_slots_look(&slots, unfinished)->unfinished = true;
  cg_slots_push(cg_slots_look(&slots, held), (struct cg_entry){.place = 8, .position = 9});
  for (uint32_t i = 0; i < 100; i++) {
    turn_all(9, 0);
    make(1000 + i);
  }
  assert_false(is_stale(unfinished));
  assert_false(is_stale(held));
  assert_true(is_stale(other));
  turn_all(10, 0);
  assert_true(is_stale(held));
}

static void a_turn_does_little(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 1000; i++)
    make(i);
  assert_true(cg_slots_turn(&slots, 1, 0, 100));
  assert_int_equal(slots.used, 1000); /* All were touched; 100 were looked at. */
  for (int turn = 0; turn < 20; turn++)
    assert_true(cg_slots_turn(&slots, 1, 0, 100));
  assert_in_range(slots.used, 1, 999);
}

static void no_number_comes_back(void **state) {
  (void)state;
  uint64_t before = make(0);
  for (uint32_t i = 0; i < CG_SLOT_GENERATIONS_MAX + 10; i++) {
    cg_slots_look(&slots, before)->touched = false;
    turn_all(0, 0);
    assert_true(is_stale(before));
    uint64_t number = make(0);
    assert_true(number != before && number < UINT64_C(1) << 53);
    before = number;
  }
  assert_int_equal((uint32_t)before, 1); /* The first place is used up. */
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
      TEST(entries_of_covered_records_are_dropped),
      TEST(every_stream_that_is_not_used_leaves_in_its_turn),
      TEST(what_is_found_by_name_stays),
      TEST(what_is_unfinished_or_not_in_a_table_stays),
      TEST(a_turn_does_little),
      TEST(no_number_comes_back),
#undef TEST
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
