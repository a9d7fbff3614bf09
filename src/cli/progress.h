/* progress.h - a line on stderr that tells how far a long piece of work is: once a second, and only
 * when stderr is a terminal.
 *
 * How to use: cg_progress_init, hand cg_progress_bytes with the progress as its argument to the
 * work, cg_progress_end before anything else is printed.
 * Owns: the line. Thread: one. */
#ifndef CG_CLI_PROGRESS_H
#define CG_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

/* How far the work is. */
struct cg_progress {
  struct cg_clock clock; /* For the pace. */
  const char *doing;     /* "verify". */
  uint64_t told_ns;      /* When the line was written last. */
  bool is_shown;         /* stderr is a terminal. */
  bool has_line;         /* A line stands there. */
};

/* Begins; `doing` is kept. */
void cg_progress_init(struct cg_progress *progress, const char *doing);
/* Tells it; a cg_log_progress_bytes_fn. */
void cg_progress_bytes(void *progress, uint64_t done_bytes, uint64_t total_bytes);
/* Tells it in parts of what is no bytes. */
void cg_progress_part(struct cg_progress *progress, uint64_t done, uint64_t total);
/* Takes the line away. */
void cg_progress_end(struct cg_progress *progress);

#endif
