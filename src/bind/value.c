/* value.c - the two metatables that values need: of lists and of errors.
 *
 * How it works: the address of a constant is the key in the registry, which no other library can
 * have. Owns: the two registry entries. Thread: the one of the Lua state. */
#include "bind/value.h"

#include <lauxlib.h>

static const char array_mt_key = 'a'; /* Its address is the key of the array metatable. */
static const char err_mt_key = 'e';   /* Its address is the key of the error metatable. */

/* Pushes the registry's entry of `key`, which is nil before its first use. */
static void push_entry(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

/* Stores the value on top as the registry's entry of `key`; the value stays on top. */
static void keep_entry(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void cg_value_push_array_mt(lua_State *L) {
  push_entry(L, &array_mt_key);
  if (!lua_isnil(L, -1))
    return;
  lua_pop(L, 1);
  lua_newtable(L);
  keep_entry(L, &array_mt_key);
}

/* __tostring of errors. Raw: a script may have changed the fields to anything. */
static int err_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_pushliteral(L, "code");
  lua_rawget(L, 1);
  lua_pushliteral(L, "message");
  lua_rawget(L, 1);
  const char *code = lua_tostring(L, 2);
  const char *message = lua_tostring(L, 3);
  lua_pushfstring(L, "%s: %s", code == NULL ? "?" : code, message == NULL ? "?" : message);
  return 1;
}

/* Pushes the metatable of errors. */
static void push_err_mt(lua_State *L) {
  push_entry(L, &err_mt_key);
  if (!lua_isnil(L, -1))
    return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, err_tostring);
  lua_setfield(L, -2, "__tostring");
  keep_entry(L, &err_mt_key);
}

void cg_value_push_err(lua_State *L, const struct cg_err *err) {
  luaL_checkstack(L, 6, "no room for an error");
  lua_createtable(L, 0, 3);
  lua_pushstring(L, cg_code_name(err->code));
  lua_setfield(L, -2, "code");
  lua_pushstring(L, err->message);
  lua_setfield(L, -2, "message");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "retryable");
  push_err_mt(L);
  lua_setmetatable(L, -2);
}
