/* call.h - the one way from C into Lua, and counted references to Lua values.
 *
 * Owns: the reference count. Thread: the loop thread. */
#ifndef CG_RUNTIME_CALL_H
#define CG_RUNTIME_CALL_H

#include <lauxlib.h>
#include <lua.h>

#include "base/err.h"

struct cg_runtime;

/* A Lua value kept by C; CG_NO_REF holds nothing. */
typedef int cg_ref;
#define CG_NO_REF LUA_NOREF

/* Keeps the value on top of L's stack and pops it. Counted: the count is zero when all were
 * dropped, and cg_runtime_free reports when it is not. */
cg_ref cg_ref_take(struct cg_runtime *runtime, lua_State *L);
/* Lets go of a value; CG_NO_REF is fine. */
void cg_ref_drop(struct cg_runtime *runtime, cg_ref ref);
/* Pushes the value onto L's stack. */
void cg_ref_push(lua_State *L, cg_ref ref);

/* Calls the function below its `arg_count` arguments on L's stack in protected mode, with a
 * traceback added to an error. On success `result_count` results (or LUA_MULTRET) are on the
 * stack; on CG_ESCRIPT nothing is, the message is in err. The callee must not yield. */
enum cg_code cg_call(lua_State *L, int arg_count, int result_count, struct cg_err *err);

#endif
