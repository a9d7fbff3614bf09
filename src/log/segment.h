/* segment.h - one append-only file of commits: its life from reservation to reading.
 *
 * How to use: cg_segment_reserve makes the file under a temporary name with its space reserved;
 * cg_segment_publish gives it header and name once everything before it is durable;
 * cg_segment_write and cg_segment_sync store commits; cg_segment_grow keeps a stretch of zeros
 * ahead of them, because a sync into blocks never written costs more. cg_segment_open is for files
 * found. A published segment has a durable header, so a name without valid header is damage.
 * A sealed segment is only read: its file may be closed at any time (cg_segment_rest) and is opened
 * again by the next cg_segment_read.
 * Owns: the file handle and the waypoints. Thread: each field names its thread; reserve, open, read
 * and free belong to the loop thread, publish, write, sync and grow to the writer. */
#ifndef CG_LOG_SEGMENT_H
#define CG_LOG_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "log/log.h"

#define CG_SEGMENT_BYTES_DEFAULT (UINT64_C(256) << 20)
#define CG_SEGMENT_BYTES_MIN (UINT64_C(64) << 10)
#define CG_SEGMENT_BYTES_MAX (UINT64_C(32) << 30)    /* Offset / 8 must fit 32 bits of a place. */
#define CG_SEGMENT_STRETCH_MIN (UINT64_C(1) << 20)   /* First stretch of zeros. */
#define CG_SEGMENT_SLICE_BYTES (UINT64_C(256) << 10) /* Zeros written at one go. */
#define CG_SEGMENT_STRETCH_MAX (UINT64_C(8) << 20)   /* Stretches double up to it. */
#define CG_SEGMENT_MARK_BYTES (CG_COMMIT_HEADER_BYTES + CG_COMMIT_END_BYTES)
#define CG_SEGMENT_NAME_BYTES 40             /* Room for a file name with its longest ending. */
#define CG_SEGMENT_WAYPOINT_BYTES (1u << 20) /* Distance of waypoints. */

struct cg_handles;
struct cg_block_cache;
struct cg_block_table;

/* A segment file. */
struct cg_segment {
  const struct cg_fs *fs;          /* How to reach the file. */
  char *directory;                 /* Where it lies. */
  struct cg_segment_header header; /* Fixed, but for `chain`, which publish sets (writer). */
  int handle;                      /* Open for reading, the last one's for writing too; -1: closed
                                      until it is read (sealed only). */
  struct cg_handles *handles;      /* Bounds how many are open; NULL: it stays open. Not owned. */
  uint64_t used;                   /* When it was read last; of `handles`. */
  bool is_published;               /* It has its header and name. Writer. */
  atomic_bool is_reserved;         /* Its space is safe; appends need that. */
  struct cg_block_cache *cache;    /* Of a compressed one. NULL: it makes one when it is read. */
  bool has_own_cache;              /* It has made it. */
  struct cg_block_table *table;    /* Of a compressed one; NULL until it is read. */
  uint64_t file_bytes;             /* Bytes written, zeros too. Writer. */
  uint64_t growth_bytes;           /* Where the zeros under way shall end; 0: none. Writer. */
  uint64_t stretch_bytes;          /* Size of the next stretch of zeros. Writer. */
  /* Where commits begin, one about every CG_SEGMENT_WAYPOINT_BYTES, so that reading from a
   * position need not begin at the segment's start. Loop thread. */
  struct cg_log_waypoint *waypoints;   /* Noted in this run, in order. */
  uint32_t waypoint_count;             /* How many. */
  const struct cg_log_waypoint *given; /* Given from outside, not owned; these go first. */
  uint32_t given_count;                /* How many; 0: none were given. */
};

/* Makes the file of a new segment under its temporary name, with space for header.segment_bytes
 * reserved; header.chain does not matter yet. CG_EFULL: no space, nothing is left behind. */
enum cg_code cg_segment_reserve(struct cg_segment **segment, const struct cg_fs *fs,
                                const char *directory, const struct cg_segment_header *header,
                                struct cg_err *err);
/* Opens a segment found in the directory and checks its header against its name.
 * CG_ECORRUPT: file and offset are named. */
enum cg_code cg_segment_open(struct cg_segment **segment, const struct cg_fs *fs,
                             const char *directory, uint64_t number, struct cg_err *err);
