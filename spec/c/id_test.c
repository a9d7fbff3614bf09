/* id_test.c - Snowflake ids: growing over clock jumps, bursts and restarts; text form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"

#define NOW_MS (CG_ID_EPOCH_MS + INT64_C(50000000000))

/* What a disk would hold: the reservations made. */
struct reservations {
  int64_t until_ms; /* The last one stored. */
  int count;        /* How many were stored. */
  bool broken;      /* Fail from now on. */
};

static enum cg_code reserve(void *arg, int64_t until_ms, struct cg_err *err) {
  struct reservations *reservations = arg;
  if (reservations->broken)
    return cg_err_set(err, CG_EIO, "no disk");
  assert_true(until_ms > reservations->until_ms);
  reservations->until_ms = until_ms;
  reservations->count++;
  return CG_OK;
}

static uint64_t next_random(uint64_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  *seed ^= *seed << 17;
  return *seed;
}

static void start(struct cg_id_source *source, struct cg_clock_virtual *time, int64_t not_before_ms,
                  struct reservations *reservations) {
  struct cg_err err;
  assert_int_equal(cg_id_source_init(source, cg_clock_of(time), 7, not_before_ms,
                                     reservations ? reserve : NULL, reservations, &err),
                   CG_OK);
}

static uint64_t next(struct cg_id_source *source) {
  uint64_t id = 0;
  struct cg_err err;
  assert_int_equal(cg_id_next(source, &id, &err), CG_OK);
  return id;
}

static void test_layout(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = CG_ID_EPOCH_MS + 5};
  struct cg_id_source source;
  start(&source, &time, 0, NULL);
  assert_int_equal(next(&source), 5ull << 22 | 7ull << 12 | 0);
  assert_int_equal(next(&source), 5ull << 22 | 7ull << 12 | 1);
  struct cg_id_parts parts = cg_id_decode(9ull << 22 | 1023ull << 12 | 4095);
  assert_int_equal(parts.time_ms, CG_ID_EPOCH_MS + 9);
  assert_int_equal(parts.node, 1023);
  assert_int_equal(parts.sequence, 4095);
}

static void test_a_time_that_was_read_already_is_taken(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = NOW_MS};
  struct cg_id_source source;
  struct cg_err err;
  uint64_t id = 0, earlier = 0;
  start(&source, &time, 0, NULL);
  assert_int_equal(cg_id_next_at(&source, NOW_MS + 7, &id, &err), CG_OK);
  assert_int_equal(cg_id_decode(id).time_ms, NOW_MS + 7);
  assert_int_equal(cg_id_next_at(&source, NOW_MS + 3, &earlier, &err), CG_OK);
  assert_int_equal(earlier, id + 1); /* As when the clock steps back. */
  assert_int_equal(next(&source), id + 2);
  time.wall_ms = NOW_MS + 8;
  assert_int_equal(cg_id_decode(next(&source)).time_ms, NOW_MS + 8);
}

static void test_grows_over_a_thousand_clock_jumps(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = NOW_MS};
  struct reservations reservations = {0};
  struct cg_id_source source;
  start(&source, &time, 0, &reservations);
  uint64_t seed = 99, last = 0;
  for (int jump = 0; jump < 1500; jump++) {
    int64_t step_ms = (int64_t)(next_random(&seed) % 20000) - 10000;
    time.wall_ms += step_ms;
    for (uint64_t i = next_random(&seed) % 100; i > 0; i--) {
      uint64_t id = next(&source);
      assert_true(id > last);
      assert_true(cg_id_decode(id).time_ms >= time.wall_ms);
      assert_true(cg_id_decode(id).time_ms < reservations.until_ms);
      last = id;
    }
  }
}

static void test_more_than_a_millisecond_holds(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = NOW_MS};
  struct cg_id_source source;
  start(&source, &time, 0, NULL);
  uint64_t first = next(&source), last = first;
  for (int i = 1; i < 3 * 4096; i++) {
    uint64_t id = next(&source);
    assert_true(id > last);
    struct cg_id_parts parts = cg_id_decode(id);
    assert_int_equal(parts.time_ms, NOW_MS + i / 4096);
    assert_int_equal(parts.sequence, i % 4096);
    assert_int_equal(parts.node, 7);
    last = id;
  }
  /* The clock catches up: the sequence begins anew. */
  time.wall_ms = NOW_MS + 10;
  assert_int_equal(cg_id_decode(next(&source)).sequence, 0);
}

