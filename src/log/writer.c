/* writer.c - takes appended commits, writes and syncs them in batches, and keeps what is pending
 * readable until it is written.
 *
 * Appends go into the active batch under a mutex that is held for a copy of a few hundred bytes.
 * The writer swaps it with the batch it has finished, and then, without the mutex, seals the
 * commits (chain, durable position, all CRCs), makes one write and one sync of every run, and
 * publishes. A run in the next segment begins only after everything before it is synced. So every
 * run is a batch in the sense of log.h, rule 1.
 * Owns: see writer.h. Thread: the functions above the line "the writer's side" run on the loop
 * thread; those below run on the writer's thread, or inside cg_writer_turn and cg_writer_stop. */
#include "log/writer.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

static void *writer_main(void *arg);
static bool work(struct cg_writer *writer, uint64_t now_ns, bool is_finishing);
static void finish(struct cg_writer *writer);

enum cg_code cg_writer_start(struct cg_writer *writer, struct cg_log *log,
                             const struct cg_writer_tail *tail, struct cg_err *err) {
  *writer = (struct cg_writer){
      .log = log,
      .clock = log->options.manual ? log->options.clock : cg_clock_system(),
      .tail = tail->segment,
      .tail_offset = tail->offset,
      .segment = tail->segment,
      .end_offset = tail->offset,
      .chain = tail->chain,
      .time_ms = cg_clock_wall_ms(&log->options.clock),
      .written_position = tail->next_position,
      .synced_position = tail->next_position,
      .stated_position = tail->marked_position,
      .marked_position = tail->marked_position,
      .sync_due_ns = UINT64_MAX,
      .published_number = tail->segment->header.number,
      .written_place = tail->segment->header.number << 32 | tail->offset / 8,
      .readable_position = tail->next_position,
  };
  writer->last_write_ns = cg_clock_mono_ns(&writer->clock);
  writer->active = &writer->batches[0];
  writer->flight = &writer->batches[1];

  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&writer->wake, &attributes);
  pthread_condattr_destroy(&attributes);
  pthread_mutex_init(&writer->mutex, NULL);

  if (log->options.manual)
    return CG_OK;
  int error = pthread_create(&writer->thread, NULL, writer_main, writer);
  if (error != 0) {
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->mutex);
    return cg_err_set(err, CG_EIO, "start the log's writer thread: %s", strerror(error));
  }
  writer->has_thread = true;
  return CG_OK;
}

void cg_writer_stop(struct cg_writer *writer, enum cg_writer_order order) {
  if (writer->has_thread) {
    pthread_mutex_lock(&writer->mutex);
    writer->order = order;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->mutex);
    pthread_join(writer->thread, NULL);
  } else if (order == CG_WRITER_FINISH) {
    finish(writer);
  }
  pthread_cond_destroy(&writer->wake);
  pthread_mutex_destroy(&writer->mutex);
  cg_batch_deinit(&writer->batches[0]);
  cg_batch_deinit(&writer->batches[1]);
}

/* Why the commit cannot be taken now; under the mutex. */
static enum cg_code check_room(struct cg_writer *writer, size_t size, struct cg_err *err) {
  size_t pending_bytes =
      writer->active->size + atomic_load_explicit(&writer->flight_bytes, memory_order_relaxed);
  enum cg_code code = cg_log_check_pending(writer->log, pending_bytes, size, err);
  if (code != CG_OK)
    return code;
  if (atomic_load_explicit(&writer->is_full, memory_order_relaxed)) {
    writer->wants_space = true;
    return cg_err_set(err, CG_EFULL, "no space on the disk for the log in %s",
                      writer->tail->directory);
  }
  return CG_OK;
}