/* The same, for reading only. */
enum cg_code cg_segment_open_to_read(struct cg_segment **segment, const struct cg_fs *fs,
                                     const char *directory, uint64_t number, struct cg_err *err);
/* The same, of a rewritten file that is not the segment's yet. */
enum cg_code cg_segment_open_rewritten(struct cg_segment **segment, const struct cg_fs *fs,
                                       const char *directory, uint64_t number, struct cg_err *err);
/* Closes the file of a sealed segment until it is read again; frees what it was read with. */
void cg_segment_rest(struct cg_segment *segment);
/* Lets the segment take over file and header of `other`, which is freed; forgets waypoints. */
void cg_segment_adopt(struct cg_segment *segment, struct cg_segment *other);
/* Closes the file and frees the segment; NULL is fine. */
void cg_segment_free(struct cg_segment *segment);

/* Nothing is to be read at or behind it. */
static inline uint64_t cg_segment_limit(const struct cg_segment *segment) {
  return segment->header.is_compressed ? segment->header.segment_bytes : segment->file_bytes;
}

/* Reads what stands at an offset; *count is less than `size` only at the end. CG_EIO, and of a
 * sealed segment CG_ENOTFOUND, CG_EPERM, CG_ECORRUPT: offset and reason are named, the file is not
 * always. */
enum cg_code cg_segment_read(struct cg_segment *segment, void *bytes, size_t size, uint64_t offset,
                             size_t *count, struct cg_err *err);

/* Reserves the space of an opened segment again; sets is_reserved. CG_EFULL. */
enum cg_code cg_segment_reserve_again(struct cg_segment *segment, struct cg_err *err);

/* Writes header and first zeros, syncs, renames, syncs the directory. Everything before the segment
 * must be durable; `chain` is the check of the last commit before it. Any failure is final. */
enum cg_code cg_segment_publish(struct cg_segment *segment, uint32_t chain, struct cg_err *err);
/* Writes bytes at an offset. Any failure is final. */
enum cg_code cg_segment_write(struct cg_segment *segment, const uint8_t *bytes, size_t size,
                              uint64_t offset, struct cg_err *err);
/* Makes what was written durable. Any failure is final. */
enum cg_code cg_segment_sync(struct cg_segment *segment, struct cg_err *err);
/* Whether zeros are to be written: a stretch is under way, or what is left of the last one behind
 * `end_offset` runs out. */
bool cg_segment_needs_growth(const struct cg_segment *segment, uint64_t end_offset);
/* Writes one slice of zeros, and syncs when it ends the stretch. To be called when there is nothing
 * better to do. CG_EFULL: no space, try again later; any other failure is final. */
enum cg_code cg_segment_grow(struct cg_segment *segment, struct cg_err *err);

/* Notes that a commit begins at `offset`; calls must come in order. */
void cg_segment_pass(struct cg_segment *segment, uint64_t position, uint64_t offset);
/* The offset of a commit at or before the one that holds `position`. */
uint64_t cg_segment_seek(const struct cg_segment *segment, uint64_t position);

/* The seal of a segment that `next` has been published behind. */
struct cg_log_seal cg_segment_seal(const struct cg_segment *segment, const struct cg_segment *next);

/* Writes "segment-0000000007.log". */
void cg_segment_name(char name[CG_SEGMENT_NAME_BYTES], uint64_t number);
/* What a directory entry is. *number is set for all but the first. */
enum cg_segment_kind {
  CG_SEGMENT_KIND_OTHER,    /* Not a segment. */
  CG_SEGMENT_KIND_FILE,     /* A published segment. */
  CG_SEGMENT_KIND_TEMP,     /* What a crash left of one not published. */
  CG_SEGMENT_KIND_REWRITTEN /* A rewritten file that did not become the segment's, or not yet. */
};
enum cg_segment_kind cg_segment_parse_name(const char *name, uint64_t *number);

/* "<directory>/<name>"; free with cg_free. */
char *cg_segment_path(const char *directory, const char *name);
/* The path of a segment's file of that kind (not OTHER); free with cg_free. */
char *cg_segment_file_path(const char *directory, uint64_t number, enum cg_segment_kind kind);

#endif
