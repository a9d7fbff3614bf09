/* task.h - tasks: pooled coroutines, and the one place that resumes them.
 *
 * Every piece of user Lua runs in a task. A function that waits arms its event, names a cancel
 * function, and ends `return cg_task_park(...)`; the event's callback pushes results onto
 * cg_task_values and calls cg_task_wake. Tasks run in the order in which they were woken.
 *
 * A task is in one of these states:
 *   idle (in the pool) -> ready -> running -> parked -> ready ... -> idle
 * Owns: the coroutines. Thread: the loop thread. */
#ifndef CG_RUNTIME_TASK_H
#define CG_RUNTIME_TASK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "runtime/call.h"

struct cg_runtime;
struct cg_task;

/* Undoes what the parked task waits for, so that it will not be woken by it. */
typedef void (*cg_task_cancel_fn)(struct cg_task *task, void *arg);

/* Life of a task. */
enum cg_task_state { CG_TASK_IDLE, CG_TASK_READY, CG_TASK_RUNNING, CG_TASK_PARKED };

/* One task. Read-only for everybody but task.c. */
struct cg_task {
  struct cg_runtime *runtime;   /* Whose task it is. */
  lua_State *co;                /* Its coroutine. */
  cg_ref co_ref;                /* Keeps the coroutine. */
  cg_ref table_ref;             /* The Lua table that stands for the task. */
  enum cg_task_state state;     /* Where it is in its life. */
  int value_count;              /* Values on co's stack that the next resume passes. */
  uint64_t serial;              /* Differs between uses of a pooled task. */
  cg_task_cancel_fn cancel;     /* While parked; NULL: the wait is short and cannot be cancelled. */
  void *cancel_arg;             /* Passed to cancel. */
  struct cg_task *next;         /* In the ready queue, or the idle list. */
  struct cg_task *all_next;     /* In the list of all tasks. */
  struct cg_task *all_previous; /* The one before in the list of all. */
};

/* Something to do at the end of every turn in which tasks ran; the caller's memory. */
struct cg_turn_hook {
  void (*run)(void *arg);    /* Must be short; must not wake or run tasks. */
  void *arg;                 /* Passed to run. */
  struct cg_turn_hook *next; /* Next hook; task.c's. */
};

/* The scheduler, a part of the runtime. */
struct cg_tasks {
  struct cg_task *ready_first; /* FIFO of ready tasks. */
  struct cg_task *ready_last;  /* Its end. */
  struct cg_task *idle;        /* LIFO of idle tasks. */
  struct cg_task *all;         /* All tasks, also parked and idle ones. */
  struct cg_task *current;     /* The running one, or NULL. */
  uint64_t resume_count;       /* Grows with every resume; the deadline guard watches it. */
  uint32_t ready_count;        /* Length of the ready queue. */
  uint32_t idle_count;         /* How many are idle. */
  uint32_t live_count;         /* Tasks that are ready, running or parked. */
  uint32_t busy_count;         /* Outside work under way that will wake tasks (see cg_task_busy). */
  uint64_t serial;             /* Last serial given. */
  uv_idle_t idle_handle;       /* Active while the ready queue is not empty. */
  uv_prepare_t prepare_handle; /* Runs the queue once a turn. */
  bool idle_is_active;         /* idle_handle was started. */
  bool forbids_parks; /* The running code is below a C function, in a coroutine of its own. */
  bool yielding;      /* The task that is parking wants to go on at once, after others. */
  struct cg_turn_hook *hooks; /* Run at the end of a turn. */
  struct cg_task *settlers;   /* Tasks that wait until nothing else can run. */
};

/* Prepares the scheduler; the runtime's loop and state are there. */
enum cg_code cg_tasks_init(struct cg_runtime *runtime, struct cg_err *err);
/* Closes its handles (the loop must turn once more); then deinit drops all coroutines, also those
 * that still wait: what they wait for must not wake them any more. */
void cg_tasks_stop(struct cg_runtime *runtime);
void cg_tasks_deinit(struct cg_runtime *runtime);

/* Starts a task: the function and its `arg_count` arguments are on top of L's stack and are
 * popped. It runs when its turn comes. */
struct cg_task *cg_task_spawn(struct cg_runtime *runtime, lua_State *L, int arg_count);

/* The task in which the calling Lua code runs; NULL outside of tasks. */
struct cg_task *cg_task_current(struct cg_runtime *runtime);

/* Raises unless the calling Lua code may wait: it runs in a task, and no C function such as
 * table.sort stands between it and the scheduler. A function that waits calls this before it arms
 * anything: what is armed would wake a task that does not wait for it. */
void cg_task_check_park(struct cg_runtime *runtime, lua_State *L);
/* The same as a question; false outside of tasks. */
bool cg_task_can_park(struct cg_runtime *runtime, lua_State *L);
/* Ends a C function that waits: `return cg_task_park(L, n, cancel, arg)`. The top n values stay
 * with the task and are the first results when it is woken. Must be called in a task. */
int cg_task_park(struct cg_runtime *runtime, lua_State *L, int held_count, cg_task_cancel_fn cancel,
                 void *arg);
/* Where to push further results of a parked task before it is woken. */
lua_State *cg_task_values(struct cg_task *task);
/* Forgets the values that a parked task holds; returns where to push others. */
lua_State *cg_task_clear(struct cg_task *task);
/* Makes a parked task ready; `value_count` values were pushed onto cg_task_values. */
void cg_task_wake(struct cg_task *task, int value_count);
/* Cancels what the parked task waits for and makes it ready without further results; false when
 * it is not parked or its wait cannot be cancelled. */
bool cg_task_interrupt(struct cg_task *task);
/* Drops a parked task (its wait must be cancellable) or a ready one: it never runs again. False
 * when it could not. The running task drops itself by yielding through cg_task_abandon. */
bool cg_task_drop(struct cg_task *task);
/* Ends the running task: `return cg_task_abandon(L)`; its coroutine is left to the collector. */
int cg_task_abandon(struct cg_runtime *runtime, lua_State *L);
/* Parks the running task until no task is ready and no outside work is under way. */
int cg_task_settle(struct cg_runtime *runtime, lua_State *L);

/* Counts outside work (a sync, a worker job) that settle has to wait for. */
void cg_task_busy(struct cg_runtime *runtime, int change);

/* Adds a hook, and takes it away again. */
void cg_tasks_add_hook(struct cg_runtime *runtime, struct cg_turn_hook *hook);
void cg_tasks_remove_hook(struct cg_runtime *runtime, struct cg_turn_hook *hook);

/* Runs ready tasks: at most those that were ready when it was called; none once the runtime
 * stops. */
void cg_tasks_turn(struct cg_runtime *runtime);

#endif
