/* fs.h - file calls behind a struct, so that a spec can crash the disk.
 *
 * How to use: code that stores things takes a `const struct cg_fs *` and calls only its functions.
 * Every function returns 0 or a positive count on success and a negative errno on failure; a write
 * or read may be short; EINTR is passed on. Handles are small non-negative integers.
 * Owns: nothing. Thread: any that the implementation allows; the system one: any. */
#ifndef CG_BASE_FS_H
#define CG_BASE_FS_H

#include <stddef.h>
#include <stdint.h>

/* How to open a file. */
enum cg_fs_mode {
  CG_FS_READ,        /* Must exist; read only. */
  CG_FS_WRITE,       /* Must exist; read and write. */
  CG_FS_CREATE,      /* Must not exist; read and write; mode 0640. */
  CG_FS_OPEN_ALWAYS, /* Made when missing; read and write. */
  CG_FS_OPEN_PRIVATE /* The same, and a new one has mode 0600. */
};

/* Called by list for each name except "." and ".."; a non-zero return ends the walk. */
typedef int (*cg_fs_name_fn)(void *arg, const char *name);

/* The calls. */
struct cg_fs {
  void *arg; /* Passed first to each of them. */
  /* A handle or -errno. */
  int (*open)(void *arg, const char *path, enum cg_fs_mode mode);
  /* Gives the handle back, also when it reports an error. */
  int (*close)(void *arg, int handle);
  /* Reads at `offset`; 0 at the end of the file. */
  int64_t (*pread)(void *arg, int handle, void *bytes, size_t size, uint64_t offset);
  /* Writes at `offset`. */
  int64_t (*pwrite)(void *arg, int handle, const void *bytes, size_t size, uint64_t offset);
  /* fdatasync: the file's bytes and its size are on disk. */
  int (*datasync)(void *arg, int handle);
  /* Cuts or extends the file to `size`. */
  int (*truncate)(void *arg, int handle, uint64_t size);
  /* Reserves space without changing the size (FALLOC_FL_KEEP_SIZE); -EOPNOTSUPP on file systems
   * that cannot. */
  int (*allocate)(void *arg, int handle, uint64_t offset, uint64_t size);
  /* Bytes in the file. */
  int64_t (*size)(void *arg, int handle);
  /* Renames, replacing `to`. */
  int (*rename)(void *arg, const char *from, const char *to);
  /* Removes a file. */
  int (*unlink)(void *arg, const char *path);
  /* Makes a directory with mode 0750; -EEXIST when it is there. */
  int (*mkdir)(void *arg, const char *path);
  /* fsync of a directory: its names are on disk. */
  int (*sync_dir)(void *arg, const char *path);
  /* Walks a directory in no order; returns the non-zero value that ended the walk, else 0. */
  int (*list)(void *arg, const char *path, cg_fs_name_fn each, void *each_arg);
  /* Makes the first `size` bytes of the file, which must be there, readable in memory; they stay so
   * after the handle is closed, until unmap. Changing the file meanwhile is a mistake. */
  int (*map)(void *arg, int handle, uint64_t size, const uint8_t **bytes);
  /* Ends a mapping of `size` bytes. */
  void (*unmap)(void *arg, const uint8_t *bytes, uint64_t size);
  /* flock, exclusive, without waiting; -EWOULDBLOCK when another has it. */
  int (*lock)(void *arg, int handle);
};

/* The operating system's files. Static memory. */
const struct cg_fs *cg_fs_system(void);

#endif
