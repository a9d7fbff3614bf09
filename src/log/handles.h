/* handles.h - which files of sealed segments are open, so that no more are than allowed.
 *
 * How to use: set segment->handles of a sealed segment and, while its file is open, add it;
 * cg_segment_read opens files and adds them itself. The file that was not read for longest is
 * closed when there would be too many.
 * Owns: its list; not the segments. Thread: the loop thread. */
#ifndef CG_LOG_HANDLES_H
#define CG_LOG_HANDLES_H

#include <stdint.h>

struct cg_segment;

/* The open files. */
struct cg_handles {
  struct cg_segment **segments; /* Those with open files, in no order. */
  uint32_t count;               /* How many. */
  uint32_t max;                 /* At most. */
  uint64_t tick;                /* Counts reads. */
};

/* An empty list of at most `max` (at least 1). */
void cg_handles_init(struct cg_handles *handles, uint32_t max);
/* Frees the list; the files stay as they are. */
void cg_handles_deinit(struct cg_handles *handles);
/* Closes a file when there are as many as allowed: to be called before another one is opened. */
void cg_handles_make_room(struct cg_handles *handles);
/* Notes that the file of a segment is open, also when it is noted already. */
void cg_handles_add(struct cg_handles *handles, struct cg_segment *segment);
/* The time of a read. */
static inline uint64_t cg_handles_tick(struct cg_handles *handles) {
  return ++handles->tick;
}

#endif
