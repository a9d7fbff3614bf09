/* copy.h - makes durable copies of files, with their checksum.
 *
 * How to use: cg_copy_begin makes the new file, cg_copy_from and cg_copy_bytes append to it,
 * cg_copy_end syncs and closes it, or drops it when something failed. Its name becomes durable when
 * the caller syncs the directory.
 * Owns: the new file's handle and a window of bytes. Thread: one at a time. */
#ifndef CG_LOG_COPY_H
#define CG_LOG_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

/* A copy under way. */
struct cg_copy {
  const struct cg_fs *fs; /* Its files. */
  char *path;             /* Of the new file. */
  int handle;             /* Of the new file. */
  uint8_t *window;        /* What is read at once. */
  uint64_t size;          /* Bytes written so far. */
  uint32_t crc;           /* CRC32C of them. */
};

/* Makes the file `path`; one that is there, left by an attempt before, is replaced. On failure
 * nothing is left to be dropped. CG_EFULL, CG_EIO, CG_EPERM. */
enum cg_code cg_copy_begin(struct cg_copy *copy, const struct cg_fs *fs, const char *path,
                           struct cg_err *err);
/* Appends `size` bytes of the file `from` at `offset`. CG_EIO also when it is shorter. */
enum cg_code cg_copy_from(struct cg_copy *copy, int from, uint64_t offset, uint64_t size,
                          struct cg_err *err);
/* Appends all of the file `from`. */
enum cg_code cg_copy_whole(struct cg_copy *copy, int from, struct cg_err *err);
/* Appends bytes. */
enum cg_code cg_copy_bytes(struct cg_copy *copy, const void *bytes, size_t size,
                           struct cg_err *err);
/* Ends a copy that has come to `code`: with CG_OK the new file is synced and closed; else, and when
 * that fails, it is closed and removed. Returns what came of it all. */
enum cg_code cg_copy_end(struct cg_copy *copy, enum cg_code code, struct cg_err *err);

#endif
