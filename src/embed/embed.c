/* embed.c - the life of an instance: made, opened, run, stopped, freed.
 *
 * The runtime's handles and ours are closed together. libuv calls the close callbacks of one turn
 * in reverse order, so `wake` is closed first and its callback ends everything. */
#include "embed/embed.h"

#include <assert.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"

#define OPTIONS_SIZE_V1 (offsetof(struct catga_options, flags) + sizeof(unsigned))

_Static_assert((int)CATGA_PERMISSION == (int)CG_EPERM, "the numbers of the two tables agree");

static void say_line(void *arg, enum cg_say_level level, const char *line);
static enum cg_code open_runtime(struct catga *catga);
static enum cg_code load_app(struct catga *catga);
static enum cg_code start_app(struct catga *catga);
static void warm_pool(struct catga *catga);
static bool is_busy(const struct catga *catga);
static void begin_stop(struct catga *catga);
static void begin_close(struct catga *catga);
static void on_wake(uv_async_t *handle);
static void on_closed(uv_handle_t *handle);
static void release(struct catga *catga);

const char *catga_version(void) {
  return CG_VERSION;
}

void catga_options_init(struct catga_options *options, size_t size) {
  memset(options, 0, size);
  options->size = size;
  options->level = CATGA_INFO;
}

struct catga *catga_new(const struct catga_options *options) {
  if (options->size < OPTIONS_SIZE_V1 || options->size > sizeof(*options))
    return NULL;
  struct catga *catga = cg_alloc(sizeof(*catga));
  if (options->loop == NULL && uv_loop_init(&catga->own_loop) != 0) {
    cg_free(catga);
    return NULL;
  }
  catga->owns_loop = options->loop == NULL;
  catga->loop = catga->owns_loop ? &catga->own_loop : options->loop;
  catga->say = (struct cg_say){.fd = 2, .level = (enum cg_say_level)options->level};
  if (options->say != NULL) {
    catga->say_fn = options->say;
    catga->say_arg = options->say_arg;
    catga->say.sink = say_line;
    catga->say.sink_arg = catga;
  }
  if (options->app != NULL)
    catga->app = cg_strndup(options->app, strlen(options->app));
  if (options->data != NULL)
    catga->data = cg_strndup(options->data, strlen(options->data));
  catga->flags = options->flags;
  catga->program_ref = catga->request_ref = CG_NO_REF;
  catga->mediator = cg_mediator_new((uint64_t)(uintptr_t)catga ^ uv_hrtime());
  return catga;
}

int catga_open(struct catga *catga) {
  if (catga->state != CG_EMBED_NEW)
    return cg_err_set(&catga->err, CG_ECLOSED, "the instance was opened before");
  if ((catga->flags & CATGA_SOCKET) != 0 && catga->data == NULL)
    return cg_err_set(&catga->err, CG_EINVAL, "CATGA_SOCKET needs a data directory");
  enum cg_code code = open_runtime(catga);
  if (code != CG_OK)
    return code;
  code = load_app(catga);
  if (code == CG_OK)
    code = start_app(catga);
  if (code != CG_OK)
    begin_close(catga);
  return code;
}

int catga_run(struct catga *catga) {
  if (catga->state == CG_EMBED_NEW)
    return CATGA_CLOSED;
  while (catga->state != CG_EMBED_STOPPED && uv_run(catga->loop, UV_RUN_ONCE) != 0)
    continue;
  return catga->exit_code;
}

int catga_stop(struct catga *catga, catga_stopped_fn fn, void *arg) {
  if (fn != NULL && catga->stopper_count == CG_EMBED_STOPPERS_MAX)
    return CATGA_LIMIT;
  if (catga->state == CG_EMBED_NEW || catga->state == CG_EMBED_STOPPED) {
    if (fn != NULL)
      fn(arg);
    return CATGA_OK;
  }
  if (fn != NULL)
    catga->stoppers[catga->stopper_count++] = (struct cg_embed_stopper){.fn = fn, .arg = arg};
  if (catga->state == CG_EMBED_OPEN)
    begin_stop(catga);
  return CATGA_OK;
}

void catga_free(struct catga *catga) {
  if (catga == NULL)
    return;
  catga->free_wanted = true;
  if (catga->state == CG_EMBED_OPEN || catga->state == CG_EMBED_STOPPING)
    begin_close(catga);
  if (catga->owns_loop) {
    uv_run(catga->loop, UV_RUN_DEFAULT); /* Until the last handle is closed. */
    assert(!is_busy(catga));
  }
  if (!is_busy(catga))
    release(catga);
}

const char *catga_message(const struct catga *catga) {
  return catga->err.code == CG_OK ? "" : catga->err.message;
}

struct uv_loop_s *catga_loop(struct catga *catga) {
  return catga->loop;
}

int catga_exit_code(const struct catga *catga) {
  return catga->exit_code;
}

