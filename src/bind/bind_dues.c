/* bind_dues.c - when streams are due; see lua/catga/_meta/dues.lua.
 *
 * Owns: a userdata owns its heap. Thread: the loop thread. */
#include <lauxlib.h>

#include "bind/bind.h"
#include "runtime/dues.h"

#define DUES_TYPE "catga.dues"
#define POP_COUNT_MAX 100000          /* Streams of one call. */
#define NUMBER_MAX 9007199254740992.0 /* 2^53. */

static struct cg_dues *check_dues(lua_State *L) {
  return luaL_checkudata(L, 1, DUES_TYPE);
}

static double check_number(lua_State *L, int index) {
  double number = luaL_checknumber(L, index);
  luaL_argcheck(L, number >= 0 && number <= NUMBER_MAX, index, "a number from 0 to 2^53");
  return number;
}

/* new() -> dues */
static int bind_new(lua_State *L) {
  struct cg_dues *dues = lua_newuserdata(L, sizeof(*dues));
  *dues = (struct cg_dues){0};
  luaL_getmetatable(L, DUES_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

/* dues:push(due_ms, stream) */
static int bind_push(lua_State *L) {
  struct cg_dues *dues = check_dues(L);
  struct cg_due due = {.due_ms = (int64_t)check_number(L, 2),
                       .stream = (uint64_t)check_number(L, 3)};
  if (!cg_dues_push(dues, due))
    return luaL_error(L, "too many streams wait");
  return 0;
}

/* dues:next() -> due_ms, stream | nil */
static int bind_next(lua_State *L) {
  struct cg_due due;
  if (!cg_dues_next(check_dues(L), &due))
    return 0;
  lua_pushnumber(L, (lua_Number)due.due_ms);
  lua_pushnumber(L, (lua_Number)due.stream);
  return 2;
}

/* dues:remove(stream) -> boolean */
static int bind_remove(lua_State *L) {
  lua_pushboolean(L, cg_dues_remove(check_dues(L), (uint64_t)check_number(L, 2)));
  return 1;
}

/* dues:pop(now_ms, max) -> list of stream numbers */
static int bind_pop(lua_State *L) {
  struct cg_dues *dues = check_dues(L);
  int64_t now_ms = (int64_t)check_number(L, 2);
  int max = luaL_checkint(L, 3);
  luaL_argcheck(L, max >= 1 && max <= POP_COUNT_MAX, 3, "from 1 to 100000 at once");
  lua_newtable(L);
  struct cg_due due;
  for (int i = 1; i <= max && cg_dues_pop(dues, now_ms, &due); i++) {
    lua_pushnumber(L, (lua_Number)due.stream);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/* dues:count() -> integer */
static int bind_count(lua_State *L) {
  lua_pushnumber(L, check_dues(L)->count);
  return 1;
}

static int bind_gc(lua_State *L) {
  cg_dues_deinit(check_dues(L));
  return 0;
}

int cg_bind_dues(lua_State *L) {
  static const luaL_Reg functions[] = {{"new", bind_new}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"push", bind_push},   {"next", bind_next},
                                     {"pop", bind_pop},     {"remove", bind_remove},
                                     {"count", bind_count}, {NULL, NULL}};
  cg_bind_type(L, DUES_TYPE, methods, bind_gc);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
