/* bind_fs_watch.c - changes of files and directories, for Lua; see lua/catga/_meta/fs.lua.
 *
 * What happens is gathered by name until it is taken, so a busy directory costs no more than its
 * names; over NAMES_MAX of them the watch says that it lost some. To wait for a change is no
 * outside work: `settle` does not wait for it.
 * Owns: a watch userdata its handle. Thread: the loop thread. */
#include <lauxlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind_fs.h"

#define WATCH_TYPE "catga.file_watch"
#define NAMES_MAX 1024 /* That changed and were not taken. */

/* One name that changed. */
struct change {
  char *name;      /* Owned; "" when the system does not say. */
  bool is_renamed; /* It came, went, or took the place of another. */
};

/* A watched path. */
struct watch {
  uv_fs_event_t handle;             /* Watches it. */
  struct cg_runtime *runtime;       /* Wakes `task`. */
  struct change changes[NAMES_MAX]; /* Not taken yet. */
  uint32_t count;                   /* How many. */
  bool has_lost;                    /* There were more. */
  struct cg_task *task;             /* Parked in wait, or NULL. */
};

static struct watch *check_watch(lua_State *L, int index) {
  struct watch **box = luaL_checkudata(L, index, WATCH_TYPE);
  if (*box == NULL)
    luaL_error(L, "the watch is closed");
  return *box;
}

static void forget_changes(struct watch *watch) {
  for (uint32_t i = 0; i < watch->count; i++)
    cg_free(watch->changes[i].name);
  watch->count = 0;
  watch->has_lost = false;
}

static void add_change(struct watch *watch, const char *name, bool is_renamed) {
  for (uint32_t i = 0; i < watch->count; i++) {
    if (strcmp(watch->changes[i].name, name) == 0) {
      watch->changes[i].is_renamed |= is_renamed;
      return;
    }
  }
  if (watch->count == NAMES_MAX) {
    watch->has_lost = true;
    return;
  }
  watch->changes[watch->count++] =
      (struct change){.name = cg_strndup(name, strlen(name)), .is_renamed = is_renamed};
}

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status) {
  struct watch *watch = handle->data;
  if (status < 0)
    watch->has_lost = true;
  else
    add_change(watch, name != NULL ? name : "", (events & UV_RENAME) != 0);
  struct cg_task *task = watch->task;
  watch->task = NULL;
  if (task != NULL)
    cg_task_wake(task, 0);
}

static void on_closed(uv_handle_t *handle) {
  cg_free(handle->data);
}

int cg_bind_fs_watch(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct cg_runtime *runtime = cg_runtime_of(L);
  struct watch **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, WATCH_TYPE);
  lua_setmetatable(L, -2);
  struct watch *watch = cg_alloc(sizeof(*watch));
  watch->runtime = runtime;
  uv_fs_event_init(runtime->loop, &watch->handle);
  watch->handle.data = watch;
  int status = uv_fs_event_start(&watch->handle, on_event, path, 0);
  if (status == 0) {
    *box = watch;
    return 1;
  }
  uv_close((uv_handle_t *)&watch->handle, on_closed);
  struct cg_err err;
  cg_err_set(&err, cg_err_from_errno(-status), "watch %s: %s", path, uv_strerror(status));
  return cg_bind_fail(L, &err);
}

static void cancel_wait(struct cg_task *task, void *arg) {
  (void)task;
  struct watch *watch = arg;
  watch->task = NULL;
}

/* wait(): parks until something has changed */
static int bind_watch_wait(lua_State *L) {
  struct watch *watch = check_watch(L, 1);
  if (watch->count > 0 || watch->has_lost)
    return 0;
  luaL_argcheck(L, watch->task == NULL, 1, "another task waits for it");
  cg_task_check_park(watch->runtime, L);
  watch->task = cg_task_current(watch->runtime);
  lua_settop(L, 1); /* The task holds the userdata: it must not be collected meanwhile. */
  return cg_task_park(watch->runtime, L, 1, cancel_wait, watch);
}

/* take() -> list of { name, renamed }, were there more */
static int bind_watch_take(lua_State *L) {
  struct watch *watch = check_watch(L, 1);
  lua_createtable(L, (int)watch->count, 0);
  for (uint32_t i = 0; i < watch->count; i++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, watch->changes[i].name);
    lua_setfield(L, -2, "name");
    lua_pushboolean(L, watch->changes[i].is_renamed);
    lua_setfield(L, -2, "renamed");
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_pushboolean(L, watch->has_lost);
  forget_changes(watch);
  return 2;
}

/* wake(): lets the task that waits go on, with nothing; harmless when closed */
static int bind_watch_wake(lua_State *L) {
  struct watch **box = luaL_checkudata(L, 1, WATCH_TYPE);
  struct watch *watch = *box;
  if (watch == NULL)
    return 0;
  struct cg_task *task = watch->task;
  watch->task = NULL;
  if (task != NULL)
    cg_task_wake(task, 0);
  return 0;
}

/* close(): harmless when closed; a task that waits goes on */
static int bind_watch_close(lua_State *L) {
  struct watch **box = luaL_checkudata(L, 1, WATCH_TYPE);
  struct watch *watch = *box;
  *box = NULL;
  if (watch == NULL)
    return 0;
  struct cg_task *task = watch->task;
  watch->task = NULL;
  forget_changes(watch);
  uv_close((uv_handle_t *)&watch->handle, on_closed);
  if (task != NULL && !watch->runtime->is_stopping)
    cg_task_wake(task, 0);
  return 0;
}

void cg_bind_fs_watch_type(lua_State *L) {
  static const luaL_Reg methods[] = {{"wait", bind_watch_wait},
                                     {"take", bind_watch_take},
                                     {"wake", bind_watch_wake},
                                     {"close", bind_watch_close},
                                     {NULL, NULL}};
  cg_bind_type(L, WATCH_TYPE, methods, bind_watch_close);
}
