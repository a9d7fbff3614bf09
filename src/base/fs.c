/* fs.c - the operating system's files behind struct cg_fs.
 *
 * Each function is one system call and the translation of its errno. Owns: nothing. Thread: any. */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE 0640
#define PRIVATE_MODE 0600
#define DIRECTORY_MODE 0750

static int system_open(void *arg, const char *path, enum cg_fs_mode mode);
static int system_close(void *arg, int handle);
static int64_t system_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset);
static int64_t system_pwrite(void *arg, int handle, const void *bytes, size_t size,
                             uint64_t offset);
static int system_datasync(void *arg, int handle);
static int system_truncate(void *arg, int handle, uint64_t size);
static int system_allocate(void *arg, int handle, uint64_t offset, uint64_t size);
static int64_t system_size(void *arg, int handle);
static int system_rename(void *arg, const char *from, const char *to);
static int system_unlink(void *arg, const char *path);
static int system_mkdir(void *arg, const char *path);
static int system_sync_dir(void *arg, const char *path);
static int system_list(void *arg, const char *path, cg_fs_name_fn each, void *each_arg);
static int system_map(void *arg, int handle, uint64_t size, const uint8_t **bytes);
static void system_unmap(void *arg, const uint8_t *bytes, uint64_t size);
static int system_lock(void *arg, int handle);
static int64_t checked(int64_t result);

const struct cg_fs *cg_fs_system(void) {
  static const struct cg_fs fs = {
      .arg = NULL,
      .open = system_open,
      .close = system_close,
      .pread = system_pread,
      .pwrite = system_pwrite,
      .datasync = system_datasync,
      .truncate = system_truncate,
      .allocate = system_allocate,
      .size = system_size,
      .rename = system_rename,
      .unlink = system_unlink,
      .mkdir = system_mkdir,
      .sync_dir = system_sync_dir,
      .list = system_list,
      .map = system_map,
      .unmap = system_unmap,
      .lock = system_lock,
  };
  return &fs;
}

static int system_open(void *arg, const char *path, enum cg_fs_mode mode) {
  (void)arg;
  int flags = O_CLOEXEC;
  switch (mode) {
  case CG_FS_READ:
    flags |= O_RDONLY;
    break;
  case CG_FS_WRITE:
    flags |= O_RDWR;
    break;
  case CG_FS_CREATE:
    flags |= O_RDWR | O_CREAT | O_EXCL;
    break;
  case CG_FS_OPEN_ALWAYS:
  case CG_FS_OPEN_PRIVATE:
    flags |= O_RDWR | O_CREAT;
    break;
  }
  return (int)checked(open(path, flags, mode == CG_FS_OPEN_PRIVATE ? PRIVATE_MODE : FILE_MODE));
}

static int system_close(void *arg, int handle) {
  (void)arg;
  return (int)checked(close(handle));
}

static int64_t system_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  (void)arg;
  return checked(pread(handle, bytes, size, (off_t)offset));
}

static int64_t system_pwrite(void *arg, int handle, const void *bytes, size_t size,
                             uint64_t offset) {
  (void)arg;
  return checked(pwrite(handle, bytes, size, (off_t)offset));
}

static int system_datasync(void *arg, int handle) {
  (void)arg;
  return (int)checked(fdatasync(handle));
}

static int system_truncate(void *arg, int handle, uint64_t size) {
  (void)arg;
  return (int)checked(ftruncate(handle, (off_t)size));
}

static int system_allocate(void *arg, int handle, uint64_t offset, uint64_t size) {
  (void)arg;
  return (int)checked(fallocate(handle, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size));
}

static int64_t system_size(void *arg, int handle) {
  (void)arg;
  struct stat status;
  if (fstat(handle, &status) != 0)
    return -errno;
  return status.st_size;
}

static int system_rename(void *arg, const char *from, const char *to) {
  (void)arg;
  return (int)checked(rename(from, to));
}

static int system_unlink(void *arg, const char *path) {
  (void)arg;
  return (int)checked(unlink(path));
}

static int system_mkdir(void *arg, const char *path) {
  (void)arg;
  return (int)checked(mkdir(path, DIRECTORY_MODE));
}

static int system_sync_dir(void *arg, const char *path) {
  (void)arg;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  int result = (int)checked(fsync(fd));
  close(fd);
  return result;
}

static int system_list(void *arg, const char *path, cg_fs_name_fn each, void *each_arg) {
  (void)arg;
  DIR *directory = opendir(path);
  if (!directory)
    return -errno;

  int result = 0;
  while (result == 0) {
    errno = 0; /* The only way to tell the end from an error. */
    const struct dirent *entry = readdir(directory);
    if (!entry) {
      result = -errno;
      break;
    }
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      result = each(each_arg, entry->d_name);
  }
  closedir(directory);
  return result;
}

static int system_map(void *arg, int handle, uint64_t size, const uint8_t **bytes) {
  (void)arg;
  void *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, handle, 0);
  if (memory == MAP_FAILED)
    return -errno;
  *bytes = memory;
  return 0;
}

static void system_unmap(void *arg, const uint8_t *bytes, uint64_t size) {
  (void)arg;
  munmap((void *)(uintptr_t)bytes, size);
}

static int system_lock(void *arg, int handle) {
  (void)arg;
  return (int)checked(flock(handle, LOCK_EX | LOCK_NB));
}

/* A system call's result, with -1 replaced by -errno. */
static int64_t checked(int64_t result) {
  return result < 0 ? -errno : result;
}
