/* spy_fs.c - a file system that hands every call on to another one and notes what is read.
 *
 * Owns: its notes. Thread: one. */
#include "support/spy_fs.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define HANDLES_MAX 1024
#define FILES_MAX 512
#define NAME_BYTES 64
#define HEADER_BYTES 4096

/* What is known of one name. */
struct file {
  char name[NAME_BYTES]; /* Without the directory. */
  uint64_t read_bytes;   /* Read behind the header. */
};

/* The spy. */
struct spy_fs {
  struct cg_fs calls;           /* Handed out. */
  const struct cg_fs *inner;    /* Where the calls go. */
  struct file files[FILES_MAX]; /* Every name that was opened. */
  int file_count;               /* How many. */
  int handles[HANDLES_MAX];     /* File of each handle + 1; 0: closed. */
  unsigned open_count;          /* Handles of segments open now. */
  unsigned open_max;            /* The most of them. */
};

static int note_name(struct spy_fs *spy, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
  for (int index = 0; index < spy->file_count; index++)
    if (strcmp(spy->files[index].name, name) == 0)
      return index;
  assert(spy->file_count < FILES_MAX && strlen(name) < NAME_BYTES);
  strcpy(spy->files[spy->file_count].name, name);
  return spy->file_count++;
}

static bool is_segment(const struct spy_fs *spy, int handle) {
  return strncmp(spy->files[spy->handles[handle] - 1].name, "segment-", 8) == 0;
}

static int spy_open(void *arg, const char *path, enum cg_fs_mode mode) {
  struct spy_fs *spy = arg;
  int handle = spy->inner->open(spy->inner->arg, path, mode);
  if (handle < 0)
    return handle;
  assert(handle < HANDLES_MAX);
  spy->handles[handle] = note_name(spy, path) + 1;
  if (is_segment(spy, handle) && ++spy->open_count > spy->open_max)
    spy->open_max = spy->open_count;
  return handle;
}

static int spy_close(void *arg, int handle) {
  struct spy_fs *spy = arg;
  assert(handle >= 0 && handle < HANDLES_MAX && spy->handles[handle] > 0);
  if (is_segment(spy, handle))
    spy->open_count--;
  spy->handles[handle] = 0;
  return spy->inner->close(spy->inner->arg, handle);
}

static int64_t spy_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  struct spy_fs *spy = arg;
  assert(handle >= 0 && handle < HANDLES_MAX && spy->handles[handle] > 0);
  int64_t count = spy->inner->pread(spy->inner->arg, handle, bytes, size, offset);
  if (count > 0 && offset + (uint64_t)count > HEADER_BYTES)
    spy->files[spy->handles[handle] - 1].read_bytes +=
        offset + (uint64_t)count - (offset > HEADER_BYTES ? offset : HEADER_BYTES);
  return count;
}

static int64_t spy_pwrite(void *arg, int handle, const void *bytes, size_t size, uint64_t offset) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->pwrite(inner->arg, handle, bytes, size, offset);
}

static int spy_datasync(void *arg, int handle) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->datasync(inner->arg, handle);
}

static int spy_truncate(void *arg, int handle, uint64_t size) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->truncate(inner->arg, handle, size);
}

static int spy_allocate(void *arg, int handle, uint64_t offset, uint64_t size) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->allocate(inner->arg, handle, offset, size);
}

static int64_t spy_size(void *arg, int handle) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->size(inner->arg, handle);
}

static int spy_rename(void *arg, const char *from, const char *to) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->rename(inner->arg, from, to);
}

static int spy_unlink(void *arg, const char *path) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->unlink(inner->arg, path);
}

static int spy_mkdir(void *arg, const char *path) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->mkdir(inner->arg, path);
}

static int spy_sync_dir(void *arg, const char *path) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->sync_dir(inner->arg, path);
}

static int spy_list(void *arg, const char *path, cg_fs_name_fn each, void *each_arg) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->list(inner->arg, path, each, each_arg);
}

static int spy_lock(void *arg, int handle) {
  const struct cg_fs *inner = ((struct spy_fs *)arg)->inner;
  return inner->lock(inner->arg, handle);
}

struct spy_fs *spy_fs_new(const struct cg_fs *inner) {
  struct spy_fs *spy = cg_alloc(sizeof(*spy));
  spy->inner = inner;
  spy->calls = (struct cg_fs){
      .arg = spy,
      .open = spy_open,
      .close = spy_close,
      .pread = spy_pread,
      .pwrite = spy_pwrite,
      .datasync = spy_datasync,
      .truncate = spy_truncate,
      .allocate = spy_allocate,
      .size = spy_size,
      .rename = spy_rename,
      .unlink = spy_unlink,
      .mkdir = spy_mkdir,
      .sync_dir = spy_sync_dir,
      .list = spy_list,
      .lock = spy_lock,
  };
  return spy;
}

void spy_fs_free(struct spy_fs *spy) {
  cg_free(spy);
}

const struct cg_fs *spy_fs_calls(struct spy_fs *spy) {
  return &spy->calls;
}

void spy_fs_reset(struct spy_fs *spy) {
  for (int index = 0; index < spy->file_count; index++)
    spy->files[index].read_bytes = 0;
  spy->open_max = spy->open_count;
}

uint64_t spy_fs_read_bytes(const struct spy_fs *spy, const char *name) {
  uint64_t bytes = 0;
  for (int index = 0; index < spy->file_count; index++)
    if (strncmp(spy->files[index].name, name, strlen(name)) == 0)
      bytes += spy->files[index].read_bytes;
  return bytes;
}

unsigned spy_fs_open_count(const struct spy_fs *spy, const char *name) {
  unsigned count = 0;
  for (int handle = 0; handle < HANDLES_MAX; handle++)
    if (spy->handles[handle] > 0 &&
        strncmp(spy->files[spy->handles[handle] - 1].name, name, strlen(name)) == 0)
      count++;
  return count;
}

unsigned spy_fs_open_max(const struct spy_fs *spy) {
  return spy->open_max;
}
