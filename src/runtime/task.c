/* task.c - how tasks run.
 *
 * A pooled coroutine runs a Lua loop (catga.task_loop): it calls the function it was given, clears
 * the task's table and yields IDLE. Yields carry a light userdata first, by which the scheduler
 * (and the coroutine shims, for coroutines of the user's own) tell what a yield means.
 * Before each resume slot 1 of the state table (catga.state) is set to the task's table, so Lua
 * finds the current task without a call. */
#include "runtime/task.h"

#include <assert.h>

#include "base/mem.h"
#include "runtime/runtime.h"

#define IDLE_TASKS_MAX 16384u /* Coroutines kept for reuse. */

static struct cg_task *take_task(struct cg_runtime *runtime, lua_State *L);
static struct cg_task *new_task(struct cg_runtime *runtime, lua_State *L);
static void release_task(struct cg_task *task);
static void free_task(struct cg_task *task);
static void spawn_at_end(struct cg_runtime *runtime, lua_State *L);
static void resume(struct cg_task *task);
static void after_yield(struct cg_task *task);
static void push_ready(struct cg_task *task);
static void set_idle_handle(struct cg_runtime *runtime);
static void wake_settlers(struct cg_runtime *runtime);
static void on_idle(uv_idle_t *handle);
static void on_prepare(uv_prepare_t *handle);

enum cg_code cg_tasks_init(struct cg_runtime *runtime, struct cg_err *err) {
  struct cg_tasks *tasks = &runtime->tasks;
  int status = uv_idle_init(runtime->loop, &tasks->idle_handle);
  if (status == 0)
    status = uv_prepare_init(runtime->loop, &tasks->prepare_handle);
  if (status != 0)
    return cg_err_set(err, CG_EIO, "event loop: %s", uv_strerror(status));
  tasks->idle_handle.data = runtime;
  tasks->prepare_handle.data = runtime;
  uv_prepare_start(&tasks->prepare_handle, on_prepare);
  uv_unref((uv_handle_t *)&tasks->prepare_handle);
  return CG_OK;
}

void cg_tasks_stop(struct cg_runtime *runtime) {
  uv_close((uv_handle_t *)&runtime->tasks.idle_handle, NULL);
  uv_close((uv_handle_t *)&runtime->tasks.prepare_handle, NULL);
}

void cg_tasks_deinit(struct cg_runtime *runtime) {
  while (runtime->tasks.all != NULL)
    free_task(runtime->tasks.all);
  runtime->tasks = (struct cg_tasks){.serial = runtime->tasks.serial};
}

struct cg_task *cg_task_spawn(struct cg_runtime *runtime, lua_State *L, int arg_count) {
  struct cg_task *task = take_task(runtime, L);
  lua_checkstack(task->co, arg_count + 1);
  lua_xmove(L, task->co, arg_count + 1);
  task->value_count += arg_count + 1;
  push_ready(task);
  return task;
}

struct cg_task *cg_task_current(struct cg_runtime *runtime) {
  return runtime->tasks.current;
}

bool cg_task_can_park(struct cg_runtime *runtime, lua_State *L) {
  return runtime->tasks.current != NULL && !runtime->tasks.forbids_parks && lua_isyieldable(L);
}

void cg_task_check_park(struct cg_runtime *runtime, lua_State *L) {
  if (runtime->tasks.current == NULL)
    luaL_error(L, "only a task can wait");
  if (!cg_task_can_park(runtime, L))
    luaL_error(L, "cannot wait below a C function such as table.sort, string.gsub or require "
                  "(attempt to yield across C-call boundary); wait before it or after it");
}

int cg_task_park(struct cg_runtime *runtime, lua_State *L, int held_count, cg_task_cancel_fn cancel,
                 void *arg) {
  struct cg_task *task = runtime->tasks.current;
  assert(task != NULL && task->state == CG_TASK_RUNNING);
  task->cancel = cancel;
  task->cancel_arg = arg;
  lua_pushlightuserdata(L, &runtime->park_mark);
  lua_insert(L, -1 - held_count);
  return lua_yield(L, held_count + 1);
}

