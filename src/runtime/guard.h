/* guard.h - the deadline of runaway handlers, which works under the JIT compiler.
 *
 * LuaJIT's profiler in line mode calls back on the loop thread every few milliseconds of CPU time,
 * also out of compiled code. When the same resume has been running for longer than the deadline,
 * the callback arms a count hook, which raises an error in the running code. A pre-armed count
 * hook with a huge count makes the compiler's exits check hooks. (LuaJIT issues 723, 779, 1488
 * explain why a hook alone does not do.)
 *
 * Limits: one guarded runtime per process; it counts CPU time; long C functions (a pathological
 * string.find) and finalizers cannot be stopped. SIGPROF must be blocked in all other threads:
 * cg_guard_block_signal before threads are made does it.
 * Owns: the profiler while started. Thread: the loop thread. */
#ifndef CG_RUNTIME_GUARD_H
#define CG_RUNTIME_GUARD_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

struct cg_runtime;

/* The guard, a part of the runtime. */
struct cg_guard {
  uint64_t seen_resume;   /* resume_count at the last callback. */
  uint64_t seen_ns;       /* Monotonic time when that resume was first seen. */
  uint64_t deadline_ns;   /* How long one resume may run. */
  uint64_t stopped_count; /* Handlers stopped so far. */
  bool is_started;        /* Between start and stop. */
  bool is_fired;          /* The hook was armed for the current resume. */
};

/* Starts guarding with a deadline in milliseconds (at least 20). Asserts that no other runtime of
 * the process is guarded. */
void cg_guard_start(struct cg_runtime *runtime, uint32_t deadline_ms);
/* Stops guarding; harmless when not started. */
void cg_guard_stop(struct cg_runtime *runtime);
/* Blocks SIGPROF in the calling thread, and so in threads it makes, or unblocks it. */
void cg_guard_block_signal(bool block);

#endif
