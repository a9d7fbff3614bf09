/* bind_zone.c - time zones for Lua; see lua/catga/_meta/zone.lua.
 *
 * Owns: a zone userdata owns its zone. Thread: the loop thread. */
#include <lauxlib.h>

#include "base/fs.h"
#include "base/zone.h"
#include "bind/bind.h"

#define ZONE_TYPE "catga.zone"

/* A zone, as Lua holds it. */
struct bind_zone {
  struct cg_zone *zone; /* NULL until it is loaded. */
};

/* open(directory, name) -> zone | nil, err */
static int bind_zone_open(lua_State *L) {
  const char *directory = luaL_checkstring(L, 1);
  const char *name = luaL_checkstring(L, 2);
  struct bind_zone *box = lua_newuserdata(L, sizeof(*box));
  box->zone = NULL;
  luaL_getmetatable(L, ZONE_TYPE);
  lua_setmetatable(L, -2);
  struct cg_err err;
  if (cg_zone_load(&box->zone, cg_fs_system(), directory, name, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  return 1;
}

/* zone:span(seconds) -> offset, begin, end, before */
static int bind_zone_span(lua_State *L) {
  const struct bind_zone *box = luaL_checkudata(L, 1, ZONE_TYPE);
  double time = luaL_checknumber(L, 2);
  luaL_argcheck(L, time >= (double)CG_ZONE_TIME_MIN && time <= (double)CG_ZONE_TIME_MAX, 2,
                "a time is in the years 1 to 9999");
  struct cg_zone_span span;
  cg_zone_span(box->zone, (int64_t)time, &span);
  lua_pushnumber(L, span.offset);
  lua_pushnumber(L, (lua_Number)span.begin);
  lua_pushnumber(L, (lua_Number)span.end);
  lua_pushnumber(L, span.before);
  return 4;
}

static int bind_zone_gc(lua_State *L) {
  struct bind_zone *box = luaL_checkudata(L, 1, ZONE_TYPE);
  cg_zone_free(box->zone);
  box->zone = NULL;
  return 0;
}

int cg_bind_zone(lua_State *L) {
  static const luaL_Reg methods[] = {{"span", bind_zone_span}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"open", bind_zone_open}, {NULL, NULL}};
  cg_bind_type(L, ZONE_TYPE, methods, bind_zone_gc);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