lua_State *cg_task_values(struct cg_task *task) {
  assert(task->state == CG_TASK_PARKED);
  return task->co;
}

lua_State *cg_task_clear(struct cg_task *task) {
  assert(task->state == CG_TASK_PARKED);
  lua_settop(task->co, 0);
  task->value_count = 0;
  return task->co;
}

void cg_task_wake(struct cg_task *task, int value_count) {
  assert(task->state == CG_TASK_PARKED);
  task->value_count += value_count;
  task->cancel = NULL;
  push_ready(task);
}

bool cg_task_interrupt(struct cg_task *task) {
  if (task->state != CG_TASK_PARKED || task->cancel == NULL)
    return false;
  task->cancel(task, task->cancel_arg);
  cg_task_wake(task, 0);
  return true;
}

bool cg_task_drop(struct cg_task *task) {
  struct cg_tasks *tasks = &task->runtime->tasks;
  if (task->state == CG_TASK_PARKED) {
    if (task->cancel == NULL)
      return false;
    task->cancel(task, task->cancel_arg);
  } else if (task->state == CG_TASK_READY) {
    tasks->ready_count--;
    struct cg_task **link = &tasks->ready_first;
    struct cg_task *before = NULL;
    while (*link != task) {
      before = *link;
      link = &(*link)->next;
    }
    *link = task->next;
    if (tasks->ready_last == task)
      tasks->ready_last = before;
  } else {
    return false;
  }
  tasks->live_count--;
  free_task(task);
  return true;
}

int cg_task_abandon(struct cg_runtime *runtime, lua_State *L) {
  cg_task_check_park(runtime, L);
  lua_pushlightuserdata(L, &runtime->abandon_mark);
  return lua_yield(L, 1);
}

static void cancel_settle(struct cg_task *task, void *arg) {
  (void)arg;
  struct cg_task **link = &task->runtime->tasks.settlers;
  while (*link != task)
    link = &(*link)->next;
  *link = task->next;
}

int cg_task_settle(struct cg_runtime *runtime, lua_State *L) {
  cg_task_check_park(runtime, L);
  struct cg_task *task = runtime->tasks.current;
  task->next = runtime->tasks.settlers;
  runtime->tasks.settlers = task;
  return cg_task_park(runtime, L, 0, cancel_settle, NULL);
}

void cg_task_busy(struct cg_runtime *runtime, int change) {
  assert(change > 0 || runtime->tasks.busy_count >= (uint32_t)-change);
  bool was_busy = runtime->tasks.busy_count > 0;
  runtime->tasks.busy_count += (uint32_t)change;
  bool is_busy = runtime->tasks.busy_count > 0;
  if (is_busy == was_busy)
    return;
  /* The loop stays alive while tasks wait for outside work. */
  if (is_busy)
    uv_ref((uv_handle_t *)&runtime->tasks.prepare_handle);
  else
    uv_unref((uv_handle_t *)&runtime->tasks.prepare_handle);
  set_idle_handle(runtime); /* Those that wait for this must get their turn. */
}

void cg_tasks_add_hook(struct cg_runtime *runtime, struct cg_turn_hook *hook) {
  hook->next = runtime->tasks.hooks;
  runtime->tasks.hooks = hook;
}

void cg_tasks_remove_hook(struct cg_runtime *runtime, struct cg_turn_hook *hook) {
  struct cg_turn_hook **link = &runtime->tasks.hooks;
  while (*link != NULL && *link != hook)
    link = &(*link)->next;
  if (*link == hook)
    *link = hook->next;
}

