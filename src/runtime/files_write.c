/* files_write.c - what takes the place of a file is whole and, when asked, on the disk before it
 * has the file's name. */
#include "runtime/files_write.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define DEPTH_MAX 200                  /* Of directories that are removed, or made. */
#define NAME_TRIES 100                 /* Names that may be taken. */
#define COPY_BYTES ((size_t)256 << 10) /* Of one read. */
#define DEFAULT_FILE_MODE 0666         /* Before the umask. */
#define DEFAULT_DIRECTORY_MODE 0777    /* The same. */

static int write_all(int fd, const uint8_t *bytes, size_t size) {
  while (size > 0) {
    ssize_t count = write(fd, bytes, size);
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return -1;
    bytes += count;
    size -= (size_t)count;
  }
  return 0;
}

/* The directory that holds `path`, without a slash at its end unless it is the root. */
static void directory_of(const char *path, char directory[PATH_MAX]) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL)
    snprintf(directory, PATH_MAX, ".");
  else if (slash == path)
    snprintf(directory, PATH_MAX, "/");
  else
    snprintf(directory, PATH_MAX, "%.*s", (int)(slash - path), path);
}

/* Makes a new name in a directory durable. */
static int sync_directory(const char *path) {
  char directory[PATH_MAX];
  directory_of(path, directory);
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  int result = fsync(fd);
  close(fd);
  return result;
}

/* Where `path` leads when it is a link: the link stays, the file it names is replaced. */
static int resolve(const char *path, char target[PATH_MAX]) {
  struct stat info;
  if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode) && realpath(path, target) != NULL)
    return 0;
  return snprintf(target, PATH_MAX, "%s", path) < PATH_MAX ? 0 : -1;
}

/* A file that is about to take the place of another. */
struct successor {
  char target[PATH_MAX];    /* Whose place. */
  char name[PATH_MAX + 32]; /* Its own name until then. */
  int fd;                   /* Open for writing. */
};

/* Opens a file that was not there, in the target's directory. */
static int open_beside(struct successor *next, mode_t mode) {
  char directory[PATH_MAX];
  directory_of(next->target, directory);
  for (int i = 0; i < NAME_TRIES; i++) {
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), 0) < 0)
      return -1;
    snprintf(next->name, sizeof(next->name), "%s/.catga-%016llx", directory,
             (unsigned long long)number);
    next->fd = open(next->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (next->fd >= 0 || errno != EEXIST)
      break;
  }
  return next->fd >= 0 ? 0 : -1;
}

/* Opens it beside the target, with the permissions of the target when there is one. */
static int successor_open(struct successor *next, const char *path, uint32_t mode) {
  if (resolve(path, next->target) != 0) {
    errno = ENAMETOOLONG;
    return -1;
  }
  struct stat info;
  bool is_new = stat(next->target, &info) != 0;
  if (mode == 0 && !is_new)
    mode = info.st_mode & 07777;
  if (open_beside(next, mode != 0 ? mode & 0600 : DEFAULT_FILE_MODE) != 0)
    return -1;
  if (!is_new && fchown(next->fd, info.st_uid, info.st_gid) != 0 && errno != EPERM)
    return -1; /* Only the system's own may give files away. */
  return mode != 0 ? fchmod(next->fd, mode) : 0;
}

/* Puts it in its place, or away when `result` says that writing it has failed. */
static int successor_close(struct successor *next, int result, bool is_synced) {
  if (result == 0 && is_synced)
    result = fsync(next->fd);
  int number = errno;
  if (next->fd >= 0)
    close(next->fd);
  errno = number;
  if (result == 0)
    result = rename(next->name, next->target);
  if (result == 0)
    return is_synced ? sync_directory(next->target) : 0;
  number = errno;
  if (next->fd >= 0)
    unlink(next->name);
  errno = number;
  return -1;
}

static enum cg_code write_path(struct cg_files_job *job) {
  struct successor next = {.fd = -1};
  int result = successor_open(&next, job->path, job->mode);
  if (result == 0)
    result = write_all(next.fd, job->bytes->data, job->bytes->size);
  if (successor_close(&next, result, job->is_synced) != 0)
    return cg_files_fail(job, "write", job->path);
  return CG_OK;
}

static enum cg_code append_path(struct cg_files_job *job) {
  int fd = open(job->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                job->mode != 0 ? job->mode : DEFAULT_FILE_MODE);
  if (fd < 0)
    return cg_files_fail(job, "append to", job->path);
  int result = write_all(fd, job->bytes->data, job->bytes->size);
  if (result == 0 && job->is_synced)
    result = fsync(fd);
  enum cg_code code = result == 0 ? CG_OK : cg_files_fail(job, "append to", job->path);
  close(fd);
  return code;
}

