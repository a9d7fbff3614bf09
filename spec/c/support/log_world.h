/* log_world.h - a file log on a simulated disk, with what must come back when it is opened.
 *
 * How to use: log_world_open, append through the model or log_world_fill, end the log, change bytes
 * of the disk, then log_world_expect_commits or log_world_expect_refused; log_world_free.
 * Every function fails the running test when something is not as it says.
 * Owns: disk, model, log. Thread: one. */
#ifndef SPEC_LOG_WORLD_H
#define SPEC_LOG_WORLD_H

#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define LOG_WORLD_PATH "/log/segment-0000000000.log" /* Of the first segment. */

/* A log and how it is opened. */
struct log_world {
  struct sim_fs *sim;            /* The disk. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_say say;             /* Writes what recovery says into `said`. */
  char said[512];                /* The last line. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* The log. */
};

/* Whether everything is to be tried instead of a part: CATGA_SEEDS is 10,000 or more. */
bool log_world_is_torture(void);

/* A new log with segments of so many bytes; the seed is the disk's and the nonces'. */
void log_world_open_seeded(struct log_world *world, uint64_t segment_bytes, uint64_t seed);
/* The same with the usual seed. */
void log_world_open(struct log_world *world, uint64_t segment_bytes);
/* Frees everything; a log that is open is abandoned. */
void log_world_free(struct log_world *world);

/* Opens the log as it stands on the disk and expects exactly `count` commits; closes it as a crash
 * would. */
void log_world_expect_commits(struct log_world *world, size_t count);
/* Expects that opening is refused, naming file and (from 0) offset, and changes nothing. */
void log_world_expect_refused(struct log_world *world, const char *file, long offset);

/* Appends commits, all in one batch or each in its own, until the end is over `bytes`. */
void log_world_fill(struct log_world *world, uint64_t bytes, bool is_one_batch);
/* Where a commit begins in its segment. */
uint64_t log_world_begin_of(const struct log_world *world, size_t commit);
/* Where a commit ends, found by the size in its header, in the segment's `bytes`. */
uint64_t log_world_end_of(const struct log_world *world, const uint8_t *bytes, size_t commit);

#endif
