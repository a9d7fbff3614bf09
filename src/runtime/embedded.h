/* embedded.h - the Lua modules that are part of the program: lua/catga and stdlib, as LuaJIT's
 * bytecode and as text.
 *
 * How to use: look a module's name up in cg_embedded_modules, which is sorted by name (strcmp).
 * scripts/embed.lua writes the definitions at build time.
 * Owns: constant data. Thread: any. */
#ifndef CG_RUNTIME_EMBEDDED_H
#define CG_RUNTIME_EMBEDDED_H

#include <stddef.h>

/* One Lua module. */
struct cg_embedded {
  const char *name;   /* What require() takes: "catga.process". */
  const char *source; /* Its text without comment lines, zero-terminated. */
  size_t size;        /* Bytes of the text, without the zero. */
  const char *code;   /* Its bytecode, with line numbers and names. */
  size_t code_size;   /* Bytes of it; 0: a module that few programs load has none. */
  const char *path; /* Where it lies in the source tree, for tracebacks: "lua/catga/process.lua". */
};

/* All of them. */
extern const struct cg_embedded cg_embedded_modules[];
/* What jit.version was when the bytecode was made: another LuaJIT takes the text. */
extern const char cg_embedded_version[];
/* How many there are; may be 0. */
extern const size_t cg_embedded_count;

#endif