int catga_backend_fd(struct catga *catga) {
  return uv_backend_fd(catga->loop);
}

int catga_backend_timeout(struct catga *catga) {
  return uv_backend_timeout(catga->loop);
}

int catga_turn(struct catga *catga) {
  uv_run(catga->loop, UV_RUN_NOWAIT);
  return catga->state != CG_EMBED_STOPPED;
}

void cg_embed_push_method(struct catga *catga, const char *name) {
  lua_State *L = catga->runtime->L;
  cg_ref_push(L, catga->program_ref);
  lua_getfield(L, -1, name);
  lua_insert(L, -2);
}

void cg_embed_setting(struct catga *catga, const char *name, char *text, size_t size) {
  lua_State *L = catga->runtime->L;
  int top = lua_gettop(L);
  cg_ref_push(L, catga->program_ref);
  lua_getfield(L, -1, "app");
  lua_getfield(L, -1, "settings");
  lua_getfield(L, -1, name);
  const char *value = lua_tostring(L, -1);
  snprintf(text, size, "%s", value != NULL ? value : "");
  lua_settop(L, top);
}

static void say_line(void *arg, enum cg_say_level level, const char *line) {
  struct catga *catga = arg;
  catga->say_fn(catga->say_arg, (enum catga_level)level, line);
}

/* Handles or work of the instance are still on the loop. */
static bool is_busy(const struct catga *catga) {
  return catga->is_warming || (catga->state != CG_EMBED_NEW && catga->state != CG_EMBED_STOPPED);
}

static void on_exit_wanted(struct cg_runtime *runtime, void *arg) {
  struct catga *catga = arg;
  catga->exit_code = runtime->exit_code;
  catga_stop(catga, NULL, NULL);
}

static enum cg_code open_runtime(struct catga *catga) {
  struct cg_runtime_options options = {
      .loop = catga->loop, .say = &catga->say, .bindings = cg_bind_open};
  if ((catga->flags & CATGA_GUARD) != 0)
    warm_pool(catga);
  enum cg_code code = cg_runtime_new(&catga->runtime, &options, &catga->err);
  if (code != CG_OK)
    return code;
  catga->runtime->on_exit = on_exit_wanted;
  catga->runtime->on_exit_arg = catga;
  uv_async_init(catga->loop, &catga->wake, on_wake);
  catga->wake.data = catga;
  catga->state = CG_EMBED_OPEN;
  return CG_OK;
}

static void warm_nothing(uv_work_t *work) {
  (void)work;
}

static void on_warm(uv_work_t *work, int status) {
  (void)status;
  struct catga *catga = work->data;
  catga->is_warming = false;
  if (catga->free_wanted && !catga->owns_loop && !is_busy(catga))
    release(catga);
}

/* libuv makes its pool when the first work is queued; its threads must not take the guard's
 * signal. */
static void warm_pool(struct catga *catga) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  catga->warm_up.data = catga;
  catga->is_warming = uv_queue_work(catga->loop, &catga->warm_up, warm_nothing, on_warm) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  cg_guard_block_signal(false);
}

/* opened(program) or opened(nil, err) */
static int on_opened(lua_State *L) {
  struct catga *catga = lua_touserdata(L, lua_upvalueindex(1));
  lua_settop(L, 2);
  if (!lua_isnil(L, 1)) {
    catga->err.code = CG_OK;
    lua_pushvalue(L, 1);
    catga->program_ref = cg_ref_take(catga->runtime, L);
    return 0;
  }
  lua_getfield(L, 2, "code");
  lua_getfield(L, 2, "message");
  int status = lua_isstring(L, -2) ? cg_embed_status_of(lua_tostring(L, -2)) : CATGA_SCRIPT;
  cg_err_set(&catga->err, status < CG_EPERM ? CG_EINVAL : (enum cg_code)status, "%s",
             lua_isstring(L, -1) ? lua_tostring(L, -1) : "unknown error");
  return 0;
}

/* fatal(err): the log stopped, or main failed */
static int on_fatal(lua_State *L) {
  struct catga *catga = lua_touserdata(L, lua_upvalueindex(1));
  catga->exit_code = 1;
  catga_stop(catga, NULL, NULL);
  return 0;
}

