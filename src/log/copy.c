/* copy.c - makes durable copies of files, with their checksum.
 *
 * Owns: the new file's handle and a window of bytes. Thread: one at a time. */
#include "log/copy.h"

#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/io.h"
#include "base/mem.h"

#define WINDOW_BYTES ((size_t)1 << 20) /* Read and written at once. */

enum cg_code cg_copy_begin(struct cg_copy *copy, const struct cg_fs *fs, const char *path,
                           struct cg_err *err) {
  *copy = (struct cg_copy){.fs = fs};
  copy->handle = cg_io_open(fs, path, CG_FS_CREATE);
  if (copy->handle == -EEXIST) {
    cg_io_unlink(fs, path);
    copy->handle = cg_io_open(fs, path, CG_FS_CREATE);
  }
  if (copy->handle < 0)
    return cg_err_set(err, cg_err_from_errno(-copy->handle), "create %s: %s", path,
                      strerror(-copy->handle));
  copy->path = cg_strndup(path, strlen(path));
  copy->window = cg_realloc(NULL, WINDOW_BYTES);
  return CG_OK;
}

enum cg_code cg_copy_from(struct cg_copy *copy, int from, uint64_t offset, uint64_t size,
                          struct cg_err *err) {
  while (size > 0) {
    size_t part = size < WINDOW_BYTES ? (size_t)size : WINDOW_BYTES;
    int64_t count = cg_io_read(copy->fs, from, copy->window, part, offset);
    if (count < (int64_t)part)
      return cg_err_set(err, CG_EIO, "copy to %s: reading at offset %llu: %s", copy->path,
                        (unsigned long long)offset,
                        count < 0 ? strerror((int)-count) : "the file is shorter than it was");
    enum cg_code code = cg_copy_bytes(copy, copy->window, part, err);
    if (code != CG_OK)
      return code;
    offset += part;
    size -= part;
  }
  return CG_OK;
}

enum cg_code cg_copy_whole(struct cg_copy *copy, int from, struct cg_err *err) {
  int64_t size = cg_io_size(copy->fs, from);
  if (size < 0)
    return cg_err_set(err, CG_EIO, "copy to %s: asking for the size: %s", copy->path,
                      strerror((int)-size));
  return cg_copy_from(copy, from, 0, (uint64_t)size, err);
}

enum cg_code cg_copy_bytes(struct cg_copy *copy, const void *bytes, size_t size,
                           struct cg_err *err) {
  int result = cg_io_write(copy->fs, copy->handle, bytes, size, copy->size);
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "write %s: %s", copy->path,
                      strerror(-result));
  copy->crc = cg_crc32c(copy->crc, bytes, size);
  copy->size += size;
  return CG_OK;
}

enum cg_code cg_copy_end(struct cg_copy *copy, enum cg_code code, struct cg_err *err) {
  int result = code == CG_OK ? cg_io_sync(copy->fs, copy->handle) : 0;
  if (result < 0)
    code =
        cg_err_set(err, cg_err_from_errno(-result), "sync %s: %s", copy->path, strerror(-result));
  if (code != CG_OK)
    cg_io_unlink(copy->fs, copy->path);
  copy->fs->close(copy->fs->arg, copy->handle);
  cg_free(copy->window);
  cg_free(copy->path);
  return code;
}
