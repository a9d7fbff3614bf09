/* bind.c - the table of native modules and what all bindings share. */
#include "bind/bind.h"

#include <lauxlib.h>

/* Adding a binding is one line here, one file, one stub. */
static const luaL_Reg MODULES[] = {{"catga.native.clock", cg_bind_clock},
                                   {"catga.native.dues", cg_bind_dues},
                                   {"catga.native.fetch", cg_bind_fetch},
                                   {"catga.native.fs", cg_bind_fs},
                                   {"catga.native.host", cg_bind_host},
                                   {"catga.native.json", cg_bind_json},
                                   {"catga.native.model", cg_bind_model},
                                   {"catga.native.personal", cg_bind_personal},
                                   {"catga.native.spawn", cg_bind_spawn},
                                   {"catga.native.store", cg_bind_store},
                                   {"catga.native.task", cg_bind_task},
                                   {"catga.native.zone", cg_bind_zone},
                                   {NULL, NULL}};

void cg_bind_open(struct cg_runtime *runtime, lua_State *L) {
  (void)runtime;
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  for (const luaL_Reg *module = MODULES; module->name != NULL; module++) {
    lua_pushcfunction(L, module->func);
    lua_setfield(L, -2, module->name);
  }
  lua_pop(L, 2);
}

int cg_bind_fail(lua_State *L, const struct cg_err *err) {
  lua_pushnil(L);
  cg_value_push_err(L, err);
  return 2;
}

int cg_bind_false(lua_State *L, const struct cg_err *err) {
  lua_pushboolean(L, 0);
  cg_value_push_err(L, err);
  return 2;
}

void cg_bind_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  for (const luaL_Reg *method = methods; method->name != NULL; method++) {
    lua_pushcfunction(L, method->func);
    lua_setfield(L, -2, method->name);
  }
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}
