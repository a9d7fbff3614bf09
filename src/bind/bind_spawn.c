/* bind_spawn.c - programs run beside this one, for Lua; see lua/catga/_meta/spawn.lua.
 *
 * A task parks in spawn:wait(what) and takes what has come as the running task. A wait that is
 * interrupted, or whose task is dropped, ends the program.
 * Owns: a spawn userdata its program. Thread: the loop thread. */
#include <lauxlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "runtime/spawn.h"

#define SPAWN_TYPE "catga.spawn"
#define TEXTS_MAX 4096                      /* Arguments, and variables of the environment. */
#define DURATION_MS_MAX 9007199254740992.0  /* 2^53. */
#define INPUT_BYTES_MAX ((size_t)256 << 20) /* Of one write. */

/* What a task waits for. */
enum want { WANT_DATA, WANT_ROOM, WANT_END };

/* A program as Lua holds it. */
struct box {
  struct cg_spawn *spawn; /* NULL once closed. */
  struct cg_task *task;   /* Parked in wait, or NULL. */
  enum want want;         /* What for. */
};

static struct box *check_box(lua_State *L, int index) {
  struct box *box = luaL_checkudata(L, index, SPAWN_TYPE);
  if (box->spawn == NULL)
    luaL_error(L, "the program is closed");
  return box;
}

/* The texts of the list in field `name` of the table at index 1, ended by NULL; NULL: no field.
 * They stay on the stack. */
static char **check_texts(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  int list = lua_gettop(L);
  if (lua_isnil(L, list))
    return NULL;
  luaL_checktype(L, list, LUA_TTABLE);
  size_t count = lua_objlen(L, list);
  luaL_argcheck(L, count <= TEXTS_MAX, 1, name);
  luaL_checkstack(L, (int)count + 4, name);
  char **texts = lua_newuserdata(L, (count + 1) * sizeof(*texts));
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, list, (int)i + 1);
    texts[i] = (char *)luaL_checkstring(L, -1);
  }
  texts[count] = NULL;
  return texts;
}

/* A number of the table at index 1, from 0. */
static double check_number(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  double value = luaL_optnumber(L, -1, 0);
  luaL_argcheck(L, value >= 0 && value <= DURATION_MS_MAX, 1, name);
  lua_pop(L, 1);
  return value;
}

static bool is_satisfied(const struct box *box, enum want want) {
  const struct cg_spawn *spawn = box->spawn;
  if (spawn->is_over)
    return true;
  if (want == WANT_DATA)
    return spawn->bytes[CG_SPAWN_STDOUT]->size > 0 || spawn->bytes[CG_SPAWN_STDERR]->size > 0;
  return want == WANT_ROOM && cg_spawn_has_room(spawn);
}

static void on_change(void *arg) {
  struct box *box = arg;
  if (box->task == NULL || !is_satisfied(box, box->want))
    return;
  struct cg_task *task = box->task;
  box->task = NULL;
  cg_task_wake(task, 0);
}

/* start{ args, env?, cwd?, time_ms?, output_max? } -> spawn | nil, err */
static int bind_spawn_start(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  struct cg_spawn_request request = {.time_ms = (int64_t)check_number(L, "time_ms"),
                                     .output_max = (size_t)check_number(L, "output_max")};
  request.args = check_texts(L, "args");
  luaL_argcheck(L, request.args != NULL && request.args[0] != NULL, 1, "args is a list of texts");
  request.env = check_texts(L, "env");
  lua_getfield(L, 1, "cwd");
  request.cwd = luaL_optstring(L, -1, NULL);
  struct box *box = lua_newuserdata(L, sizeof(*box));
  *box = (struct box){0};
  luaL_getmetatable(L, SPAWN_TYPE);
  lua_setmetatable(L, -2);
  struct cg_err err;
  if (cg_spawn_start(&box->spawn, cg_runtime_of(L), &request, on_change, box, &err) != CG_OK) {
    box->spawn = NULL;
    return cg_bind_fail(L, &err);
  }
  return 1;
}

static void cancel_wait(struct cg_task *task, void *arg) {
  (void)task;
  struct box *box = arg;
  box->task = NULL;
  if (box->spawn != NULL)
    cg_spawn_end(box->spawn);
}

