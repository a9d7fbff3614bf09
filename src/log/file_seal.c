/* file_seal.c - the log in segment files: its sealed segments.
 *
 * A segment is sealed once the writer has published the next one, and the writer never looks at it
 * again: from then on the loop thread alone has it, may close its file or put another in its place.
 * Owns: nothing. Thread: the loop thread. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "log/log_file.h"

void cg_file_seal_bound(struct cg_log_file *file) {
  uint64_t count = atomic_load_explicit(&file->writer.published_number, memory_order_acquire);
  for (; file->handled_count < count; file->handled_count++) {
    struct cg_segment *segment = file->segments[file->handled_count];
    segment->handles = &file->handles;
    cg_handles_add(&file->handles, segment);
  }
}

uint32_t cg_file_seal_list(struct cg_log *log, const struct cg_log_seal **seals) {
  struct cg_log_file *file = cg_log_file_of(log);
  /* What the writer set in a header is seen with the number. */
  uint64_t count = atomic_load_explicit(&file->writer.published_number, memory_order_acquire);
  if (count > file->seal_capacity) {
    file->seal_capacity = (uint32_t)count * 2;
    file->seals = cg_realloc(file->seals, file->seal_capacity * sizeof(*file->seals));
  }
  for (; file->seal_count < count; file->seal_count++)
    file->seals[file->seal_count] =
        cg_segment_seal(file->segments[file->seal_count], file->segments[file->seal_count + 1]);
  cg_file_seal_bound(file);
  *seals = file->seals;
  return file->seal_count;
}

void cg_file_seal_id(const struct cg_log *log, uint8_t log_id[16]) {
  memcpy(log_id, ((const struct cg_log_file *)log)->log_id, 16);
}

void cg_file_seal_waypoints(struct cg_log *log, uint64_t number,
                            const struct cg_log_waypoint *waypoints, uint32_t count) {
  struct cg_log_file *file = cg_log_file_of(log);
  if (number >= atomic_load_explicit(&file->writer.published_number, memory_order_acquire))
    return; /* Not sealed: its own go on growing. */
  file->segments[number]->given = waypoints;
  file->segments[number]->given_count = count;
}
