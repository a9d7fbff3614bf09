/* bind_json.h - the Lua module catga.json.
 *
 * How to use: cg_bind_json pushes the module's table. What the module does is described in
 * lua/catga/_meta/json.lua. Owns: nothing. Thread: the one of the Lua state. */
#ifndef CG_BIND_BIND_JSON_H
#define CG_BIND_BIND_JSON_H

#include <lua.h>

/* A lua_CFunction that pushes a new table with the module's functions and returns 1. Raises only
 * for memory. */
int cg_bind_json(lua_State *L);

#endif
