/* recovery.h - brings the segment files found in a directory to a state that appends can go on
 * from.
 *
 * How to use: cg_recovery_run on a locked directory; it fills in the list of segments and the tail.
 * What it tells apart: a torn tail (bytes that a crash may leave of the last batch: cut and told
 * of) and corruption (bytes that were durable once: refused, nothing is changed).
 * Owns: the list until it is taken over. Thread: the loop thread, before the writer starts. */
#ifndef CG_LOG_RECOVERY_H
#define CG_LOG_RECOVERY_H

#include "log/log.h"
#include "log/writer.h"

/* What recovery finds. */
struct cg_recovery {
  struct cg_segment **segments; /* In order of numbers from 0; the caller frees list and members. */
  uint32_t segment_count;       /* 0: there is no log yet. */
  struct cg_writer_tail tail;   /* Where the log ends; not set without segments. */
  uint64_t cut_bytes;           /* Cut from a torn tail. */
};

/* Recovers the log in `directory` by the rules of log.h, calling options->replay for each record.
 * On failure nothing is left in *recovery. CG_ECORRUPT, CG_EIO, CG_EPERM, CG_ENOMEM. */
enum cg_code cg_recovery_run(struct cg_recovery *recovery, const char *directory,
                             const struct cg_log_options *options, struct cg_err *err);

#endif
