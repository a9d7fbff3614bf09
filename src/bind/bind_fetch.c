/* bind_fetch.c - HTTP requests for Lua; see lua/catga/_meta/fetch.lua.
 *
 * A task parks in fetch:wait(what) and takes what has come as the running task: nothing is pushed
 * from a callback. A wait that is interrupted, or whose task is dropped, aborts the request.
 * Owns: a pool userdata its connections, a fetch userdata its request. Thread: the loop thread. */
#include <lauxlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "runtime/fetch.h"

#define POOL_TYPE "catga.fetch_pool"
#define FETCH_TYPE "catga.fetch"
#define HEADERS_MAX 1000                   /* Of a request. */
#define DURATION_MS_MAX 9007199254740992.0 /* 2^53. */
#define BODY_BYTES_MAX ((size_t)256 << 20) /* That is sent from one text. */

/* What a task waits for. */
enum want { WANT_NOTHING, WANT_HEAD, WANT_DATA, WANT_ROOM, WANT_END };

/* A fetch as Lua holds it. */
struct box {
  struct cg_fetch *fetch; /* NULL once closed. */
  struct cg_task *task;   /* Parked in wait, or NULL. */
  enum want want;         /* What for. */
};

static struct cg_fetch_pool *check_pool(lua_State *L, int index) {
  struct cg_fetch_pool **pool = luaL_checkudata(L, index, POOL_TYPE);
  if (*pool == NULL)
    luaL_error(L, "the HTTP client is closed");
  return *pool;
}

static struct box *check_box(lua_State *L, int index) {
  struct box *box = luaL_checkudata(L, index, FETCH_TYPE);
  if (box->fetch == NULL)
    luaL_error(L, "the HTTP request is closed");
  return box;
}

/* Pops a field of the table at index 1 that is a whole number from 0, or absent. */
static double field_number(lua_State *L, const char *name, double absent) {
  lua_getfield(L, 1, name);
  double value = luaL_optnumber(L, -1, absent);
  luaL_argcheck(L, value >= -1 && value <= DURATION_MS_MAX, 1, name);
  lua_pop(L, 1);
  return value;
}

/* The text field `name` of the table at index `at`, or NULL; it stays on the stack. */
static const char *field_text(lua_State *L, int at, const char *name) {
  lua_getfield(L, at, name);
  return luaL_optstring(L, -1, NULL);
}

/* pool{ connections_max, host_connections_max, idle_connections_max } -> pool | nil, err */
static int bind_fetch_pool(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  struct cg_fetch_limits limits = {
      .connections_max = (long)field_number(L, "connections_max", 0),
      .host_connections_max = (long)field_number(L, "host_connections_max", 0),
      .idle_connections_max = (long)field_number(L, "idle_connections_max", 0)};
  struct cg_fetch_pool **pool = lua_newuserdata(L, sizeof(struct cg_fetch_pool *));
  *pool = NULL;
  luaL_getmetatable(L, POOL_TYPE);
  lua_setmetatable(L, -2);
  struct cg_err err;
  if (cg_fetch_pool_new(pool, cg_runtime_of(L), &limits, &err) != CG_OK) {
    *pool = NULL;
    return cg_bind_fail(L, &err);
  }
  return 1;
}

static bool is_satisfied(const struct box *box, enum want want) {
  const struct cg_fetch *fetch = box->fetch;
  if (fetch->easy == NULL)
    return true;
  switch (want) {
  case WANT_HEAD:
    return fetch->has_head;
  case WANT_DATA:
    return fetch->in->size > 0;
  case WANT_ROOM:
    return cg_fetch_has_room(fetch);
  default:
    return false;
  }
}

static void on_change(void *arg) {
  struct box *box = arg;
  if (box->task == NULL || !is_satisfied(box, box->want))
    return;
  struct cg_task *task = box->task;
  box->task = NULL;
  cg_task_wake(task, 0);
}

/* Pushes the lines of the headers of the request at index 2; they stay on the stack. */
static const char *const *push_headers(lua_State *L, size_t *count) {
  lua_getfield(L, 2, "headers");
  int list = lua_gettop(L);
  if (lua_isnil(L, list)) {
    *count = 0;
    return NULL;
  }
  luaL_checktype(L, list, LUA_TTABLE);
  *count = lua_objlen(L, list);
  luaL_argcheck(L, *count <= HEADERS_MAX, 2, "too many headers");
  luaL_checkstack(L, (int)*count + 4, "too many headers");
  const char **lines = lua_newuserdata(L, (*count + 1) * sizeof(*lines));
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, list, (int)i + 1);
    lines[i] = luaL_checkstring(L, -1);
  }
  return lines;
}

