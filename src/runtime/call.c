/* call.c - protected calls and references; see call.h. */
#include "runtime/call.h"

#include <assert.h>

#include "runtime/runtime.h"

static int add_traceback(lua_State *L);

cg_ref cg_ref_take(struct cg_runtime *runtime, lua_State *L) {
  runtime->ref_count++;
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

void cg_ref_drop(struct cg_runtime *runtime, cg_ref ref) {
  if (ref == CG_NO_REF)
    return;
  assert(runtime->ref_count > 0);
  runtime->ref_count--;
  luaL_unref(runtime->L, LUA_REGISTRYINDEX, ref);
}

void cg_ref_push(lua_State *L, cg_ref ref) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
}

enum cg_code cg_call(lua_State *L, int arg_count, int result_count, struct cg_err *err) {
  int function = lua_gettop(L) - arg_count;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, function);
  int status = lua_pcall(L, arg_count, result_count, function);
  lua_remove(L, function);
  if (status == 0)
    return CG_OK;
  const char *message = lua_tostring(L, -1);
  enum cg_code code = status == LUA_ERRMEM ? CG_ENOMEM : CG_ESCRIPT;
  cg_err_set(err, code, "%s", message != NULL ? message : "an error that is not a string");
  lua_pop(L, 1);
  return code;
}

/* Message handler: strings get a traceback, error tables their text. */
static int add_traceback(lua_State *L) {
  if (lua_isstring(L, 1)) {
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
  }
  if (luaL_callmeta(L, 1, "__tostring"))
    return 1;
  lua_pushfstring(L, "an error value of type %s", luaL_typename(L, 1));
  return 1;
}
