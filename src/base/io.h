/* io.h - file calls carried through: interrupted calls are repeated and short ones continued.
 *
 * How to use: files of ours go through these instead of a struct cg_fs directly.
 * Every function returns 0 or a count, or a negative errno that is final. A sync is repeated only
 * when it was interrupted (EINTR): any other failure of it must never be tried again.
 * Owns: nothing. Thread: any that `fs` allows. */
#ifndef CG_BASE_IO_H
#define CG_BASE_IO_H

#include <stddef.h>
#include <stdint.h>

#include "base/fs.h"

/* How often in a row an interrupted call is repeated before it counts as failed. */
#define CG_IO_INTERRUPTS_MAX 1000

/* Opens `path`; a handle, or -errno. */
int cg_io_open(const struct cg_fs *fs, const char *path, enum cg_fs_mode mode);
/* Reads until `size` bytes are there or the file ends; the bytes read. */
int64_t cg_io_read(const struct cg_fs *fs, int handle, void *bytes, size_t size, uint64_t offset);
/* Writes all of it. */
int cg_io_write(const struct cg_fs *fs, int handle, const void *bytes, size_t size,
                uint64_t offset);
/* Writes `size` zero bytes. */
int cg_io_zero(const struct cg_fs *fs, int handle, uint64_t offset, uint64_t size);
/* The file's size. */
int64_t cg_io_size(const struct cg_fs *fs, int handle);
/* Makes the file's bytes durable. */
int cg_io_sync(const struct cg_fs *fs, int handle);
/* Makes the names in the directory durable. */
int cg_io_sync_dir(const struct cg_fs *fs, const char *path);
/* Makes the names in the directory that holds `path` durable. */
int cg_io_sync_parent(const struct cg_fs *fs, const char *path);
/* Makes a directory. */
int cg_io_mkdir(const struct cg_fs *fs, const char *path);
/* Renames. */
int cg_io_rename(const struct cg_fs *fs, const char *from, const char *to);
/* Removes a name. */
int cg_io_unlink(const struct cg_fs *fs, const char *path);
/* Reserves space for the bytes from `begin`, where the file must end now, up to `end`, without
 * changing its size; where the file system cannot do that, writes zeros there instead. */
int cg_io_reserve(const struct cg_fs *fs, int handle, uint64_t begin, uint64_t end);

#endif
