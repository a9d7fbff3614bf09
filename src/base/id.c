/* id.c - Snowflake ids: the generator's next step is worked out aside and taken only when the
 * reservation it may need has succeeded.
 *
 * Owns: nothing. Thread: see id.h. */
#include "base/id.h"

#include <assert.h>
#include <inttypes.h>

#define NODE_BITS 10
#define SEQUENCE_BITS 12
#define NODE_SHIFT SEQUENCE_BITS
#define TIME_SHIFT (SEQUENCE_BITS + NODE_BITS)
#define ID_VALUE_MAX ((uint64_t)INT64_MAX)

enum cg_code cg_id_source_init(struct cg_id_source *source, struct cg_clock clock, uint32_t node,
                               int64_t not_before_ms, cg_id_reserve_fn reserve, void *reserve_arg,
                               struct cg_err *err) {
  if (node > CG_ID_NODE_MAX)
    return cg_err_set(err, CG_EINVAL, "id node %" PRIu32 " is not in 0..%d", node, CG_ID_NODE_MAX);
  *source = (struct cg_id_source){
      .clock = clock,
      .reserve = reserve,
      .reserve_arg = reserve_arg,
      .last_ms = not_before_ms > CG_ID_EPOCH_MS ? not_before_ms : CG_ID_EPOCH_MS,
      .reserved_ms = INT64_MIN, /* The first id makes the first reservation. */
      .node = node,
  };
  return CG_OK;
}

enum cg_code cg_id_next(struct cg_id_source *source, uint64_t *id, struct cg_err *err) {
  return cg_id_next_at(source, cg_clock_wall_ms(&source->clock), id, err);
}

enum cg_code cg_id_next_at(struct cg_id_source *source, int64_t now_ms, uint64_t *id,
                           struct cg_err *err) {
  int64_t time_ms = source->last_ms;
  uint32_t sequence = source->sequence;
  if (now_ms > time_ms) {
    time_ms = now_ms;
    sequence = 0;
  } else if (sequence > CG_ID_SEQUENCE_MAX) {
    time_ms++;
    sequence = 0;
  }

  if (time_ms >= CG_ID_END_MS)
    return cg_err_set(err, CG_ELIMIT,
                      "the time %" PRId64 " ms does not fit an id; is the system clock right?",
                      time_ms);
  if (source->reserve && time_ms >= source->reserved_ms) {
    int64_t until_ms = time_ms + CG_ID_RESERVE_MS;
    enum cg_code code = source->reserve(source->reserve_arg, until_ms, err);
    if (code != CG_OK)
      return code;
    source->reserved_ms = until_ms;
  }

  source->last_ms = time_ms;
  source->sequence = sequence + 1;
  *id = (uint64_t)(time_ms - CG_ID_EPOCH_MS) << TIME_SHIFT | (uint64_t)source->node << NODE_SHIFT |
        sequence;
  return CG_OK;
}

struct cg_id_parts cg_id_decode(uint64_t id) {
  return (struct cg_id_parts){
      .time_ms = (int64_t)(id >> TIME_SHIFT) + CG_ID_EPOCH_MS,
      .node = (uint32_t)(id >> NODE_SHIFT) & CG_ID_NODE_MAX,
      .sequence = (uint32_t)id & CG_ID_SEQUENCE_MAX,
  };
}

unsigned cg_id_format(uint64_t id, char text[CG_ID_CHARS]) {
  assert(id <= ID_VALUE_MAX);
  char reversed[CG_ID_CHARS];
  unsigned size = 0;
  do {
    reversed[size++] = (char)('0' + id % 10);
    id /= 10;
  } while (id > 0);
  for (unsigned i = 0; i < size; i++)
    text[i] = reversed[size - 1 - i];
  text[size] = 0;
  return size;
}