enum cg_code cg_writer_append(struct cg_writer *writer, struct cg_segment *next,
                              const uint8_t *records, size_t records_size, uint32_t record_count,
                              cg_log_place *place, struct cg_err *err) {
  size_t size = CG_COMMIT_HEADER_BYTES + records_size + CG_COMMIT_END_BYTES;
  uint64_t position = writer->log->next_position;
  bool is_waking = false;

  pthread_mutex_lock(&writer->mutex);
  enum cg_code code = check_room(writer, size, err);
  if (code == CG_EFULL)
    is_waking = writer->is_sleeping;
  if (code != CG_OK)
    goto done;
  /* Behind every commit there must be room for a mark. */
  if (writer->tail_offset + size + CG_SEGMENT_MARK_BYTES > writer->tail->header.segment_bytes) {
    if (!next) {
      code = CG_END;
      goto done;
    }
    writer->tail = next;
    writer->tail_offset = CG_SEGMENT_HEADER_BYTES;
  }
  if (writer->active->commit_count == 0)
    writer->active->time_ms = cg_clock_wall_ms(&writer->log->options.clock);
  cg_segment_pass(writer->tail, position, writer->tail_offset);
  cg_batch_add(writer->active, writer->tail, writer->tail_offset, records, records_size,
               record_count, position);
  *place = writer->tail->header.number << 32 | (writer->tail_offset + CG_COMMIT_HEADER_BYTES) / 8;
  writer->tail_offset += size;
  if (writer->active->size >= writer->log->options.flush_bytes)
    writer->is_wanted = true;
  /* The first commit wakes the writer too, so that it waits no longer than CG_WRITER_GATHER_NS. */
  is_waking = writer->is_sleeping && (writer->is_wanted || writer->active->commit_count == 1);

done:
  if (is_waking)
    writer->is_sleeping = false; /* One signal is enough. */
  pthread_mutex_unlock(&writer->mutex);
  if (is_waking)
    pthread_cond_signal(&writer->wake);
  return code;
}

void cg_writer_flush(struct cg_writer *writer) {
  pthread_mutex_lock(&writer->mutex);
  bool is_waking = writer->active->commit_count > 0 && writer->is_sleeping;
  if (writer->active->commit_count > 0)
    writer->is_wanted = true;
  if (is_waking)
    writer->is_sleeping = false;
  pthread_mutex_unlock(&writer->mutex);
  if (is_waking)
    pthread_cond_signal(&writer->wake);
}

bool cg_writer_turn(struct cg_writer *writer) {
  assert(!writer->has_thread);
  return work(writer, cg_clock_mono_ns(&writer->clock), false);
}

bool cg_writer_copy_record(struct cg_writer *writer, cg_log_place place, struct cg_buf *buf) {
  if (place < atomic_load_explicit(&writer->written_place, memory_order_acquire))
    return false;
  pthread_mutex_lock(&writer->mutex);
  const struct cg_batch *batch = writer->active;
  const struct cg_batch_commit *commit = cg_batch_find_place(batch, place);
  if (!commit) {
    batch = writer->flight;
    commit = cg_batch_find_place(batch, place);
  }
  bool is_found = commit && cg_batch_copy_record(batch, commit, place, buf);
  pthread_mutex_unlock(&writer->mutex);
  return is_found;
}

bool cg_writer_copy_commit(struct cg_writer *writer, uint64_t position, struct cg_buf *buf,
                           struct cg_batch_commit *commit) {
  pthread_mutex_lock(&writer->mutex);
  const struct cg_batch *batch = writer->active;
  const struct cg_batch_commit *found = cg_batch_find_position(batch, position);
  if (!found) {
    batch = writer->flight;
    found = cg_batch_find_position(batch, position);
  }
  if (found) {
    cg_batch_copy_commit(batch, found, buf);
    *commit = *found;
  }
  pthread_mutex_unlock(&writer->mutex);
  return found != NULL;
}

/* --- the writer's side --- */

/* Syncs what is written, and lets it count as durable. */
static enum cg_code sync_written(struct cg_writer *writer, struct cg_err *err) {
  enum cg_code code = cg_segment_sync(writer->segment, err);
  if (code != CG_OK)
    return code;
  atomic_fetch_add_explicit(&writer->sync_count, 1, memory_order_relaxed);
  writer->synced_position = writer->written_position;
  writer->marked_position = writer->stated_position;
  writer->sync_due_ns = UINT64_MAX;
  return CG_OK;
}

