/* io.c - file calls carried through: interrupted calls are repeated and short ones continued.
 *
 * Each function loops over one call of struct cg_fs until it is done or failed for good. The number
 * of interruptions in a row is bounded, so that a broken file system cannot hang the log.
 * Owns: nothing. Thread: any that `fs` allows. */
#include "base/io.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

#define ZERO_BLOCK_BYTES ((size_t)256 << 10) /* Zeros handed to one write. */

/* Whether the call that returned `result` is to be repeated; counts in *interrupt_count. */
static bool is_interrupted(int64_t result, unsigned *interrupt_count) {
  return result == -EINTR && ++*interrupt_count < CG_IO_INTERRUPTS_MAX;
}

int cg_io_open(const struct cg_fs *fs, const char *path, enum cg_fs_mode mode) {
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->open(fs->arg, path, mode);
  } while (is_interrupted(result, &interrupt_count));
  return result;
}

int64_t cg_io_read(const struct cg_fs *fs, int handle, void *bytes, size_t size, uint64_t offset) {
  size_t done = 0;
  unsigned interrupt_count = 0;
  while (done < size) {
    int64_t count = fs->pread(fs->arg, handle, (uint8_t *)bytes + done, size - done, offset + done);
    if (is_interrupted(count, &interrupt_count))
      continue;
    if (count < 0)
      return count;
    if (count == 0)
      break;
    interrupt_count = 0;
    done += (size_t)count;
  }
  return (int64_t)done;
}

int cg_io_write(const struct cg_fs *fs, int handle, const void *bytes, size_t size,
                uint64_t offset) {
  size_t done = 0;
  unsigned interrupt_count = 0;
  while (done < size) {
    int64_t count =
        fs->pwrite(fs->arg, handle, (const uint8_t *)bytes + done, size - done, offset + done);
    if (is_interrupted(count, &interrupt_count))
      continue;
    if (count < 0)
      return (int)count;
    if (count == 0)
      return -EIO; /* Nothing taken and no reason given: it would go on for ever. */
    interrupt_count = 0;
    done += (size_t)count;
  }
  return 0;
}

int cg_io_zero(const struct cg_fs *fs, int handle, uint64_t offset, uint64_t size) {
  size_t block_size = size < ZERO_BLOCK_BYTES ? (size_t)size : ZERO_BLOCK_BYTES;
  uint8_t *zeros = cg_alloc(block_size);
  int result = 0;
  while (size > 0 && result == 0) {
    size_t part_size = size < block_size ? (size_t)size : block_size;
    result = cg_io_write(fs, handle, zeros, part_size, offset);
    offset += part_size;
    size -= part_size;
  }
  cg_free(zeros);
  return result;
}

int64_t cg_io_size(const struct cg_fs *fs, int handle) {
  unsigned interrupt_count = 0;
  int64_t result;
  do {
    result = fs->size(fs->arg, handle);
  } while (is_interrupted(result, &interrupt_count));
  return result;
}

int cg_io_sync(const struct cg_fs *fs, int handle) {
#ifdef CG_PLANT_NO_SYNC /* A planted bug: proves that the tests would notice a missing sync. */
  (void)fs;
  (void)handle;
  (void)is_interrupted;
  return 0;
#else
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->datasync(fs->arg, handle);
  } while (is_interrupted(result, &interrupt_count));
  return result;
#endif
}

int cg_io_sync_dir(const struct cg_fs *fs, const char *path) {
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->sync_dir(fs->arg, path);
  } while (is_interrupted(result, &interrupt_count));
  return result;
}

int cg_io_sync_parent(const struct cg_fs *fs, const char *path) {
  char *parent = cg_strndup(path, strlen(path));
  size_t size = strlen(parent);
  while (size > 1 && parent[size - 1] == '/')
    size--;
  while (size > 0 && parent[size - 1] != '/')
    size--;
  while (size > 1 && parent[size - 1] == '/')
    size--;
  parent[size] = 0;
  int result = cg_io_sync_dir(fs, size > 0 ? parent : ".");
  cg_free(parent);
  return result;
}

int cg_io_mkdir(const struct cg_fs *fs, const char *path) {
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->mkdir(fs->arg, path);
  } while (is_interrupted(result, &interrupt_count));
  return result;
}

int cg_io_rename(const struct cg_fs *fs, const char *from, const char *to) {
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->rename(fs->arg, from, to);
  } while (is_interrupted(result, &interrupt_count));
  return result;
}

int cg_io_unlink(const struct cg_fs *fs, const char *path) {
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->unlink(fs->arg, path);
  } while (is_interrupted(result, &interrupt_count));
  return result;
}

int cg_io_reserve(const struct cg_fs *fs, int handle, uint64_t begin, uint64_t end) {
  if (begin >= end)
    return 0;
  unsigned interrupt_count = 0;
  int result;
  do {
    result = fs->allocate(fs->arg, handle, begin, end - begin);
  } while (is_interrupted(result, &interrupt_count));
  if (result == -EOPNOTSUPP || result == -ENOSYS)
    return cg_io_zero(fs, handle, begin, end - begin);
  return result;
}
