/* bind_task.c - tasks for Lua; see lua/catga/_meta/task.lua.
 *
 * Owns: nothing. Thread: the loop thread. */
#include <lauxlib.h>

#include "bind/bind.h"

#define SPAWN_ARGS_MAX 1000 /* Values a task can be given; far below what a stack may hold. */

/* The C task of a task's table, or NULL when the task is gone. */
static struct cg_task *check_task(lua_State *L, int index) {
  luaL_checktype(L, index, LUA_TTABLE);
  lua_getfield(L, index, "handle");
  struct cg_task *task = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return task;
}

/* spawn(fn, ...) -> task */
static int bind_task_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_argcheck(L, lua_gettop(L) <= SPAWN_ARGS_MAX, 2, "too many arguments for a task");
  struct cg_task *task = cg_task_spawn(cg_runtime_of(L), L, lua_gettop(L) - 1);
  cg_ref_push(L, task->table_ref);
  return 1;
}

static void cancel_nothing(struct cg_task *task, void *arg) {
  (void)task;
  (void)arg;
}

/* park() -> what wake passed: whoever keeps the task's table wakes it. */
static int bind_task_park(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  cg_task_check_park(runtime, L);
  return cg_task_park(runtime, L, 0, cancel_nothing, NULL);
}

/* can_park() -> may the calling code wait? */
static int bind_task_can_park(lua_State *L) {
  lua_pushboolean(L, cg_task_can_park(cg_runtime_of(L), L));
  return 1;
}

/* forbid_parks(is_forbidden) -> what it was: for the shims over coroutines */
static int bind_task_forbid_parks(lua_State *L) {
  struct cg_tasks *tasks = &cg_runtime_of(L)->tasks;
  lua_pushboolean(L, tasks->forbids_parks);
  tasks->forbids_parks = lua_toboolean(L, 1);
  return 1;
}

/* wake(task, ...) -> true, or false when it is not in park() */
static int bind_task_wake(lua_State *L) {
  struct cg_task *task = check_task(L, 1);
  /* Only a wait in park is ended so: others are woken by what they wait for. */
  if (task == NULL || task->state != CG_TASK_PARKED || task->cancel != cancel_nothing) {
    lua_pushboolean(L, 0);
    return 1;
  }
  int count = lua_gettop(L) - 1;
  luaL_argcheck(L, count <= SPAWN_ARGS_MAX, 2, "too many values for a task");
  lua_State *values = cg_task_values(task);
  lua_checkstack(values, count);
  lua_xmove(L, values, count);
  cg_task_wake(task, count);
  lua_pushboolean(L, 1);
  return 1;
}

/* interrupt(task) -> true when its wait was cancelled and it will run */
static int bind_task_interrupt(lua_State *L) {
  struct cg_task *task = check_task(L, 1);
  lua_pushboolean(L, task != NULL && cg_task_interrupt(task));
  return 1;
}

/* drop(task) -> true when it will never run again */
static int bind_task_drop(lua_State *L) {
  struct cg_task *task = check_task(L, 1);
  lua_pushboolean(L, task != NULL && cg_task_drop(task));
  return 1;
}

/* abandon(): ends the running task where it stands. */
static int bind_task_abandon(lua_State *L) {
  return cg_task_abandon(cg_runtime_of(L), L);
}

/* settle(): parks until nothing else can run. */
static int bind_task_settle(lua_State *L) {
  return cg_task_settle(cg_runtime_of(L), L);
}

/* yield(): lets the other ready tasks run first. */
static int bind_task_yield(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  cg_task_check_park(runtime, L);
  runtime->tasks.yielding = true;
  return cg_task_park(runtime, L, 0, cancel_nothing, NULL);
}

/* busy(change): counts outside work that settle waits for. */
static int bind_task_busy(lua_State *L) {
  cg_task_busy(cg_runtime_of(L), luaL_checkint(L, 1));
  return 0;
}

/* live() -> list of the tasks that are ready or parked, in no order */
static int bind_task_live(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  lua_newtable(L);
  int pushed = 0;
  for (struct cg_task *task = runtime->tasks.all; task != NULL; task = task->all_next) {
    if (task->state != CG_TASK_READY && task->state != CG_TASK_PARKED)
      continue;
    cg_ref_push(L, task->table_ref);
    lua_rawseti(L, -2, ++pushed);
  }
  return 1;
}

/* thread(task) -> coroutine of a parked task, to be looked at only; nil: it is not parked */
static int bind_task_thread(lua_State *L) {
  struct cg_task *task = check_task(L, 1);
  if (task == NULL || task->state != CG_TASK_PARKED)
    return 0;
  cg_ref_push(L, task->co_ref);
  return 1;
}

/* counts() -> live tasks, references held by C */
static int bind_task_counts(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  lua_pushnumber(L, runtime->tasks.live_count);
  lua_pushnumber(L, (lua_Number)runtime->ref_count);
  lua_pushnumber(L, runtime->tasks.idle_count);
  return 3;
}

int cg_bind_task(lua_State *L) {
  static const luaL_Reg functions[] = {{"spawn", bind_task_spawn},
                                       {"park", bind_task_park},
                                       {"can_park", bind_task_can_park},
                                       {"forbid_parks", bind_task_forbid_parks},
                                       {"wake", bind_task_wake},
                                       {"interrupt", bind_task_interrupt},
                                       {"drop", bind_task_drop},
                                       {"abandon", bind_task_abandon},
                                       {"settle", bind_task_settle},
                                       {"yield", bind_task_yield},
                                       {"busy", bind_task_busy},
                                       {"counts", bind_task_counts},
                                       {"live", bind_task_live},
                                       {"thread", bind_task_thread},
                                       {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
