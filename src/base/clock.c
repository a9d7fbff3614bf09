/* clock.c - the system's clock and the virtual one.
 *
 * Owns: nothing. Thread: see clock.h. */
#include "base/clock.h"

#include <assert.h>
#include <stddef.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define MS_PER_S 1000

static int64_t system_wall_ms(void *arg);
static uint64_t system_mono_ns(void *arg);
static int64_t virtual_wall_ms(void *arg);
static uint64_t virtual_mono_ns(void *arg);

struct cg_clock cg_clock_system(void) {
  return (struct cg_clock){.wall_ms = system_wall_ms, .mono_ns = system_mono_ns, .arg = NULL};
}

struct cg_clock cg_clock_of(struct cg_clock_virtual *state) {
  return (struct cg_clock){.wall_ms = virtual_wall_ms, .mono_ns = virtual_mono_ns, .arg = state};
}

void cg_clock_virtual_advance(struct cg_clock_virtual *state, int64_t ms) {
  assert(ms >= 0);
  state->wall_ms += ms;
  state->mono_ns += (uint64_t)ms * (uint64_t)NS_PER_MS;
}

static int64_t system_wall_ms(void *arg) {
  (void)arg;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now); /* Cannot fail with this clock. */
  return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

static uint64_t system_mono_ns(void *arg) {
  (void)arg;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int64_t virtual_wall_ms(void *arg) {
  const struct cg_clock_virtual *state = arg;
  return state->wall_ms;
}

static uint64_t virtual_mono_ns(void *arg) {
  const struct cg_clock_virtual *state = arg;
  return state->mono_ns;
}
