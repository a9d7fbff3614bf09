/* dues.h - when streams are due: a heap of times and stream numbers, 16 bytes each, for the many
 * that wait and are not in memory otherwise.
 *
 * How to use: push; next tells for when to arm a timer; pop gives those that are due. A stream may
 * be in it several times; who pops looks whether it still waits.
 * Owns: the heap. Thread: any one at a time. */
#ifndef CG_RUNTIME_DUES_H
#define CG_RUNTIME_DUES_H

#include <stdbool.h>
#include <stdint.h>

/* One stream that is due at a time. */
struct cg_due {
  int64_t due_ms;  /* Unix time. */
  uint64_t stream; /* Its number. */
};

/* All of them. */
struct cg_dues {
  struct cg_due *heap; /* The earliest first; NULL while empty. */
  uint32_t count;      /* How many. */
  uint32_t capacity;   /* Room. */
};

/* Frees the heap; it is empty then. */
void cg_dues_deinit(struct cg_dues *dues);
/* Adds one. False: there are 2^31 already. */
bool cg_dues_push(struct cg_dues *dues, struct cg_due due);
/* The earliest one; false: there is none. */
bool cg_dues_next(const struct cg_dues *dues, struct cg_due *due);
/* Takes the earliest one if it is due at `now_ms`. */
bool cg_dues_pop(struct cg_dues *dues, int64_t now_ms, struct cg_due *due);
/* Takes one entry of a stream out, looking at all of them. False: it has none. */
bool cg_dues_remove(struct cg_dues *dues, uint64_t stream);

#endif
