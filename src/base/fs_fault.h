/* fs_fault.h - files that fail, or kill the program, at a chosen call. For tests only.
 *
 * How to use: the crash spec sets CATGA_FAULT in the environment of the program; the program opens
 * its log with cg_fs_fault_from_environment, which is NULL when nothing is set. The text is
 *
 *   <what>:<call>:<n>[:after]
 *
 *   what   kill      the program ends by SIGKILL, as a crash of it would
 *          io_error  the call, and every later one of its kind, returns -EIO
 *   call   pwrite    the n-th write
 *          datasync  the n-th sync
 *          commit    the write that holds the n-th commit; without "after" it is cut within that
 *                    commit, with "after" the program ends when the sync behind it has returned
 *   n      counts from 1, in this run of the program
 *   after  the call is done first; without it, it is not done
 *
 * Owns: nothing but its own struct. Thread: any that the real files allow. */
#ifndef CG_BASE_FS_FAULT_H
#define CG_BASE_FS_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

/* Name of the environment variable. */
#define CG_FS_FAULT_VARIABLE "CATGA_FAULT"

/* What happens. */
enum cg_fs_fault_what { CG_FS_FAULT_KILL, CG_FS_FAULT_IO_ERROR };

/* Which call it happens at. */
enum cg_fs_fault_call { CG_FS_FAULT_PWRITE, CG_FS_FAULT_DATASYNC, CG_FS_FAULT_COMMIT };

/* One fault. */
struct cg_fs_fault {
  struct cg_fs fs;            /* What the program calls; its arg is this struct. */
  const struct cg_fs *real;   /* What does the work. */
  enum cg_fs_fault_what what; /* As in the text. */
  enum cg_fs_fault_call call; /* As in the text. */
  uint64_t number;            /* n. */
  bool is_after;              /* ":after" was given. */
  _Atomic uint64_t count;     /* Calls (or commits) seen so far. */
  atomic_bool is_sync_fatal;  /* The commit is written: the next sync is the last. */
};

/* Makes `fault` a file system that passes everything to `real` (kept) but for the fault in `text`.
 * CG_EINVAL: the text is not one; `fault` is then not usable. */
enum cg_code cg_fs_fault_init(struct cg_fs_fault *fault, const struct cg_fs *real, const char *text,
                              struct cg_err *err);

/* The fault that CATGA_FAULT asks for, over the system's files, in `fault`, which must live as long
 * as files are used; NULL when the variable is not set, and, with a line on stderr, when it is
 * wrong. */
const struct cg_fs *cg_fs_fault_from_environment(struct cg_fs_fault *fault);

#endif
