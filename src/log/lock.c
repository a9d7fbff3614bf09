/* lock.c - the lock file of a log's directory: of an open log, and of tools that need it closed.
 *
 * The lock goes with the handle.
 * Owns: nothing. Thread: any. */
#include "log/lock.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/segment.h"

enum cg_code cg_lock_take(const struct cg_fs *fs, const char *directory, bool make, int *handle,
                          struct cg_err *err) {
  char *path = cg_segment_path(directory, "lock");
  enum cg_code code = CG_OK;
  int result = 0;
  unsigned interrupt_count = 0;
  *handle = cg_io_open(fs, path, make ? CG_FS_OPEN_ALWAYS : CG_FS_READ);
  if (*handle < 0 && (make || *handle != -ENOENT)) {
    code = *handle == -ENOTDIR ? cg_err_set(err, CG_EINVAL, "%s is not a directory", directory)
                               : cg_err_set(err, cg_err_from_errno(-*handle), "open %s: %s", path,
                                            strerror(-*handle));
    goto done;
  }
  while (*handle >= 0 && (result = fs->lock(fs->arg, *handle)) == -EINTR &&
         ++interrupt_count < CG_IO_INTERRUPTS_MAX)
    continue;
  if (result == -EWOULDBLOCK)
    code = cg_err_set(err, CG_EBUSY, "the log in %s is open in another process; end that first",
                      directory);
  else if (result < 0)
    code = cg_err_set(err, cg_err_from_errno(-result), "lock %s: %s", path, strerror(-result));
  if (code != CG_OK)
    cg_lock_drop(fs, *handle);

done:
  if (code != CG_OK || *handle < 0)
    *handle = -1;
  cg_free(path);
  return code;
}

void cg_lock_drop(const struct cg_fs *fs, int handle) {
  if (handle >= 0)
    fs->close(fs->arg, handle);
}
