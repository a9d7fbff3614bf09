/* handles.c - which files of sealed segments are open, so that no more are than allowed.
 *
 * A list that is searched from end to end, but only when a file is opened, which costs more.
 * Owns: its list. Thread: the loop thread. */
#include "log/handles.h"

#include <assert.h>

#include "base/mem.h"
#include "log/segment.h"

void cg_handles_init(struct cg_handles *handles, uint32_t max) {
  assert(max >= 1);
  *handles = (struct cg_handles){.max = max};
}

void cg_handles_deinit(struct cg_handles *handles) {
  cg_free(handles->segments);
  *handles = (struct cg_handles){0};
}

void cg_handles_make_room(struct cg_handles *handles) {
  if (handles->count < handles->max)
    return;
  uint32_t oldest = 0;
  for (uint32_t index = 1; index < handles->count; index++)
    if (handles->segments[index]->used < handles->segments[oldest]->used)
      oldest = index;
  cg_segment_rest(handles->segments[oldest]);
  handles->segments[oldest] = handles->segments[--handles->count];
}

void cg_handles_add(struct cg_handles *handles, struct cg_segment *segment) {
  if (!handles->segments)
    handles->segments = cg_alloc(handles->max * sizeof(*handles->segments));
  segment->used = cg_handles_tick(handles);
  for (uint32_t index = 0; index < handles->count; index++)
    if (handles->segments[index] == segment)
      return;
  cg_handles_make_room(handles);
  handles->segments[handles->count++] = segment;
}
