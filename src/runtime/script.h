/* script.h - Lua sources: embedded modules, and text-only loading (bytecode is refused).
 *
 * Owns: nothing. Thread: the loop thread. */
#ifndef CG_RUNTIME_SCRIPT_H
#define CG_RUNTIME_SCRIPT_H

#include <lua.h>

#include "base/err.h"

struct cg_runtime;

/* Puts a searcher for the embedded modules in front of the others, and replaces load, loadstring,
 * loadfile and dofile by versions that refuse bytecode. */
void cg_script_install(struct cg_runtime *runtime);

/* Runs Lua text in protected mode with the `arg_count` values on the stack as its arguments (they
 * are popped), leaving `result_count` results. `name` is a Lua chunk name: "@path" or "=text". */
enum cg_code cg_script_run(lua_State *L, const char *text, size_t size, const char *name,
                           int arg_count, int result_count, struct cg_err *err);

#endif
