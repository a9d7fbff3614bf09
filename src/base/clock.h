/* clock.h - wall and monotonic time behind a struct, so that specs can stop and turn it.
 *
 * Owns: nothing. Thread: the system clock any; a virtual clock belongs to one thread. */
#ifndef CG_BASE_CLOCK_H
#define CG_BASE_CLOCK_H

#include <stdint.h>

/* A source of time. Copy it freely; `arg` must outlive the copies. */
struct cg_clock {
  int64_t (*wall_ms)(void *arg);  /* Milliseconds since the Unix epoch; may step back. */
  uint64_t (*mono_ns)(void *arg); /* Nanoseconds from an unknown start; never steps back. */
  void *arg;                      /* Passed to both. */
};

/* A clock that stands still until it is turned. */
struct cg_clock_virtual {
  int64_t wall_ms;  /* Set freely, also backwards. */
  uint64_t mono_ns; /* Only ever grows. */
};

/* The system's clock. */
struct cg_clock cg_clock_system(void);
/* A clock that reads `state`, which must outlive it. */
struct cg_clock cg_clock_of(struct cg_clock_virtual *state);
/* Turns both times on by `ms` >= 0. */
void cg_clock_virtual_advance(struct cg_clock_virtual *state, int64_t ms);

static inline int64_t cg_clock_wall_ms(const struct cg_clock *clock) {
  return clock->wall_ms(clock->arg);
}
static inline uint64_t cg_clock_mono_ns(const struct cg_clock *clock) {
  return clock->mono_ns(clock->arg);
}

#endif
