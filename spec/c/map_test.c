/* map_test.c - the hash map against a naive model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"

#define KEYS 700
#define STEPS 60000

/* One possible key and what the map should say of it. */
struct expectation {
  uint8_t key[80]; /* Its bytes. */
  size_t size;     /* How many. */
  uint64_t value;  /* When present. */
  bool present;    /* Whether the map should have it. */
};

static uint64_t next_random(uint64_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  *seed ^= *seed << 17;
  return *seed;
}

/* Keys of all lengths, many differing only in their last byte, their zeros or their length. */
static void make_keys(struct expectation *all, uint64_t *seed) {
  memset(all, 0, KEYS * sizeof(*all));
  for (size_t i = 0; i < KEYS; i++) {
    if (i < 70) { /* Nothing but zeros, told apart by length. */
      all[i].size = i;
      continue;
    }
    all[i].size = 4 + i % 70;
    uint8_t fill = (uint8_t)next_random(seed);
    memset(all[i].key, i % 2 ? fill : 0xAA, all[i].size);
    uint32_t number = (uint32_t)i;
    memcpy(all[i].key + all[i].size - 4, &number, 4);
  }
}

static void check_all(struct cg_map *map, struct expectation *all, size_t present_count) {
  assert_int_equal(cg_map_count(map), present_count);
  for (size_t i = 0; i < KEYS; i++) {
    const uint64_t *value = cg_map_find(map, all[i].key, all[i].size);
    assert_int_equal(value != NULL, all[i].present);
    if (value)
      assert_int_equal(*value, all[i].value);
  }
}

static void step(struct cg_map *map, struct expectation *one, bool adding, uint64_t value,
                 size_t *present_count) {
  if (!adding) {
    assert_int_equal(cg_map_remove(map, one->key, one->size), one->present);
    *present_count -= one->present;
    one->present = false;
    return;
  }
  bool added = !one->present;
  uint64_t *stored = cg_map_put(map, one->key, one->size, &added);
  assert_int_equal(added, !one->present);
  assert_int_equal(*stored, one->present ? one->value : 0);
  *stored = one->value = value;
  *present_count += added;
  one->present = true;
}

static void test_agrees_with_a_model(void **state) {
  (void)state;
  struct expectation *all = malloc(KEYS * sizeof(*all));
  for (uint64_t round = 1; round <= 3; round++) {
    uint64_t seed = round * 7919;
    make_keys(all, &seed);
    struct cg_map *map = cg_map_new(round);
    size_t present_count = 0;
    for (int i = 0; i < STEPS; i++) {
      /* Grows for a while, then shrinks, so that both resizes and the arena's copies happen. */
      bool growing = i / 4000 % 2 == 0;
      bool adding = next_random(&seed) % 10 < (growing ? 8 : 2);
      step(map, &all[next_random(&seed) % KEYS], adding, next_random(&seed), &present_count);
      if (i % 1000 == 999)
        check_all(map, all, present_count);
    }
    for (size_t i = 0; i < KEYS; i++)
      step(map, &all[i], false, 0, &present_count);
    check_all(map, all, 0);
    step(map, &all[3], true, 5, &present_count);
    check_all(map, all, 1);
    cg_map_free(map);
  }
  free(all);
  cg_map_free(NULL);
}

static void test_added_may_be_null(void **state) {
  (void)state;
  struct cg_map *map = cg_map_new(0);
  assert_null(cg_map_find(map, "a", 1));
  assert_false(cg_map_remove(map, "a", 1));
  *cg_map_put(map, "a", 1, NULL) = 9;
  assert_int_equal(*cg_map_put(map, "a", 1, NULL), 9);
  assert_int_equal(cg_map_count(map), 1);
  *cg_map_put(map, NULL, 0, NULL) = 3;
  assert_int_equal(*cg_map_find(map, "", 0), 3);
  cg_map_free(map);
}

static void test_copies_its_keys(void **state) {
  (void)state;
  struct cg_map *map = cg_map_new(1);
  char key[] = "mine";
  *cg_map_put(map, key, 4, NULL) = 1;
  key[0] = 'X';
  assert_null(cg_map_find(map, key, 4));
  assert_non_null(cg_map_find(map, "mine", 4));
  cg_map_free(map);
}

/* The bytes of keys that come and go must not pile up: the process would die of it. */
static void test_many_keys_through_a_small_map(void **state) {
  (void)state;
  struct cg_map *map = cg_map_new(2);
  for (uint64_t i = 0; i < 300000; i++) {
    *cg_map_put(map, &i, sizeof(i), NULL) = i;
    if (i >= 10) {
      uint64_t old = i - 10;
      assert_int_equal(*cg_map_find(map, &old, sizeof(old)), old);
      assert_true(cg_map_remove(map, &old, sizeof(old)));
    }
  }
  assert_int_equal(cg_map_count(map), 10);
  cg_map_free(map);
}

static void test_hashes_are_those_that_stand_in_files(void **state) {
  (void)state;
  assert_int_equal(cg_map_hash(0, "", 0), 4286912449u);
  assert_int_equal(cg_map_hash(1, "Order-42", 8), 2140987159u);
  assert_int_equal(cg_map_hash(UINT64_MAX, "a name of more than sixteen bytes", 33), 2348768706u);
}

static void test_a_hundred_thousand_names(void **state) {
  (void)state;
  struct cg_map *map = cg_map_new(3);
  char key[32];
  for (uint64_t i = 0; i < 100000; i++) {
    int size = snprintf(key, sizeof(key), "Order-%llu", (unsigned long long)i);
    *cg_map_put(map, key, (size_t)size, NULL) = i;
  }
  assert_int_equal(cg_map_count(map), 100000);
  for (uint64_t i = 0; i < 100000; i++) {
    int size = snprintf(key, sizeof(key), "Order-%llu", (unsigned long long)i);
    assert_int_equal(*cg_map_find(map, key, (size_t)size), i);
  }
  cg_map_free(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_agrees_with_a_model),
      cmocka_unit_test(test_added_may_be_null),
      cmocka_unit_test(test_copies_its_keys),
      cmocka_unit_test(test_many_keys_through_a_small_map),
      cmocka_unit_test(test_hashes_are_those_that_stand_in_files),
      cmocka_unit_test(test_a_hundred_thousand_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