void cg_tasks_turn(struct cg_runtime *runtime) {
  struct cg_tasks *tasks = &runtime->tasks;
  if (runtime->is_stopping)
    return;
  uint32_t left = tasks->ready_count;
  bool has_run = left > 0;
  for (; left > 0 && tasks->ready_first != NULL; left--) {
    struct cg_task *task = tasks->ready_first;
    tasks->ready_first = task->next;
    if (tasks->ready_first == NULL)
      tasks->ready_last = NULL;
    tasks->ready_count--;
    resume(task);
  }
  for (struct cg_turn_hook *hook = has_run ? tasks->hooks : NULL; hook != NULL; hook = hook->next)
    hook->run(hook->arg);
  if (tasks->ready_first == NULL && tasks->settlers != NULL && tasks->busy_count == 0)
    wake_settlers(runtime);
  set_idle_handle(runtime);
}

/* An idle task, or a new one whose coroutine stands ready to be given a function. */
static struct cg_task *take_task(struct cg_runtime *runtime, lua_State *L) {
  struct cg_tasks *tasks = &runtime->tasks;
  struct cg_task *task = tasks->idle;
  if (task != NULL) {
    tasks->idle = task->next;
    tasks->idle_count--;
  } else {
    task = new_task(runtime, L);
  }
  task->serial = ++tasks->serial;
  tasks->live_count++;
  return task;
}

static struct cg_task *new_task(struct cg_runtime *runtime, lua_State *L) {
  struct cg_tasks *tasks = &runtime->tasks;
  /* First what may raise for lack of memory: no half-made task may be in the list. */
  lua_State *co = lua_newthread(L);
  lua_createtable(L, 0, 8);
  lua_pushliteral(L, "handle");
  lua_pushlightuserdata(L, NULL);
  lua_rawset(L, -3);
  lua_pushvalue(L, -1);
  cg_ref table_ref = cg_ref_take(runtime, L);
  lua_insert(L, -2);
  cg_ref co_ref = cg_ref_take(runtime, L);

  struct cg_task *task = cg_alloc(sizeof(*task));
  *task = (struct cg_task){.runtime = runtime,
                           .co = co,
                           .co_ref = co_ref,
                           .table_ref = table_ref,
                           .value_count = 1,
                           .all_next = tasks->all};
  if (tasks->all != NULL)
    tasks->all->all_previous = task;
  tasks->all = task;
  lua_pushlightuserdata(L, task);
  lua_setfield(L, -2, "handle");
  cg_ref_push(co, runtime->task_loop_ref);
  lua_xmove(L, co, 1); /* The loop's first argument: the task's table. */
  return task;
}

/* Puts a finished task into the pool. */
static void release_task(struct cg_task *task) {
  struct cg_tasks *tasks = &task->runtime->tasks;
  tasks->live_count--;
  if (tasks->idle_count >= IDLE_TASKS_MAX) {
    free_task(task);
    return;
  }
  task->state = CG_TASK_IDLE;
  task->value_count = 0;
  task->next = tasks->idle;
  tasks->idle = task;
  tasks->idle_count++;
}

static void free_task(struct cg_task *task) {
  lua_State *L = task->runtime->L;
  if (task->all_previous != NULL)
    task->all_previous->all_next = task->all_next;
  else
    task->runtime->tasks.all = task->all_next;
  if (task->all_next != NULL)
    task->all_next->all_previous = task->all_previous;
  cg_ref_push(L, task->table_ref); /* Whoever still holds the table must not find a dead task. */
  lua_pushnil(L);
  lua_setfield(L, -2, "handle");
  spawn_at_end(task->runtime, L);
  cg_ref_drop(task->runtime, task->co_ref);
  cg_ref_drop(task->runtime, task->table_ref);
  cg_free(task);
}

/* The table of a task that was dropped is on top and is popped: what it still holds is let go by a
 * task of its own (see at_end in lua/catga/task.lua). One that has ended did so itself. */
