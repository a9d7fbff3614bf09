/* bind_json.c - the Lua module catga.json.
 *
 * How it works: thin functions over value.h. `encode` writes to one buffer that all calls share;
 * it is a userdata upvalue, so that a memory error in Lua cannot leak it.
 * Owns: that buffer, until the state is closed. Thread: the one of the Lua state. */
#include "bind/bind_json.h"

#include <lauxlib.h>

#include "bind/value.h"

#define BUFFER_START_BYTES 1024       /* The shared buffer at first. */
#define BUFFER_KEEP_BYTES (64 * 1024) /* It is let go when one value has made it larger. */

/* Pushes nil and the error. */
static int push_failure(lua_State *L, const struct cg_err *err) {
  lua_pushnil(L);
  cg_value_push_err(L, err);
  return 2;
}

/* __gc of the shared buffer. */
static int buffer_gc(lua_State *L) {
  struct cg_buf **buffer = lua_touserdata(L, 1);
  cg_buf_unref(*buffer);
  *buffer = NULL;
  return 0;
}

/* encode(value) -> text | nil, err */
static int bind_json_encode(lua_State *L) {
  luaL_checkany(L, 1);
  struct cg_buf **buffer = lua_touserdata(L, lua_upvalueindex(1));

  if (*buffer == NULL)
    *buffer = cg_buf_take(NULL, BUFFER_START_BYTES);
  struct cg_buf *buf = *buffer;
  buf->size = 0;
  struct cg_err err;
  if (cg_value_encode(L, 1, NULL, buf, CG_VALUE_BYTES_MAX, &err) != CG_OK)
    return push_failure(L, &err);

  lua_pushlstring(L, (const char *)buf->data, buf->size);
  if (buf->capacity > BUFFER_KEEP_BYTES) {
    *buffer = NULL;
    cg_buf_unref(buf);
  }
  return 1;
}

/* decode(text) -> value | nil, err */
static int bind_json_decode(lua_State *L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  size_t size;
  const char *text = lua_tolstring(L, 1, &size);

  struct cg_err err;
  if (cg_value_decode(L, NULL, text, size, &err) != CG_OK)
    return push_failure(L, &err);
  return 1;
}

/* array(table?) -> the same table, marked as a list */
static int bind_json_array(lua_State *L) {
  if (lua_isnoneornil(L, 1)) {
    lua_settop(L, 0);
    lua_newtable(L);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);

  cg_value_push_array_mt(L);
  lua_setmetatable(L, 1);
  return 1;
}

/* Pushes the userdata that owns the shared buffer. */
static void push_buffer(lua_State *L) {
  struct cg_buf **buffer = lua_newuserdata(L, sizeof(struct cg_buf *));
  *buffer = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, buffer_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
}

int cg_bind_json(lua_State *L) {
  luaL_checkstack(L, 6, "no room for catga.json");
  lua_createtable(L, 0, 7);
  push_buffer(L);
  lua_pushcclosure(L, bind_json_encode, 1);
  lua_setfield(L, -2, "encode");
  lua_pushcfunction(L, bind_json_decode);
  lua_setfield(L, -2, "decode");
  lua_pushcfunction(L, bind_json_array);
  lua_setfield(L, -2, "array");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  cg_value_push_array_mt(L);
  lua_setfield(L, -2, "array_mt");
  cg_value_push_array_mt(L);
  lua_setfield(L, -2, "empty_array_mt");
  lua_newtable(L);
  cg_value_push_array_mt(L);
  lua_setmetatable(L, -2);
  lua_setfield(L, -2, "empty_array");
  return 1;
}