static void test_restart_goes_on_after_the_reservation(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = NOW_MS};
  struct reservations reservations = {0};
  uint64_t seed = 5, last = 0;
  for (int run = 0; run < 200; run++) {
    struct cg_id_source source;
    start(&source, &time, reservations.until_ms, &reservations);
    for (uint64_t i = next_random(&seed) % 6000; i > 0; i--) {
      uint64_t id = next(&source);
      assert_true(id > last);
      last = id;
      if (i % 500 == 0)
        time.wall_ms += 300;
    }
    /* It dies here; the machine comes back with a clock that is up to a minute off. */
    time.wall_ms += (int64_t)(next_random(&seed) % 120000) - 60000;
  }
}

static void test_reserves_at_most_once_a_span(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = NOW_MS};
  struct reservations reservations = {0};
  struct cg_id_source source;
  start(&source, &time, 0, &reservations);
  for (int ms = 0; ms < 10 * CG_ID_RESERVE_MS; ms++) {
    uint64_t id = next(&source);
    assert_true(cg_id_decode(id).time_ms < reservations.until_ms);
    time.wall_ms++;
  }
  assert_int_equal(reservations.count, 10);
}

static void test_failed_reservation_gives_no_id_and_changes_nothing(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = NOW_MS};
  struct reservations reservations = {.broken = true};
  struct cg_id_source source;
  start(&source, &time, 0, &reservations);
  uint64_t id = 77;
  struct cg_err err;
  assert_int_equal(cg_id_next(&source, &id, &err), CG_EIO);
  assert_string_equal(err.message, "no disk");
  assert_int_equal(id, 77);
  reservations.broken = false;
  assert_int_equal(cg_id_decode(next(&source)).sequence, 0);
  assert_int_equal(reservations.count, 1);
}

static void test_bounds(void **state) {
  (void)state;
  struct cg_clock_virtual time = {.wall_ms = 0}; /* A machine without a clock: 1970. */
  struct cg_id_source source;
  struct cg_err err;
  uint64_t id;
  start(&source, &time, 0, NULL);
  assert_int_equal(cg_id_decode(next(&source)).time_ms, CG_ID_EPOCH_MS);

  time.wall_ms = CG_ID_EPOCH_MS + (INT64_C(1) << 41) - 1;
  id = next(&source);
  assert_true(id <= INT64_MAX);
  assert_int_equal(cg_id_decode(id).time_ms, time.wall_ms);
  time.wall_ms++;
  assert_int_equal(cg_id_next(&source, &id, &err), CG_ELIMIT);
  time.wall_ms = INT64_MAX;
  assert_int_equal(cg_id_next(&source, &id, &err), CG_ELIMIT);

  assert_int_equal(cg_id_source_init(&source, cg_clock_of(&time), 1024, 0, NULL, NULL, &err),
                   CG_EINVAL);
}

static void test_text_form(void **state) {
  (void)state;
  const uint64_t ids[] = {0, 1, 9, 10, 1234567890123456789ull, INT64_MAX};
  const char *texts[] = {"0", "1", "9", "10", "1234567890123456789", "9223372036854775807"};
  for (size_t i = 0; i < 6; i++) {
    char text[CG_ID_CHARS];
    assert_int_equal(cg_id_format(ids[i], text), strlen(texts[i]));
    assert_string_equal(text, texts[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_layout),
      cmocka_unit_test(test_a_time_that_was_read_already_is_taken),
      cmocka_unit_test(test_grows_over_a_thousand_clock_jumps),
      cmocka_unit_test(test_more_than_a_millisecond_holds),
      cmocka_unit_test(test_restart_goes_on_after_the_reservation),
      cmocka_unit_test(test_reserves_at_most_once_a_span),
      cmocka_unit_test(test_failed_reservation_gives_no_id_and_changes_nothing),
      cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_text_form),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
