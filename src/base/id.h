/* id.h - Snowflake ids: 64-bit, unique over restarts, sorted by time.
 *
 *   bit 63    62 .......... 22    21 .... 12    11 ... 0
 *   0         ms since epoch      node          sequence
 *             (41 bits)           (10 bits)     (12 bits)
 *
 * The epoch is 2024-01-01T00:00:00Z (CG_ID_EPOCH_MS). Ids of one generator only grow: when the
 * clock steps back, or 4,096 ids of one millisecond are used up, the generator goes on from its
 * last millisecond, ahead of the clock. Over a restart: the generator reserves time ahead through
 * `reserve` and starts no earlier than what was reserved.
 * Format source: Twitter Snowflake (2010), with its bit widths. Text form: decimal digits.
 * Owns: nothing. Thread: one generator belongs to one thread. */
#ifndef CG_BASE_ID_H
#define CG_BASE_ID_H

#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"

#define CG_ID_EPOCH_MS INT64_C(1704067200000)              /* 2024-01-01T00:00:00Z. */
#define CG_ID_END_MS (CG_ID_EPOCH_MS + (INT64_C(1) << 41)) /* First time that fits no id. */
#define CG_ID_NODE_MAX 1023
#define CG_ID_SEQUENCE_MAX 4095
#define CG_ID_CHARS 20        /* Room for the text form: 19 digits and a zero. */
#define CG_ID_RESERVE_MS 1000 /* How far ahead of use time is reserved. */

/* Stores durably that no id at or after `until_ms` (Unix ms) was ever given out; called at most
 * once in CG_ID_RESERVE_MS of generated time, from cg_id_next(_at). A failure fails that call. */
typedef enum cg_code (*cg_id_reserve_fn)(void *arg, int64_t until_ms, struct cg_err *err);

/* A generator. */
struct cg_id_source {
  struct cg_clock clock;    /* Where time comes from. */
  cg_id_reserve_fn reserve; /* NULL: ids are not safe over a restart (memory runs). */
  void *reserve_arg;        /* Passed to reserve. */
  int64_t last_ms;          /* Unix ms of the newest id. */
  int64_t reserved_ms;      /* Ids before this Unix ms may be given without a new reservation. */
  uint32_t node;            /* 0..CG_ID_NODE_MAX. */
  uint32_t sequence;        /* Sequence the next id of last_ms would get; may be 4096. */
};

/* What an id says. */
struct cg_id_parts {
  int64_t time_ms;   /* Unix ms. */
  uint32_t node;     /* 0..1023. */
  uint32_t sequence; /* 0..4095. */
};

/* Prepares a generator. `not_before_ms`: no id gets a time below it (0, or what was reserved before
 * the restart). CG_EINVAL: node out of range. */
enum cg_code cg_id_source_init(struct cg_id_source *source, struct cg_clock clock, uint32_t node,
                               int64_t not_before_ms, cg_id_reserve_fn reserve, void *reserve_arg,
                               struct cg_err *err);
/* The next id. Errors: those of reserve; CG_ELIMIT when 41 bits of time are used up (year 2093). */
enum cg_code cg_id_next(struct cg_id_source *source, uint64_t *id, struct cg_err *err);
/* The same for a caller that has just read the generator's clock: one reading for the id and for
 * what it names. */
enum cg_code cg_id_next_at(struct cg_id_source *source, int64_t now_ms, uint64_t *id,
                           struct cg_err *err);
/* Splits an id. */
struct cg_id_parts cg_id_decode(uint64_t id);
/* Writes the decimal form with a terminating zero; returns its length. */
unsigned cg_id_format(uint64_t id, char text[CG_ID_CHARS]);

#endif
