/* runtime.h - one Lua state on one event loop. Door of the folder.
 *
 * Lifetime: cg_runtime_new on the caller's loop (or an own one), let the loop run, cg_runtime_stop,
 * let the loop turn until cg_runtime_is_stopped, cg_runtime_free. Several runtimes may live in one
 * program, each with its own state; only one may have the deadline guard (LuaJIT's profiler is a
 * global of the process).
 * Owns: the Lua state, tasks, buffer pool. Thread: the loop thread, but for what says otherwise. */
#ifndef CG_RUNTIME_RUNTIME_H
#define CG_RUNTIME_RUNTIME_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/say.h"
#include "runtime/call.h"
#include "runtime/guard.h"
#include "runtime/script.h"
#include "runtime/task.h"
#include "runtime/timer.h"

/* Opens the bindings: registers every native module in package.preload of L. */
typedef void (*cg_bindings_fn)(struct cg_runtime *runtime, lua_State *L);

/* How to make a runtime. Zero fields mean the default. */
struct cg_runtime_options {
  uv_loop_t *loop;         /* NULL: an own one. */
  struct cg_clock clock;   /* Default: the system's. */
  struct cg_say *say;      /* Must outlive the runtime. */
  cg_bindings_fn bindings; /* Must be given. */
};

/* A runtime. Fields are read-only for other folders. */
struct cg_runtime {
  uv_loop_t *loop;          /* The caller's, or own_loop. */
  uv_loop_t own_loop;       /* Used when owns_loop. */
  lua_State *L;             /* Main state; tasks have their own coroutines. */
  struct cg_clock clock;    /* Where time comes from. */
  struct cg_say *say;       /* Where output goes. */
  struct cg_buf_pool *pool; /* Buffers for messages. */
  struct cg_tasks tasks;    /* The scheduler. */
  struct cg_guard guard;    /* The deadline of runaway handlers. */
  cg_ref state_ref;         /* The table catga.state; slot 1 is the current task's table. */
  cg_ref task_loop_ref;     /* Body of the pooled coroutines. */
  int64_t ref_count;        /* References taken and not dropped. */
  lua_Alloc allocate;       /* LuaJIT's own allocator, below the cap. */
  void *allocate_arg;       /* Passed to allocate. */
  size_t memory_bytes;      /* In use by Lua. */
  size_t memory_bytes_max;  /* 0: no cap. */
  bool memory_is_full;      /* An allocation was refused, and nothing was collected since. */
  int exit_code;            /* Of the program, set by the script (catga.exit). */
  void (*on_exit)(struct cg_runtime *runtime, void *arg); /* Told when the script wants the program
                               to end, or NULL. */
  void *on_exit_arg;                                      /* Passed to on_exit. */
  bool is_stopping;                                       /* cg_runtime_stop was called. */
  bool owns_loop;                                         /* loop is own_loop. */
  char park_mark;    /* Only its address matters: first value of a yield that parks. */
  char idle_mark;    /* The same: the coroutine is free for reuse. */
  char abandon_mark; /* The same: the coroutine ends here. */
};

/* Makes the runtime: state, libraries, embedded modules, task pool. */
enum cg_code cg_runtime_new(struct cg_runtime **runtime, const struct cg_runtime_options *options,
                            struct cg_err *err);
/* Closes the handles of the runtime; the loop must turn until they are closed. */
void cg_runtime_stop(struct cg_runtime *runtime);
/* Frees everything; the own loop too. Says so when references leaked. Returns how many did. */
int64_t cg_runtime_free(struct cg_runtime *runtime);

/* Caps the Lua heap at `bytes` from now on (more is a Lua error "not enough memory"); 0: no cap.
 * The task that meets the cap gets the error; an eighth above it is left to those who report
 * it, and when the task waits or ends the garbage is collected. */
void cg_runtime_set_memory_max(struct cg_runtime *runtime, size_t bytes);
/* Collects the garbage after an allocation was refused (memory_is_full). Not inside Lua. */
void cg_runtime_collect(struct cg_runtime *runtime);

/* The runtime of a Lua state (also of its coroutines). */
struct cg_runtime *cg_runtime_of(lua_State *L);

#endif
