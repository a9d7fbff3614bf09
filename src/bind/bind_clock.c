/* bind_clock.c - clocks and timers for Lua; see lua/catga/_meta/clock.lua.
 *
 * Owns: a clock userdata owns its timer queue. Thread: the loop thread. */
#include <lauxlib.h>

#include "bind/bind.h"

#define CLOCK_TYPE "catga.clock"
#define DELAY_MS_MAX 9007199254740992.0 /* 2^53. */

struct cg_bind_clock *cg_bind_check_clock(lua_State *L, int index) {
  struct cg_bind_clock *clock = luaL_checkudata(L, index, CLOCK_TYPE);
  if (clock->timers == NULL)
    luaL_error(L, "the clock is closed");
  return clock;
}

/* Milliseconds, at least 0. */
static int64_t check_ms(lua_State *L, int index) {
  double ms = luaL_checknumber(L, index);
  luaL_argcheck(L, ms >= 0 && ms <= DELAY_MS_MAX, index, "milliseconds must be from 0 to 2^53");
  return (int64_t)ms;
}

static struct cg_bind_clock *new_clock(lua_State *L) {
  struct cg_bind_clock *clock = lua_newuserdata(L, sizeof(*clock));
  *clock = (struct cg_bind_clock){0};
  luaL_getmetatable(L, CLOCK_TYPE);
  lua_setmetatable(L, -2);
  return clock;
}

static int bind_clock_system(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  struct cg_bind_clock *clock = new_clock(L);
  clock->clock = runtime->clock;
  clock->timers = cg_timers_new(runtime, clock->clock, false);
  return 1;
}

/* virtual(start_ms) */
static int bind_clock_virtual(lua_State *L) {
  int64_t start_ms = check_ms(L, 1);
  struct cg_bind_clock *clock = new_clock(L);
  clock->is_virtual = true;
  clock->state.wall_ms = start_ms;
  clock->clock = cg_clock_of(&clock->state);
  clock->timers = cg_timers_new(cg_runtime_of(L), clock->clock, true);
  return 1;
}

static int bind_clock_now(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  lua_pushnumber(L, (lua_Number)cg_clock_wall_ms(&clock->clock));
  return 1;
}

static int bind_clock_mono(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  lua_pushnumber(L, (lua_Number)cg_clock_mono_ns(&clock->clock) / 1e6);
  return 1;
}

/* advance(ms): virtual clocks only; fires nothing. */
static int bind_clock_advance(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  int64_t ms = check_ms(L, 2);
  if (!clock->is_virtual)
    return luaL_error(L, "only a virtual clock can be advanced");
  cg_clock_virtual_advance(&clock->state, ms);
  return 0;
}

/* step_back(ms): the wall clock of a virtual clock goes back. */
static int bind_clock_step_back(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  int64_t ms = check_ms(L, 2);
  if (!clock->is_virtual)
    return luaL_error(L, "only a virtual clock can be stepped back");
  clock->state.wall_ms -= ms;
  return 0;
}

/* step_forward(ms): the wall clock of a virtual clock goes on, its monotonic time does not. */
static int bind_clock_step_forward(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  int64_t ms = check_ms(L, 2);
  if (!clock->is_virtual)
    return luaL_error(L, "only a virtual clock can be stepped forward");
  clock->state.wall_ms += ms;
  return 0;
}

static void cancel_sleep(struct cg_task *task, void *arg) {
  (void)task;
  struct cg_bind_clock *clock = arg;
  if (clock->timers == NULL) /* Closed: its timers are gone. */
    return;
  /* The id of the sleep is the value that the task holds. */
  cg_timer_id *id = lua_touserdata(task->co, 1);
  cg_timers_cancel(clock->timers, *id);
}

/* sleep(ms): parks the task. */
static int bind_clock_sleep(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  int64_t due_ms = cg_timers_now_ms(clock->timers) + check_ms(L, 2);
  struct cg_runtime *runtime = cg_runtime_of(L);
  cg_task_check_park(runtime, L);
  cg_timer_id *id = lua_newuserdata(L, sizeof(*id));
  *id = cg_timers_wake_at(clock->timers, due_ms, cg_task_current(runtime));
  return cg_task_park(runtime, L, 1, cancel_sleep, clock);
}

/* after(ms, fn) -> timer */
static int bind_clock_after(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  int64_t due_ms = cg_timers_now_ms(clock->timers) + check_ms(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  cg_timer_id *id = lua_newuserdata(L, sizeof(*id));
  lua_pushvalue(L, 3);
  *id = cg_timers_call_at(clock->timers, due_ms, L);
  return 1;
}

/* cancel(timer) -> was it still to fire */
static int bind_clock_cancel(lua_State *L) {
  struct cg_bind_clock *clock = luaL_checkudata(L, 1, CLOCK_TYPE);
  luaL_checktype(L, 2, LUA_TUSERDATA);
  cg_timer_id *id = lua_touserdata(L, 2);
  luaL_argcheck(L, lua_objlen(L, 2) == sizeof(*id), 2, "not a timer");
  lua_pushboolean(L, clock->timers != NULL && cg_timers_cancel(clock->timers, *id));
  return 1;
}

static int bind_clock_fire(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  lua_pushnumber(L, cg_timers_fire(clock->timers));
  return 1;
}

/* next() -> ms until the first timer is due, or nil */
static int bind_clock_next(lua_State *L) {
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 1);
  int64_t next_ms = cg_timers_next_ms(clock->timers);
  if (next_ms < 0)
    return 0;
  int64_t delay_ms = next_ms - cg_timers_now_ms(clock->timers);
  lua_pushnumber(L, delay_ms > 0 ? (lua_Number)delay_ms : 0);
  return 1;
}

static int bind_clock_close(lua_State *L) {
  struct cg_bind_clock *clock = luaL_checkudata(L, 1, CLOCK_TYPE);
  if (clock->timers != NULL)
    cg_timers_free(clock->timers);
  clock->timers = NULL;
  return 0;
}

int cg_bind_clock(lua_State *L) {
  static const luaL_Reg methods[] = {{"now", bind_clock_now},
                                     {"mono", bind_clock_mono},
                                     {"advance", bind_clock_advance},
                                     {"step_back", bind_clock_step_back},
                                     {"step_forward", bind_clock_step_forward},
                                     {"sleep", bind_clock_sleep},
                                     {"after", bind_clock_after},
                                     {"cancel", bind_clock_cancel},
                                     {"fire", bind_clock_fire},
                                     {"next", bind_clock_next},
                                     {"close", bind_clock_close},
                                     {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"system", bind_clock_system}, {"virtual", bind_clock_virtual}, {NULL, NULL}};
  cg_bind_type(L, CLOCK_TYPE, methods, bind_clock_close);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
