/* local.c - a runtime whose one task after the other is a call into lua/catga/offline.lua; the loop
 * turns until it has answered. */
#include "cli/local.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"

#define NEXT_BYTES 32 /* Of where the next page begins: a number. */

/* An open data directory. */
struct cg_local {
  struct cg_say say;          /* Where the runtime reports. */
  struct cg_runtime *runtime; /* Runs the task of a call. */
  cg_ref call;                /* What the Lua half gave, or CG_NO_REF. */
  struct cg_buf *answer;      /* Body of the last answer. */
  long status;                /* Of the last answer. */
  char next[NEXT_BYTES];      /* Where its next page begins, or "". */
  struct cg_err *err;         /* Where the opening says what is wrong. */
  bool is_done;               /* The call has answered. */
};

static int on_opened(lua_State *L);
static int on_answer(lua_State *L);
static enum cg_code turn_until_done(struct cg_local *local, struct cg_err *err);
static void release(struct cg_local *local);

static void push_callback(struct cg_local *local, lua_CFunction fn) {
  lua_pushlightuserdata(local->runtime->L, local);
  lua_pushcclosure(local->runtime->L, fn, 1);
}

/* Opens by the function that `module`, a chunk, gives. */
static enum cg_code open_by(struct cg_local **out, const char *module, const char *directory,
                            struct cg_err *err) {
  struct cg_local *local = cg_alloc(sizeof(*local));
  *local = (struct cg_local){.say = {.fd = 2, .level = CG_SAY_WARN}, .call = CG_NO_REF};
  local->answer = cg_buf_take(NULL, 4096);
  local->err = err;
  struct cg_runtime_options options = {.say = &local->say, .bindings = cg_bind_open};
  enum cg_code code = cg_runtime_new(&local->runtime, &options, err);
  if (code != CG_OK) {
    cg_buf_unref(local->answer);
    cg_free(local);
    return code;
  }
  lua_State *L = local->runtime->L;
  code = cg_script_run(L, module, strlen(module), "=catga", 0, 1, err);
  if (code == CG_OK) {
    lua_pushstring(L, directory);
    push_callback(local, on_opened);
    cg_task_spawn(local->runtime, L, 2);
    code = turn_until_done(local, err);
  }
  if (code == CG_OK && local->call == CG_NO_REF)
    code = err->code;
  if (code != CG_OK) {
    release(local);
    return code;
  }
  *out = local;
  return CG_OK;
}

enum cg_code cg_local_open(struct cg_local **out, const char *data, struct cg_err *err) {
  return open_by(out, "return require 'catga.offline'.open", data, err);
}

enum cg_code cg_local_open_scripts(struct cg_local **out, const char *dir, struct cg_err *err) {
  return open_by(out, "return require 'catga.offline'.open_scripts", dir, err);
}

enum cg_code cg_local_close(struct cg_local *local, struct cg_err *err) {
  if (local == NULL)
    return CG_OK;
  lua_State *L = local->runtime->L;
  cg_ref_push(L, local->call);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushnil(L);
  push_callback(local, on_answer);
  cg_task_spawn(local->runtime, L, 4);
  enum cg_code code = turn_until_done(local, err);
  if (code == CG_OK && local->status != 0)
    code = cg_err_set(err, CG_EIO, "%.*s", (int)local->answer->size,
                      (const char *)local->answer->data);
  release(local);
  return code;
}

enum cg_code cg_local_call(struct cg_local *local, const struct cg_client_request *request,
                           long *status, const struct cg_buf **answer, struct cg_err *err) {
  lua_State *L = local->runtime->L;
  cg_ref_push(L, local->call);
  lua_pushstring(L, request->method);
  lua_pushstring(L, request->target);
  lua_pushlstring(L, request->body != NULL ? request->body : "",
                  request->body != NULL ? request->body_size : 0);
  push_callback(local, on_answer);
  cg_task_spawn(local->runtime, L, 4);
  enum cg_code code = turn_until_done(local, err);
  if (code != CG_OK)
    return code;
  *status = local->status;
  *answer = local->answer;
  return CG_OK;
}

const char *cg_local_next(const struct cg_local *local) {
  return local->next;
}

/* opened(call) or opened(nil, message, code) */
static int on_opened(lua_State *L) {
  struct cg_local *local = lua_touserdata(L, lua_upvalueindex(1));
  local->is_done = true;
  if (lua_isfunction(L, 1)) {
    lua_settop(L, 1);
    local->call = cg_ref_take(local->runtime, L);
    return 0;
  }
  const char *name = luaL_optstring(L, 3, "");
  bool is_busy = strcmp(name, cg_code_name(CG_EBUSY)) == 0;
  cg_err_set(local->err, is_busy ? CG_EBUSY : CG_EIO, "%s", luaL_optstring(L, 2, "it cannot open"));
  return 0;
}

/* answer(status, body, next) */
static int on_answer(lua_State *L) {
  struct cg_local *local = lua_touserdata(L, lua_upvalueindex(1));
  size_t size;
  const char *body = luaL_checklstring(L, 2, &size);
  local->status = (long)luaL_checkinteger(L, 1);
  local->answer->size = 0;
  cg_buf_append(local->answer, body, size);
  *cg_buf_room(local->answer, 1) = 0;
  snprintf(local->next, sizeof(local->next), "%s", luaL_optstring(L, 3, ""));
  local->is_done = true;
  return 0;
}

static enum cg_code turn_until_done(struct cg_local *local, struct cg_err *err) {
  local->is_done = false;
  while (!local->is_done)
    if (uv_run(local->runtime->loop, UV_RUN_ONCE) == 0 && !local->is_done)
      return cg_err_set(err, CG_EFAILED, "the work ended without an answer");
  return CG_OK;
}

static void release(struct cg_local *local) {
  cg_ref_drop(local->runtime, local->call);
  cg_runtime_stop(local->runtime);
  uv_run(local->runtime->loop, UV_RUN_DEFAULT);
  cg_runtime_free(local->runtime);
  cg_buf_unref(local->answer);
  cg_free(local);
}