/* Fills in chain, durable position and every CRC of the commits of a run. */
static void seal(struct cg_writer *writer, struct cg_batch *batch, const struct cg_batch_run *run) {
  const struct cg_batch_commit *commits = batch->commits + run->commit_begin;
  for (size_t index = 0; index < run->commit_count; index++) {
    struct cg_commit_header header = {
        .size = commits[index].size,
        .record_count = commits[index].record_count,
        .first_position = commits[index].first_position,
        .durable_position = writer->synced_position,
        .time_ms = batch->time_ms,
        .chain = writer->chain,
    };
    writer->chain =
        cg_commit_finish(batch->bytes + commits[index].begin, &header, run->segment->header.nonce);
  }
}

/* Goes to the segment of the next run, after everything before it is durable. */
static enum cg_code turn_segment(struct cg_writer *writer, struct cg_segment *next,
                                 struct cg_err *err) {
  if (writer->sync_due_ns != UINT64_MAX) {
    enum cg_code code = sync_written(writer, err);
    if (code != CG_OK)
      return code;
  }
  enum cg_code code = cg_segment_publish(next, writer->chain, err);
  if (code != CG_OK)
    return code;
  writer->segment = next;
  atomic_store_explicit(&writer->published_number, next->header.number, memory_order_release);
  /* The header of a segment proves all positions before it. */
  writer->stated_position = next->header.first_position;
  writer->marked_position = next->header.first_position;
  return CG_OK;
}

/* Writes one run and, in mode fsync, syncs it; publishes. */
static enum cg_code write_run(struct cg_writer *writer, struct cg_batch *batch,
                              const struct cg_batch_run *run, uint64_t now_ns, struct cg_err *err) {
  enum cg_code code = CG_OK;
  if (run->segment != writer->segment)
    code = turn_segment(writer, run->segment, err);
  if (code != CG_OK)
    return code;

  seal(writer, batch, run);
  code = cg_segment_write(run->segment, batch->bytes + run->begin, run->size, run->offset, err);
  if (code != CG_OK)
    return code;
  const struct cg_batch_commit *last = &batch->commits[run->commit_begin + run->commit_count - 1];
  writer->written_position = last->first_position + last->record_count;
  writer->stated_position = writer->synced_position;
  writer->end_offset = run->offset + run->size;
  if (writer->sync_due_ns == UINT64_MAX)
    writer->sync_due_ns = now_ns + CG_WRITER_SYNC_DELAY_NS;
  atomic_store_explicit(&writer->written_place,
                        run->segment->header.number << 32 | writer->end_offset / 8,
                        memory_order_release);
  atomic_store_explicit(&writer->readable_position, writer->written_position, memory_order_release);
  atomic_fetch_add_explicit(&writer->write_bytes, run->size, memory_order_relaxed);

  enum cg_durability durability = writer->log->options.durability;
#ifdef CG_PLANT_EARLY_ACK /* A planted bug: proves that the tests would notice. */
  cg_log_publish(writer->log, writer->written_position);
#endif
  if (durability == CG_DURABILITY_FSYNC)
    code = sync_written(writer, err);
  if (code != CG_OK)
    return code;
  /* What is written leaves the bound of pending bytes before progress tells of it. */
  atomic_fetch_sub_explicit(&writer->flight_bytes, run->size, memory_order_relaxed);
  if (durability == CG_DURABILITY_MEMORY) {
    if (writer->log->options.progress)
      writer->log->options.progress(writer->log->options.progress_arg);
  } else {
#ifdef CG_PLANT_ACK_ORDER /* A planted bug: all runs of the batch with the first. */
    last = &batch->commits[batch->commit_count - 1];
    cg_log_publish(writer->log, last->first_position + last->record_count);
#endif
    cg_log_publish(writer->log, writer->written_position);
  }
  return CG_OK;
}

