/* points.c - the system's files, each call counted under its name.
 *
 * A handle's kind of file is remembered in a table by its number, which the system keeps small.
 * Thread: any; one mutex guards the counters. */
#include "points.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINTS_MAX 256
#define HANDLES_MAX 4096

/* One point. */
struct point {
  char name[POINTS_NAME_BYTES]; /* As in points.h. */
  uint64_t count;               /* How often it was passed. */
};

/* What happens at the point. */
enum points_strike {
  POINTS_KILL, /* The program ends by SIGKILL. */
  POINTS_ERROR /* The call fails. */
};

static struct {
  pthread_mutex_t mutex;           /* Guards what follows. */
  struct point points[POINTS_MAX]; /* Passed so far. */
  size_t count;                    /* How many. */
  const char *kinds[HANDLES_MAX];  /* Kind of file by handle. */
  enum points_strike strike;       /* What happens. */
  const char *armed;               /* At which point; NULL: at none. */
  uint64_t occurrence;             /* At which of its occurrences, from 1. */
  int error;                       /* POINTS_ERROR: a positive errno value. */
  bool is_lasting;                 /* And at all later ones. */
  bool is_lying;                   /* Syncs do nothing. */
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* What kind of file a path names. */
static const char *kind_of(const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
  size_t size = strlen(name);
  bool is_tmp = size > 4 && strcmp(name + size - 4, ".tmp") == 0;
  if (strncmp(name, "segment-", 8) == 0)
    return is_tmp ? "segment.tmp" : strstr(name, ".rewritten") ? "segment.rewritten" : "segment";
  if (strncmp(name, "table-", 6) == 0)
    return is_tmp ? "table.tmp" : "table";
  static const char *const known[] = {"ids", "lock", "log", "index", "data"};
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (strcmp(name, known[i]) == 0)
      return known[i];
  return "other";
}

static const char *kind_of_handle(int handle) {
  const char *kind = handle >= 0 && handle < HANDLES_MAX ? state.kinds[handle] : NULL;
  return kind ? kind : "other";
}

/* Whether another process traces this thread. */
static bool is_traced(void) {
  char line[128];
  int tracer = 0;
  FILE *file = fopen("/proc/thread-self/status", "r");
  while (file && fgets(line, sizeof(line), file) && sscanf(line, "TracerPid: %d", &tracer) != 1)
    continue;
  if (file)
    fclose(file);
  return tracer != 0;
}

/* Lets the thread that was asked for wait at its first file call until it is traced. */
static void wait_for_tracer(void) {
  static atomic_int threads;
  static _Thread_local int number;
  const char *wanted = getenv(POINTS_GATE_VARIABLE);
  if (wanted == NULL || number != 0)
    return;
  number = atomic_fetch_add(&threads, 1) + 1;
  if (atoi(wanted) != number)
    return;
  FILE *file = fopen(wanted + strcspn(wanted, ":") + 1, "w");
  if (file == NULL)
    _exit(4);
  fprintf(file, "%d\n", (int)gettid());
  fclose(file);
  while (!is_traced())
    sched_yield();
}

/* Counts a point; 0, or the negative errno value with which the call is to fail. Does not return
 * when the program is to end. */
static int pass(const char *when, const char *call, const char *kind) {
  wait_for_tracer();
  char name[POINTS_NAME_BYTES];
  snprintf(name, sizeof(name), "%s:%s:%s", when, call, kind);
  pthread_mutex_lock(&state.mutex);
  size_t i = 0;
  while (i < state.count && strcmp(state.points[i].name, name) != 0)
    i++;
  if (i == state.count && state.count < POINTS_MAX)
    memcpy(state.points[state.count++].name, name, sizeof(name));
  uint64_t count = i < POINTS_MAX ? ++state.points[i].count : 0;
  bool is_it = state.armed != NULL && strcmp(state.armed, name) == 0;
  bool is_due =
      is_it && (count == state.occurrence || (state.is_lasting && count > state.occurrence));
  if (is_due && state.strike == POINTS_KILL) {
    kill(getpid(), SIGKILL);
    for (;;)
      pause(); /* With the mutex held: no other thread passes a point any more. */
  }
  pthread_mutex_unlock(&state.mutex);
  return is_due ? -state.error : 0;
}

static const struct cg_fs *real(void) {
  return cg_fs_system();
}

static int point_open(void *arg, const char *path, enum cg_fs_mode mode) {
  (void)arg;
  const char *kind = kind_of(path);
  int error = pass("before", "open", kind);
  if (error)
    return error;
  int handle = real()->open(NULL, path, mode);
  if (handle >= 0 && handle < HANDLES_MAX)
    state.kinds[handle] = kind;
  error = pass("after", "open", kind);
  if (error && handle >= 0)
    real()->close(NULL, handle);
  return error ? error : handle;
}

static int point_close(void *arg, int handle) {
  (void)arg;
  pass("before", "close", kind_of_handle(handle));
  return real()->close(NULL, handle);
}

static int64_t point_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  (void)arg;
  int error = pass("before", "pread", kind_of_handle(handle));
  if (error == POINTS_SHORT)
    return real()->pread(NULL, handle, bytes, size / 2 + 1, offset);
  return error ? error : real()->pread(NULL, handle, bytes, size, offset);
}

