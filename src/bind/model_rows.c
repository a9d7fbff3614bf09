/* model_rows.c - turns the reply of a query into tables.
 *
 * Integers beyond 2^53 are refused, not rounded. */
#include "bind/model_rows.h"

#include "bind/bind.h"

#define WHOLE_MAX ((int64_t)1 << 53) /* Whole numbers are exact up to here. */

/* Pushes a value that is not NULL; false when it is an integer that a number cannot hold. */
static bool push_value(lua_State *L, const struct cg_model_value *value) {
  switch (value->kind) {
  case CG_MODEL_VALUE_INTEGER:
    lua_pushnumber(L, (lua_Number)value->integer);
    return value->integer <= WHOLE_MAX && value->integer >= -WHOLE_MAX;
  case CG_MODEL_VALUE_REAL:
    lua_pushnumber(L, value->real);
    return true;
  default:
    lua_pushlstring(L, value->bytes, value->size);
    return true;
  }
}

/* Pushes the names of the columns; *offset is behind them then. */
static int push_columns(lua_State *L, const struct cg_buf *reply, size_t *offset) {
  const void *name;
  size_t size;
  int count = (int)cg_model_columns(reply, offset);
  lua_createtable(L, count, 0);
  for (int i = 1; i <= count; i++) {
    cg_model_entry_next(reply, offset, &name, &size);
    lua_pushlstring(L, name, size);
    lua_rawseti(L, -2, i);
  }
  return count;
}

int cg_bind_rows(lua_State *L, const struct cg_model_job *job) {
  size_t offset;
  struct cg_model_value value;
  struct cg_err err;
  lua_newtable(L);
  int rows = lua_gettop(L), columns = rows + 1;
  int count = push_columns(L, job->reply, &offset);
  for (int row = 1; count > 0 && offset < job->reply->size; row++) {
    lua_createtable(L, 0, count);
    for (int i = 1; i <= count && cg_model_value_next(job->reply, &offset, &value); i++) {
      if (value.kind == CG_MODEL_VALUE_NULL)
        continue;
      lua_rawgeti(L, columns, i);
      if (!push_value(L, &value)) {
        cg_err_set(&err, CG_EINVAL,
                   "column %s has an integer beyond 2^53, which a number cannot hold; write "
                   "CAST(... AS TEXT)",
                   lua_tostring(L, -2));
        return cg_bind_fail(L, &err);
      }
      lua_rawset(L, -3);
    }
    lua_rawseti(L, rows, row);
  }
  lua_pushboolean(L, job->is_cut);
  return 3;
}