static int copy_bytes(int from, int to) {
  uint8_t *bytes = cg_alloc(COPY_BYTES);
  int result = 0;
  while (result == 0) {
    ssize_t count = read(from, bytes, COPY_BYTES);
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0) {
      result = count < 0 ? -1 : 0;
      break;
    }
    result = write_all(to, bytes, (size_t)count);
  }
  cg_free(bytes);
  return result;
}

static enum cg_code copy_path(struct cg_files_job *job) {
  int from = open(job->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (from < 0)
    return cg_files_fail(job, "copy", job->path);
  if (fstat(from, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(from);
    return cg_err_set(&job->err, CG_EINVAL, "copy %s: it is no regular file", job->path);
  }
  struct successor next = {.fd = -1};
  int result = successor_open(&next, job->path_to,
                              job->mode != 0 ? job->mode : (uint32_t)(info.st_mode & 07777));
  if (result == 0)
    result = copy_bytes(from, next.fd);
  result = successor_close(&next, result, job->is_synced);
  enum cg_code code = result == 0 ? CG_OK : cg_files_fail(job, "copy to", job->path_to);
  close(from);
  return code;
}

/* Makes the directories above `path`, and itself. */
static int make_deep(char *path, mode_t mode) {
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    int result = mkdir(path, DEFAULT_DIRECTORY_MODE);
    *slash = '/';
    if (result != 0 && errno != EEXIST)
      return -1;
  }
  struct stat info;
  if (mkdir(path, mode) == 0)
    return 0;
  return errno == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode) ? 0 : -1;
}

static enum cg_code make_directory(struct cg_files_job *job) {
  mode_t mode = job->mode != 0 ? job->mode : DEFAULT_DIRECTORY_MODE;
  int result = job->is_deep ? make_deep(job->path, mode) : mkdir(job->path, mode);
  return result == 0 ? CG_OK : cg_files_fail(job, "make directory", job->path);
}

/* Removes what is in a directory; links are removed, not followed. */
static int remove_below(int directory, const char *name, int depth) {
  if (depth > DEPTH_MAX) {
    errno = ELOOP;
    return -1;
  }
  int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
  if (listing == NULL) {
    if (fd >= 0)
      close(fd);
    return -1;
  }
  int result = 0;
  for (struct dirent *entry = readdir(listing); entry != NULL && result == 0;
       entry = readdir(listing)) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    if (unlinkat(fd, entry->d_name, 0) == 0)
      continue;
    result = errno == EISDIR || errno == EPERM ? remove_below(fd, entry->d_name, depth + 1) : -1;
  }
  int number = errno;
  closedir(listing);
  errno = number;
  return result == 0 ? unlinkat(directory, name, AT_REMOVEDIR) : -1;
}

static enum cg_code remove_path(struct cg_files_job *job) {
  struct stat info;
  int result = lstat(job->path, &info);
  if (result == 0 && S_ISDIR(info.st_mode))
    result = job->is_deep ? remove_below(AT_FDCWD, job->path, 0) : rmdir(job->path);
  else if (result == 0)
    result = unlink(job->path);
  return result == 0 ? CG_OK : cg_files_fail(job, "remove", job->path);
}

static enum cg_code rename_path(struct cg_files_job *job) {
  int result = rename(job->path, job->path_to);
  if (result == 0 && job->is_synced)
    result = sync_directory(job->path_to);
  return result == 0 ? CG_OK : cg_files_fail(job, "rename", job->path);
}

static enum cg_code make_temporary(struct cg_files_job *job) {
  cg_buf_append(job->bytes, job->path, strlen(job->path));
  cg_buf_append(job->bytes, "XXXXXX", sizeof("XXXXXX"));
  char *name = (char *)job->bytes->data;
  job->bytes->size--;
  if (job->is_deep)
    return mkdtemp(name) != NULL ? CG_OK : cg_files_fail(job, "make a directory", name);
  int fd = mkostemp(name, O_CLOEXEC);
  if (fd < 0)
    return cg_files_fail(job, "make a file", name);
  close(fd);
  return CG_OK;
}

enum cg_code cg_files_change(struct cg_files_job *job) {
  switch (job->verb) {
  case CG_FILES_WRITE:
    return write_path(job);
  case CG_FILES_APPEND:
    return append_path(job);
  case CG_FILES_MKDIR:
    return make_directory(job);
  case CG_FILES_REMOVE:
    return remove_path(job);
  case CG_FILES_RENAME:
    return rename_path(job);
  case CG_FILES_COPY:
    return copy_path(job);
  default:
    return make_temporary(job);
  }
}
