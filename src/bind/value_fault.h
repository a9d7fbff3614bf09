/* value_fault.h - what is wrong with a value that cannot be written, for error messages; private
 * to value_*.c.
 *
 * How to use: call the one that fits when writing has met the fault; each sets the error, with the
 * path in front, and returns its code.
 * Owns: nothing. Thread: the one of the Lua state. */
#ifndef CG_BIND_VALUE_FAULT_H
#define CG_BIND_VALUE_FAULT_H

#include <lua.h>

#include "base/err.h"
#include "bind/value_path.h"

/* The value has a type that JSON cannot hold. */
enum cg_code cg_value_fault_type(const struct cg_value_path *path, int type, struct cg_err *err);

/* The table at stack index `table` lies deeper than CG_JSON_DEPTH_MAX: names the cycle when there
 * is one. The path may become shorter. */
enum cg_code cg_value_fault_depth(lua_State *L, int table, struct cg_value_path *path,
                                  struct cg_err *err);

/* The keys of the table at stack index `table` are not those of a list or an object. All keys are
 * looked at, so that the message does not depend on their order. The path's last step, which goes
 * into the table, is taken away. */
enum cg_code cg_value_fault_keys(lua_State *L, int table, struct cg_value_path *path,
                                 struct cg_err *err);

#endif