static int64_t point_pwrite(void *arg, int handle, const void *bytes, size_t size,
                            uint64_t offset) {
  (void)arg;
  const char *kind = kind_of_handle(handle);
  int error = pass("before", "pwrite", kind);
  if (error)
    return error;
  size_t half = size / 2;
  int64_t first = half > 0 ? real()->pwrite(NULL, handle, bytes, half, offset) : 0;
  if (first < 0)
    return first;
  error = pass("within", "pwrite", kind);
  if (error == POINTS_SHORT || (size_t)first < half)
    return first;
  if (error)
    return error;
  int64_t rest =
      real()->pwrite(NULL, handle, (const char *)bytes + half, size - half, offset + half);
  error = pass("after", "pwrite", kind);
  if (error)
    return error;
  return rest < 0 ? rest : first + rest;
}

static int point_datasync(void *arg, int handle) {
  (void)arg;
  const char *kind = kind_of_handle(handle);
  int error = pass("before", "datasync", kind);
  if (error)
    return error;
  int result = state.is_lying ? 0 : real()->datasync(NULL, handle);
  error = pass("after", "datasync", kind);
  return error ? error : result;
}

static int point_truncate(void *arg, int handle, uint64_t size) {
  (void)arg;
  const char *kind = kind_of_handle(handle);
  int error = pass("before", "truncate", kind);
  if (error)
    return error;
  int result = real()->truncate(NULL, handle, size);
  error = pass("after", "truncate", kind);
  return error ? error : result;
}

static int point_allocate(void *arg, int handle, uint64_t offset, uint64_t size) {
  (void)arg;
  const char *kind = kind_of_handle(handle);
  int error = pass("before", "allocate", kind);
  if (error)
    return error;
  int result = real()->allocate(NULL, handle, offset, size);
  error = pass("after", "allocate", kind);
  return error ? error : result;
}

static int64_t point_size(void *arg, int handle) {
  (void)arg;
  return real()->size(NULL, handle);
}

/* Files that are open keep their handles when their name changes. */
static void rename_kinds(const char *from, const char *to) {
  for (size_t i = 0; i < HANDLES_MAX; i++)
    if (state.kinds[i] == from)
      state.kinds[i] = to;
}

static int point_rename(void *arg, const char *from, const char *to) {
  (void)arg;
  const char *kind = kind_of(to);
  int error = pass("before", "rename", kind);
  if (error)
    return error;
  int result = real()->rename(NULL, from, to);
  rename_kinds(kind_of(from), kind);
  error = pass("after", "rename", kind);
  return error ? error : result;
}

static int point_unlink(void *arg, const char *path) {
  (void)arg;
  const char *kind = kind_of(path);
  int error = pass("before", "unlink", kind);
  if (error)
    return error;
  int result = real()->unlink(NULL, path);
  error = pass("after", "unlink", kind);
  return error ? error : result;
}

static int point_mkdir(void *arg, const char *path) {
  (void)arg;
  const char *kind = kind_of(path);
  int error = pass("before", "mkdir", kind);
  if (error)
    return error;
  int result = real()->mkdir(NULL, path);
  error = pass("after", "mkdir", kind);
  return error ? error : result;
}

static int point_sync_dir(void *arg, const char *path) {
  (void)arg;
  const char *kind = kind_of(path);
  int error = pass("before", "sync_dir", kind);
  if (error)
    return error;
  int result = state.is_lying ? 0 : real()->sync_dir(NULL, path);
  error = pass("after", "sync_dir", kind);
  return error ? error : result;
}

static int point_list(void *arg, const char *path, cg_fs_name_fn each, void *each_arg) {
  (void)arg;
  int error = pass("before", "list", kind_of(path));
  if (error)
    return error;
  return real()->list(NULL, path, each, each_arg);
}

static int point_lock(void *arg, int handle) {
  (void)arg;
  const char *kind = kind_of_handle(handle);
  int error = pass("before", "flock", kind);
  if (error)
    return error;
  int result = real()->lock(NULL, handle);
  error = pass("after", "flock", kind);
  return error ? error : result;
}

static int point_map(void *arg, int handle, uint64_t size, const uint8_t **bytes) {
  (void)arg;
  const char *kind = kind_of_handle(handle);
  int error = pass("before", "map", kind);
  if (error)
    return error;
  int result = real()->map(NULL, handle, size, bytes);
  pass("after", "map", kind);
  return result;
}

static void point_unmap(void *arg, const uint8_t *bytes, uint64_t size) {
  (void)arg;
  pass("before", "unmap", "table");
  real()->unmap(NULL, bytes, size);
}

const struct cg_fs *points_fs(void) {
  static const struct cg_fs fs = {.open = point_open,
                                  .close = point_close,
                                  .pread = point_pread,
                                  .pwrite = point_pwrite,
                                  .datasync = point_datasync,
                                  .truncate = point_truncate,
                                  .allocate = point_allocate,
                                  .size = point_size,
                                  .rename = point_rename,
                                  .unlink = point_unlink,
                                  .mkdir = point_mkdir,
                                  .sync_dir = point_sync_dir,
                                  .list = point_list,
                                  .lock = point_lock,
                                  .map = point_map,
                                  .unmap = point_unmap};
  return &fs;
}

void points_arm(const char *name, uint64_t occurrence) {
  state.strike = POINTS_KILL;
  state.armed = name;
  state.occurrence = occurrence;
  state.is_lasting = false;
}

void points_arm_error(const char *name, uint64_t occurrence, int error, bool is_lasting) {
  state.strike = POINTS_ERROR;
  state.armed = name;
  state.occurrence = occurrence;
  state.error = error;
  state.is_lasting = is_lasting;
}

void points_lie_about_syncs(void) {
  state.is_lying = true;
}

void points_list(FILE *file) {
  pthread_mutex_lock(&state.mutex);
  for (size_t i = 0; i < state.count; i++)
    fprintf(file, "%s %llu\n", state.points[i].name, (unsigned long long)state.points[i].count);
  pthread_mutex_unlock(&state.mutex);
}
