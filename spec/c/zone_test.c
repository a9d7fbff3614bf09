/* zone_test.c - time zones agree with those of the C library, follow the rules behind their tables,
 * and damaged files are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/zone.h"
#include "base/zone_rule.h"

#define DIRECTORY "/usr/share/zoneinfo"
#define DAY 86400

static struct cg_zone *load(const char *name) {
  struct cg_zone *zone;
  struct cg_err err;
  if (cg_zone_load(&zone, cg_fs_system(), DIRECTORY, name, &err) != CG_OK)
    fail_msg("%s: %s", name, err.message);
  return zone;
}

static int32_t offset_at(const struct cg_zone *zone, int64_t time) {
  struct cg_zone_span span;
  cg_zone_span(zone, time, &span);
  assert_true(span.begin <= time && time < span.end);
  return span.offset;
}

static int32_t libc_offset(int64_t time) {
  time_t at = (time_t)time;
  struct tm fields;
  assert_non_null(localtime_r(&at, &fields));
  return (int32_t)fields.tm_gmtoff;
}

/* Compares a zone with libc from 1900 to 2450, densely around each change. */
static void compare(const char *name) {
  struct cg_zone *zone = load(name);
  setenv("TZ", name, 1);
  tzset();
  const int64_t from = INT64_C(-2208988800), to = INT64_C(15147129600);
  for (int64_t time = from; time < to; time += 40 * DAY + 12345)
    assert_int_equal(offset_at(zone, time), libc_offset(time));
  int spans = 0;
  for (int64_t time = from; time < to; spans++) {
    struct cg_zone_span span, before;
    cg_zone_span(zone, time, &span);
    if (span.end > to)
      break;
    cg_zone_span(zone, span.end, &before);
    assert_int_equal(before.begin, span.end);
    assert_int_equal(before.before, span.offset);
    assert_int_equal(span.offset, libc_offset(span.end - 1));
    assert_int_equal(before.offset, libc_offset(span.end));
    time = span.end;
  }
  assert_true(spans < 2000);
  cg_zone_free(zone);
}

static void test_zones_agree_with_the_c_library(void **state) {
  (void)state;
  static const char *const names[] = {
      "Europe/Berlin",       "Europe/London",    "Europe/Dublin",    "America/New_York",
      "America/Sao_Paulo",   "Asia/Kolkata",     "Asia/Tokyo",       "Asia/Kathmandu",
      "Australia/Lord_Howe", "Pacific/Apia",     "Pacific/Chatham",  "Africa/Casablanca",
      "America/Nuuk",        "America/St_Johns", "Etc/UTC",          "Etc/GMT-14",
      "Asia/Gaza",           "Asia/Jerusalem",   "Antarctica/Troll", "Africa/Monrovia"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    compare(names[i]);
}

static void test_a_name_leads_nowhere_else(void **state) {
  (void)state;
  static const char *const fine[] = {"UTC",       "Europe/Berlin", "America/Argentina/Buenos_Aires",
                                     "Etc/GMT+3", "EST5EDT",       "Port-au/Prince"};
  static const char *const wrong[] = {"",          "/etc/passwd", "../passwd", "Europe/../UTC",
                                      "Europe//X", "Europe/",     "Eur ope",   ".hidden",
                                      "A/.b",      "+1",          "Z\xc3\xbc", "a\\b"};
  for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
    assert_true(cg_zone_is_name(fine[i], strlen(fine[i])));
  struct cg_zone *zone;
  struct cg_err err;
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    assert_false(cg_zone_is_name(wrong[i], strlen(wrong[i])));
    assert_int_equal(cg_zone_load(&zone, cg_fs_system(), DIRECTORY, wrong[i], &err), CG_EINVAL);
  }
  assert_false(cg_zone_is_name("A\0b", 3));
  char longest[CG_ZONE_NAME_BYTES_MAX + 1];
  memset(longest, 'a', sizeof(longest));
  assert_true(cg_zone_is_name(longest, CG_ZONE_NAME_BYTES_MAX));
  assert_false(cg_zone_is_name(longest, CG_ZONE_NAME_BYTES_MAX + 1));
}

static void test_a_zone_that_is_not_there(void **state) {
  (void)state;
  struct cg_zone *zone;
  struct cg_err err;
  assert_int_equal(cg_zone_load(&zone, cg_fs_system(), DIRECTORY, "Europe/Berlim", &err),
                   CG_ENOTFOUND);
  assert_int_equal(cg_zone_load(&zone, cg_fs_system(), DIRECTORY, "Europe", &err), CG_ENOTFOUND);
  assert_int_equal(cg_zone_load(&zone, cg_fs_system(), "/nowhere", "UTC", &err), CG_ENOTFOUND);
  assert_int_equal(cg_zone_load(&zone, cg_fs_system(), "/proc/self", "stat", &err), CG_ECORRUPT);
}

/* What is wrong with a rule, or its span at a moment. */
static struct cg_zone_span rule_span(const char *text, int64_t time) {
  struct cg_zone_rule rule;
  if (!cg_zone_rule_parse(&rule, text, strlen(text)))
    fail_msg("%s is a rule", text);
  struct cg_zone_span span;
  cg_zone_rule_span(&rule, time, &span);
  assert_true(span.begin <= time && time < span.end);
  return span;
}

