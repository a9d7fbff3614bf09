/* json_test.c - the JSON writer and reader, and UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

/* Buffers of one test. */
struct fixture {
  struct cg_buf *out;     /* What is written. */
  struct cg_buf *scratch; /* The reader's. */
};

static int setup(void **state) {
  struct fixture *fixture = malloc(sizeof(*fixture));
  fixture->out = cg_buf_take(NULL, 16);
  fixture->scratch = cg_buf_take(NULL, 16);
  *state = fixture;
  return 0;
}

static int teardown(void **state) {
  struct fixture *fixture = *state;
  cg_buf_unref(fixture->out);
  cg_buf_unref(fixture->scratch);
  free(fixture);
  return 0;
}

/* A small generator with a fixed seed, so that a failure is the same again. */
static uint64_t next_random(uint64_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  *seed ^= *seed << 17;
  return *seed;
}

/* A finite double of random bits. */
static double random_double(uint64_t *seed) {
  double number;
  do {
    uint64_t bits = next_random(seed);
    memcpy(&number, &bits, sizeof(number));
  } while (!isfinite(number));
  return number;
}

/* Writes a number to the emptied buffer, with a zero at the end. */
static const char *write_number(struct fixture *fixture, double number) {
  fixture->out->size = 0;
  assert_int_equal(cg_json_write_number(fixture->out, number, NULL), CG_OK);
  cg_buf_append(fixture->out, "", 1);
  return (const char *)fixture->out->data;
}

/* Reads a text that is one number. */
static double read_number(struct fixture *fixture, const char *text) {
  struct cg_json_reader reader;
  struct cg_json_token token;
  struct cg_err err;
  cg_json_reader_init(&reader, text, strlen(text), fixture->scratch);
  if (cg_json_next(&reader, &token, &err) != CG_OK)
    fail_msg("%s: %s", text, err.message);
  assert_int_equal(token.kind, CG_JSON_NUMBER);
  double number = token.number;
  assert_int_equal(cg_json_next(&reader, &token, NULL), CG_OK);
  assert_int_equal(token.kind, CG_JSON_END);
  return number;
}

/* Reads all tokens. */
static enum cg_code read_all(struct fixture *fixture, const char *text, size_t size,
                             struct cg_err *err) {
  struct cg_json_reader reader;
  struct cg_json_token token;
  cg_json_reader_init(&reader, text, size, fixture->scratch);
  do {
    enum cg_code code = cg_json_next(&reader, &token, err);
    if (code != CG_OK)
      return code;
  } while (token.kind != CG_JSON_END);
  return CG_OK;
}

static void assert_same_bits(double a, double b, const char *text) {
  if (memcmp(&a, &b, sizeof(a)) != 0)
    fail_msg("%s: %a is not %a", text, a, b);
}

