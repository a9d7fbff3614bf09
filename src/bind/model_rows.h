/* model_rows.h - rows of SQL queries for Lua. Private to bind_model.c.
 *
 * Owns: nothing. Thread: the loop thread. */
#ifndef CG_BIND_MODEL_ROWS_H
#define CG_BIND_MODEL_ROWS_H

#include <lua.h>

#include "store/store.h"

/* Pushes the rows of a RUN or QUERY: a list of tables by column without NULLs, the list of columns,
 * and whether there were more. Or nil and an error: an integer that a number cannot hold. */
int cg_bind_rows(lua_State *L, const struct cg_model_job *job);

#endif
