/* watch.c - one uv_fs_event a directory and one timer for settling. */
#include "runtime/watch.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

#define DIRECTORIES_MAX 256 /* Watched below one root; more are not watched. */
#define PATH_BYTES 4096

/* One watched directory. */
struct directory {
  uv_fs_event_t handle;   /* Watches it. */
  struct cg_watch *watch; /* Which watch it belongs to. */
  char *path;             /* Owned. */
};

/* A watch of one tree. */
struct cg_watch {
  struct directory *directories[DIRECTORIES_MAX]; /* The root first. */
  uint32_t count;                                 /* How many. */
  uv_timer_t timer;                               /* Runs while changes settle. */
  uint32_t settle_ms;                             /* Quiet time before changed is called. */
  cg_watch_fn changed;                            /* What to call. */
  void *arg;                                      /* Passed to changed. */
  uint32_t open_handles;                          /* Until their close callbacks have run. */
  uv_loop_t *loop;                                /* Where the handles live. */
};

static enum cg_code add_tree(struct cg_watch *watch, const char *path, struct cg_err *err);
static enum cg_code add_directory(struct cg_watch *watch, const char *path, struct cg_err *err);
static bool is_watched(const struct cg_watch *watch, const char *path);
static void on_event(uv_fs_event_t *handle, const char *name, int events, int status);
static void on_settled(uv_timer_t *timer);
static void on_closed(uv_handle_t *handle);

enum cg_code cg_watch_start(struct cg_watch **out, uv_loop_t *loop, const char *path,
                            uint32_t settle_ms, cg_watch_fn changed, void *arg,
                            struct cg_err *err) {
  struct cg_watch *watch = cg_alloc(sizeof(*watch));
  watch->loop = loop;
  watch->settle_ms = settle_ms;
  watch->changed = changed;
  watch->arg = arg;
  uv_timer_init(loop, &watch->timer);
  uv_unref((uv_handle_t *)&watch->timer);
  watch->timer.data = watch;
  watch->open_handles = 1;
  enum cg_code code = add_tree(watch, path, err);
  if (code != CG_OK) {
    cg_watch_stop(watch);
    return code;
  }
  *out = watch;
  return CG_OK;
}

void cg_watch_stop(struct cg_watch *watch) {
  if (watch == NULL)
    return;
  uv_close((uv_handle_t *)&watch->timer, on_closed);
  for (uint32_t i = 0; i < watch->count; i++)
    uv_close((uv_handle_t *)&watch->directories[i]->handle, on_closed);
}

/* Watches `path` and every directory below it that is not watched yet. */
static enum cg_code add_tree(struct cg_watch *watch, const char *path, struct cg_err *err) {
  if (!is_watched(watch, path)) {
    enum cg_code code = add_directory(watch, path, err);
    if (code != CG_OK)
      return code;
  }
  DIR *listing = opendir(path);
  if (listing == NULL)
    return CG_OK; /* Gone meanwhile. */
  enum cg_code code = CG_OK;
  for (struct dirent *entry = readdir(listing); entry != NULL && code == CG_OK;
       entry = readdir(listing)) {
    char below[PATH_BYTES];
    struct stat info;
    int size = snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
    if (entry->d_name[0] == '.' || size >= (int)sizeof(below))
      continue;
    if (stat(below, &info) == 0 && S_ISDIR(info.st_mode))
      code = add_tree(watch, below, err);
  }
  closedir(listing);
  return code;
}

static enum cg_code add_directory(struct cg_watch *watch, const char *path, struct cg_err *err) {
  if (watch->count == DIRECTORIES_MAX)
    return CG_OK;
  struct directory *directory = cg_alloc(sizeof(*directory));
  directory->watch = watch;
  directory->path = cg_strndup(path, strlen(path));
  directory->handle.data = directory;
  uv_fs_event_init(watch->loop, &directory->handle);
  uv_unref((uv_handle_t *)&directory->handle);
  watch->directories[watch->count++] = directory;
  watch->open_handles++;
  int status = uv_fs_event_start(&directory->handle, on_event, path, 0);
  if (status != 0)
    return cg_err_set(err, CG_EIO, "watch %s: %s", path, uv_strerror(status));
  return CG_OK;
}

static bool is_watched(const struct cg_watch *watch, const char *path) {
  for (uint32_t i = 0; i < watch->count; i++)
    if (strcmp(watch->directories[i]->path, path) == 0)
      return true;
  return false;
}

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status) {
  (void)events;
  struct directory *directory = handle->data;
  if (status != 0 || (name != NULL && name[0] == '.'))
    return;
  uv_timer_start(&directory->watch->timer, on_settled, directory->watch->settle_ms, 0);
}

static void on_settled(uv_timer_t *timer) {
  struct cg_watch *watch = timer->data;
  /* New directories are taken up here; one that cannot be watched is not worth an error. */
  if (watch->count > 0)
    add_tree(watch, watch->directories[0]->path, NULL);
  watch->changed(watch->arg);
}

static void on_closed(uv_handle_t *handle) {
  struct cg_watch *watch;
  if (handle->type == UV_TIMER) {
    watch = handle->data;
  } else {
    struct directory *directory = handle->data;
    watch = directory->watch;
    cg_free(directory->path);
    cg_free(directory);
  }
  if (--watch->open_handles == 0)
    cg_free(watch);
}
