/* batch.h - commits that were appended and are not written yet, as they will stand in the file.
 *
 * How to use: the loop thread adds commits to one batch while the writer seals and writes another;
 * the two are swapped under the writer's mutex. A batch is a row of runs; a run is contiguous in
 * one segment and is what one write and one sync take; it is bounded, so that under load commits
 * are acknowledged run by run.
 * Owns: its bytes and tables. Thread: one at a time, but for this: while the writer seals a batch
 * (fills in commit headers, record CRCs and end marks), the loop thread may read the rest of its
 * bytes through cg_batch_copy_record and cg_batch_copy_commit, which step around what is being
 * filled in. */
#ifndef CG_LOG_BATCH_H
#define CG_LOG_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "log/segment.h"

#define CG_BATCH_RUN_BYTES_MAX ((size_t)4 << 20) /* A run ends with the commit that reaches it. */
#define CG_BATCH_IDLE_BYTES_MAX ((size_t)256 << 10) /* What an idle batch may keep. */

/* One commit of a batch; a record count of 0 is a mark. */
struct cg_batch_commit {
  uint64_t first_position; /* Of its first record. */
  uint64_t place;          /* Segment number << 32 | offset / 8, of the commit's header. */
  size_t begin;            /* Where it begins in the batch's bytes. */
  uint32_t size;           /* Bytes, with header and end mark. */
  uint32_t record_count;   /* Records. */
};

/* A contiguous part of one segment. */
struct cg_batch_run {
  struct cg_segment *segment; /* Which segment. */
  uint64_t offset;            /* Where in the segment. */
  size_t begin;               /* Where in the batch's bytes. */
  size_t size;                /* Bytes. */
  size_t commit_begin;        /* Index of its first commit. */
  size_t commit_count;        /* How many. */
};

/* Commits waiting. All zero is an empty batch. */
struct cg_batch {
  uint8_t *bytes;                  /* The commits. */
  size_t size;                     /* Bytes in use. */
  size_t capacity;                 /* Bytes allocated. */
  struct cg_batch_commit *commits; /* In order of place and position. */
  size_t commit_count;             /* How many. */
  size_t commit_capacity;          /* Room. */
  struct cg_batch_run *runs;       /* In order. */
  size_t run_count;                /* How many. */
  size_t run_capacity;             /* Room. */
  int64_t time_ms;                 /* When its first commit was appended, Unix ms. */
};

/* Frees what the batch holds and leaves it empty. */
void cg_batch_deinit(struct cg_batch *batch);
/* Empties it, keeping its memory. */
void cg_batch_clear(struct cg_batch *batch);

/* Adds one commit of encoded records (`records_size` bytes; none for a mark) at an offset. */
void cg_batch_add(struct cg_batch *batch, struct cg_segment *segment, uint64_t offset,
                  const uint8_t *records, size_t records_size, uint32_t record_count,
                  uint64_t first_position);

/* The commit that `place` lies in, or NULL. */
const struct cg_batch_commit *cg_batch_find_place(const struct cg_batch *batch, uint64_t place);
/* The commit that holds the record with `position`, or NULL. */
const struct cg_batch_commit *cg_batch_find_position(const struct cg_batch *batch,
                                                     uint64_t position);
/* Appends the record at `place` to `buf`, its CRC left 0. False: no record begins there. */
bool cg_batch_copy_record(const struct cg_batch *batch, const struct cg_batch_commit *commit,
                          uint64_t place, struct cg_buf *buf);
/* Appends all records of the commit to `buf`, their CRCs left 0. */
void cg_batch_copy_commit(const struct cg_batch *batch, const struct cg_batch_commit *commit,
                          struct cg_buf *buf);

#endif