static void test_rules(void **state) {
  (void)state;
  const int64_t july = INT64_C(1783296000), january = INT64_C(1767225600); /* Of 2026. */
  assert_int_equal(rule_span("CET-1CEST,M3.5.0,M10.5.0/3", july).offset, 7200);
  assert_int_equal(rule_span("CET-1CEST,M3.5.0,M10.5.0/3", january).offset, 3600);
  assert_int_equal(rule_span("CET-1CEST,M3.5.0,M10.5.0/3", july).begin, INT64_C(1774746000));
  assert_int_equal(rule_span("CET-1CEST,M3.5.0,M10.5.0/3", july).end, INT64_C(1792890000));
  assert_int_equal(rule_span("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", january).offset, 39600);
  assert_int_equal(rule_span("IST-5:30", july).offset, 19800);
  assert_int_equal(rule_span("EST5EDT,J60/0,J300/0", july).offset, -14400);
  assert_int_equal(rule_span("EST5EDT,59/0,299/0", january).offset, -18000);
  assert_int_equal(rule_span("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", july).offset, -3600);
  struct cg_zone_span span = rule_span("EST5EDT4,0/0,J365/25", july); /* All the year. */
  assert_int_equal(span.offset, -14400);
  assert_int_equal(rule_span("EST5EDT4,0/0,J365/25", january + 5 * 3600).offset, -14400);
  assert_int_equal(rule_span("EST5EDT4,0/0,J365/25", january + 5 * 3600 - 1).offset, -14400);
}

static void test_wrong_rules(void **state) {
  (void)state;
  static const char *const wrong[] = {"",
                                      "CET",
                                      "CE-1",
                                      "CET-25",
                                      "CET-1CEST",
                                      "CET-1CEST,M3.5.0",
                                      "CET-1CEST,M13.5.0,M10.5.0",
                                      "CET-1CEST,M3.6.0,M10.5.0",
                                      "CET-1CEST,M3.5.7,M10.5.0",
                                      "CET-1CEST,M3.5.0,M10.5.0/168",
                                      "CET-1CEST,J0,J1",
                                      "CET-1CEST,J366,J1",
                                      "CET-1CEST,366,1",
                                      "CET-1 ",
                                      "<+1-1",
                                      "CET-1CEST,M3.5.0,M10.5.0x",
                                      "CET-1:60",
                                      "CET-0001"};
  struct cg_zone_rule rule;
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
    if (cg_zone_rule_parse(&rule, wrong[i], strlen(wrong[i])))
      fail_msg("\"%s\" passes for a rule", wrong[i]);
}

/* The bytes of a file; free them. */
static uint8_t *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  uint8_t *bytes = malloc(1 << 16);
  *size = fread(bytes, 1, 1 << 16, file);
  fclose(file);
  return bytes;
}

static void test_damaged_files_are_refused(void **state) {
  (void)state;
  size_t size;
  uint8_t *bytes = read_file(DIRECTORY "/Europe/Berlin", &size);
  struct cg_zone *zone;
  struct cg_err err;
  assert_int_equal(cg_zone_parse(&zone, bytes, size, &err), CG_OK);
  cg_zone_free(zone);
  for (size_t cut = 0; cut < size; cut++) { /* In memory of just that size, for a sanitizer. */
    uint8_t *part = malloc(cut > 0 ? cut : 1);
    memcpy(part, bytes, cut);
    assert_int_equal(cg_zone_parse(&zone, part, cut, &err), CG_ECORRUPT);
    free(part);
  }
  for (size_t at = 0; at < size; at++) {
    bytes[at] ^= 0xff;
    if (cg_zone_parse(&zone, bytes, size, &err) == CG_OK) {
      for (int64_t time = CG_ZONE_TIME_MIN; time < CG_ZONE_TIME_MAX; time += INT64_C(9999999999))
        offset_at(zone, time);
      cg_zone_free(zone);
    }
    bytes[at] ^= 0xff;
  }
  free(bytes);
}

static void test_times_outside_of_the_years_count_as_the_nearest(void **state) {
  (void)state;
  struct cg_zone *zone = load("Europe/Berlin");
  struct cg_zone_span first, last;
  cg_zone_span(zone, INT64_MIN, &first);
  cg_zone_span(zone, INT64_MAX, &last);
  assert_int_equal(first.begin, CG_ZONE_TIME_MIN);
  assert_int_equal(first.offset, 3208); /* Local mean time. */
  assert_int_equal(last.end, CG_ZONE_TIME_MAX + 1);
  assert_int_equal(last.offset, 3600);
  cg_zone_free(zone);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_zones_agree_with_the_c_library),
      cmocka_unit_test(test_a_name_leads_nowhere_else),
      cmocka_unit_test(test_a_zone_that_is_not_there),
      cmocka_unit_test(test_rules),
      cmocka_unit_test(test_wrong_rules),
      cmocka_unit_test(test_damaged_files_are_refused),
      cmocka_unit_test(test_times_outside_of_the_years_count_as_the_nearest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
