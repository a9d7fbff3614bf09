/* reader.h - reads the commits of one segment file through a window.
 *
 * How to use: init once, cg_reader_turn to each segment, then ask for commits by offset; going
 * forward costs one read call a window. Recovery, cursors and verify all read through it.
 * Owns: the window. Thread: one at a time. */
#ifndef CG_LOG_READER_H
#define CG_LOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "log/record.h"
#include "log/segment.h"

/* A view of one file. */
struct cg_reader {
  struct cg_segment *segment; /* Whose file; not owned. */
  uint32_t nonce;             /* Salt of its CRCs when it was turned to. */
  uint64_t limit;             /* First offset that must not be looked at. */
  uint8_t *window;            /* Bytes read; NULL until needed. */
  size_t window_bytes;        /* How much is read at once; grows for a large commit. */
  uint64_t window_offset;     /* Where in the file the window begins. */
  size_t window_size;         /* Bytes in it. */
};

/* A commit found. The bytes are valid until the reader's next call. */
struct cg_reader_commit {
  struct cg_commit_header header; /* Its header. */
  const uint8_t *records;         /* Its records, records_size bytes. */
  size_t records_size;            /* Their size. */
  uint32_t check;                 /* Its check, the next one's chain. */
};

/* Prepares a reader that reads `window_bytes` at once. */
void cg_reader_init(struct cg_reader *reader, size_t window_bytes);
/* Frees the window. */
void cg_reader_deinit(struct cg_reader *reader);
/* Goes to a segment (kept); nothing at or after `limit` will be looked at. */
void cg_reader_turn(struct cg_reader *reader, struct cg_segment *segment, uint64_t limit);
/* Moves the limit of the same segment further. */
void cg_reader_extend(struct cg_reader *reader, uint64_t limit);

/* Gets `size` bytes at `offset`; *available is less only at limit or end of the file.
 * CG_EIO, and whatever else cg_segment_read may say. */
enum cg_code cg_reader_bytes(struct cg_reader *reader, uint64_t offset, size_t size,
                             const uint8_t **bytes, size_t *available, struct cg_err *err);
/* Reads and checks the whole commit at `offset`. CG_END: zeros stand there, or nothing;
 * CG_ECORRUPT: something else does; CG_EIO. */
enum cg_code cg_reader_commit(struct cg_reader *reader, uint64_t offset,
                              struct cg_reader_commit *commit, struct cg_err *err);
/* As cg_reader_commit, but reads and checks only the header. */
enum cg_code cg_reader_header(struct cg_reader *reader, uint64_t offset,
                              struct cg_commit_header *header, struct cg_err *err);
/* Searches from `offset`, in steps of 8, for a whole valid commit whose durable position is above
 * `position`; *found gets its offset. CG_END: none; CG_EIO; CG_ECORRUPT: a block of a compressed
 * segment is damaged before one is found. */
enum cg_code cg_reader_find(struct cg_reader *reader, uint64_t offset, uint64_t position,
                            uint64_t *found, struct cg_err *err);
/* *end gets the offset after the last byte that is not zero, or `offset` when there is none at or
 * after it. CG_EIO. */
enum cg_code cg_reader_end(struct cg_reader *reader, uint64_t offset, uint64_t *end,
                           struct cg_err *err);

#endif
