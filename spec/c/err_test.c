/* err_test.c - errors: setting, prefixing, cutting, naming. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/err.h"

static void test_set_returns_code_and_formats(void **state) {
  (void)state;
  struct cg_err err;
  assert_int_equal(cg_err_set(&err, CG_EIO, "open %s: %d", "x", 7), CG_EIO);
  assert_int_equal(err.code, CG_EIO);
  assert_string_equal(err.message, "open x: 7");
  assert_int_equal(cg_err_set(NULL, CG_EFULL, "nobody reads this"), CG_EFULL);
}

static void test_set_may_quote_the_old_message(void **state) {
  (void)state;
  struct cg_err err;
  cg_err_set(&err, CG_EIO, "inner");
  cg_err_set(&err, CG_ECORRUPT, "outer(%s)", err.message);
  assert_int_equal(err.code, CG_ECORRUPT);
  assert_string_equal(err.message, "outer(inner)");
}

static void test_long_message_is_cut_between_characters(void **state) {
  (void)state;
  /* Characters of 1 to 4 bytes, so that every one of them meets the end at some shift. */
  const char *characters[] = {"a", "\xC3\xA9", "\xE9\xA2\x84", "\xF0\x9F\x90\x88"};
  for (size_t which = 0; which < 4; which++) {
    size_t width = strlen(characters[which]);
    for (size_t shift = 0; shift < 4; shift++) {
      char text[2 * CG_ERR_MESSAGE_BYTES + 8];
      size_t size = shift;
      memset(text, 'x', shift);
      while (size + width < sizeof(text)) {
        memcpy(text + size, characters[which], width);
        size += width;
      }
      text[size] = 0;

      struct cg_err err;
      cg_err_set(&err, CG_EINVAL, "%s", text);
      size_t kept = strlen(err.message);
      assert_true(kept <= CG_ERR_MESSAGE_BYTES - 1 && kept > CG_ERR_MESSAGE_BYTES - 1 - width);
      assert_int_equal((kept - shift) % width, 0);
      assert_memory_equal(err.message, text, kept);
    }
  }
}

static void test_message_that_is_not_utf8_is_cut_at_the_bound(void **state) {
  (void)state;
  char text[2 * CG_ERR_MESSAGE_BYTES];
  memset(text, 0x80, sizeof(text) - 1);
  text[sizeof(text) - 1] = 0;
  struct cg_err err;
  cg_err_set(&err, CG_EINVAL, "%s", text);
  assert_int_equal(strlen(err.message), CG_ERR_MESSAGE_BYTES - 1);
}

static void test_prefix_goes_before(void **state) {
  (void)state;
  struct cg_err err;
  cg_err_set(&err, CG_ENOTFOUND, "no such file");
  assert_int_equal(cg_err_prefix(&err, "load %s", "a.lua"), CG_ENOTFOUND);
  assert_string_equal(err.message, "load a.lua: no such file");

  struct cg_err clean = {.code = CG_OK};
  assert_int_equal(cg_err_prefix(&clean, "x"), CG_OK);
  assert_int_equal(clean.code, CG_OK);
  assert_int_equal(cg_err_prefix(NULL, "x"), CG_OK);
}

static void test_prefix_keeps_within_the_bound(void **state) {
  (void)state;
  char text[2 * CG_ERR_MESSAGE_BYTES];
  memset(text, 'p', sizeof(text) - 1);
  text[sizeof(text) - 1] = 0;
  for (size_t prefix_size = CG_ERR_MESSAGE_BYTES - 20; prefix_size < CG_ERR_MESSAGE_BYTES + 20;
       prefix_size++) {
    struct cg_err err;
    cg_err_set(&err, CG_EIO, "the old message");
    assert_int_equal(cg_err_prefix(&err, "%.*s", (int)prefix_size, text), CG_EIO);
    size_t size = strlen(err.message);
    assert_true(size < CG_ERR_MESSAGE_BYTES);
    assert_non_null(strstr(err.message, "p: "));
  }
}

static void test_errno_mapping(void **state) {
  (void)state;
  assert_int_equal(cg_err_from_errno(ENOSPC), CG_EFULL);
  assert_int_equal(cg_err_from_errno(EDQUOT), CG_EFULL);
  assert_int_equal(cg_err_from_errno(ENOENT), CG_ENOTFOUND);
  assert_int_equal(cg_err_from_errno(EACCES), CG_EPERM);
  assert_int_equal(cg_err_from_errno(EPERM), CG_EPERM);
  assert_int_equal(cg_err_from_errno(EROFS), CG_EPERM);
  assert_int_equal(cg_err_from_errno(EEXIST), CG_EEXISTS);
  assert_int_equal(cg_err_from_errno(ENOMEM), CG_ENOMEM);
  assert_int_equal(cg_err_from_errno(EIO), CG_EIO);
}

static void test_code_names(void **state) {
  (void)state;
  assert_string_equal(cg_code_name(CG_OK), "ok");
  assert_string_equal(cg_code_name(CG_ECONFLICT), "conflict");
  assert_string_equal(cg_code_name(CG_EPERM), "permission");
  assert_string_equal(cg_code_name((enum cg_code) - 999), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_set_returns_code_and_formats),
      cmocka_unit_test(test_set_may_quote_the_old_message),
      cmocka_unit_test(test_long_message_is_cut_between_characters),
      cmocka_unit_test(test_message_that_is_not_utf8_is_cut_at_the_bound),
      cmocka_unit_test(test_prefix_goes_before),
      cmocka_unit_test(test_prefix_keeps_within_the_bound),
      cmocka_unit_test(test_errno_mapping),
      cmocka_unit_test(test_code_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
