/* lua_target.c - runs a Lua function on the inputs of a fuzz target.
 *
 * The fuzzer knows what C code an input reaches; of Lua code it would see only the interpreter. So
 * under a fuzzer a hook counts each line in an array that the fuzzer looks at (a section with the
 * name that libFuzzer gives it), and nothing is compiled, because compiled code calls no hooks.
 * Owns: see lua_target.h. Thread: one. */
#include "support/lua_target.h"

#include <lauxlib.h>
#include <luajit.h>
#include <stdlib.h>

#include "bind/bind.h"

#define LINES (1u << 15) /* Counters; lines that share one do no harm. */

/* Hits of lines since the fuzzer looked last. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t line_counts[LINES];

/* There only when a fuzzer is linked. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t size_max) __attribute__((weak));

/* What all inputs share. */
struct target {
  struct cg_runtime *runtime; /* NULL: not made yet. */
  struct cg_say say;          /* Where errors go. */
  cg_ref run_ref;             /* Calls the target and then is_done. */
  cg_ref try_ref;             /* The target's function. */
  bool is_done;               /* The input under way was tried. */
};

static struct target target; /* One for all inputs: making one costs more than the rest. */

static const char RUN[] = "local try, bytes, done = ...; try(bytes); done()";

static void count_line(lua_State *L, lua_Debug *debug) {
  lua_getinfo(L, "S", debug);
  uintptr_t line = (uintptr_t)debug->source / 16 * 2654435761u + (uintptr_t)debug->currentline;
  line_counts[line % LINES]++;
}

static int set_done(lua_State *L) {
  *(bool *)lua_touserdata(L, lua_upvalueindex(1)) = true;
  return 0;
}

static void must(bool holds, const char *message) {
  if (holds)
    return;
  fprintf(stderr, "%s\n", message);
  abort();
}

/* So that a leak detector sees only what leaks. */
static void stop(void) {
  struct cg_runtime *runtime = target.runtime;
  cg_ref_drop(runtime, target.run_ref);
  cg_ref_drop(runtime, target.try_ref);
  cg_runtime_stop(runtime);
  cg_runtime_free(runtime);
}

static void start(const char *path) {
  target.say = (struct cg_say){.fd = 2, .level = CG_SAY_ERROR};
  struct cg_runtime_options options = {.say = &target.say, .bindings = cg_bind_open};
  struct cg_err err = {.message = ""};
  must(cg_runtime_new(&target.runtime, &options, &err) == CG_OK, err.message);
  lua_State *L = target.runtime->L;
  if (LLVMFuzzerMutate != NULL) {
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_sethook(L, count_line, LUA_MASKLINE, 0);
  }
  must(luaL_loadbufferx(L, RUN, sizeof(RUN) - 1, "=run", "t") == 0, "the driver cannot be loaded");
  target.run_ref = cg_ref_take(target.runtime, L);
  if (luaL_loadfile(L, path) != 0)
    must(false, lua_tostring(L, -1));
  must(cg_call(L, 0, 1, &err) == CG_OK, err.message);
  must(lua_isfunction(L, -1), "the file must return a function");
  target.try_ref = cg_ref_take(target.runtime, L);
  atexit(stop);
}

void lua_target_run(const char *path, const uint8_t *bytes, size_t size) {
  if (target.runtime == NULL)
    start(path);
  lua_State *L = target.runtime->L;
  target.is_done = false;
  cg_ref_push(L, target.run_ref);
  cg_ref_push(L, target.try_ref);
  lua_pushlstring(L, (const char *)bytes, size);
  lua_pushlightuserdata(L, &target.is_done);
  lua_pushcclosure(L, set_done, 1);
  cg_task_spawn(target.runtime, L, 3);
  uv_run(target.runtime->loop, UV_RUN_DEFAULT);
  must(target.is_done, "the input was not tried to its end");
}
