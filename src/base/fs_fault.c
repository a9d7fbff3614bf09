/* fs_fault.c - the calls of the real files, counted, and one of them that goes wrong.
 *
 * Only pwrite and datasync are watched; all others pass through a function that puts the real
 * files' argument in the place of ours. Owns: nothing. Thread: any; counters are atomic. */
#include "base/fs_fault.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How a commit begins in the log's files; see log/record.h. */
#define COMMIT_MAGIC "CGC1"
#define COMMIT_MAGIC_BYTES 4
/* Commits begin at multiples of it. */
#define COMMIT_ALIGNMENT 8
/* A commit is cut so many bytes, at most, behind its beginning. */
#define CUT_BYTES_MAX 96

static int64_t fault_pwrite(void *arg, int handle, const void *bytes, size_t size, uint64_t offset);
static int fault_datasync(void *arg, int handle);
static void pass_others(struct cg_fs *fs);
static bool parse(struct cg_fs_fault *fault, const char *text);

enum cg_code cg_fs_fault_init(struct cg_fs_fault *fault, const struct cg_fs *real, const char *text,
                              struct cg_err *err) {
  *fault = (struct cg_fs_fault){.real = real};
  if (!parse(fault, text))
    return cg_err_set(err, CG_EINVAL,
                      "fault \"%s\": it must be kill or io_error, pwrite, datasync or commit, and "
                      "a number from 1, as in kill:commit:120:after",
                      text);
  pass_others(&fault->fs);
  fault->fs.arg = fault;
  fault->fs.pwrite = fault_pwrite;
  fault->fs.datasync = fault_datasync;
  return CG_OK;
}

const struct cg_fs *cg_fs_fault_from_environment(struct cg_fs_fault *fault) {
  const char *text = getenv(CG_FS_FAULT_VARIABLE);
  if (!text)
    return NULL;
  struct cg_err err;
  if (cg_fs_fault_init(fault, cg_fs_system(), text, &err) != CG_OK) {
    fprintf(stderr, "%s: %s\n", CG_FS_FAULT_VARIABLE, err.message);
    return NULL;
  }
  return &fault->fs;
}

/* --- the text --- */

/* The place of `word`, which ends at `end`, in a table of names; -1 when it is not there. */
static int find_word(const char *word, const char *end, const char *const names[], int count) {
  size_t size = (size_t)(end - word);
  for (int index = 0; index < count; index++)
    if (strlen(names[index]) == size && memcmp(names[index], word, size) == 0)
      return index;
  return -1;
}

static bool parse(struct cg_fs_fault *fault, const char *text) {
  static const char *const whats[] = {"kill", "io_error"};
  static const char *const calls[] = {"pwrite", "datasync", "commit"};
  const char *call_text = strchr(text, ':');
  const char *number_text = call_text ? strchr(call_text + 1, ':') : NULL;
  if (!number_text || number_text[1] < '0' || number_text[1] > '9')
    return false;
  int what = find_word(text, call_text, whats, 2);
  int call = find_word(call_text + 1, number_text, calls, 3);
  char *rest;
  fault->number = strtoull(number_text + 1, &rest, 10);
  fault->is_after = strcmp(rest, ":after") == 0;
  if (what < 0 || call < 0 || fault->number == 0 || (*rest != 0 && !fault->is_after))
    return false;
  fault->what = (enum cg_fs_fault_what)what;
  fault->call = (enum cg_fs_fault_call)call;
  return true;
}

/* --- the watched calls --- */

static void kill_program(void) {
  kill(getpid(), SIGKILL);
  for (;;)
    pause(); /* The signal may take a moment to reach this thread. */
}

/* Whether the call that is number `count` goes wrong. */
static bool is_due(const struct cg_fs_fault *fault, uint64_t count) {
  return fault->what == CG_FS_FAULT_KILL ? count == fault->number : count >= fault->number;
}

/* Counts the commits that begin in the bytes; where the fault's one begins, or `size`. */
static size_t find_commit(struct cg_fs_fault *fault, const uint8_t *bytes, size_t size) {
  for (size_t at = 0; at + COMMIT_MAGIC_BYTES <= size; at += COMMIT_ALIGNMENT) {
    if (memcmp(bytes + at, COMMIT_MAGIC, COMMIT_MAGIC_BYTES) != 0)
      continue;
    if (is_due(fault, atomic_fetch_add(&fault->count, 1) + 1))
      return at;
  }
  return size;
}

