/* walk.h - reads the segments of a log one after the other and checks that all of it follows on.
 *
 * How to use: init, then cg_walk_segment for each segment of the directory in order; deinit. The
 * first thing that is wrong ends it, by the rules of recovery. Nothing is changed.
 * Owns: the reader's window. Thread: one at a time. */
#ifndef CG_LOG_WALK_H
#define CG_LOG_WALK_H

#include "log/log.h"
#include "log/reader.h"
#include "log/segment.h"

/* A walk under way. */
struct cg_walk {
  const struct cg_fs *fs;    /* How to read. */
  const char *directory;     /* Where; not owned. */
  struct cg_log_walk *asked; /* What to call and to count; not owned. */
  struct cg_reader reader;   /* What is read through. */
  uint8_t log_id[16];        /* Of the first segment. */
  bool has_log_id;           /* It is known. */
  uint64_t position;         /* What the next record must have. */
  uint32_t chain;            /* What the next commit must be chained to. */
  uint64_t number;           /* Segment being read, or read last. */
  uint64_t offset;           /* Behind its last good commit. */
  bool is_ended;             /* until_position was reached. */
  uint64_t done_bytes;       /* Of the segments before; for progress. */
  uint64_t total_bytes;      /* Of all; for progress. */
  uint64_t told_bytes;       /* When progress was told last. */
};

/* Prepares a walk from the beginning of the log in `directory`. */
void cg_walk_init(struct cg_walk *walk, const struct cg_fs *fs, const char *directory,
                  struct cg_log_walk *asked);
/* Frees the window. */
void cg_walk_deinit(struct cg_walk *walk);

/* The bytes of all `count` segment files, for progress; those that cannot be asked count as 0. */
uint64_t cg_walk_total_bytes(const struct cg_fs *fs, const char *directory, const uint64_t *numbers,
                             size_t count);

/* Checks that the segment follows on what was read before. CG_ECORRUPT. */
enum cg_code cg_walk_header(struct cg_walk *walk, const struct cg_segment *segment,
                            struct cg_err *err);
/* Goes over a segment as if it had been read: what follows begins at `position` with `chain`. */
void cg_walk_pass(struct cg_walk *walk, const struct cg_segment *segment, uint64_t position,
                  uint32_t chain);
/* Reads a segment, with its header's check, up to its end, or to until_position; `is_last`: there
 * is none behind it, so that a torn tail may end it. After CG_ECORRUPT number and offset say where
 * the good part ends: offset 0 means that not even the header is good. CG_ECORRUPT, CG_EIO. */
enum cg_code cg_walk_segment(struct cg_walk *walk, struct cg_segment *segment, bool is_last,
                             struct cg_err *err);

/* Finds the next whole commit of a segment from `offset` on, going over blocks that are damaged. */
bool cg_walk_find(struct cg_reader *reader, const struct cg_segment *segment, uint64_t offset,
                  uint64_t *found);

/* Sets an error of damage with the segment's file name and an offset. */
enum cg_code cg_walk_corrupt(const struct cg_walk *walk, uint64_t number, uint64_t offset,
                             struct cg_err *err, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
