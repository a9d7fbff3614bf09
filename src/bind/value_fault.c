/* value_fault.c - what is wrong with a value that cannot be written.
 *
 * How it works: writing stops at the first fault; what a good message needs beyond it is looked up
 * here, off the hot path.
 * Owns: nothing. Thread: the one of the Lua state. */
#include "bind/value_fault.h"

#include <stdbool.h>

enum cg_code cg_value_fault_type(const struct cg_value_path *path, int type, struct cg_err *err) {
  const char *what = type == LUA_TFUNCTION        ? "a function"
                     : type == LUA_TTHREAD        ? "a coroutine"
                     : type == LUA_TUSERDATA      ? "a userdata"
                     : type == LUA_TLIGHTUSERDATA ? "a light userdata"
                                                  : "a cdata";
  return cg_value_path_fail(path, CG_EINVAL, err, "%s cannot be stored; return data only", what);
}

enum cg_code cg_value_fault_depth(lua_State *L, int table, struct cg_value_path *path,
                                  struct cg_err *err) {
  uint32_t last = path->depth;
  for (uint32_t i = 1; i <= last; i++) {
    int inner = i < last ? path->steps[i].table : table;
    for (uint32_t j = 0; j < i; j++) {
      if (!lua_rawequal(L, path->steps[j].table, inner))
        continue;
      path->depth = i;
      return cg_value_path_fail(path, CG_EINVAL, err,
                                "a cycle: this table contains itself (%u levels up)", i - j);
    }
  }
  return cg_value_path_fail(path, CG_ELIMIT, err, "nested deeper than %d levels",
                            CG_JSON_DEPTH_MAX);
}

/* What is wrong with the keys of a table. */
struct key_faults {
  bool has_names;   /* String keys. */
  bool has_numbers; /* Number keys. */
  bool has_gap;     /* A number key other than 1 without the one before it: `gap`. */
  double gap;       /* The smallest of these, so that every run names the same. */
  int other_type;   /* The lowest Lua type of other keys; LUA_TNONE without. */
};

/* Looks at the key on top. */
static void note_key(lua_State *L, int table, struct key_faults *faults) {
  int type = lua_type(L, -1);
  if (type == LUA_TSTRING) {
    faults->has_names = true;
    return;
  }
  if (type != LUA_TNUMBER) {
    if (faults->other_type == LUA_TNONE || type < faults->other_type)
      faults->other_type = type;
    return;
  }
  faults->has_numbers = true;
  double key = lua_tonumber(L, -1);
  lua_pushnumber(L, key - 1);
  lua_rawget(L, table);
  bool is_gap = key != 1 && (lua_isnil(L, -1) || key - 1 == key);
  lua_pop(L, 1);
  if (is_gap && (!faults->has_gap || key < faults->gap)) {
    faults->has_gap = true;
    faults->gap = key;
  }
}

enum cg_code cg_value_fault_keys(lua_State *L, int table, struct cg_value_path *path,
                                 struct cg_err *err) {
  struct key_faults faults = {.other_type = LUA_TNONE};
  path->depth--;
  if (!lua_checkstack(L, 4))
    return cg_value_path_fail(path, CG_ELIMIT, err, "the Lua stack is full");
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    note_key(L, table, &faults);
  }
  if (faults.other_type != LUA_TNONE)
    return cg_value_path_fail(path, CG_EINVAL, err, "a %s cannot be a key; use strings",
                              lua_typename(L, faults.other_type));
  if (faults.has_names && faults.has_numbers)
    return cg_value_path_fail(path, CG_EINVAL, err,
                              "a table with both number keys and named keys cannot be stored; use "
                              "one or the other");
  if (faults.has_names)
    return cg_value_path_fail(path, CG_EINVAL, err,
                              "a table made by catga.json.array has named keys");
  return cg_value_path_fail(path, CG_EINVAL, err,
                            "a list with gaps or a table with number keys cannot be stored; fill "
                            "gaps with catga.null, use strings as keys (the key %.14g)",
                            faults.gap);
}
