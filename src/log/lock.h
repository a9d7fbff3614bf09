/* lock.h - the lock file of a log's directory: of an open log, and of tools that need it closed.
 *
 * Owns: nothing; the handle is the caller's. Thread: any. */
#ifndef CG_LOG_LOCK_H
#define CG_LOG_LOCK_H

#include <stdbool.h>

#include "base/err.h"
#include "base/fs.h"

/* Makes sure that no other has the log in `directory` open, until cg_lock_drop. A lock file that is
 * missing is made when `make` is set; else *handle is -1 and there is no lock. CG_EBUSY; CG_EINVAL:
 * `directory` is none; CG_EIO and the like. On an error *handle is -1. */
enum cg_code cg_lock_take(const struct cg_fs *fs, const char *directory, bool make, int *handle,
                          struct cg_err *err);
/* Gives the lock back; -1 is fine. */
void cg_lock_drop(const struct cg_fs *fs, int handle);

#endif