/* wait(what): parks until it is there, or the program is over */
static int bind_spawn_wait(lua_State *L) {
  static const char *const WANTS[] = {"data", "room", "end", NULL};
  struct box *box = check_box(L, 1);
  enum want want = (enum want)luaL_checkoption(L, 2, NULL, WANTS);
  if (is_satisfied(box, want))
    return 0;
  if (box->task != NULL)
    return luaL_error(L, "another task waits for this program");
  struct cg_runtime *runtime = cg_runtime_of(L);
  cg_task_check_park(runtime, L);
  box->want = want;
  box->task = cg_task_current(runtime);
  lua_settop(L, 1); /* The task holds the userdata: it must not be collected meanwhile. */
  return cg_task_park(runtime, L, 1, cancel_wait, box);
}

/* take(output) -> bytes, or nil; output 1: stdout, 2: stderr */
static int bind_spawn_take(lua_State *L) {
  struct cg_spawn *spawn = check_box(L, 1)->spawn;
  int output = luaL_checkint(L, 2) - 1;
  luaL_argcheck(L, output >= 0 && output < CG_SPAWN_OUTPUTS, 2, "1 or 2");
  const struct cg_buf *bytes = spawn->bytes[output];
  if (bytes->size == 0)
    return 0;
  lua_pushlstring(L, (const char *)bytes->data, bytes->size);
  cg_spawn_taken(spawn, output);
  return 1;
}

/* write(bytes) */
static int bind_spawn_write(lua_State *L) {
  struct cg_spawn *spawn = check_box(L, 1)->spawn;
  size_t size;
  const char *bytes = luaL_checklstring(L, 2, &size);
  luaL_argcheck(L, size <= INPUT_BYTES_MAX, 2, "over 256 MiB");
  cg_spawn_write(spawn, bytes, size);
  return 0;
}

/* finish(): that was all of its input */
static int bind_spawn_finish(lua_State *L) {
  cg_spawn_finish(check_box(L, 1)->spawn);
  return 0;
}

/* outcome() -> nil: it runs; how it ended, exit code, signal */
static int bind_spawn_outcome(lua_State *L) {
  static const char *const NAMES[] = {[CG_SPAWN_RUNNING] = "running",
                                      [CG_SPAWN_ENDED] = "ended",
                                      [CG_SPAWN_TIMEOUT] = "timeout",
                                      [CG_SPAWN_TOO_LARGE] = "too_large",
                                      [CG_SPAWN_CANCELLED] = "cancelled"};
  const struct cg_spawn *spawn = check_box(L, 1)->spawn;
  if (!spawn->is_over)
    return 0;
  lua_pushstring(L, NAMES[spawn->outcome]);
  lua_pushnumber(L, (lua_Number)spawn->exit_code);
  lua_pushnumber(L, spawn->signal);
  return 3;
}

/* pid() -> of the program */
static int bind_spawn_pid(lua_State *L) {
  lua_pushnumber(L, check_box(L, 1)->spawn->process.pid);
  return 1;
}

/* environment() -> list of "NAME=value", this program's */
static int bind_spawn_environment(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; environ[i] != NULL; i++) {
    lua_pushstring(L, environ[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* close(): ends it when it runs; harmless when closed. A task that waits goes on. */
static int bind_spawn_close(lua_State *L) {
  struct box *box = luaL_checkudata(L, 1, SPAWN_TYPE);
  if (box->spawn == NULL)
    return 0;
  struct cg_task *task = box->task;
  box->task = NULL;
  cg_spawn_free(box->spawn);
  box->spawn = NULL;
  if (task != NULL && !cg_runtime_of(L)->is_stopping)
    cg_task_wake(task, 0);
  return 0;
}

int cg_bind_spawn(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"start", bind_spawn_start}, {"environment", bind_spawn_environment}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"wait", bind_spawn_wait},       {"take", bind_spawn_take},
                                     {"write", bind_spawn_write},     {"finish", bind_spawn_finish},
                                     {"outcome", bind_spawn_outcome}, {"pid", bind_spawn_pid},
                                     {"close", bind_spawn_close},     {NULL, NULL}};
  cg_bind_type(L, SPAWN_TYPE, methods, bind_spawn_close);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
