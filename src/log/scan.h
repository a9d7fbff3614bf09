/* scan.h - reads one sealed segment from its file and checks everything in it.
 *
 * How to use: cg_scan_open with the segment's seal; cg_scan_next until CG_END, which is given only
 * when the segment ends exactly as its seal says; cg_scan_close. It has a file handle of its own,
 * so that it may run on any thread beside an open log. cg_log_scan and rewriting stand on it.
 * Owns: the handle and the window. Thread: one at a time. */
#ifndef CG_LOG_SCAN_H
#define CG_LOG_SCAN_H

#include "log/log.h"
#include "log/reader.h"
#include "log/segment.h"

/* A scan under way. */
struct cg_scan {
  struct cg_segment *segment; /* Opened for it. */
  struct cg_log_seal seal;    /* What it must be. */
  struct cg_reader reader;    /* What is read through. */
  uint64_t offset;            /* Of the commit given last. */
  uint64_t next_offset;       /* Where the next commit must begin. */
  uint64_t position;          /* What the next record must have. */
  uint32_t chain;             /* What the next commit must be chained to. */
};

/* Opens the file of the segment with the seal's nonce. CG_ENOTFOUND: there is none, or the segment
 * has been rewritten since; CG_ECORRUPT, CG_EIO. Nothing is left to close when it fails. */
enum cg_code cg_scan_open(struct cg_scan *scan, const char *path, const struct cg_fs *fs,
                          const struct cg_log_seal *seal, struct cg_err *err);
/* Gives the next commit, valid until the next call; it begins at scan->offset. CG_END: that was all
 * and all was right; CG_ECORRUPT, CG_EIO: file and offset are named. */
enum cg_code cg_scan_next(struct cg_scan *scan, struct cg_reader_commit *commit,
                          struct cg_err *err);
/* Closes the file and frees the window. */
void cg_scan_close(struct cg_scan *scan);

#endif
