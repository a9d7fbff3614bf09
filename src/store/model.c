/* model.c - the queue between the loop thread and the one thread that may wait for SQLite.
 *
 * Two lists under one mutex: jobs that wait, jobs that are done. The worker takes one, runs it
 * without the mutex, puts it with the done ones and rings the loop.
 * Entries are length and bytes, one after the other:
 *   u32 size, host order; ENTRY_ABSENT: no bytes follow
 *   bytes
 * Owns: see model.h. Thread: the loop thread, but for work() (the worker). */
#include "store/model.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "store/model_sql.h"

#define ENTRY_ABSENT UINT32_MAX
#define DIRECTORY_MODE 0750 /* Of one that is made. */

/* A first-in first-out list of jobs. */
struct queue {
  struct cg_model_job *first; /* NULL: empty. */
  struct cg_model_job *last;  /* Meaningless when empty. */
};

/* The read models of a store, and the thread that works on them. */
struct cg_model {
  char *path;             /* Of the database; NULL: in memory. Constant. */
  bool is_reader;         /* Opened for reading. Constant. */
  atomic_bool is_ending;  /* Breaks off a QUERY. */
  uv_async_t async;       /* Rung when jobs are done. */
  uv_thread_t thread;     /* The worker. */
  uv_mutex_t mutex;       /* Over waiting, done, waiting_count, is_stopping. */
  uv_cond_t wake;         /* Something waits, or stopping. */
  struct queue waiting;   /* Submitted. */
  struct queue done;      /* To be told to the loop thread. */
  struct queue deferred;  /* Reads that wait for the end of the open transaction; the worker's. */
  uint32_t waiting_count; /* Jobs in `waiting`. */
  bool is_stopping;       /* The worker is to end. */
  uint32_t open_count;    /* Submitted and not told; the loop thread's. */
};

static void work(void *arg);
static struct cg_model_job *take(struct cg_model *model, struct cg_model_sql *sql);
static void put(struct cg_model *model, struct cg_model_job *job);
static void on_async(uv_async_t *handle);
static void tell(struct cg_model *model, struct queue *queue);
static void on_closed(uv_handle_t *handle);

static void push(struct queue *queue, struct cg_model_job *job) {
  job->next = NULL;
  if (queue->first == NULL)
    queue->first = job;
  else
    queue->last->next = job;
  queue->last = job;
}

static struct cg_model_job *pop(struct queue *queue) {
  struct cg_model_job *job = queue->first;
  if (job != NULL)
    queue->first = job->next;
  return job;
}

/* A thread in which no signal is handled: they belong to the loop thread, above all the one that
 * stops runaway scripts. */
static int start_thread(struct cg_model *model) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = uv_thread_create(&model->thread, work, model);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return status;
}

enum cg_code cg_model_open(struct cg_model **out, uv_loop_t *loop, const char *path, bool is_reader,
                           struct cg_err *err) {
  struct cg_model *model = cg_alloc(sizeof(*model));
  model->is_reader = is_reader;
  model->path = path != NULL ? cg_strndup(path, strlen(path)) : NULL;
  int status = uv_async_init(loop, &model->async, on_async);
  if (status != 0)
    goto fail_async;
  model->async.data = model;
  uv_unref((uv_handle_t *)&model->async);
  uv_mutex_init(&model->mutex);
  uv_cond_init(&model->wake);
  status = start_thread(model);
  if (status != 0)
    goto fail_thread;
  *out = model;
  return CG_OK;

fail_thread:
  uv_close((uv_handle_t *)&model->async, on_closed);
  return cg_err_set(err, CG_EIO, "start the thread of the read models: %s", uv_strerror(status));
fail_async:
  cg_free(model->path);
  cg_free(model);
  return cg_err_set(err, CG_EIO, "event loop: %s", uv_strerror(status));
}

