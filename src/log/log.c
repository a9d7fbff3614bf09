/* log.c - the face of every log: checks arguments, fills in defaults, and calls the kind.
 *
 * Owns: nothing. Thread: as log.h says; failure and durable position are atomic. */
#include "log/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "log/kind.h"
#include "log/segment.h"

static uint64_t segment_commit_bytes_max(const struct cg_log_options *options);
static enum cg_code check_records(const uint8_t *records, size_t size, uint32_t record_count,
                                  struct cg_err *err);

enum cg_code cg_log_init(struct cg_log *log, const struct cg_log_kind *kind,
                         const struct cg_log_options *options, struct cg_err *err) {
  log->kind = kind;
  if (options)
    log->options = *options;
  struct cg_log_options *filled = &log->options;
  if (!filled->fs)
    filled->fs = cg_fs_system();
  if (!filled->clock.wall_ms)
    filled->clock = cg_clock_system();
  if (filled->segment_bytes == 0)
    filled->segment_bytes = CG_SEGMENT_BYTES_DEFAULT;
  if (filled->pending_bytes_max == 0)
    filled->pending_bytes_max = CG_LOG_PENDING_BYTES_DEFAULT;
  if (filled->mark_delay_ms == 0)
    filled->mark_delay_ms = CG_LOG_MARK_DELAY_MS_DEFAULT;
  if (filled->handles_max == 0)
    filled->handles_max = CG_LOG_HANDLES_DEFAULT;
  if (filled->handles_max < CG_LOG_HANDLES_MIN)
    return cg_err_set(err, CG_EINVAL, "handles_max = %u: must be at least %d", filled->handles_max,
                      CG_LOG_HANDLES_MIN);
  log->next_position = 1;
  atomic_store_explicit(&log->durable_position, 1, memory_order_relaxed);

  uint64_t bytes = filled->segment_bytes;
  if (bytes < CG_SEGMENT_BYTES_MIN || bytes > CG_SEGMENT_BYTES_MAX || bytes % 4096 != 0)
    return cg_err_set(err, CG_EINVAL,
                      "segment_bytes = %" PRIu64 ": must be a multiple of 4096 from %" PRIu64
                      " to %" PRIu64,
                      bytes, CG_SEGMENT_BYTES_MIN, CG_SEGMENT_BYTES_MAX);
  log->commit_bytes_max =
      kind->commit_bytes_max > 0 ? kind->commit_bytes_max : segment_commit_bytes_max(filled);
  if (filled->commit_bytes_max > log->commit_bytes_max)
    return cg_err_set(err, CG_EINVAL,
                      "commit_bytes_max = %" PRIu64 ": this log holds at most %" PRIu64
                      " bytes of records in a commit",
                      filled->commit_bytes_max, log->commit_bytes_max);
  if (filled->commit_bytes_max > 0)
    log->commit_bytes_max = filled->commit_bytes_max;
  return CG_OK;
}

void cg_log_fail(struct cg_log *log, const struct cg_err *failure) {
  if (atomic_load_explicit(&log->is_failed, memory_order_relaxed))
    return;
  log->failure = *failure;
  atomic_store_explicit(&log->is_failed, true, memory_order_release);
  cg_say(log->options.say, CG_SAY_ERROR, "the log has failed and takes no more commits: %s",
         failure->message);
  if (log->options.progress)
    log->options.progress(log->options.progress_arg);
}

void cg_log_publish(struct cg_log *log, uint64_t durable_position) {
  if (atomic_load_explicit(&log->durable_position, memory_order_relaxed) == durable_position ||
      atomic_load_explicit(&log->is_failed, memory_order_relaxed))
    return;
  atomic_store_explicit(&log->durable_position, durable_position, memory_order_release);
  if (log->options.progress)
    log->options.progress(log->options.progress_arg);
}

enum cg_code cg_log_close(struct cg_log *log, struct cg_err *err) {
  return log->kind->close(log, err);
}

void cg_log_abandon(struct cg_log *log) {
  log->kind->abandon(log);
}

enum cg_code cg_log_append(struct cg_log *log, const uint8_t *records, size_t size,
                           uint32_t record_count, uint64_t expected_tail, cg_log_place *place,
                           struct cg_err *err) {
  if (atomic_load_explicit(&log->is_failed, memory_order_relaxed))
    return cg_log_failed(log, err);
#ifdef CG_PLANT_NO_TAIL_CHECK /* A planted bug: proves that the tests would notice. */
  expected_tail = log->next_position;
#endif
  if (expected_tail != log->next_position)
    return cg_err_set(err, CG_ECONFLICT, "append at position %" PRIu64 ", but the tail is %" PRIu64,
                      expected_tail, log->next_position);
  if (size > log->commit_bytes_max)
    return cg_err_set(
        err, CG_ELIMIT,
        "a commit with %zu bytes of records is too large: commit_bytes_max = %" PRIu64, size,
        log->commit_bytes_max);
  enum cg_code code = check_records(records, size, record_count, err);
  if (code == CG_OK)
    code = log->kind->append(log, records, size, record_count, place, err);
  if (code != CG_OK)
    return code;
  log->next_position += record_count;
  log->commit_count++;
  return CG_OK;
}

