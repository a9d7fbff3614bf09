/* progress.c - a line on stderr that tells how far a long piece of work is.
 *
 * Owns: the line. Thread: one. */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#define PACE_NS UINT64_C(1000000000) /* Between two lines. */

void cg_progress_init(struct cg_progress *progress, const char *doing) {
  *progress = (struct cg_progress){
      .clock = cg_clock_system(), .doing = doing, .is_shown = isatty(STDERR_FILENO) == 1};
  progress->told_ns = cg_clock_mono_ns(&progress->clock);
}

/* Is it time to write the line? */
static bool is_due(struct cg_progress *progress) {
  if (!progress->is_shown)
    return false;
  uint64_t now_ns = cg_clock_mono_ns(&progress->clock);
  if (now_ns - progress->told_ns < PACE_NS)
    return false;
  progress->told_ns = now_ns;
  progress->has_line = true;
  return true;
}

static double percent_of(uint64_t done, uint64_t total) {
  return done < total ? (double)done / (double)total * 100 : 100;
}

void cg_progress_bytes(void *arg, uint64_t done_bytes, uint64_t total_bytes) {
  struct cg_progress *progress = arg;
  if (is_due(progress))
    fprintf(stderr, "\r%s: %3.0f %% (%.0f of %.0f MiB)\033[K", progress->doing,
            percent_of(done_bytes, total_bytes), (double)done_bytes / (1 << 20),
            (double)total_bytes / (1 << 20));
}

void cg_progress_part(struct cg_progress *progress, uint64_t done, uint64_t total) {
  if (is_due(progress))
    fprintf(stderr, "\r%s: %3.0f %%\033[K", progress->doing, percent_of(done, total));
}

void cg_progress_end(struct cg_progress *progress) {
  if (progress->has_line)
    fputs("\r\033[K", stderr);
  progress->has_line = false;
}