/* Reads the request at index 2; all texts stay on the stack. */
static void read_request(lua_State *L, struct cg_fetch_request *request) {
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checkstack(L, 20, "a request");
  request->method = field_text(L, 2, "method");
  request->url = field_text(L, 2, "url");
  luaL_argcheck(L, request->method != NULL && request->url != NULL, 2, "method and url are needed");
  request->unix_path = field_text(L, 2, "unix_path");
  request->proxy = field_text(L, 2, "proxy");
  request->ca_file = field_text(L, 2, "ca_file");
  request->cert_file = field_text(L, 2, "cert_file");
  request->key_file = field_text(L, 2, "key_file");
  request->body = field_text(L, 2, "body");
  request->body_size = request->body != NULL ? lua_objlen(L, -1) : 0;
  luaL_argcheck(L, request->body_size <= BODY_BYTES_MAX, 2, "the body is over 256 MiB");
  lua_getfield(L, 2, "is_unverified");
  request->is_unverified = lua_toboolean(L, -1);
  lua_getfield(L, 2, "streams_body");
  request->streams_body = lua_toboolean(L, -1);
}

/* The numbers of the request at index 2. */
static void read_limits(lua_State *L, struct cg_fetch_request *request) {
  static const char *const NAMES[] = {"stream_size", "connect_ms", "total_ms", "idle_ms",
                                      "body_max"};
  double values[5];
  for (int i = 0; i < 5; i++) {
    lua_getfield(L, 2, NAMES[i]);
    values[i] = luaL_optnumber(L, -1, i == 0 ? -1 : 0);
    luaL_argcheck(L, values[i] >= (i == 0 ? -1 : 0) && values[i] <= DURATION_MS_MAX, 2, NAMES[i]);
    lua_pop(L, 1);
  }
  request->stream_size = (int64_t)values[0];
  request->connect_ms = (int64_t)values[1];
  request->total_ms = (int64_t)values[2];
  request->idle_ms = (int64_t)values[3];
  request->body_max = (size_t)values[4];
}

/* pool:start(request) -> fetch | nil, err */
static int bind_fetch_start(lua_State *L) {
  struct cg_fetch_pool *pool = check_pool(L, 1);
  struct cg_fetch_request request = {0};
  read_request(L, &request);
  read_limits(L, &request);
  request.headers = push_headers(L, &request.header_count);
  struct box *box = lua_newuserdata(L, sizeof(*box));
  *box = (struct box){0};
  luaL_getmetatable(L, FETCH_TYPE);
  lua_setmetatable(L, -2);
  struct cg_err err;
  if (cg_fetch_start(&box->fetch, pool, &request, on_change, box, &err) != CG_OK) {
    box->fetch = NULL;
    return cg_bind_fail(L, &err);
  }
  return 1;
}

/* pool:count() -> requests under way */
static int bind_fetch_count(lua_State *L) {
  lua_pushnumber(L, cg_fetch_pool_count(check_pool(L, 1)));
  return 1;
}

/* pool:close(): aborts what is under way; harmless when closed. */
static int bind_fetch_pool_close(lua_State *L) {
  struct cg_fetch_pool **pool = luaL_checkudata(L, 1, POOL_TYPE);
  cg_fetch_pool_free(*pool);
  *pool = NULL;
  return 0;
}

static void cancel_wait(struct cg_task *task, void *arg) {
  (void)task;
  struct box *box = arg;
  box->task = NULL;
  if (box->fetch != NULL)
    cg_fetch_abort(box->fetch);
}

/* wait(what): parks until it is there or the request is over */
static int bind_fetch_wait(lua_State *L) {
  static const char *const WANTS[] = {"nothing", "head", "data", "room", "end", NULL};
  struct box *box = check_box(L, 1);
  enum want want = (enum want)luaL_checkoption(L, 2, NULL, WANTS);
  if (is_satisfied(box, want))
    return 0;
  if (box->task != NULL)
    return luaL_error(L, "another task waits for this HTTP request");
  struct cg_runtime *runtime = cg_runtime_of(L);
  cg_task_check_park(runtime, L);
  box->want = want;
  box->task = cg_task_current(runtime);
  lua_settop(L, 1); /* The task holds the userdata: it must not be collected meanwhile. */
  return cg_task_park(runtime, L, 1, cancel_wait, box);
}

