/* files.c - jobs, the verbs that read, and how a job gets to the pool and back. */
#include "runtime/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "runtime/files_write.h"
#include "runtime/runtime.h"

#define READ_BYTES ((size_t)256 << 10) /* Of one call. */

static void work(uv_work_t *request);
static void after_work(uv_work_t *request, int status);

struct cg_files_job *cg_files_job_new(enum cg_files_verb verb, const char *path,
                                      const char *path_to) {
  struct cg_files_job *job = cg_alloc(sizeof(*job));
  job->verb = verb;
  job->path = path != NULL ? cg_strndup(path, strlen(path)) : NULL;
  job->path_to = path_to != NULL ? cg_strndup(path_to, strlen(path_to)) : NULL;
  job->bytes = cg_buf_take(NULL, 0);
  job->fd = -1;
  return job;
}

void cg_files_job_free(struct cg_files_job *job) {
  if (job == NULL)
    return;
  cg_free(job->path);
  cg_free(job->path_to);
  cg_buf_unref(job->bytes);
  cg_free(job);
}

void cg_files_submit(struct cg_runtime *runtime, struct cg_files_job *job) {
  job->runtime = runtime;
  job->work.data = job;
  cg_task_busy(runtime, 1);
  /* The first work makes the pool's threads, which must not take the deadline guard's signal. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  uv_queue_work(runtime->loop, &job->work, work, after_work);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void after_work(uv_work_t *request, int status) {
  (void)status;
  struct cg_files_job *job = request->data;
  if (job->runtime != NULL && !job->runtime->is_stopping)
    cg_task_busy(job->runtime, -1);
  job->on_done(job);
}

/* --- on a thread of the pool --- */

enum cg_code cg_files_fail(struct cg_files_job *job, const char *what, const char *path) {
  int number = errno;
  return cg_err_set(&job->err, cg_err_from_errno(number), "%s %s: %s", what, path,
                    strerror(number));
}

static char type_of(mode_t mode) {
  return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : 'o';
}

static struct cg_files_info info_of(const struct stat *info) {
  return (struct cg_files_info){.type = type_of(info->st_mode),
                                .mode = info->st_mode & 07777,
                                .size = (uint64_t)info->st_size,
                                .device = info->st_dev,
                                .inode = info->st_ino,
                                .changed_ms = (double)info->st_mtim.tv_sec * 1e3 +
                                              (double)info->st_mtim.tv_nsec / 1e6};
}

static enum cg_code stat_path(struct cg_files_job *job) {
  struct stat info;
  if ((job->is_link ? lstat : stat)(job->path, &info) != 0)
    return cg_files_fail(job, "look at", job->path);
  job->info = info_of(&info);
  return CG_OK;
}

static enum cg_code open_path(struct cg_files_job *job) {
  /* Without O_NONBLOCK a pipe without a writer would hold the thread for ever. */
  int fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (fd < 0)
    return cg_files_fail(job, "open", job->path);
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return cg_err_set(&job->err, CG_EINVAL, "open %s: it is no regular file", job->path);
  }
  job->info = info_of(&info);
  job->fd = fd;
  return CG_OK;
}

static enum cg_code read_at(struct cg_files_job *job) {
  struct stat info;
  if (fstat(job->fd, &info) != 0)
    return cg_files_fail(job, "read", "the file");
  job->info = info_of(&info);
  size_t left = job->size_max;
  while (left > 0) {
    size_t wanted = left < READ_BYTES ? left : READ_BYTES;
    ssize_t count = pread(job->fd, cg_buf_room(job->bytes, wanted), wanted,
                          (off_t)(job->offset + job->bytes->size));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return cg_files_fail(job, "read", "the file");
    if (count == 0)
      break;
    job->bytes->size += (size_t)count;
    left -= (size_t)count;
  }
  return CG_OK;
}

static enum cg_code read_path(struct cg_files_job *job) {
  enum cg_code code = open_path(job);
  if (code != CG_OK)
    return code;
  uint64_t size_max = job->size_max++; /* One byte more tells that the file is longer. */
  code = job->info.size > size_max ? CG_OK : read_at(job);
  close(job->fd);
  job->fd = -1;
  if (code == CG_OK && (job->info.size > size_max || job->bytes->size > size_max))
    return cg_err_set(&job->err, CG_ELIMIT,
                      "read %s: it is over %llu bytes; read it by "
                      "catga.fs.lines, or raise max",
                      job->path, (unsigned long long)size_max);
  return code;
}

static enum cg_code list_path(struct cg_files_job *job) {
  DIR *listing = opendir(job->path);
  if (listing == NULL)
    return cg_files_fail(job, "list", job->path);
  enum cg_code code = CG_OK;
  uint64_t count = 0;
  for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
    const char *name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
      continue;
    if (++count > job->size_max) {
      code = cg_err_set(&job->err, CG_ELIMIT, "list %s: it has over %llu entries (fs_list_max)",
                        job->path, (unsigned long long)job->size_max);
      break;
    }
    struct stat found;
    if (fstatat(dirfd(listing), name, &found, AT_SYMLINK_NOFOLLOW) != 0)
      continue; /* It has gone since. */
    struct cg_files_info info = info_of(&found);
    cg_buf_append(job->bytes, &info, sizeof(info));
    cg_buf_append(job->bytes, name, strlen(name) + 1);
  }
  closedir(listing);
  return code;
}

static void work(uv_work_t *request) {
  struct cg_files_job *job = request->data;
  switch (job->verb) {
  case CG_FILES_READ:
    job->code = read_path(job);
    break;
  case CG_FILES_STAT:
    job->code = stat_path(job);
    break;
  case CG_FILES_LIST:
    job->code = list_path(job);
    break;
  case CG_FILES_OPEN:
    job->code = open_path(job);
    break;
  case CG_FILES_READ_AT:
    job->code = read_at(job);
    break;
  default:
    job->code = cg_files_change(job);
    break;
  }
}