static int64_t write_commits(struct cg_fs_fault *fault, int handle, const uint8_t *bytes,
                             size_t size, uint64_t offset) {
  const struct cg_fs *real = fault->real;
  size_t at = find_commit(fault, bytes, size);
  if (at == size || fault->is_after) {
    if (at < size)
      atomic_store(&fault->is_sync_fatal, true);
    return real->pwrite(real->arg, handle, bytes, size, offset);
  }
  if (fault->what == CG_FS_FAULT_IO_ERROR)
    return -EIO;
  size_t cut = at + fault->number % CUT_BYTES_MAX;
  if (cut > 0)
    (void)real->pwrite(real->arg, handle, bytes, cut < size ? cut : size, offset);
  kill_program();
  return -EIO;
}

static int64_t fault_pwrite(void *arg, int handle, const void *bytes, size_t size,
                            uint64_t offset) {
  struct cg_fs_fault *fault = arg;
  const struct cg_fs *real = fault->real;
  if (fault->call == CG_FS_FAULT_COMMIT)
    return write_commits(fault, handle, bytes, size, offset);
  bool is_wrong =
      fault->call == CG_FS_FAULT_PWRITE && is_due(fault, atomic_fetch_add(&fault->count, 1) + 1);
  int64_t result = 0;
  if (!is_wrong || fault->is_after)
    result = real->pwrite(real->arg, handle, bytes, size, offset);
  if (!is_wrong)
    return result;
  if (fault->what == CG_FS_FAULT_KILL)
    kill_program();
  return -EIO;
}

static int fault_datasync(void *arg, int handle) {
  struct cg_fs_fault *fault = arg;
  const struct cg_fs *real = fault->real;
  bool is_wrong =
      atomic_load(&fault->is_sync_fatal) || (fault->call == CG_FS_FAULT_DATASYNC &&
                                             is_due(fault, atomic_fetch_add(&fault->count, 1) + 1));
  int result = 0;
  if (!is_wrong || fault->is_after)
    result = real->datasync(real->arg, handle);
  if (!is_wrong)
    return result;
  if (fault->what == CG_FS_FAULT_KILL)
    kill_program();
  return -EIO;
}

/* --- the calls that only pass through --- */

static const struct cg_fs *real_of(void *arg) {
  return ((struct cg_fs_fault *)arg)->real;
}

static int pass_open(void *arg, const char *path, enum cg_fs_mode mode) {
  return real_of(arg)->open(real_of(arg)->arg, path, mode);
}

static int pass_close(void *arg, int handle) {
  return real_of(arg)->close(real_of(arg)->arg, handle);
}

static int64_t pass_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  return real_of(arg)->pread(real_of(arg)->arg, handle, bytes, size, offset);
}

static int pass_truncate(void *arg, int handle, uint64_t size) {
  return real_of(arg)->truncate(real_of(arg)->arg, handle, size);
}

static int pass_allocate(void *arg, int handle, uint64_t offset, uint64_t size) {
  return real_of(arg)->allocate(real_of(arg)->arg, handle, offset, size);
}

static int64_t pass_size(void *arg, int handle) {
  return real_of(arg)->size(real_of(arg)->arg, handle);
}

static int pass_rename(void *arg, const char *from, const char *to) {
  return real_of(arg)->rename(real_of(arg)->arg, from, to);
}

static int pass_unlink(void *arg, const char *path) {
  return real_of(arg)->unlink(real_of(arg)->arg, path);
}

static int pass_mkdir(void *arg, const char *path) {
  return real_of(arg)->mkdir(real_of(arg)->arg, path);
}

static int pass_sync_dir(void *arg, const char *path) {
  return real_of(arg)->sync_dir(real_of(arg)->arg, path);
}

static int pass_list(void *arg, const char *path, cg_fs_name_fn each, void *each_arg) {
  return real_of(arg)->list(real_of(arg)->arg, path, each, each_arg);
}

static int pass_map(void *arg, int handle, uint64_t size, const uint8_t **bytes) {
  return real_of(arg)->map(real_of(arg)->arg, handle, size, bytes);
}

static void pass_unmap(void *arg, const uint8_t *bytes, uint64_t size) {
  real_of(arg)->unmap(real_of(arg)->arg, bytes, size);
}

static int pass_lock(void *arg, int handle) {
  return real_of(arg)->lock(real_of(arg)->arg, handle);
}

static void pass_others(struct cg_fs *fs) {
  fs->open = pass_open;
  fs->close = pass_close;
  fs->pread = pass_pread;
  fs->truncate = pass_truncate;
  fs->allocate = pass_allocate;
  fs->size = pass_size;
  fs->rename = pass_rename;
  fs->unlink = pass_unlink;
  fs->mkdir = pass_mkdir;
  fs->sync_dir = pass_sync_dir;
  fs->list = pass_list;
  fs->map = pass_map;
  fs->unmap = pass_unmap;
  fs->lock = pass_lock;
}
