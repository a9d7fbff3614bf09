/* log_file.c - the log in segment files: opening, appending over rotations, closing.
 *
 * Puts together recovery, the writer and the segments; file_read.c reads, file_seal.c has what
 * concerns sealed segments. The directory holds "lock" and the segments.
 * The loop thread decides where a commit goes, and makes the file of the next segment itself when
 * the last is used up: so a full disk is met before a commit depends on the space.
 * Owns: the lock file, the segments, the writer. Thread: the loop thread. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/blocks.h"
#include "log/lock.h"
#include "log/log_file.h"
#include "log/nonce.h"
#include "log/recovery.h"

static const struct cg_log_kind file_kind;

/* --- segments --- */

/* Puts a segment at the end of the table. */
static void add_segment(struct cg_log_file *file, struct cg_segment *segment) {
  if (file->segment_count >= file->segment_capacity) {
    file->segment_capacity = file->segment_count > 0 ? file->segment_count * 2 : 8;
    file->segments =
        cg_realloc(file->segments, file->segment_capacity * sizeof(struct cg_segment *));
  }
  file->segments[file->segment_count++] = segment;
}

/* Makes the file of the segment after the last; it is not in the table yet. */
static enum cg_code make_segment(struct cg_log_file *file, struct cg_segment **segment,
                                 struct cg_err *err) {
  if (file->segment_count == UINT32_MAX)
    return cg_err_set(err, CG_ELIMIT, "%s: no more segment numbers", file->directory);
  uint64_t nonce;
  enum cg_code code =
      cg_nonce_draw(file->log.options.nonce_seed, 2 + (uint64_t)file->segment_count, &nonce, err);
  if (code != CG_OK)
    return code;
  struct cg_segment_header header = {
      .number = file->segment_count,
      .first_position = file->log.next_position,
      .nonce = (uint32_t)(nonce >> 32),
      .created_ms = cg_clock_wall_ms(&file->log.options.clock),
      .segment_bytes = file->log.options.segment_bytes,
  };
  memcpy(header.log_id, file->log_id, sizeof(header.log_id));
  return cg_segment_reserve(segment, file->log.options.fs, file->directory, &header, err);
}

/* Makes the first segment of a new log and says where it ends. */
static enum cg_code make_first(struct cg_log_file *file, struct cg_writer_tail *tail,
                               struct cg_err *err) {
  uint64_t halves[2];
  uint64_t seed = file->log.options.nonce_seed;
  enum cg_code code = cg_nonce_draw(seed, 0, &halves[0], err);
  if (code == CG_OK)
    code = cg_nonce_draw(seed, 1, &halves[1], err);
  if (code != CG_OK)
    return code;
  memcpy(file->log_id, halves, sizeof(file->log_id));
  struct cg_segment *segment;
  code = make_segment(file, &segment, err);
  if (code != CG_OK)
    return code;
  add_segment(file, segment);
  *tail = (struct cg_writer_tail){.segment = segment,
                                  .offset = CG_SEGMENT_HEADER_BYTES,
                                  .next_position = 1,
                                  .marked_position = 1};
  return cg_segment_publish(segment, 0, err);
}

/* --- opening and closing --- */

/* Makes the directory, and its name durable while the log is not there yet. */
static enum cg_code make_directory(struct cg_log_file *file, struct cg_err *err) {
  int result = cg_io_mkdir(file->log.options.fs, file->directory);
  if (result < 0 && result != -EEXIST)
    return cg_err_set(err, result == -ENOTDIR ? CG_EINVAL : cg_err_from_errno(-result),
                      "make directory %s: %s", file->directory, strerror(-result));
  return CG_OK;
}

/* Syncs the directory above, where the log's own name stands. */
static enum cg_code sync_parent(struct cg_log_file *file, struct cg_err *err) {
  int result = cg_io_sync_parent(file->log.options.fs, file->directory);
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "sync the directory above %s: %s",
                      file->directory, strerror(-result));
  return CG_OK;
}

/* Frees everything but the writer. */
static void free_log(struct cg_log_file *file) {
  for (uint32_t index = 0; index < file->segment_count; index++)
    cg_segment_free(file->segments[index]);
  cg_free(file->segments);
  cg_free(file->seals);
  cg_handles_deinit(&file->handles);
  cg_block_cache_free(file->cache);
  cg_lock_drop(file->log.options.fs, file->lock);
  cg_free(file->directory);
  cg_free(file);
}

