/* runtime.c - making and ending a runtime. */
#include "runtime/runtime.h"

#include <assert.h>
#include <lauxlib.h>
#include <lualib.h>

#include "base/mem.h"

#define POOL_IDLE_MAX 4096u              /* Idle message buffers kept. */
#define RESERVE_PART 8                   /* This part of the memory cap is kept for reporting. */
#define POOL_IDLE_BYTES_MAX (64u * 1024) /* Larger ones are freed at once. */

static const char RUNTIME_KEY; /* Its address is the registry key of the runtime. */

static void *allocate_capped(void *arg, void *memory, size_t old_size, size_t new_size);
static enum cg_code open_state(struct cg_runtime *runtime, const struct cg_runtime_options *options,
                               struct cg_err *err);
static enum cg_code load_core(struct cg_runtime *runtime, struct cg_err *err);

enum cg_code cg_runtime_new(struct cg_runtime **out, const struct cg_runtime_options *options,
                            struct cg_err *err) {
  struct cg_runtime *runtime = cg_alloc(sizeof(*runtime));
  runtime->clock = options->clock.wall_ms != NULL ? options->clock : cg_clock_system();
  runtime->say = options->say;
  runtime->state_ref = runtime->task_loop_ref = CG_NO_REF;
  runtime->loop = options->loop;
  enum cg_code code = CG_OK;
  if (runtime->loop == NULL) {
    int status = uv_loop_init(&runtime->own_loop);
    if (status != 0) {
      code = cg_err_set(err, CG_EIO, "event loop: %s", uv_strerror(status));
      goto fail_loop;
    }
    runtime->loop = &runtime->own_loop;
    runtime->owns_loop = true;
  }
  runtime->pool = cg_buf_pool_new(POOL_IDLE_MAX, POOL_IDLE_BYTES_MAX);
  code = open_state(runtime, options, err);
  if (code != CG_OK)
    goto fail_state;
  code = cg_tasks_init(runtime, err);
  if (code != CG_OK)
    goto fail_tasks;
  *out = runtime;
  return CG_OK;

fail_tasks:
  lua_close(runtime->L);
fail_state:
  cg_buf_pool_free(runtime->pool);
  if (runtime->owns_loop)
    uv_loop_close(&runtime->own_loop);
fail_loop:
  cg_free(runtime);
  return code;
}

void cg_runtime_stop(struct cg_runtime *runtime) {
  if (runtime->is_stopping)
    return;
  runtime->is_stopping = true;
  cg_guard_stop(runtime);
  cg_tasks_stop(runtime);
}

int64_t cg_runtime_free(struct cg_runtime *runtime) {
  assert(runtime->is_stopping);
  if (runtime->owns_loop)
    uv_run(&runtime->own_loop, UV_RUN_DEFAULT);
  cg_tasks_deinit(runtime);
  lua_gc(runtime->L, LUA_GCCOLLECT, 0);
  cg_ref_drop(runtime, runtime->state_ref);
  cg_ref_drop(runtime, runtime->task_loop_ref);
  int64_t leaked = runtime->ref_count;
  lua_close(runtime->L);
  if (runtime->owns_loop) {
    uv_run(&runtime->own_loop, UV_RUN_DEFAULT); /* Finalizers may have closed handles. */
    int status = uv_loop_close(&runtime->own_loop);
    if (status != 0)
      cg_say(runtime->say, CG_SAY_WARN, "event loop closed with open handles");
  }
  cg_buf_pool_free(runtime->pool);
  cg_free(runtime);
  return leaked;
}

struct cg_runtime *cg_runtime_of(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&RUNTIME_KEY);
  lua_rawget(L, LUA_REGISTRYINDEX);
  struct cg_runtime *runtime = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return runtime;
}

void cg_runtime_set_memory_max(struct cg_runtime *runtime, size_t bytes) {
  runtime->memory_bytes_max = bytes;
  if (runtime->allocate != NULL || bytes == 0)
    return;
  lua_State *L = runtime->L;
  runtime->allocate = lua_getallocf(L, &runtime->allocate_arg);
  runtime->memory_bytes = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024;
  lua_setallocf(L, allocate_capped, runtime);
}

void cg_runtime_collect(struct cg_runtime *runtime) {
  runtime->memory_is_full = false;
  lua_gc(runtime->L, LUA_GCCOLLECT, 0);
}

/* LuaJIT's allocator with a cap on what is in use. LuaJIT collects nothing when an allocation
 * fails, so the first refusal opens the reserve: without it the error could not be reported. */
static void *allocate_capped(void *arg, void *memory, size_t old_size, size_t new_size) {
  struct cg_runtime *runtime = arg;
  if (memory == NULL)
    old_size = 0;
  size_t in_use = runtime->memory_bytes - old_size + new_size;
  size_t most = runtime->memory_bytes_max;
  if (runtime->memory_is_full)
    most += most / RESERVE_PART;
  if (new_size > old_size && runtime->memory_bytes_max != 0 && in_use > most) {
    runtime->memory_is_full = true;
    return NULL;
  }
  void *result = runtime->allocate(runtime->allocate_arg, memory, old_size, new_size);
  if (result != NULL || new_size == 0)
    runtime->memory_bytes = in_use;
  return result;
}

static enum cg_code open_state(struct cg_runtime *runtime, const struct cg_runtime_options *options,
                               struct cg_err *err) {
  lua_State *L = luaL_newstate();
  if (L == NULL)
    return cg_err_set(err, CG_ENOMEM, "no memory for a Lua state");
  runtime->L = L;
  luaL_openlibs(L);
  lua_pushlightuserdata(L, (void *)&RUNTIME_KEY);
  lua_pushlightuserdata(L, runtime);
  lua_rawset(L, LUA_REGISTRYINDEX);
  cg_script_install(runtime);
  options->bindings(runtime, L);
  enum cg_code code = load_core(runtime, err);
  if (code != CG_OK)
    lua_close(L);
  return code;
}

/* Loads the two Lua modules that the scheduler needs, and the shims. */
static enum cg_code load_core(struct cg_runtime *runtime, struct cg_err *err) {
  lua_State *L = runtime->L;
  static const char CORE[] = "local state = require 'catga.state'\n"
                             "require 'catga.sandbox'\n"
                             "return state, require 'catga.task_loop'\n";
  enum cg_code code = cg_script_run(L, CORE, sizeof(CORE) - 1, "=catga", 0, 2, err);
  if (code != CG_OK)
    return code;
  lua_getfield(L, -1, "new");
  lua_pushlightuserdata(L, &runtime->park_mark);
  lua_pushlightuserdata(L, &runtime->idle_mark);
  lua_pushlightuserdata(L, &runtime->abandon_mark);
  code = cg_call(L, 3, 1, err);
  if (code != CG_OK)
    return code;
  runtime->task_loop_ref = cg_ref_take(runtime, L);
  lua_pop(L, 1);
  runtime->state_ref = cg_ref_take(runtime, L);
  return CG_OK;
}