void cg_model_close(struct cg_model *model) {
  if (model == NULL)
    return;
  atomic_store(&model->is_ending, true);
  uv_mutex_lock(&model->mutex);
  model->is_stopping = true;
  uv_cond_signal(&model->wake);
  uv_mutex_unlock(&model->mutex);
  uv_thread_join(&model->thread);
  tell(model, &model->done);
  for (struct cg_model_job *job = model->waiting.first; job != NULL; job = job->next)
    job->code = cg_err_set(&job->err, CG_ECLOSED, "the read models were closed");
  tell(model, &model->waiting);
  assert(model->open_count == 0);
  uv_close((uv_handle_t *)&model->async, on_closed);
}

struct cg_model_job *cg_model_job_new(enum cg_model_verb verb, const char *projection,
                                      uint64_t version) {
  struct cg_model_job *job = cg_alloc(sizeof(*job));
  job->verb = verb;
  job->projection = projection != NULL ? cg_strndup(projection, strlen(projection)) : NULL;
  job->version = version;
  job->max = CG_MODEL_FIND_MAX;
  job->request = cg_buf_take(NULL, 0);
  job->reply = cg_buf_take(NULL, 0);
  return job;
}

void cg_model_entry_add(struct cg_buf *entries, const void *bytes, size_t size) {
  assert(size < ENTRY_ABSENT);
  uint32_t prefix = bytes != NULL ? (uint32_t)size : ENTRY_ABSENT;
  cg_buf_append(entries, &prefix, sizeof(prefix));
  if (bytes != NULL)
    cg_buf_append(entries, bytes, size);
}

/* SQLite's JSON paths cannot quote these characters. */
static enum cg_code check_field(const char *field, struct cg_err *err) {
  for (const char *at = field; *at != '\0'; at++)
    if ((unsigned char)*at < 0x20 || *at == '"' || *at == '\\')
      return cg_err_set(err, CG_EINVAL,
                        "the field name '%s' has a quote, a backslash or a control character and "
                        "cannot be searched for",
                        field);
  return CG_OK;
}

enum cg_code cg_model_job_where(struct cg_model_job *job, const char *field,
                                enum cg_model_match match, const void *bytes, size_t size,
                                struct cg_err *err) {
  enum cg_code code = check_field(field, err);
  if (code != CG_OK)
    return code;
  uint8_t kind = (uint8_t)match;
  cg_model_entry_add(job->request, field, strlen(field));
  cg_model_entry_add(job->request, &kind, sizeof(kind));
  cg_model_entry_add(job->request, bytes != NULL ? bytes : "", size);
  return CG_OK;
}

enum cg_code cg_model_job_sort(struct cg_model_job *job, const char *field, bool is_descending,
                               struct cg_err *err) {
  enum cg_code code = check_field(field, err);
  if (code != CG_OK)
    return code;
  cg_free(job->order);
  job->order = cg_strndup(field, strlen(field));
  job->is_descending = is_descending;
  return CG_OK;
}

bool cg_model_entry_next(const struct cg_buf *entries, size_t *offset, const void **bytes,
                         size_t *size) {
  uint32_t prefix;
  if (*offset == entries->size)
    return false;
  memcpy(&prefix, entries->data + *offset, sizeof(prefix));
  *offset += sizeof(prefix);
  *size = prefix == ENTRY_ABSENT ? 0 : prefix;
  *bytes = prefix == ENTRY_ABSENT ? NULL : entries->data + *offset;
  *offset += *size;
  assert(*offset <= entries->size);
  return true;
}

void cg_model_job_free(struct cg_model_job *job) {
  if (job == NULL)
    return;
  cg_buf_unref(job->request);
  cg_buf_unref(job->reply);
  cg_buf_unref(job->statements);
  cg_free(job->projection);
  cg_free(job->order);
  cg_free(job);
}

enum cg_code cg_model_submit(struct cg_model *model, struct cg_model_job *job,
                             cg_model_done_fn done, void *arg, struct cg_err *err) {
  job->done = done;
  job->arg = arg;
  uv_mutex_lock(&model->mutex);
  bool is_full = model->waiting_count == CG_MODEL_JOBS_MAX;
  if (!is_full) {
    push(&model->waiting, job);
    model->waiting_count++;
    uv_cond_signal(&model->wake);
  }
  uv_mutex_unlock(&model->mutex);
  if (is_full)
    return cg_err_set(err, CG_ELIMIT, "%u requests to the read models wait already",
                      CG_MODEL_JOBS_MAX);
  if (model->open_count++ == 0)
    uv_ref((uv_handle_t *)&model->async);
  return CG_OK;
}

