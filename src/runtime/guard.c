/* guard.c - profiler callback and count hook; see guard.h. */
#include "runtime/guard.h"

#include <lauxlib.h>
#include <luajit.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "runtime/runtime.h"

#define HUGE_COUNT 1000000000 /* Count hook that never fires by itself. */
#define PROFILE_MODE "li10"   /* Line mode, every 10 ms. */

#define OWN_SOURCES "@lua/catga/" /* Chunk names of the runtime's own Lua. */

static void on_sample(void *data, lua_State *L, int samples, int vm_state);
static void on_count(lua_State *L, lua_Debug *record);

void cg_guard_start(struct cg_runtime *runtime, uint32_t deadline_ms) {
  cg_guard_stop(runtime);
  runtime->guard = (struct cg_guard){.deadline_ns = (uint64_t)deadline_ms * 1000000u,
                                     .stopped_count = runtime->guard.stopped_count,
                                     .is_started = true};
  lua_sethook(runtime->L, on_count, LUA_MASKCOUNT, HUGE_COUNT);
  luaJIT_profile_start(runtime->L, PROFILE_MODE, on_sample, runtime);
}

void cg_guard_stop(struct cg_runtime *runtime) {
  if (!runtime->guard.is_started)
    return;
  runtime->guard.is_started = false;
  luaJIT_profile_stop(runtime->L);
  lua_sethook(runtime->L, NULL, 0, 0);
}

void cg_guard_block_signal(bool block) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPROF);
  pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void on_sample(void *data, lua_State *L, int samples, int vm_state) {
  (void)samples;
  (void)vm_state;
  struct cg_runtime *runtime = data;
  struct cg_guard *guard = &runtime->guard;
  if (runtime->tasks.current == NULL)
    return;
  uint64_t now_ns = cg_clock_mono_ns(&runtime->clock);
  if (guard->seen_resume != runtime->tasks.resume_count) {
    guard->seen_resume = runtime->tasks.resume_count;
    guard->seen_ns = now_ns;
    guard->is_fired = false;
    return;
  }
  if (now_ns - guard->seen_ns < guard->deadline_ns)
    return;
  guard->is_fired = true;
  lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
}

/* Raises in the running code, at every instruction of a user's function until the resume ends: so
 * a loop around pcall does not get away. The runtime's own Lua is spared: it has to report the
 * error to whoever waits for the handler. */
static void on_count(lua_State *L, lua_Debug *record) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  struct cg_guard *guard = &runtime->guard;
  if (!guard->is_fired || guard->seen_resume != runtime->tasks.resume_count) {
    lua_sethook(L, on_count, LUA_MASKCOUNT, HUGE_COUNT);
    return;
  }
  lua_getinfo(L, "S", record);
  if (strncmp(record->source, OWN_SOURCES, sizeof(OWN_SOURCES) - 1) == 0)
    return;
  guard->stopped_count++;
  luaL_error(L,
             "ran longer than handler_timeout (%d ms) without waiting and was stopped; split the "
             "work, let it wait between (catga.sleep), or raise handler_timeout in catga.lua",
             (int)(guard->deadline_ns / 1000000u));
}