/* Whether zeros are to be written ahead of the commits, and may be. */
static bool is_growing(const struct cg_writer *writer) {
  return !atomic_load_explicit(&writer->is_full, memory_order_relaxed) &&
         atomic_load_explicit(&writer->segment->is_reserved, memory_order_acquire) &&
         cg_segment_needs_growth(writer->segment, writer->end_offset);
}

/* Whether commits wait, or somebody has met the lack of space; the latter lets growing be tried. */
static bool is_work_waiting(struct cg_writer *writer) {
  pthread_mutex_lock(&writer->mutex);
  bool is_waiting = writer->active->commit_count > 0 || writer->order != CG_WRITER_RUN;
  bool is_wanted = writer->wants_space;
  writer->wants_space = false;
  pthread_mutex_unlock(&writer->mutex);
  if (is_wanted)
    atomic_store_explicit(&writer->is_full, false, memory_order_relaxed);
  return is_waiting;
}

/* Writes zeros ahead of the commits, slice by slice while nothing waits: under load commits go
 * without them rather than wait for them. CG_EFULL only stops appends. */
static enum cg_code grow(struct cg_writer *writer, struct cg_err *err) {
  bool was_full = atomic_load_explicit(&writer->is_full, memory_order_relaxed);
  bool is_grown = false;
  while (!is_work_waiting(writer) && is_growing(writer)) {
    enum cg_code code = cg_segment_grow(writer->segment, err);
    if (code == CG_EFULL)
      atomic_store_explicit(&writer->is_full, true, memory_order_relaxed);
    else if (code != CG_OK)
      return code;
    is_grown |= code == CG_OK;
  }
  if (was_full && is_grown && writer->log->options.progress)
    writer->log->options.progress(writer->log->options.progress_arg);
  return CG_OK;
}

/* When the idle mark is to be written; UINT64_MAX: nothing to mark, or not all is synced yet. */
static uint64_t mark_due_ns(const struct cg_writer *writer) {
  if (writer->marked_position >= writer->written_position || writer->sync_due_ns != UINT64_MAX)
    return UINT64_MAX;
  return writer->last_write_ns + (uint64_t)writer->log->options.mark_delay_ms * 1000000;
}

/* Puts a mark into the empty active batch; under the mutex. */
static void add_mark(struct cg_writer *writer) {
  struct cg_segment *tail = writer->tail;
  if (writer->tail_offset + CG_SEGMENT_MARK_BYTES > tail->header.segment_bytes ||
      !atomic_load_explicit(&tail->is_reserved, memory_order_acquire)) {
    writer->marked_position = writer->written_position; /* Not possible; do not try again. */
    return;
  }
  writer->active->time_ms = writer->time_ms;
  cg_batch_add(writer->active, tail, writer->tail_offset, NULL, 0, 0, writer->written_position);
  writer->tail_offset += CG_SEGMENT_MARK_BYTES;
}

/* Takes what is waiting, or a mark when that is due; false when there is nothing to write. */
static bool take(struct cg_writer *writer, uint64_t now_ns) {
  pthread_mutex_lock(&writer->mutex);
  if (writer->active->commit_count == 0 && now_ns >= mark_due_ns(writer) &&
      mark_due_ns(writer) != UINT64_MAX) {
    /* It is idle: give back what a burst has left. */
    if (writer->flight->capacity > CG_BATCH_IDLE_BYTES_MAX)
      cg_batch_deinit(writer->flight);
    if (writer->active->capacity > CG_BATCH_IDLE_BYTES_MAX)
      cg_batch_deinit(writer->active);
    add_mark(writer);
  }
  bool is_taken = writer->active->commit_count > 0;
  writer->is_wanted = false;
  if (is_taken) {
    struct cg_batch *batch = writer->active;
    writer->active = writer->flight;
    writer->flight = batch;
    cg_batch_clear(writer->active);
    atomic_store_explicit(&writer->flight_bytes, batch->size, memory_order_relaxed);
  }
  pthread_mutex_unlock(&writer->mutex);
  return is_taken;
}