/* Recovers what is there, or makes a new log. */
static enum cg_code recover(struct cg_log_file *file, struct cg_writer_tail *tail,
                            struct cg_err *err) {
  struct cg_recovery recovery;
  enum cg_code code = cg_recovery_run(&recovery, file->directory, &file->log.options, err);
  if (code != CG_OK)
    return code;
  file->segments = recovery.segments;
  file->segment_count = recovery.segment_count;
  file->segment_capacity = recovery.segment_count;
  for (uint32_t index = 0; index + 1 < file->segment_count; index++)
    cg_file_seal_share(file, file->segments[index]);
  file->handled_count = file->segment_count > 0 ? file->segment_count - 1 : 0;
  file->cut_bytes = recovery.cut_bytes;
  if (recovery.segment_count == 0) {
    code = sync_parent(file, err);
    return code == CG_OK ? make_first(file, tail, err) : code;
  }
  *tail = recovery.tail;
  memcpy(file->log_id, tail->segment->header.log_id, sizeof(file->log_id));
  return CG_OK;
}

enum cg_code cg_log_open_file(struct cg_log **log, const char *path,
                              const struct cg_log_options *options, struct cg_err *err) {
  struct cg_log_file *file = cg_alloc(sizeof(*file));
  file->lock = -1;
  file->directory = cg_strndup(path, strlen(path));
  struct cg_writer_tail tail;
  enum cg_code code = cg_log_init(&file->log, &file_kind, options, err);
  if (code == CG_OK)
    cg_handles_init(&file->handles, file->log.options.handles_max);
  file->cache = cg_block_cache_new(CG_BLOCK_CACHE_SHARED);
  if (code == CG_OK)
    code = make_directory(file, err);
  if (code == CG_OK)
    code = cg_lock_take(file->log.options.fs, file->directory, true, &file->lock, err);
  if (code == CG_OK)
    code = recover(file, &tail, err);
  if (code == CG_OK) {
    file->log.next_position = tail.next_position;
    atomic_store_explicit(&file->log.durable_position, tail.next_position, memory_order_release);
    code = cg_writer_start(&file->writer, &file->log, &tail, err);
  }
  if (code != CG_OK) {
    free_log(file);
    return code;
  }
  *log = &file->log;
  return CG_OK;
}

static enum cg_code file_close(struct cg_log *log, struct cg_err *err) {
  struct cg_log_file *file = cg_log_file_of(log);
  cg_writer_stop(&file->writer, CG_WRITER_FINISH);
  enum cg_code code = cg_log_failed(log, err);
  free_log(file);
  return code;
}

static void file_abandon(struct cg_log *log) {
  struct cg_log_file *file = cg_log_file_of(log);
  cg_writer_stop(&file->writer, CG_WRITER_ABANDON);
  free_log(file);
}

/* --- appending --- */

static enum cg_code file_append(struct cg_log *log, const uint8_t *records, size_t size,
                                uint32_t record_count, cg_log_place *place, struct cg_err *err) {
  struct cg_log_file *file = cg_log_file_of(log);
  struct cg_segment *last = file->segments[file->segment_count - 1];
  if (!atomic_load_explicit(&last->is_reserved, memory_order_relaxed)) {
    enum cg_code code = cg_segment_reserve_again(last, err);
    if (code != CG_OK)
      return code;
  }
  enum cg_code code =
      cg_writer_append(&file->writer, NULL, records, size, record_count, place, err);
  if (code == CG_END) {
    struct cg_segment *next;
    code = make_segment(file, &next, err);
    if (code != CG_OK)
      return code;
    add_segment(file, next);
    cg_file_seal_bound(file);
    code = cg_writer_append(&file->writer, next, records, size, record_count, place, err);
    assert(code == CG_OK); /* There was room for it a moment ago, and only this thread uses it. */
  }
  if (code == CG_OK && log->options.durability == CG_DURABILITY_MEMORY)
    cg_log_publish(log, log->next_position + record_count);
  return code;
}

static void file_flush(struct cg_log *log) {
  cg_writer_flush(&cg_log_file_of(log)->writer);
}

static bool file_turn(struct cg_log *log) {
  return cg_writer_turn(&cg_log_file_of(log)->writer);
}

static void file_stats(struct cg_log *log, struct cg_log_stats *stats) {
  struct cg_log_file *file = cg_log_file_of(log);
  stats->sync_count = atomic_load_explicit(&file->writer.sync_count, memory_order_relaxed);
  stats->write_bytes = atomic_load_explicit(&file->writer.write_bytes, memory_order_relaxed);
  stats->segment_count = file->segment_count;
  stats->cut_bytes = file->cut_bytes;
  stats->written_position = cg_writer_readable_position(&file->writer);
}

static const struct cg_log_kind file_kind = {
    .append = file_append,
    .read = cg_file_read_record,
    .fetch = cg_file_read_fetch,
    .seals = cg_file_seal_list,
    .seal_info = cg_file_seal_info,
    .id = cg_file_seal_id,
    .waypoints = cg_file_seal_waypoints,
    .replace = cg_file_seal_replace,
    .flush = file_flush,
    .turn = file_turn,
    .stats = file_stats,
    .close = file_close,
    .abandon = file_abandon,
};