enum cg_code cg_log_check_pending(const struct cg_log *log, uint64_t pending_bytes, size_t size,
                                  struct cg_err *err) {
#ifdef CG_PLANT_NO_PENDING_BOUND /* A planted bug. */
  pending_bytes = 0;
#endif
  if (pending_bytes > 0 && pending_bytes + size > log->options.pending_bytes_max)
    return cg_err_set(err, CG_ELIMIT,
                      "%" PRIu64 " bytes wait to be durable and %zu more would pass "
                      "pending_bytes_max = %" PRIu64,
                      pending_bytes, size, log->options.pending_bytes_max);
  return CG_OK;
}

uint64_t cg_log_commit_bytes_max(const struct cg_log *log) {
  return log->commit_bytes_max;
}

uint64_t cg_log_next_position(const struct cg_log *log) {
  return log->next_position;
}

uint64_t cg_log_durable_position(const struct cg_log *log) {
  return atomic_load_explicit(&log->durable_position, memory_order_acquire);
}

enum cg_code cg_log_failed(const struct cg_log *log, struct cg_err *err) {
  if (!atomic_load_explicit(&log->is_failed, memory_order_acquire))
    return CG_OK;
  enum cg_code code = log->failure.code == CG_EFENCED ? CG_EFENCED : CG_EFAILED;
  return cg_err_set(err, code, "the log has failed: %s", log->failure.message);
}

enum cg_code cg_log_read(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                         struct cg_record *record, struct cg_err *err) {
  buf->size = 0;
  return log->kind->read(log, place, buf, record, err);
}

void cg_log_flush(struct cg_log *log) {
  if (log->kind->flush)
    log->kind->flush(log);
}

uint32_t cg_log_seals(struct cg_log *log, const struct cg_log_seal **seals) {
  *seals = NULL;
  return log->kind->seals ? log->kind->seals(log, seals) : 0;
}

bool cg_log_seal_info(struct cg_log *log, uint64_t number, struct cg_log_seal_info *info) {
  return log->kind->seal_info && log->kind->seal_info(log, number, info);
}

void cg_log_id(const struct cg_log *log, uint8_t log_id[16]) {
  memset(log_id, 0, 16);
  if (log->kind->id)
    log->kind->id(log, log_id);
}

void cg_log_waypoints(struct cg_log *log, uint64_t number, const struct cg_log_waypoint *waypoints,
                      uint32_t count) {
  if (log->kind->waypoints)
    log->kind->waypoints(log, number, waypoints, count);
}

enum cg_code cg_log_replace(struct cg_log *log, const struct cg_log_seal *seal,
                            struct cg_err *err) {
  if (!log->kind->replace)
    return cg_err_set(err, CG_EINVAL, "a log of this kind has no segments to replace");
  return log->kind->replace(log, seal, err);
}

bool cg_log_turn(struct cg_log *log) {
  assert(log->options.manual);
  return log->kind->turn(log);
}

void cg_log_stats_read(struct cg_log *log, struct cg_log_stats *stats) {
  *stats = (struct cg_log_stats){.commit_count = log->commit_count};
  log->kind->stats(log, stats);
}

/* What fits a segment with its header and room for a mark, less what stands around the records. */
static uint64_t segment_commit_bytes_max(const struct cg_log_options *options) {
  uint64_t room = options->segment_bytes - CG_SEGMENT_HEADER_BYTES - CG_SEGMENT_MARK_BYTES;
  if (room > CG_COMMIT_BYTES_MAX)
    room = CG_COMMIT_BYTES_MAX;
  return room - CG_COMMIT_HEADER_BYTES - CG_COMMIT_END_BYTES;
}

/* The bytes must be exactly so many records. Their sizes are all that is looked at: the store has
 * just encoded them, so that more would only cost. */
static enum cg_code check_records(const uint8_t *records, size_t size, uint32_t record_count,
                                  struct cg_err *err) {
  size_t at = 0;
  uint32_t index = 0;
  for (; index < record_count && at < size; index++) {
    size_t record_size = cg_record_fit(records + at, size - at);
    if (record_size == 0)
      return cg_err_set(err, CG_EINVAL, "record %u of the commit: its sizes do not fit", index);
    at += record_size;
  }
  if (record_count == 0 || index != record_count || at != size)
    return cg_err_set(err, CG_EINVAL,
                      "a commit of %u records stated, but %zu bytes hold %u and %zu "
                      "bytes are left",
                      record_count, size, index, size - at);
  return CG_OK;
}