/* Writes the batch in flight. */
static enum cg_code write_flight(struct cg_writer *writer, uint64_t now_ns, struct cg_err *err) {
  struct cg_batch *batch = writer->flight;
  writer->time_ms = batch->time_ms;
  for (size_t index = 0; index < batch->run_count; index++) {
    enum cg_code code = write_run(writer, batch, &batch->runs[index], now_ns, err);
    if (code != CG_OK)
      return code;
  }
  writer->last_write_ns = now_ns;
  return CG_OK;
}

/* One round: writes what waits and does what is due; true when there was any of it. */
static bool work(struct cg_writer *writer, uint64_t now_ns, bool is_finishing) {
  if (atomic_load_explicit(&writer->log->is_failed, memory_order_relaxed))
    return false;
  struct cg_err err;
  enum cg_code code = CG_OK;
  bool is_worked = take(writer, is_finishing ? UINT64_MAX - 1 : now_ns);
  if (is_worked)
    code = write_flight(writer, now_ns, &err);
  if (code == CG_OK && writer->sync_due_ns != UINT64_MAX &&
      (is_finishing || now_ns >= writer->sync_due_ns)) {
    code = sync_written(writer, &err);
    is_worked = true;
  }

  if (code == CG_OK && !is_finishing)
    code = grow(writer, &err);
  if (code != CG_OK)
    cg_log_fail(writer->log, &err);
  return is_worked;
}

/* Makes everything durable and marked. */
static void finish(struct cg_writer *writer) {
  while (work(writer, cg_clock_mono_ns(&writer->clock), true))
    continue;
}

/* Lets commits gather until they are wanted, for a bounded time; under the mutex. */
static void gather(struct cg_writer *writer) {
  uint64_t due_ns = cg_clock_mono_ns(&writer->clock) + CG_WRITER_GATHER_NS;
  struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000),
                         .tv_nsec = (long)(due_ns % 1000000000)};
  int result = 0;
  while (result != ETIMEDOUT && writer->order == CG_WRITER_RUN && !writer->is_wanted) {
    writer->is_sleeping = true;
    result = pthread_cond_timedwait(&writer->wake, &writer->mutex, &due);
  }
  writer->is_sleeping = false;
}

/* Sleeps until there is work, something is due, or another order; under the mutex. */
static void sleep_until_due(struct cg_writer *writer) {
  bool is_failed = atomic_load_explicit(&writer->log->is_failed, memory_order_relaxed);
  uint64_t due_ns = mark_due_ns(writer);
  if (writer->sync_due_ns < due_ns)
    due_ns = writer->sync_due_ns;
  struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000),
                         .tv_nsec = (long)(due_ns % 1000000000)};
  while (writer->order == CG_WRITER_RUN &&
         (is_failed ||
          (writer->active->commit_count == 0 && !writer->wants_space && !is_growing(writer)))) {
    writer->is_sleeping = true;
    if (due_ns == UINT64_MAX || is_failed)
      pthread_cond_wait(&writer->wake, &writer->mutex);
    else if (pthread_cond_timedwait(&writer->wake, &writer->mutex, &due) == ETIMEDOUT)
      break;
  }
  writer->is_sleeping = false;
  if (writer->active->commit_count > 0 && !writer->is_wanted && writer->order == CG_WRITER_RUN)
    gather(writer);
}

/* The thread. */
static void *writer_main(void *arg) {
  struct cg_writer *writer = arg;
  enum cg_writer_order order;
  do {
    pthread_mutex_lock(&writer->mutex);
    sleep_until_due(writer);
    order = writer->order;
    pthread_mutex_unlock(&writer->mutex);
    if (order == CG_WRITER_RUN)
      work(writer, cg_clock_mono_ns(&writer->clock), false);
  } while (order == CG_WRITER_RUN);
  if (order == CG_WRITER_FINISH)
    finish(writer);
  return NULL;
}
