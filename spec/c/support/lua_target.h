/* lua_target.h - runs a Lua function on the inputs of a fuzz target.
 *
 * How to use: LLVMFuzzerTestOneInput hands its input to lua_target_run with the path of a Lua file
 * (from the root of the tree) that returns a function. The function is called with the input as a
 * string, as a task of one runtime that all inputs share; it may wait. What it raises ends the
 * program. Under a fuzzer the lines of Lua that run count as coverage.
 * Owns: the runtime, until the program ends. Thread: one. */
#ifndef SPEC_LUA_TARGET_H
#define SPEC_LUA_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* Calls the function of the file at `path`, which must always be the same, with the input. */
void lua_target_run(const char *path, const uint8_t *bytes, size_t size);

#endif
