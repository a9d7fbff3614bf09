/* mem_test.c - memory that does not fail: zeroed, never NULL, dies with a line on stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

/* Read by the sanitizers' allocators at start: return NULL as the C library's does. */
const char *__asan_default_options(void) {
  return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void) {
  return "allocator_may_return_null=1";
}

static void test_alloc_gives_zeroed_unique_memory(void **state) {
  (void)state;
  uint8_t *dirty = cg_realloc(NULL, 1000);
  memset(dirty, 0xFF, 1000);
  cg_free(dirty); /* What comes next is likely the same memory. */
  uint8_t *bytes = cg_alloc(1000);
  for (size_t i = 0; i < 1000; i++)
    assert_int_equal(bytes[i], 0);
  void *empty = cg_alloc(0), *other = cg_alloc(0);
  assert_non_null(empty);
  assert_ptr_not_equal(empty, other);
  cg_free(empty);
  cg_free(other);
  cg_free(bytes);
  cg_free(NULL);
}

static void test_realloc_keeps_the_bytes(void **state) {
  (void)state;
  uint8_t *bytes = cg_realloc(NULL, 16);
  memset(bytes, 7, 16);
  bytes = cg_realloc(bytes, 1 << 20);
  for (size_t i = 0; i < 16; i++)
    assert_int_equal(bytes[i], 7);
  bytes = cg_realloc(bytes, 0);
  assert_non_null(bytes);
  cg_free(bytes);
}

static void test_strndup_terminates(void **state) {
  (void)state;
  char *copy = cg_strndup("hello world", 5);
  assert_string_equal(copy, "hello");
  cg_free(copy);
  copy = cg_strndup(NULL, 0);
  assert_string_equal(copy, "");
  cg_free(copy);
}

static void test_impossible_size_aborts_with_a_message(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGABRT, SIG_DFL);
    dup2(ends[1], 2);
    volatile size_t impossible = SIZE_MAX / 2;
    cg_alloc(impossible);
    _exit(0);
  }
  close(ends[1]);
  char text[8192] = "";
  size_t size = 0;
  for (ssize_t got = 1; got > 0 && size<sizeof(text) - 1; size += got> 0 ? (size_t)got : 0)
    got = read(ends[0], text + size, sizeof(text) - 1 - size);
  close(ends[0]);
  assert_non_null(strstr(text, "catga: out of memory"));
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_alloc_gives_zeroed_unique_memory),
      cmocka_unit_test(test_realloc_keeps_the_bytes),
      cmocka_unit_test(test_strndup_terminates),
      cmocka_unit_test(test_impossible_size_aborts_with_a_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