static void numbers_are_written_as_promised(void **state) {
  const struct {
    double number;
    const char *text;
  } cases[] = {
      {0, "0"},
      {-0.0, "-0.0"},
      {1, "1"},
      {-1, "-1"},
      {10, "10"},
      {99, "99"},
      {100, "100"},
      {1234567, "1234567"},
      {9007199254740991, "9007199254740991"},
      {9007199254740992, "9007199254740992"},
      {-9007199254740992, "-9007199254740992"},
      {9007199254740994, "9.007199254740994e15"},
      {1e20, "1e20"},
      {-1.5e300, "-1.5e300"},
      {0.1, "0.1"},
      {0.1 + 0.2, "0.30000000000000004"},
      {19.99, "19.99"},
      {-1234.5, "-1234.5"},
      {1.0 / 3, "0.3333333333333333"},
      {0.000001, "0.000001"},
      {0.00000123, "0.00000123"},
      {0.0000001, "1e-7"},
      {4503599627370495.5, "4503599627370495.5"},
      {5e-324, "5e-324"},
      {DBL_MIN, "2.2250738585072014e-308"},
      {DBL_MAX, "1.7976931348623157e308"},
      {0x1p-1017, "7.120236347223045e-307"},
      {1700000000.123, "1700000000.123"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    const char *text = write_number(*state, cases[i].number);
    assert_string_equal(text, cases[i].text);
    assert_same_bits(read_number(*state, text), cases[i].number, text);
  }
}

static void not_finite_numbers_are_refused(void **state) {
  struct fixture *fixture = *state;
  struct cg_err err;
  assert_int_equal(cg_json_write_number(fixture->out, NAN, &err), CG_EINVAL);
  assert_string_equal(err.message, "NaN is not a number that JSON can hold");
  assert_int_equal(cg_json_write_number(fixture->out, -INFINITY, &err), CG_EINVAL);
  assert_string_equal(err.message, "-infinity is not a number that JSON can hold");
  assert_int_equal(fixture->out->size, 0);
}

static void random_doubles_come_back_bit_by_bit(void **state) {
  uint64_t seed = 20240607;
  for (int i = 0; i < 200000; i++) {
    double number = random_double(&seed);
    if (i % 4 == 1) /* Subnormals too. */
      number *= 0x1p-1040;
    if (i % 4 == 2) /* And sizes people use. */
      number = (double)(int64_t)(next_random(&seed) >> 20) / 1000;
    if (i % 4 == 3)
      number = ldexp((double)(next_random(&seed) >> 11), (int)(next_random(&seed) % 80) - 70);
    const char *text = write_number(*state, number);
    assert_same_bits(read_number(*state, text), number, text);
  }
}

/* Significant digits of a written number. */
static int count_digits(const char *text) {
  int count = 0;
  int zeros = 0;
  for (; *text != '\0' && *text != 'e'; text++) {
    if (*text < '0' || *text > '9' || (*text == '0' && count == 0))
      continue;
    count++;
    zeros = *text == '0' ? zeros + 1 : 0;
  }
  return count - zeros;
}

static void numbers_have_the_fewest_digits(void **state) {
  uint64_t seed = 7;
  for (int i = 0; i < 60000; i++) {
    double number = fabs(random_double(&seed));
    if (i % 3 == 1)
      number = ldexp((double)(next_random(&seed) >> 11), -(int)(next_random(&seed) % 60));
    if (i % 3 == 2)
      number = (double)(next_random(&seed) % 100000000) / 10000;
    int fewest = 1;
    char plain[48];
    for (; fewest < 17; fewest++) {
      snprintf(plain, sizeof(plain), "%.*e", fewest - 1, number);
      if (strtod(plain, NULL) == number)
        break;
    }
    const char *text = write_number(*state, number);
    if (number != 0 && count_digits(text) > fewest)
      fail_msg("%s has more than %d digits", text, fewest);
  }
}

static void powers_of_two_come_back(void **state) {
  for (int exponent = -1074; exponent < 1024; exponent++) {
    double number = ldexp(1, exponent);
    const char *text = write_number(*state, number);
    assert_same_bits(read_number(*state, text), number, text);
    assert_true(count_digits(text) <= 17);
  }
}

static void the_locale_does_not_matter(void **state) {
  const char *names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE"};
  const char *found = NULL;
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && found == NULL; i++)
    found = setlocale(LC_ALL, names[i]);
  if (found == NULL) {
    print_message("no locale with a decimal comma is installed here\n");
    skip();
  }
  assert_string_equal(write_number(*state, 0.1 + 0.2), "0.30000000000000004");
  assert_true(read_number(*state, "0.30000000000000004") == 0.1 + 0.2);
  setlocale(LC_ALL, "C");
}

static void numbers_are_read_as_the_nearest_double(void **state) {
  assert_true(read_number(*state, "-0") == 0 && signbit(read_number(*state, "-0")));
  assert_true(read_number(*state, "1E+2") == 100);
  assert_true(read_number(*state, "1.5e-3") == 0.0015);
  assert_true(read_number(*state, "1e-400") == 0);
  assert_true(read_number(*state, "0e99999999999") == 0);
  assert_true(read_number(*state, "0.000000000000000000000000000000000001e36") == 1);
  assert_true(read_number(*state, "9007199254740993.0") == 9007199254740992.0);
  assert_true(read_number(*state, "9007199254740993.00000000000000000001") == 9007199254740994.0);
  assert_true(read_number(*state, "123456789012345678901234567890e-10") ==
              12345678901234567890.123);
  assert_true(read_number(*state, "2.2250738585072011e-308") == 2.2250738585072011e-308);
}

static void integers_beyond_2_53_are_refused(void **state) {
  struct cg_err err;
  const char *texts[] = {"9007199254740993", "-9007199254740993", "10000000000000000000",
                         "18446744073709551616", "123456789012345678901234567890"};
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
    assert_int_equal(read_all(*state, texts[i], strlen(texts[i]), &err), CG_EINVAL);
  assert_int_equal(read_all(*state, "[\n  -9007199254740993]", 21, &err), CG_EINVAL);
  assert_string_equal(err.message, "line 2, column 3: the integer -9007199254740993 is beyond 2^53 "
                                   "and would be rounded; send it as a string");
  assert_true(read_number(*state, "9007199254740992") == 9007199254740992.0);
  assert_true(read_number(*state, "-9007199254740992") == -9007199254740992.0);
}