static void spawn_at_end(struct cg_runtime *runtime, lua_State *L) {
  lua_getfield(L, -1, "at_end");
  bool is_needed = lua_isfunction(L, -1) && !runtime->is_stopping;
  lua_remove(L, -2);
  if (is_needed)
    cg_task_spawn(runtime, L, 0);
  else
    lua_pop(L, 1);
}

static void resume(struct cg_task *task) {
  struct cg_runtime *runtime = task->runtime;
  struct cg_tasks *tasks = &runtime->tasks;
  lua_State *L = runtime->L;
  task->state = CG_TASK_RUNNING;
  tasks->current = task;
  tasks->forbids_parks = false;
  tasks->resume_count++;
  cg_ref_push(L, runtime->state_ref);
  cg_ref_push(L, task->table_ref);
  lua_rawseti(L, -2, 1);
  lua_pop(L, 1);

  int value_count = task->value_count;
  task->value_count = 0;
  int status = lua_resume(task->co, value_count);
  tasks->current = NULL;
  if (runtime->memory_is_full)
    cg_runtime_collect(runtime);
  if (status == LUA_YIELD) {
    after_yield(task);
    return;
  }
  /* The task loop catches errors of user code: only lack of memory and the like come here. */
  const char *message = status == 0 ? "its loop ended" : lua_tostring(task->co, -1);
  cg_say(runtime->say, CG_SAY_ERROR, "task ended: %s", message != NULL ? message : "unknown error");
  tasks->live_count--;
  free_task(task);
}

/* Sorts a yield by its first value. */
static void after_yield(struct cg_task *task) {
  struct cg_runtime *runtime = task->runtime;
  const void *mark = lua_touserdata(task->co, 1);
  if (mark == &runtime->park_mark) {
    lua_remove(task->co, 1);
    task->value_count = lua_gettop(task->co);
    task->state = CG_TASK_PARKED;
    if (runtime->tasks.yielding) {
      runtime->tasks.yielding = false;
      cg_task_wake(task, 0);
    }
    return;
  }
  lua_settop(task->co, 0);
  if (mark == &runtime->idle_mark) {
    release_task(task);
    return;
  }
  if (mark != &runtime->abandon_mark)
    cg_say(runtime->say, CG_SAY_ERROR,
           "a task called coroutine.yield outside of a coroutine of its own; it was ended");
  runtime->tasks.live_count--;
  free_task(task);
}

static void push_ready(struct cg_task *task) {
  struct cg_tasks *tasks = &task->runtime->tasks;
  task->state = CG_TASK_READY;
  task->next = NULL;
  if (tasks->ready_last == NULL)
    tasks->ready_first = task;
  else
    tasks->ready_last->next = task;
  tasks->ready_last = task;
  tasks->ready_count++;
  if (!tasks->idle_is_active)
    set_idle_handle(task->runtime);
}

/* The loop must not block in poll while a task can run. */
static void set_idle_handle(struct cg_runtime *runtime) {
  struct cg_tasks *tasks = &runtime->tasks;
  if (runtime->is_stopping) /* The handle is closed: what is woken now never runs. */
    return;
  bool needed = tasks->ready_first != NULL || (tasks->settlers != NULL && tasks->busy_count == 0);
  if (needed == tasks->idle_is_active)
    return;
  tasks->idle_is_active = needed;
  if (needed)
    uv_idle_start(&tasks->idle_handle, on_idle);
  else
    uv_idle_stop(&tasks->idle_handle);
}

static void wake_settlers(struct cg_runtime *runtime) {
  struct cg_task *task = runtime->tasks.settlers;
  runtime->tasks.settlers = NULL;
  while (task != NULL) {
    struct cg_task *next = task->next;
    cg_task_wake(task, 0);
    task = next;
  }
}

static void on_idle(uv_idle_t *handle) {
  (void)handle;
}

static void on_prepare(uv_prepare_t *handle) {
  cg_tasks_turn(handle->data);
}
