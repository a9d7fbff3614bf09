/* timer.h - timers on a binary heap, driven by the loop or by a virtual clock.
 *
 * A timer either wakes a parked task or starts a task with a Lua function. Equal due times fire in
 * the order in which they were started. Times are monotonic milliseconds of the queue's clock.
 * Owns: heap, slots, the uv timer. Thread: the loop thread. */
#ifndef CG_RUNTIME_TIMER_H
#define CG_RUNTIME_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/clock.h"
#include "runtime/call.h"
#include "runtime/task.h"

struct cg_runtime;
struct cg_timers;

/* Names one started timer; never reused by the same queue. 0 is none. */
typedef uint64_t cg_timer_id;

/* A queue. `clock` is copied. `is_virtual`: nothing fires by itself, only in cg_timers_fire. */
struct cg_timers *cg_timers_new(struct cg_runtime *runtime, struct cg_clock clock, bool is_virtual);
/* Drops all timers, and the tasks that wait for them, and frees the queue once the loop has
 * turned. */
void cg_timers_free(struct cg_timers *timers);

/* Milliseconds of the queue's monotonic clock. */
int64_t cg_timers_now_ms(const struct cg_timers *timers);
/* Starts a timer that wakes `task`, which is about to park. */
cg_timer_id cg_timers_wake_at(struct cg_timers *timers, int64_t due_ms, struct cg_task *task);
/* Starts a timer that spawns a task with the function on top of L's stack, which is popped. */
cg_timer_id cg_timers_call_at(struct cg_timers *timers, int64_t due_ms, lua_State *L);
/* Ends a timer before it fires; false when it has fired or never was. */
bool cg_timers_cancel(struct cg_timers *timers, cg_timer_id id);
/* Fires what is due now; returns how many. */
uint32_t cg_timers_fire(struct cg_timers *timers);
/* Due time of the first timer, or -1. */
int64_t cg_timers_next_ms(const struct cg_timers *timers);

#endif