static void numbers_have_a_bound(void **state) {
  char text[CG_JSON_NUMBER_CHARS_MAX + 2];
  memset(text, '1', sizeof(text));
  text[1] = '.';
  assert_int_equal(read_all(*state, text, CG_JSON_NUMBER_CHARS_MAX, NULL), CG_OK);
  struct cg_err err;
  assert_int_equal(read_all(*state, text, CG_JSON_NUMBER_CHARS_MAX + 1, &err), CG_ELIMIT);
  assert_string_equal(err.message, "line 1, column 1: a number has more than 1024 characters");
  assert_int_equal(read_all(*state, "1e309", 5, &err), CG_EINVAL);
  assert_string_equal(err.message, "line 1, column 1: the number is too large for a double");
}

static void valid_texts_are_accepted(void **state) {
  const char *texts[] = {
      "null",
      "true",
      "false",
      "0",
      "-1",
      "\"\"",
      "[]",
      "{}",
      " [ ] ",
      "\t{\r\n} ",
      "[[],{}]",
      "[null,1,\"a\",{\"a\":[]}]",
      "{\"\":0}",
      "{\"a\":1,\"b\":{\"c\":[1,2]}}",
      "\"\\u0000\"",
      "\"\\ud83d\\ude00\"",
      "\"\xf0\x9f\x98\x80\"",
      "\"\x7f\"",
      "\"\\/\\b\\f\\n\\r\\t\\\"\\\\\"",
      "[1e1,1E-1,1.0e+1,0.5]",
      "{\"a\" : 1 , \"b\" :2}",
      "\"\xef\xbf\xbf\"",
  };
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
    struct cg_err err;
    if (read_all(*state, texts[i], strlen(texts[i]), &err) != CG_OK)
      fail_msg("%s: %s", texts[i], err.message);
  }
}