/* Makes the directory that the file is to be in; when that fails, opening the file will tell. */
static void make_directory(const struct cg_model *model) {
  const char *slash = model->path != NULL ? strrchr(model->path, '/') : NULL;
  if (slash == NULL || slash == model->path || model->is_reader)
    return;
  char *directory = cg_strndup(model->path, (size_t)(slash - model->path));
  mkdir(directory, DIRECTORY_MODE);
  cg_free(directory);
}

/* The worker. */
static void work(void *arg) {
  struct cg_model *model = arg;
  struct cg_err err;
  struct cg_model_sql *sql = NULL;
  make_directory(model);
  enum cg_code code =
      cg_model_sql_open(&sql, model->path, model->is_reader, &model->is_ending, &err);
  for (struct cg_model_job *job = take(model, sql); job != NULL; job = take(model, sql)) {
    if (code == CG_OK) {
      cg_model_sql_run(sql, job);
    } else {
      job->code = code;
      job->err = err;
    }
    put(model, job);
  }
  cg_model_sql_close(sql);
}

/* Must the job wait for the end of an open transaction? */
static bool is_outside_read(const struct cg_model_job *job) {
  return !job->is_inside &&
         (job->verb == CG_MODEL_FETCH || job->verb == CG_MODEL_FIND || job->verb == CG_MODEL_QUERY);
}

/* The next job that may run now, or NULL. The mutex is held. */
static struct cg_model_job *next_job(struct cg_model *model, bool is_open) {
  if (!is_open && model->deferred.first != NULL)
    return pop(&model->deferred);
  while (model->waiting.first != NULL) {
    struct cg_model_job *job = pop(&model->waiting);
    model->waiting_count--;
    if (!is_open || !is_outside_read(job))
      return job;
    push(&model->deferred, job);
  }
  return NULL;
}

/* The next job; waits for one. NULL: the end. On the worker. */
static struct cg_model_job *take(struct cg_model *model, struct cg_model_sql *sql) {
  bool is_open = cg_model_sql_is_open(sql);
  struct cg_model_job *job = NULL;
  uv_mutex_lock(&model->mutex);
  while (!model->is_stopping && (job = next_job(model, is_open)) == NULL)
    uv_cond_wait(&model->wake, &model->mutex);
  if (job == NULL)
    for (struct cg_model_job *left = pop(&model->deferred); left != NULL;
         left = pop(&model->deferred))
      push(&model->waiting, left);
  uv_mutex_unlock(&model->mutex);
  return job;
}

/* Hands a finished job back. On the worker. */
static void put(struct cg_model *model, struct cg_model_job *job) {
  uv_mutex_lock(&model->mutex);
  push(&model->done, job);
  uv_mutex_unlock(&model->mutex);
  uv_async_send(&model->async);
}

static void on_async(uv_async_t *handle) {
  struct cg_model *model = handle->data;
  struct queue done;
  uv_mutex_lock(&model->mutex);
  done = model->done;
  model->done.first = NULL;
  uv_mutex_unlock(&model->mutex);
  tell(model, &done);
}

/* Calls back for every job of a list that nobody else changes. */
static void tell(struct cg_model *model, struct queue *queue) {
  for (struct cg_model_job *job = pop(queue); job != NULL; job = pop(queue)) {
    if (--model->open_count == 0)
      uv_unref((uv_handle_t *)&model->async);
    job->done(job->arg, job);
  }
}

static void on_closed(uv_handle_t *handle) {
  struct cg_model *model = handle->data;
  uv_cond_destroy(&model->wake);
  uv_mutex_destroy(&model->mutex);
  cg_free(model->path);
  cg_free(model);
}
