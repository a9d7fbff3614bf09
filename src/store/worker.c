/* worker.c - how the worker works: the job lies in one place, and its state says whose it is.
 *
 * Owns: see worker.h. Thread: the loop thread, but for work() and what it calls. */
#include "store/worker.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "store/table_writer.h"

void cg_worker_init(struct cg_worker *worker, const struct cg_table_place *place, bool is_manual,
                    cg_log_progress_fn progress, void *progress_arg) {
  *worker = (struct cg_worker){
      .place = *place, .is_manual = is_manual, .progress = progress, .progress_arg = progress_arg};
  worker->place.is_cancelled = &worker->is_cancelled;
  worker->place.temporary = CG_TABLE_TEMPORARY_WORKER;
  pthread_mutex_init(&worker->mutex, NULL);
  pthread_cond_init(&worker->wake, NULL);
}

void cg_worker_stop(struct cg_worker *worker) {
  atomic_store_explicit(&worker->is_cancelled, true, memory_order_relaxed);
  if (worker->has_thread) {
    pthread_mutex_lock(&worker->mutex);
    worker->is_stopping = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->mutex);
    pthread_join(worker->thread, NULL);
  }
  pthread_cond_destroy(&worker->wake);
  pthread_mutex_destroy(&worker->mutex);
}

/* Opens the tables of a merge. They are this thread's own: the loop thread has them open too. */
static enum cg_code open_parts(const struct cg_worker *worker, struct cg_worker_job *job,
                               struct cg_table_part parts[CG_TABLE_PARTS_MAX]) {
  enum cg_code code = CG_OK;
  for (uint32_t i = 0; i < job->part_count && code == CG_OK; i++) {
    char *path =
        cg_table_path(worker->place.directory, job->first_segments[i], job->last_segments[i], "");
    job->corrupt = i;
    code = cg_table_open(&parts[i].table, worker->place.fs, path, &job->err);
    cg_free(path);
    if (code != CG_OK)
      parts[i].table = NULL;
    else if (parts[i].table->header.crc != job->crcs[i])
      code = cg_err_set(&job->err, CG_ENOTFOUND, "a table was replaced by another one");
    else
      parts[i].segment_count = parts[i].table->header.segment_count;
    /* Somebody may have removed the file, or it is of a segment that was not put in place in the
     * end: the loop thread makes it again. */
    job->has_corrupt = code == CG_ECORRUPT || code == CG_ENOTFOUND;
  }
  return code;
}

static void merge(const struct cg_worker *worker, struct cg_worker_job *job) {
  struct cg_table_part parts[CG_TABLE_PARTS_MAX] = {{0}};
  job->code = open_parts(worker, job, parts);
  if (job->code == CG_OK) {
    job->code = cg_table_merge(&worker->place, parts, job->part_count, &job->corrupt, &job->err);
    job->has_corrupt = job->code == CG_ECORRUPT;
  }
  for (uint32_t i = 0; i < job->part_count; i++)
    cg_table_free(parts[i].table);
}

/* Puts the new segment's table in place of what the old table, which is open, says of it. */
static enum cg_code patch_table(const struct cg_worker *worker, struct cg_worker_job *job,
                                struct cg_table *old) {
  uint64_t first = job->first_segments[0], last = job->last_segments[0], number = job->seal.number;
  enum cg_code code = cg_table_build(&worker->place, &job->seal, &job->err);
  if (code != CG_OK)
    return code;
  char *path = cg_table_path(worker->place.directory, number, number, "");
  struct cg_table *new;
  code = cg_table_open(&new, worker->place.fs, path, &job->err);
  if (code == CG_ENOTFOUND) {
    code = cg_err_set(&job->err, CG_EBUSY, "the index was changed meanwhile");
  } else if (code == CG_OK) {
    uint32_t before = (uint32_t)(number - first);
    /* The last part tells what streams were last, also those of which nothing is left. */
    struct cg_table_part parts[] = {
        {.table = old, .segment_count = before},
        {.table = new, .segment_count = 1},
        {.table = old, .first_segment = before + 1, .segment_count = (uint32_t)(last - number)}};
    uint32_t corrupt;
    code = cg_table_merge(&worker->place, parts, 3, &corrupt, &job->err);
    job->has_corrupt = code == CG_ECORRUPT && corrupt != 1;
    cg_table_free(new);
  }
  if (first != last)
    cg_io_unlink(worker->place.fs, path); /* Failing that, the next open tries. */
  cg_free(path);
  return code;
}

/* Writes a segment anew, and the table that has it. Until the loop thread has put both in place,
 * the file of the table does not fit the log: an open meanwhile would build it again. */
static void rewrite(const struct cg_worker *worker, struct cg_worker_job *job) {
  struct cg_table_part parts[CG_TABLE_PARTS_MAX] = {{0}};
  job->code = open_parts(worker, job, parts);
  if (job->code == CG_OK)
    job->code = cg_log_rewrite(worker->place.log_path, worker->place.fs, &job->seal, &job->rewrite,
                               &job->err);
  if (job->code == CG_OK)
    job->code = patch_table(worker, job, parts[0].table);
  cg_table_free(parts[0].table);
}

static void run(const struct cg_worker *worker, struct cg_worker_job *job) {
  if (job->is_rewrite) {
    rewrite(worker, job);
    return;
  }
  if (job->is_merge) {
    merge(worker, job);
    return;
  }
  job->code = cg_table_build(&worker->place, &job->seal, &job->err);
}

static void *work(void *arg) {
  struct cg_worker *worker = arg;
  pthread_mutex_lock(&worker->mutex);
  while (!worker->is_stopping) {
    if (atomic_load_explicit(&worker->state, memory_order_acquire) != CG_WORKER_WAITING) {
      pthread_cond_wait(&worker->wake, &worker->mutex);
      continue;
    }
    pthread_mutex_unlock(&worker->mutex);
    run(worker, &worker->job);
    atomic_store_explicit(&worker->state, CG_WORKER_DONE, memory_order_release);
    if (worker->progress != NULL)
      worker->progress(worker->progress_arg);
    pthread_mutex_lock(&worker->mutex);
  }
  pthread_mutex_unlock(&worker->mutex);
  return NULL;
}

/* A thread in which no signal is handled: they belong to the loop thread. */
static int start_thread(struct cg_worker *worker) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = pthread_create(&worker->thread, NULL, work, worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return status;
}

enum cg_code cg_worker_give(struct cg_worker *worker, const struct cg_worker_job *job,
                            struct cg_err *err) {
  assert(cg_worker_is_idle(worker));
  if (!worker->is_manual && !worker->has_thread) {
    int status = start_thread(worker);
    if (status != 0)
      return cg_err_set(err, CG_EIO, "start the thread of the index: %s", strerror(status));
    worker->has_thread = true;
  }
  pthread_mutex_lock(&worker->mutex);
  worker->job = *job;
  atomic_store_explicit(&worker->state, CG_WORKER_WAITING, memory_order_release);
  pthread_cond_signal(&worker->wake);
  pthread_mutex_unlock(&worker->mutex);
  return CG_OK;
}

const struct cg_worker_job *cg_worker_take(struct cg_worker *worker) {
  uint32_t state = atomic_load_explicit(&worker->state, memory_order_acquire);
  if (worker->is_manual && state == CG_WORKER_WAITING)
    run(worker, &worker->job);
  else if (state != CG_WORKER_DONE)
    return NULL;
  atomic_store_explicit(&worker->state, CG_WORKER_IDLE, memory_order_relaxed);
  return &worker->job;
}