/* What RFC 8259 does not allow. */
static const char *const invalid_texts[] = {
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-Infinity",
    "+1",
    "-",
    "01",
    "-01",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x10",
    "1_000",
    "1 2",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "{",
    "}",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{,}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{\"a\" 1}",
    "{\"a\"::1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1]",
    "{null:1}",
    "\"",
    "\"a",
    "\"\\\"",
    "\"\\",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\u",
    "\"a\nb\"",
    "\"\t\"",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ud800\\u0041\"",
    "\"\\ud800x\"",
    "\"\x80\"",
    "\"\\ud800\\ud800\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xff\"",
    "\"\xe4\xb8\"",
    "\xef\xbb\xbf[]",
    "/**/1",
    "[1]//",
    "[1] x",
    "[]]",
    "{}}",
    "'a'",
    "\xc2\xa0"
    "1",
    "[1\f]",
    "tru",
    "fals",
    "\"a\" \"b\"",
    "1e5.5",
    "--1",
    "[-]",
    "\"\\U0041\"",
};

static void invalid_texts_are_refused(void **state) {
  for (size_t i = 0; i < sizeof(invalid_texts) / sizeof(invalid_texts[0]); i++) {
    struct cg_err err;
    if (read_all(*state, invalid_texts[i], strlen(invalid_texts[i]), &err) != CG_EINVAL)
      fail_msg("accepted: %s", invalid_texts[i]);
    assert_non_null(strstr(err.message, "line "));
  }
  assert_int_equal(read_all(*state, "[1,\0]", 5, NULL), CG_EINVAL);
  assert_int_equal(read_all(*state, "\"\0\"", 3, NULL), CG_EINVAL);
  assert_int_equal(read_all(*state, "1\0", 2, NULL), CG_EINVAL);
  assert_int_equal(read_all(*state, "\"\\\0\"", 4, NULL), CG_EINVAL);
}

static void errors_name_the_place(void **state) {
  const struct {
    const char *text;
    const char *message;
  } cases[] = {
      {"", "line 1, column 1: the text ends where a value is expected"},
      {"[1,\n 2,]", "line 2, column 4: a value is expected, not ']'"},
      {"{\"a\":1 \"b\"}", "line 1, column 8: a comma or } is expected, not '\"'"},
      {"{\"\xe9\xa2\x84\" 1}", "line 1, column 6: a colon is expected, not '1'"},
      {"[\"a\nb\"]", "line 1, column 4: byte 0x0A must be escaped in a string"},
      {"[\"\\q\"]", "line 1, column 3: unknown escape in a string"},
      {"[\"\\u12\"]", "line 1, column 3: \\u must be followed by four hex digits"},
      {"[\"\\ud800\"]", "line 1, column 3: half of a surrogate pair"},
      {"\"ab\xff\"", "line 1, column 4: byte 0xFF is not valid UTF-8 here"},
      {"\"ab", "line 1, column 4: the text ends inside a string"},
      {"{a:1}", "line 1, column 2: a key in quotes is expected, not 'a'"},
      {"[1] 2", "line 1, column 5: the end of the text is expected, not '2'"},
      {"\x01", "line 1, column 1: a value is expected, not byte 0x01"},
      {"[1.x]", "line 1, column 4: a digit is expected, not 'x'"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    struct cg_err err;
    assert_int_equal(read_all(*state, cases[i].text, strlen(cases[i].text), &err), CG_EINVAL);
    assert_string_equal(err.message, cases[i].message);
    assert_int_equal(err.code, CG_EINVAL);
  }
}

static void tokens_come_in_order(void **state) {
  struct fixture *fixture = *state;
  const char *text = " { \"a\" : [ 1.5 , null, true ] , \"b\\n\" : \"x\" } ";
  const enum cg_json_kind kinds[] = {CG_JSON_OBJECT_BEGIN, CG_JSON_KEY,  CG_JSON_ARRAY_BEGIN,
                                     CG_JSON_NUMBER,       CG_JSON_NULL, CG_JSON_TRUE,
                                     CG_JSON_ARRAY_END,    CG_JSON_KEY,  CG_JSON_STRING,
                                     CG_JSON_OBJECT_END,   CG_JSON_END,  CG_JSON_END};
  struct cg_json_reader reader;
  cg_json_reader_init(&reader, text, strlen(text), fixture->scratch);
  for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
    struct cg_json_token token;
    assert_int_equal(cg_json_next(&reader, &token, NULL), CG_OK);
    assert_int_equal(token.kind, kinds[i]);
    if (i == 1) {
      assert_ptr_equal(token.text, text + 4); /* Without escapes there is no copy. */
      assert_int_equal(token.size, 1);
    }
    if (i == 7) {
      assert_int_equal(token.size, 2);
      assert_memory_equal(token.text, "b\n", 2);
    }
  }
}

static void depth_has_a_bound(void **state) {
  enum { LEVELS = 100000 };
  char *text = malloc(LEVELS);
  memset(text, '[', CG_JSON_DEPTH_MAX);
  memset(text + CG_JSON_DEPTH_MAX, ']', CG_JSON_DEPTH_MAX);
  assert_int_equal(read_all(*state, text, (size_t)2 * CG_JSON_DEPTH_MAX, NULL), CG_OK);
  memset(text, '[', LEVELS);
  struct cg_err err;
  assert_int_equal(read_all(*state, text, LEVELS, &err), CG_ELIMIT);
  assert_string_equal(err.message, "line 1, column 129: nested deeper than 128 levels");
  free(text);
}

static void mixed_levels_are_told_apart(void **state) {
  char text[CG_JSON_DEPTH_MAX * 8] = "";
  for (int i = 0; i < CG_JSON_DEPTH_MAX / 2; i++)
    strcat(text, "[{\"a\":");
  strcat(text, "0");
  for (int i = 0; i < CG_JSON_DEPTH_MAX / 2; i++)
    strcat(text, "}]");
  assert_int_equal(read_all(*state, text, strlen(text), NULL), CG_OK);
  text[strlen(text) - 1] = '}';
  assert_int_equal(read_all(*state, text, strlen(text), NULL), CG_EINVAL);
}

/* Writes a string and reads it back. */
static void assert_string_returns(struct fixture *fixture, const char *text, size_t size) {
  fixture->out->size = 0;
  assert_int_equal(cg_json_write_string(fixture->out, text, size, NULL), CG_OK);
  struct cg_json_reader reader;
  struct cg_json_token token;
  cg_json_reader_init(&reader, (const char *)fixture->out->data, fixture->out->size,
                      fixture->scratch);
  struct cg_err err;
  if (cg_json_next(&reader, &token, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(token.kind, CG_JSON_STRING);
  assert_int_equal(token.size, size);
  if (size > 0)
    assert_memory_equal(token.text, text, size);
  assert_int_equal(cg_json_next(&reader, &token, NULL), CG_OK);
  assert_int_equal(token.kind, CG_JSON_END);
}

static void every_byte_at_every_place_is_escaped_or_not(void **state) {
  for (int byte = 0; byte < 128; byte++) {
    for (size_t size = 1; size < 20; size++) {
      for (size_t at = 0; at < size; at++) {
        char text[20];
        memset(text, 'a', sizeof(text));
        text[at] = (char)byte;
        assert_string_returns(*state, text, size);
      }
    }
  }
  assert_string_returns(*state, "", 0);
}

static void escapes_are_the_short_ones(void **state) {
  struct fixture *fixture = *state;
  const char *text = "\"\\/\b\f\n\r\t\x01\x1f\x7f\xe9\xa2\x84";
  assert_int_equal(cg_json_write_string(fixture->out, text, strlen(text), NULL), CG_OK);
  cg_buf_append(fixture->out, "", 1);
  assert_string_equal((const char *)fixture->out->data,
                      "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xe9\xa2\x84\"");
}

static void text_that_is_not_utf8_is_refused(void **state) {
  struct fixture *fixture = *state;
  struct cg_err err;
  cg_buf_append(fixture->out, "x", 1);
  assert_int_equal(cg_json_write_string(fixture->out, "abcdefghij\xff", 11, &err), CG_EINVAL);
  assert_string_equal(err.message, "the text is not UTF-8 (byte 0xFF at offset 10)");
  assert_int_equal(fixture->out->size, 1);
}

static void every_code_point_is_one_sequence(void **state) {
  (void)state;
  char text[CG_UTF8_BYTES_MAX];
  for (uint32_t point = 0; point <= 0x10FFFF; point++) {
    if (point >= 0xD800 && point <= 0xDFFF)
      continue;
    size_t size = cg_utf8_encode(point, text);
    assert_int_equal(cg_utf8_sequence_size(text, size), size);
    if (size > 1)
      assert_int_equal(cg_utf8_sequence_size(text, size - 1), 0);
  }
}

static void only_so_many_sequences_are_valid(void **state) {
  (void)state;
  uint32_t counts[CG_UTF8_BYTES_MAX + 1] = {0};
  for (uint32_t bits = 0; bits < 0x1000000; bits++) { /* All of three bytes. */
    char text[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
    counts[cg_utf8_sequence_size(text, 3)]++;
  }
  assert_int_equal(counts[1], 128 * 65536);
  assert_int_equal(counts[2], (0x800 - 0x80) * 256);
  assert_int_equal(counts[3], 0x10000 - 0x800 - 0x800); /* Without the surrogates. */
  assert_int_equal(counts[4], 0);
  assert_int_equal(cg_utf8_sequence_size("\xf0\x8f\xbf\xbf", 4), 0);
  assert_int_equal(cg_utf8_sequence_size("\xf0\x90\x80\x80", 4), 4);
  assert_int_equal(cg_utf8_sequence_size("\xf4\x8f\xbf\xbf", 4), 4);
  assert_int_equal(cg_utf8_sequence_size("\xf4\x90\x80\x80", 4), 0);
  assert_int_equal(cg_utf8_valid_size("ab\xe9\xa2\x84\xe9\xa2", 7), 5);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(numbers_are_written_as_promised),
      TEST(not_finite_numbers_are_refused),
      TEST(random_doubles_come_back_bit_by_bit),
      TEST(numbers_have_the_fewest_digits),
      TEST(powers_of_two_come_back),
      TEST(the_locale_does_not_matter),
      TEST(numbers_are_read_as_the_nearest_double),
      TEST(integers_beyond_2_53_are_refused),
      TEST(numbers_have_a_bound),
      TEST(valid_texts_are_accepted),
      TEST(invalid_texts_are_refused),
      TEST(errors_name_the_place),
      TEST(tokens_come_in_order),
      TEST(depth_has_a_bound),
      TEST(mixed_levels_are_told_apart),
      TEST(every_byte_at_every_place_is_escaped_or_not),
      TEST(escapes_are_the_short_ones),
      TEST(text_that_is_not_utf8_is_refused),
      TEST(every_code_point_is_one_sequence),
      TEST(only_so_many_sequences_are_valid),
  };
#undef TEST
  return cmocka_run_group_tests(tests, NULL, NULL);
}
