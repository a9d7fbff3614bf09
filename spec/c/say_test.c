/* say_test.c - levelled lines: form, levels, escaping, cutting, the sink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "base/say.h"

/* What a sink was given. */
struct heard {
  enum cg_say_level level;          /* Of the last line. */
  char line[CG_SAY_LINE_BYTES + 1]; /* The last line. */
  int count;                        /* Lines so far. */
};

static void hear(void *arg, enum cg_say_level level, const char *line) {
  struct heard *heard = arg;
  heard->level = level;
  heard->count++;
  assert_true(strlen(line) <= CG_SAY_LINE_BYTES);
  strcpy(heard->line, line);
}

/* Says `text` to a pipe and reads what came out. */
static size_t said(enum cg_say_level level, const char *text, char *out, size_t capacity) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  struct cg_say say = {.fd = ends[1], .level = CG_SAY_DEBUG};
  cg_say(&say, level, "%s", text);
  close(ends[1]);
  ssize_t size = read(ends[0], out, capacity - 1);
  close(ends[0]);
  assert_true(size >= 0);
  out[size] = 0;
  return (size_t)size;
}

static void check_line(enum cg_say_level level, const char *text, const char *expected) {
  char out[5000];
  said(level, text, out, sizeof(out));
  int hour, minute, second, ms, used = 0;
  assert_int_equal(sscanf(out, "%2d:%2d:%2d.%3d %n", &hour, &minute, &second, &ms, &used), 4);
  assert_int_equal(used, 13);
  assert_string_equal(out + used, expected);
}

static void test_lines_have_time_level_and_text(void **state) {
  (void)state;
  check_line(CG_SAY_DEBUG, "a", "debug a\n");
  check_line(CG_SAY_INFO, "b", "info  b\n");
  check_line(CG_SAY_WARN, "c", "warn  c\n");
  check_line(CG_SAY_ERROR, "ends with a line feed\n", "error ends with a line feed\n");
  check_line(CG_SAY_INFO, "", "info  \n");
}

static void test_control_characters_are_escaped(void **state) {
  (void)state;
  check_line(CG_SAY_INFO, "\x1b[31mred\x7f\r \xC3\xA9 tab\t two\nlines",
             "info  \\x1b[31mred\\x7f\\x0d \xC3\xA9 tab\t two\nlines\n");
}

static void test_long_lines_are_cut(void **state) {
  (void)state;
  char text[3 * CG_SAY_LINE_BYTES], out[3 * CG_SAY_LINE_BYTES];
  memset(text, 'y', sizeof(text) - 1);
  text[sizeof(text) - 1] = 0;
  assert_int_equal(said(CG_SAY_INFO, text, out, sizeof(out)), CG_SAY_LINE_BYTES);
  assert_int_equal(out[CG_SAY_LINE_BYTES - 1], '\n');

  memset(text, 1, sizeof(text) - 1); /* Every byte becomes four. */
  size_t size = said(CG_SAY_INFO, text, out, sizeof(out));
  assert_true(size <= CG_SAY_LINE_BYTES && size > CG_SAY_LINE_BYTES - 4);
  assert_memory_equal(out + size - 5, "\\x01\n", 5);
}

static void test_lower_levels_are_dropped(void **state) {
  (void)state;
  struct heard heard = {0};
  struct cg_say say = {.fd = -1, .level = CG_SAY_WARN, .sink = hear, .sink_arg = &heard};
  cg_say(&say, CG_SAY_DEBUG, "no");
  cg_say(&say, CG_SAY_INFO, "no");
  assert_int_equal(heard.count, 0);
  cg_say(&say, CG_SAY_WARN, "%d %s\n", 3, "yes\x02");
  assert_int_equal(heard.count, 1);
  assert_int_equal(heard.level, CG_SAY_WARN);
  assert_string_equal(heard.line, "3 yes\\x02");
  cg_say(NULL, CG_SAY_ERROR, "nobody");
}

static void test_a_failed_write_is_ignored_and_errno_kept(void **state) {
  (void)state;
  struct cg_say say = {.fd = -1, .level = CG_SAY_DEBUG};
  errno = EDOM;
  cg_say(&say, CG_SAY_ERROR, "lost");
  assert_int_equal(errno, EDOM);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lines_have_time_level_and_text),
      cmocka_unit_test(test_control_characters_are_escaped),
      cmocka_unit_test(test_long_lines_are_cut),
      cmocka_unit_test(test_lower_levels_are_dropped),
      cmocka_unit_test(test_a_failed_write_is_ignored_and_errno_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