/* head() -> status, text of the head's lines; nothing when it has not come */
static int bind_fetch_head(lua_State *L) {
  const struct cg_fetch *fetch = check_box(L, 1)->fetch;
  if (!fetch->has_head)
    return 0;
  lua_pushnumber(L, (lua_Number)fetch->status);
  lua_pushlstring(L, (const char *)fetch->head->data, fetch->head->size);
  return 2;
}

/* take() -> bytes of the body that have come; nil: none */
static int bind_fetch_take(lua_State *L) {
  struct cg_fetch *fetch = check_box(L, 1)->fetch;
  if (fetch->in->size == 0)
    return 0;
  lua_pushlstring(L, (const char *)fetch->in->data, fetch->in->size);
  cg_fetch_taken(fetch);
  return 1;
}

/* write(bytes) */
static int bind_fetch_write(lua_State *L) {
  struct cg_fetch *fetch = check_box(L, 1)->fetch;
  size_t size;
  const char *bytes = luaL_checklstring(L, 2, &size);
  luaL_argcheck(L, size <= BODY_BYTES_MAX, 2, "over 256 MiB");
  cg_fetch_write(fetch, bytes, size);
  return 0;
}

/* finish(): the body that is sent is whole */
static int bind_fetch_finish(lua_State *L) {
  cg_fetch_finish(check_box(L, 1)->fetch);
  return 0;
}

/* outcome() -> nil: under way; "ok"; or why it failed, and a message */
static int bind_fetch_outcome(lua_State *L) {
  static const char *const NAMES[] = {
      [CG_FETCH_RUNNING] = "running",     [CG_FETCH_OK] = "ok",
      [CG_FETCH_TIMEOUT] = "timeout",     [CG_FETCH_DNS] = "dns",
      [CG_FETCH_REFUSED] = "refused",     [CG_FETCH_TLS] = "tls",
      [CG_FETCH_RESET] = "reset",         [CG_FETCH_TOO_LARGE] = "too_large",
      [CG_FETCH_PROTOCOL] = "protocol",   [CG_FETCH_INVALID] = "invalid",
      [CG_FETCH_CANCELLED] = "cancelled", [CG_FETCH_FAILED] = "http_failed"};
  const struct cg_fetch *fetch = check_box(L, 1)->fetch;
  if (fetch->easy != NULL)
    return 0;
  lua_pushstring(L, NAMES[fetch->outcome]);
  lua_pushstring(L, fetch->message);
  return 2;
}

/* redirect() -> absolute place that the answer sends to, or nil */
static int bind_fetch_redirect(lua_State *L) {
  const struct cg_fetch *fetch = check_box(L, 1)->fetch;
  if (fetch->redirect == NULL)
    return 0;
  lua_pushstring(L, fetch->redirect);
  return 1;
}

/* close(): aborts; harmless when closed. A task that waits goes on. */
static int bind_fetch_close(lua_State *L) {
  struct box *box = luaL_checkudata(L, 1, FETCH_TYPE);
  if (box->fetch == NULL)
    return 0;
  cg_fetch_abort(box->fetch);
  if (box->task != NULL && !cg_runtime_of(L)->is_stopping)
    on_change(box);
  cg_fetch_free(box->fetch);
  box->fetch = NULL;
  return 0;
}

int cg_bind_fetch(lua_State *L) {
  static const luaL_Reg functions[] = {{"pool", bind_fetch_pool}, {NULL, NULL}};
  static const luaL_Reg pool_methods[] = {{"start", bind_fetch_start},
                                          {"count", bind_fetch_count},
                                          {"close", bind_fetch_pool_close},
                                          {NULL, NULL}};
  static const luaL_Reg methods[] = {{"wait", bind_fetch_wait},
                                     {"head", bind_fetch_head},
                                     {"take", bind_fetch_take},
                                     {"write", bind_fetch_write},
                                     {"finish", bind_fetch_finish},
                                     {"outcome", bind_fetch_outcome},
                                     {"redirect", bind_fetch_redirect},
                                     {"close", bind_fetch_close},
                                     {NULL, NULL}};
  cg_bind_type(L, POOL_TYPE, pool_methods, bind_fetch_pool_close);
  cg_bind_type(L, FETCH_TYPE, methods, bind_fetch_close);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
