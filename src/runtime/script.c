/* script.c - the searcher and the text-only loaders; see script.h. */
#include "runtime/script.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/embedded.h"
#include "runtime/runtime.h"

#define CHUNK_NAME_BYTES 256

static bool is_version(lua_State *L);
static int search_embedded(lua_State *L);
static int load_text(lua_State *L);
static int load_function(lua_State *L);
static int load_text_file(lua_State *L);
static int do_text_file(lua_State *L);

void cg_script_install(struct cg_runtime *runtime) {
  lua_State *L = runtime->L;
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  /* Behind package.preload (1), before files: nobody shadows catga.* by a file. */
  for (int i = (int)lua_objlen(L, -1); i >= 2; i--) {
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushboolean(L, is_version(L));
  lua_pushcclosure(L, search_embedded, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
  lua_pushcfunction(L, load_text);
  lua_setglobal(L, "loadstring");
  lua_pushcfunction(L, load_function);
  lua_setglobal(L, "load");
  lua_pushcfunction(L, load_text_file);
  lua_setglobal(L, "loadfile");
  lua_pushcfunction(L, do_text_file);
  lua_setglobal(L, "dofile");
}

enum cg_code cg_script_run(lua_State *L, const char *text, size_t size, const char *name,
                           int arg_count, int result_count, struct cg_err *err) {
  if (luaL_loadbufferx(L, text, size, name, "t") != 0) {
    cg_err_set(err, CG_ESCRIPT, "%s", lua_tostring(L, -1));
    lua_pop(L, 1 + arg_count);
    return CG_ESCRIPT;
  }
  lua_insert(L, -1 - arg_count);
  return cg_call(L, arg_count, result_count, err);
}

/* Is this the LuaJIT that made the bytecode of the modules? */
static bool is_version(lua_State *L) {
  lua_getglobal(L, "jit");
  if (!lua_istable(L, -1)) {
    lua_pop(L, 1);
    return false;
  }
  lua_getfield(L, -1, "version");
  const char *version = lua_tostring(L, -1);
  bool is_same = version && strcmp(version, cg_embedded_version) == 0;
  lua_pop(L, 2);
  return is_same;
}

/* The program's own bytecode is the only one that is ever loaded: nobody but the build wrote it. */
static int load_embedded(lua_State *L, const struct cg_embedded *module, const char *chunk_name) {
  if (module->code_size > 0 && lua_toboolean(L, lua_upvalueindex(1))) {
    if (luaL_loadbufferx(L, module->code, module->code_size, chunk_name, "b") == 0)
      return 0;
    lua_pop(L, 1); /* Built with other options: the text will do. */
  }
  return luaL_loadbufferx(L, module->source, module->size, chunk_name, "t");
}

static int search_embedded(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  for (size_t i = 0; i < cg_embedded_count; i++) {
    const struct cg_embedded *module = &cg_embedded_modules[i];
    if (strcmp(module->name, name) != 0)
      continue;
    char chunk_name[CHUNK_NAME_BYTES];
    snprintf(chunk_name, sizeof(chunk_name), "@%s", module->path);
    if (load_embedded(L, module, chunk_name) != 0)
      return lua_error(L);
    return 1;
  }
  lua_pushfstring(L, "\n\tno embedded module '%s'", name);
  return 1;
}

/* (nil, message) of a failed load, or the function with its environment. */
static int finish_load(lua_State *L, int status, int environment) {
  if (status != 0) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (environment != 0 && !lua_isnoneornil(L, environment)) {
    lua_pushvalue(L, environment);
    lua_setfenv(L, -2);
  }
  return 1;
}

/* loadstring(text [, name [, mode [, env]]]): the mode is always "t". */
static int load_text(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  const char *name = luaL_optstring(L, 2, text);
  lua_settop(L, 4);
  return finish_load(L, luaL_loadbufferx(L, text, size, name, "t"), 4);
}

/* load(text or function [, name [, mode [, env]]]). */
static int load_function(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING)
    return load_text(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 4);
  luaL_Buffer pieces;
  luaL_buffinit(L, &pieces);
  for (;;) {
    lua_pushvalue(L, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1) || (lua_isstring(L, -1) && lua_objlen(L, -1) == 0)) {
      lua_pop(L, 1);
      break;
    }
    if (!lua_isstring(L, -1))
      return luaL_error(L, "reader function must return a string");
    luaL_addvalue(&pieces);
  }
  luaL_pushresult(&pieces);
  size_t size;
  const char *text = lua_tolstring(L, -1, &size);
  return finish_load(L, luaL_loadbufferx(L, text, size, luaL_optstring(L, 2, "=(load)"), "t"), 4);
}

static int load_text_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 3);
  return finish_load(L, luaL_loadfilex(L, path, "t"), 3);
}

static int do_text_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  if (luaL_loadfilex(L, path, "t") != 0)
    return lua_error(L);
  lua_call(L, 0, LUA_MULTRET);
  return lua_gettop(L) - 1;
}
