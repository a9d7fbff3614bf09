/* rewrite_world.h - a log on a simulated disk, the sealed segments of which are rewritten, and what
 * must be left of it.
 *
 * How to use: begin, replace segments in order, expect; end. Failures fail the cmocka test.
 * Owns: disk, log and model. Thread: one. */
#ifndef SPEC_REWRITE_WORLD_H
#define SPEC_REWRITE_WORLD_H

#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

/* Which records a rewriting keeps. */
enum keeping { KEEP_ALL, KEEP_NONE, KEEP_HALF, KEEP_RUNS, KEEP_FEW, KEEPINGS };

/* A log. */
struct rewrite_world {
  struct sim_fs *sim;            /* The disk. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* NULL: not open. */
  enum keeping keeping;          /* What rewriting keeps. */
  uint64_t rewritten_position;   /* All below it have been rewritten so. */
  bool is_compressing;           /* Rewriting compresses. */
  uint64_t asked_count;          /* Calls of keep. */
  uint64_t seen_position;        /* Next record that may come in a replay or scan. */
  uint64_t seen_count;           /* Records that came. */
  const char *fault;             /* What was wrong with one. */
};

/* The next position from `position` on that is still there. */
uint64_t rewrite_world_next(const struct rewrite_world *world, uint64_t position);
/* Sees a record of a scan. */
bool rewrite_world_see_scanned(void *arg, const struct cg_record *record, cg_log_place place);
/* Begins to see records from a position on. */
void rewrite_world_begin_seeing(struct rewrite_world *world, uint64_t position);
/* Opens the log; a replay is seen. */
enum cg_code rewrite_world_open(struct rewrite_world *world, struct cg_err *err);
/* Leaves the log as the end of the process would. */
void rewrite_world_leave(struct rewrite_world *world);
/* The seal of a segment. */
struct cg_log_seal rewrite_world_seal(struct rewrite_world *world, uint32_t number);
/* Makes a log with so many sealed segments, to be rewritten by `keeping` later. */
void rewrite_world_begin(struct rewrite_world *world, uint64_t seed, uint32_t count,
                         enum keeping keeping, bool is_compressing);
/* Frees it. */
void rewrite_world_end(struct rewrite_world *world);
/* Rewrites the segment of a seal, which becomes that of the new file. */
enum cg_code rewrite_world_rewrite(struct rewrite_world *world, struct cg_log_seal *seal,
                                   struct cg_err *err);
/* Rewrites a segment and puts it in place. */
void rewrite_world_replace(struct rewrite_world *world, uint32_t number);
/* Reads by cursors from some positions on and expects exactly what is kept. */
void rewrite_world_expect_kept(struct rewrite_world *world);
/* Scans one segment and expects exactly what is kept. */
void rewrite_world_expect_scanned(struct rewrite_world *world, const struct cg_log_seal *seal);
/* Reads every record of a segment by its place, from the open log. */
void rewrite_world_expect_places(struct rewrite_world *world, const struct cg_log_seal *seal);
/* Bytes of a segment's file. */
size_t rewrite_world_file_size(struct rewrite_world *world, uint32_t number);
/* Whether there is a rewritten file that is not its segment's. */
bool rewrite_world_has_new_file(struct rewrite_world *world, uint32_t number);

#endif