static void set_function(lua_State *L, struct catga *catga, const char *name, lua_CFunction fn) {
  lua_pushlightuserdata(L, catga);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

/* Loads the scripts and opens the store, in a task that does not wait. */
static enum cg_code load_app(struct catga *catga) {
  static const char MODULE[] = "return require 'catga.program'.open";
  lua_State *L = catga->runtime->L;
  enum cg_code code = cg_script_run(L, MODULE, sizeof(MODULE) - 1, "=catga", 0, 1, &catga->err);
  if (code != CG_OK)
    return code;
  lua_newtable(L);
  lua_pushstring(L, catga->app);
  lua_setfield(L, -2, "dir");
  lua_pushstring(L, catga->data);
  lua_setfield(L, -2, "data");
  lua_pushboolean(L, (catga->flags & CATGA_GUARD) != 0);
  lua_setfield(L, -2, "guard");
  cg_embed_push_handlers(catga, L);
  lua_setfield(L, -2, "handlers");
  set_function(L, catga, "opened", on_opened);
  set_function(L, catga, "on_fatal", on_fatal);
  cg_err_set(&catga->err, CG_ESCRIPT, "a script waits while it loads; use catga.main for that");
  cg_task_spawn(catga->runtime, L, 1);
  cg_tasks_turn(catga->runtime);
  return catga->err.code;
}

static enum cg_code start_http(struct catga *catga) {
  lua_State *L = catga->runtime->L;
  cg_ref_push(L, catga->program_ref);
  lua_getfield(L, -1, "request");
  catga->request_ref = cg_ref_take(catga->runtime, L);
  lua_pop(L, 1);
  char path[PATH_MAX], size_max[32];
  snprintf(path, sizeof(path), "%s/%s", catga->data, CG_EMBED_SOCKET_NAME);
  cg_embed_setting(catga, "message_size_max", size_max, sizeof(size_max));
  struct cg_http_options options = {.runtime = catga->runtime,
                                    .path = path,
                                    .body_bytes_max = strtoull(size_max, NULL, 10),
                                    .handler = catga->request_ref};
  return cg_http_start(&catga->http, &options, &catga->err);
}

static enum cg_code start_app(struct catga *catga) {
  if ((catga->flags & CATGA_SOCKET) != 0) {
    enum cg_code code = start_http(catga);
    if (code != CG_OK)
      return code;
  }
  lua_State *L = catga->runtime->L;
  cg_embed_push_method(catga, "start");
  lua_pushboolean(L, (catga->flags & CATGA_WATCH) != 0);
  cg_task_spawn(catga->runtime, L, 2);
  return CG_OK;
}

/* stopped(message): the app has ended its work */
static int on_app_stopped(lua_State *L) {
  struct catga *catga = lua_touserdata(L, lua_upvalueindex(1));
  if (lua_isstring(L, 1)) {
    cg_say(&catga->say, CG_SAY_ERROR, "stop: %s", lua_tostring(L, 1));
    catga->exit_code = 1;
  }
  uv_async_send(&catga->wake);
  return 0;
}

static void begin_stop(struct catga *catga) {
  catga->state = CG_EMBED_STOPPING;
  cg_http_drain(catga->http);
  lua_State *L = catga->runtime->L;
  cg_embed_push_method(catga, "stop");
  lua_pushlightuserdata(L, catga);
  lua_pushcclosure(L, on_app_stopped, 1);
  cg_task_spawn(catga->runtime, L, 2);
}

/* The app has ended: its tasks are over or will never run again. */
static void on_wake(uv_async_t *handle) {
  struct catga *catga = handle->data;
  if (catga->state == CG_EMBED_STOPPING)
    begin_close(catga);
}

static void begin_close(struct catga *catga) {
  catga->state = CG_EMBED_CLOSING;
  uv_close((uv_handle_t *)&catga->wake, on_closed);
  cg_http_stop(catga->http);
  catga->http = NULL;
  cg_runtime_stop(catga->runtime);
}

static void on_closed(uv_handle_t *handle) {
  struct catga *catga = handle->data;
  cg_embed_close_calls(catga);
  cg_ref_drop(catga->runtime, catga->program_ref);
  cg_ref_drop(catga->runtime, catga->request_ref);
  catga->program_ref = catga->request_ref = CG_NO_REF;
  cg_runtime_free(catga->runtime);
  catga->runtime = NULL;
  catga->state = CG_EMBED_STOPPED;
  bool frees_itself = catga->free_wanted && !catga->owns_loop && !is_busy(catga);
  /* The last of the callbacks may free the instance. */
  struct cg_embed_stopper stoppers[CG_EMBED_STOPPERS_MAX];
  int count = catga->stopper_count;
  memcpy(stoppers, catga->stoppers, sizeof(stoppers));
  for (int i = 0; i < count; i++)
    stoppers[i].fn(stoppers[i].arg);
  if (frees_itself)
    release(catga);
}

static void release(struct catga *catga) {
  if (catga->owns_loop && uv_loop_close(&catga->own_loop) != 0)
    cg_say(&catga->say, CG_SAY_WARN, "the event loop was closed with open handles");
  for (struct cg_embed_handler *handler = catga->handlers; handler != NULL;) {
    struct cg_embed_handler *next = handler->next;
    cg_free(handler);
    handler = next;
  }
  cg_mediator_free(catga->mediator);
  cg_free(catga->app);
  cg_free(catga->data);
  cg_free(catga);
}
