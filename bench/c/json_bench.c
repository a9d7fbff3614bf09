/* json_bench.c - the JSON codec through its Lua binding, beside lua-cjson in the same run.
 *
 * Prints nanoseconds of CPU per call, the lowest of several rounds that take turns.
 * Hot path: every event, step argument and step result is encoded and decoded once. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <time.h>

#include "bind/bind_json.h"

#define ROUNDS 15   /* Of each measurement. */
#define CALLS 20000 /* In one round. */

/* Values as Lua source. */
static const struct {
  const char *name;   /* In the result lines. */
  const char *source; /* Lua chunk that returns the value. */
} subjects[] = {
    {"small", "return { reservation_id = 'R123456' }"},
    {"order", "return { order_id = 'order-0001234', customer_id = 'cust-99887', amount = 1234.5,\n"
              "  currency = 'EUR', created_at = 1700000000123, status = 'created',\n"
              "  note = 'leave at the door please', items = {\n"
              "  { sku = 'SKU-000001', quantity = 2, price = 19.99 },\n"
              "  { sku = 'SKU-000002', quantity = 1, price = 1194.52 } } }"},
    {"fractions", "local t = {} for i = 1, 20 do t[i] = 1 / (i + 6) end return t"},
    {"escapes", "return { text = ('line \"one\"\\n caf\\195\\169 '):rep(5) }"},
};

/* Nanoseconds of CPU of this thread. */
static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* now() -> number, for the script below. */
static int lua_now(lua_State *L) {
  lua_pushnumber(L, now());
  return 1;
}

/* measure(ours, theirs, value, rounds, calls) -> ns, ns */
static const char measure[] =
    "local ours, theirs, value, rounds, calls = ...\n"
    "local function round(f)\n"
    "  local start = now() for i = 1, calls do f(value) end return (now() - start) / calls\n"
    "end\n"
    "local a, b = math.huge, math.huge\n"
    "for i = 1, rounds do a = math.min(a, round(ours)) b = math.min(b, round(theirs)) end\n"
    "return a, b\n";

/* Measures one function of both modules, `json` and `cjson`, on the value on top. */
static int compare(lua_State *L, const char *subject, const char *verb) {
  int value = lua_gettop(L);
  if (luaL_loadstring(L, measure) != 0)
    return lua_error(L);
  lua_getglobal(L, "json");
  lua_getfield(L, -1, verb);
  lua_remove(L, -2);
  lua_getglobal(L, "cjson");
  lua_getfield(L, -1, verb);
  lua_remove(L, -2);
  lua_pushvalue(L, value);
  lua_pushinteger(L, ROUNDS);
  lua_pushinteger(L, CALLS);
  lua_call(L, 5, 2);
  double ours = lua_tonumber(L, -2);
  double theirs = lua_tonumber(L, -1);
  printf("%s %s: %.0f ns\n", subject, verb, ours);
  printf("%s %s, lua-cjson: %.0f ns\n", subject, verb, theirs);
  lua_settop(L, value);
  return 0;
}

/* All subjects; called protected. */
static int run(lua_State *L) {
  lua_settop(L, 0);
  lua_register(L, "now", lua_now);
  cg_bind_json(L);
  lua_setglobal(L, "json");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "cjson");
  lua_call(L, 1, 1);
  lua_setglobal(L, "cjson");

  for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
    if (luaL_dostring(L, subjects[i].source) != 0)
      return lua_error(L);
    compare(L, subjects[i].name, "encode");
    lua_getglobal(L, "json");
    lua_getfield(L, -1, "encode");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    compare(L, subjects[i].name, "decode");
    lua_settop(L, 0);
  }
  return 0;
}

int main(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  int code = lua_cpcall(L, run, NULL);
  if (code != 0)
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
  lua_close(L);
  return code != 0;
}
