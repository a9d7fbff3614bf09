/* bind.h - makes C visible to Lua: the table of native modules. Door of the folder.
 *
 * Each area is a module `catga.native.<area>`, found by require through package.preload; what it
 * offers is annotated in lua/catga/_meta/<area>.lua. A bound function checks its arguments (and
 * may raise), calls C (which never raises), pushes results. What the world can cause is returned
 * as nil (or false) and an error object; a wrong type is a bug and raises.
 * Owns: nothing. Thread: the loop thread. */
#ifndef CG_BIND_BIND_H
#define CG_BIND_BIND_H

#include <lua.h>

#include "base/clock.h"
#include "base/err.h"
#include "bind/value.h"
#include "runtime/runtime.h"

/* Registers all native modules in package.preload; a cg_bindings_fn. */
void cg_bind_open(struct cg_runtime *runtime, lua_State *L);

/* Openers of the modules: each pushes its table. One file each, bind_<area>.c. */
int cg_bind_clock(lua_State *L);
int cg_bind_dues(lua_State *L);
int cg_bind_fetch(lua_State *L);
int cg_bind_fs(lua_State *L);
int cg_bind_host(lua_State *L);
int cg_bind_json(lua_State *L);
int cg_bind_model(lua_State *L);
int cg_bind_personal(lua_State *L);
int cg_bind_spawn(lua_State *L);
int cg_bind_store(lua_State *L);
int cg_bind_task(lua_State *L);
int cg_bind_zone(lua_State *L);

/* Pushes nil and an error object; returns 2. */
int cg_bind_fail(lua_State *L, const struct cg_err *err);
/* Pushes false and an error object; returns 2. */
int cg_bind_false(lua_State *L, const struct cg_err *err);

/* A clock with its timers, as Lua holds it. */
struct cg_bind_clock {
  struct cg_clock_virtual state; /* Used when is_virtual. */
  struct cg_clock clock;         /* What reads it: the system's or that of `state`. */
  struct cg_timers *timers;      /* NULL once closed. */
  bool is_virtual;               /* It moves only when it is turned. */
};

/* The clock at a stack index; raises when it is none. */
struct cg_bind_clock *cg_bind_check_clock(lua_State *L, int index);

/* Makes a userdata type: a metatable named `name` with `methods` as __index and `gc` as __gc. */
void cg_bind_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc);

#endif
