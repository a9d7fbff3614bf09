/* fs_fault_test.c - the fault hits the call it names, and no other. */
#include "base/fs_fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_BYTES 256
#define COMMIT_BYTES 16

/* A directory of its own for each test. */
static char directory[PATH_BYTES];

static int set_up(void **state) {
  (void)state;
  const char *base = getenv("TMPDIR");
  snprintf(directory, sizeof(directory), "%s/fs_fault_XXXXXX", base ? base : "/tmp");
  return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  char path[PATH_BYTES + 8];
  snprintf(path, sizeof(path), "%s/f", directory);
  unlink(path);
  return rmdir(directory);
}

/* Writes two writes of two commits of 16 bytes each, a sync behind each write. Returns the first
 * error. */
static int write_all(const struct cg_fs *fs) {
  char path[PATH_BYTES + 8];
  snprintf(path, sizeof(path), "%s/f", directory);
  int handle = fs->open(fs->arg, path, CG_FS_OPEN_ALWAYS);
  if (handle < 0)
    return handle;
  int result = 0;
  for (int index = 0; index < 2 && result == 0; index++) {
    const char *bytes =
        index == 0 ? "CGC1aaaaaaaaaaaaCGC1bbbbbbbbbbbb" : "CGC1ccccccccccccCGC1dddddddddddd";
    int64_t count =
        fs->pwrite(fs->arg, handle, bytes, 2 * COMMIT_BYTES, (uint64_t)index * 2 * COMMIT_BYTES);
    result = count < 0 ? (int)count : fs->datasync(fs->arg, handle);
  }
  fs->close(fs->arg, handle);
  return result;
}

/* Runs write_all with a fault in a child; its wait status. */
static int run_child(const char *text) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    struct cg_fs_fault fault;
    if (cg_fs_fault_init(&fault, cg_fs_system(), text, NULL) != CG_OK)
      _exit(100);
    _exit(-write_all(&fault.fs));
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

/* Bytes that reached the file. */
static long file_size(void) {
  char path[PATH_BYTES + 8];
  snprintf(path, sizeof(path), "%s/f", directory);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  fclose(file);
  return size;
}

static void check_killed(const char *text, long size) {
  int status = run_child(text);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(WTERMSIG(status), SIGKILL);
  assert_int_equal(file_size(), size);
}

static void kills_before_and_after_a_write(void **state) {
  (void)state;
  check_killed("kill:pwrite:1", 0);
  check_killed("kill:pwrite:2", 2 * COMMIT_BYTES);
  check_killed("kill:pwrite:2:after", 4 * COMMIT_BYTES);
}

static void kills_at_a_sync(void **state) {
  (void)state;
  check_killed("kill:datasync:1", 2 * COMMIT_BYTES);
  check_killed("kill:datasync:2:after", 4 * COMMIT_BYTES);
}

static void cuts_a_write_within_the_commit(void **state) {
  (void)state;
  check_killed("kill:commit:2", COMMIT_BYTES + 2);
}

static void cuts_a_later_write_within_the_commit(void **state) {
  (void)state;
  check_killed("kill:commit:4", 3 * COMMIT_BYTES + 4);
}

static void kills_when_the_commit_is_synced(void **state) {
  (void)state;
  check_killed("kill:commit:1:after", 2 * COMMIT_BYTES);
}

static void a_number_that_is_not_reached_changes_nothing(void **state) {
  (void)state;
  int status = run_child("kill:commit:5");
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  assert_int_equal(file_size(), 4 * COMMIT_BYTES);
}

static void errors_stay(void **state) {
  (void)state;
  struct cg_fs_fault fault;
  assert_int_equal(cg_fs_fault_init(&fault, cg_fs_system(), "io_error:datasync:2", NULL), CG_OK);
  assert_int_equal(write_all(&fault.fs), -EIO);
  assert_int_equal(write_all(&fault.fs), -EIO);
  assert_int_equal(cg_fs_fault_init(&fault, cg_fs_system(), "io_error:commit:3", NULL), CG_OK);
  assert_int_equal(write_all(&fault.fs), -EIO);
}

static void wrong_texts_are_refused(void **state) {
  (void)state;
  static const char *const texts[] = {"",
                                      "kill",
                                      "kill:commit",
                                      "kill:commit:",
                                      "kill:commit:0",
                                      "kill:commit:x",
                                      "kill:commit:-1",
                                      "kill:commit:1:before",
                                      "kill:commit:1x",
                                      "kill:open:1",
                                      "stop:commit:1",
                                      "killx:commit:1"};
  for (size_t index = 0; index < sizeof(texts) / sizeof(texts[0]); index++) {
    struct cg_fs_fault fault;
    struct cg_err err;
    assert_int_equal(cg_fs_fault_init(&fault, cg_fs_system(), texts[index], &err), CG_EINVAL);
  }
}

static void the_environment_chooses(void **state) {
  (void)state;
  struct cg_fs_fault fault;
  unsetenv(CG_FS_FAULT_VARIABLE);
  assert_null(cg_fs_fault_from_environment(&fault));
  setenv(CG_FS_FAULT_VARIABLE, "kill:pwrite:7:after", 1);
  assert_ptr_equal(cg_fs_fault_from_environment(&fault), &fault.fs);
  assert_int_equal(fault.number, 7);
  assert_true(fault.is_after);
  unsetenv(CG_FS_FAULT_VARIABLE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(kills_before_and_after_a_write, set_up, tear_down),
      cmocka_unit_test_setup_teardown(kills_at_a_sync, set_up, tear_down),
      cmocka_unit_test_setup_teardown(cuts_a_write_within_the_commit, set_up, tear_down),
      cmocka_unit_test_setup_teardown(cuts_a_later_write_within_the_commit, set_up, tear_down),
      cmocka_unit_test_setup_teardown(kills_when_the_commit_is_synced, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_number_that_is_not_reached_changes_nothing, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(errors_stay, set_up, tear_down),
      cmocka_unit_test(wrong_texts_are_refused),
      cmocka_unit_test(the_environment_chooses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
