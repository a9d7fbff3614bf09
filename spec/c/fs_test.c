/* fs_test.c - the system's files through struct cg_fs, in a directory of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static const struct cg_fs *fs;
static char directory[64];

/* "<directory>/<name>" in a ring of static buffers. */
static const char *in_directory(const char *name) {
  static char paths[4][128];
  static unsigned turn;
  char *path = paths[turn++ % 4];
  snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
  return path;
}

static int setup(void **state) {
  (void)state;
  fs = cg_fs_system();
  strcpy(directory, "/tmp/catga-fs-test-XXXXXX");
  return mkdtemp(directory) ? 0 : -1;
}

static int unlink_one(void *arg, const char *name) {
  (void)arg;
  const char *path = in_directory(name);
  if (unlink(path) != 0)
    rmdir(path);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  fs->list(fs->arg, directory, unlink_one, NULL);
  return rmdir(directory);
}

static void test_open_modes(void **state) {
  (void)state;
  const char *path = in_directory("file");
  assert_int_equal(fs->open(fs->arg, path, CG_FS_READ), -ENOENT);
  assert_int_equal(fs->open(fs->arg, path, CG_FS_WRITE), -ENOENT);

  umask(0);
  int handle = fs->open(fs->arg, path, CG_FS_CREATE);
  assert_true(handle >= 0);
  struct stat status;
  assert_int_equal(fstat(handle, &status), 0);
  assert_int_equal(status.st_mode & 0777, 0640);
  assert_true(fcntl(handle, F_GETFD) & FD_CLOEXEC);
  assert_int_equal(fs->close(fs->arg, handle), 0);
  assert_int_equal(fs->open(fs->arg, path, CG_FS_CREATE), -EEXIST);

  handle = fs->open(fs->arg, path, CG_FS_READ);
  assert_true(handle >= 0);
  assert_int_equal(fs->pwrite(fs->arg, handle, "x", 1, 0), -EBADF);
  assert_int_equal(fs->close(fs->arg, handle), 0);
  assert_int_equal(fs->close(fs->arg, handle), -EBADF);

  handle = fs->open(fs->arg, in_directory("other"), CG_FS_OPEN_ALWAYS);
  assert_true(handle >= 0);
  assert_int_equal(fs->close(fs->arg, handle), 0);
}

static void test_read_write_truncate_size(void **state) {
  (void)state;
  int handle = fs->open(fs->arg, in_directory("file"), CG_FS_CREATE);
  assert_int_equal(fs->pwrite(fs->arg, handle, "hello", 5, 10), 5);
  assert_int_equal(fs->size(fs->arg, handle), 15);
  char bytes[32];
  assert_int_equal(fs->pread(fs->arg, handle, bytes, sizeof(bytes), 8), 7);
  assert_memory_equal(bytes, "\0\0hello", 7);
  assert_int_equal(fs->pread(fs->arg, handle, bytes, sizeof(bytes), 15), 0);
  assert_int_equal(fs->truncate(fs->arg, handle, 12), 0);
  assert_int_equal(fs->size(fs->arg, handle), 12);
  assert_int_equal(fs->datasync(fs->arg, handle), 0);

  int result = fs->allocate(fs->arg, handle, 0, 1 << 16);
  assert_true(result == 0 || result == -EOPNOTSUPP);
  assert_int_equal(fs->size(fs->arg, handle), 12);
  assert_int_equal(fs->close(fs->arg, handle), 0);
  assert_int_equal(fs->size(fs->arg, handle), -EBADF);
}

/* Counts and marks the names seen; ends the walk at `stop_at` names. */
struct walk {
  int count;    /* Names so far. */
  int stop_at;  /* Return 1 at this count; 0: never. */
  bool saw_sub; /* "sub" came by. */
  bool saw_new; /* "new" came by. */
};

static int see(void *arg, const char *name) {
  struct walk *walk = arg;
  walk->count++;
  walk->saw_sub |= strcmp(name, "sub") == 0;
  walk->saw_new |= strcmp(name, "new") == 0;
  return walk->count == walk->stop_at ? 1 : 0;
}

static void test_directories_and_names(void **state) {
  (void)state;
  assert_int_equal(fs->mkdir(fs->arg, in_directory("sub")), 0);
  assert_int_equal(fs->mkdir(fs->arg, in_directory("sub")), -EEXIST);
  fs->close(fs->arg, fs->open(fs->arg, in_directory("old"), CG_FS_CREATE));
  fs->close(fs->arg, fs->open(fs->arg, in_directory("new"), CG_FS_CREATE));
  assert_int_equal(fs->rename(fs->arg, in_directory("old"), in_directory("new")), 0);
  assert_int_equal(fs->rename(fs->arg, in_directory("old"), in_directory("x")), -ENOENT);
  assert_int_equal(fs->sync_dir(fs->arg, directory), 0);
  assert_int_equal(fs->sync_dir(fs->arg, in_directory("new")), -ENOTDIR);

  struct walk walk = {0};
  assert_int_equal(fs->list(fs->arg, directory, see, &walk), 0);
  assert_int_equal(walk.count, 2);
  assert_true(walk.saw_sub && walk.saw_new);
  walk = (struct walk){.stop_at = 1};
  assert_int_equal(fs->list(fs->arg, directory, see, &walk), 1);
  assert_int_equal(walk.count, 1);
  assert_int_equal(fs->list(fs->arg, in_directory("none"), see, &walk), -ENOENT);

  assert_int_equal(fs->unlink(fs->arg, in_directory("new")), 0);
  assert_int_equal(fs->unlink(fs->arg, in_directory("new")), -ENOENT);
}

static void test_lock_is_exclusive(void **state) {
  (void)state;
  int first = fs->open(fs->arg, in_directory("lock"), CG_FS_OPEN_ALWAYS);
  int second = fs->open(fs->arg, in_directory("lock"), CG_FS_OPEN_ALWAYS);
  assert_int_equal(fs->lock(fs->arg, first), 0);
  assert_int_equal(fs->lock(fs->arg, second), -EWOULDBLOCK);
  fs->close(fs->arg, first);
  assert_int_equal(fs->lock(fs->arg, second), 0);
  fs->close(fs->arg, second);
}

static void test_a_mapping_outlives_its_handle_and_its_name(void **state) {
  (void)state;
  const char *path = in_directory("mapped");
  int handle = fs->open(fs->arg, path, CG_FS_CREATE);
  assert_int_equal(fs->pwrite(fs->arg, handle, "0123456789", 10, 0), 10);
  const uint8_t *bytes;
  assert_int_equal(fs->map(fs->arg, handle, 8, &bytes), 0);
  assert_int_equal(fs->close(fs->arg, handle), 0);
  assert_int_equal(fs->unlink(fs->arg, path), 0);
  assert_memory_equal(bytes, "01234567", 8);
  fs->unmap(fs->arg, bytes, 8);
  assert_int_equal(fs->map(fs->arg, handle, 8, &bytes), -EBADF);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_open_modes, setup, teardown),
      cmocka_unit_test_setup_teardown(test_read_write_truncate_size, setup, teardown),
      cmocka_unit_test_setup_teardown(test_directories_and_names, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_mapping_outlives_its_handle_and_its_name, setup,
                                      teardown),
      cmocka_unit_test_setup_teardown(test_lock_is_exclusive, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
