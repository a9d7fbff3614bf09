/* worker.h - the thread that makes tables while the store is in use, one at a time; it also
 * rewrites sealed segments, with the table that fits.
 *
 * How to use: cg_worker_init; when it is idle, give it a job; its `progress` rings when the job is
 * done, then cg_worker_take. The thread is made for the first job. A `manual` worker has none: take
 * does the job. cg_worker_stop gives up the job under way.
 * Owns: the thread. Thread: the loop thread, but for the job itself. */
#ifndef CG_STORE_WORKER_H
#define CG_STORE_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/table_build.h"

/* What is to be made. */
struct cg_worker_job {
  bool is_merge;                               /* Of tables; else of a segment. */
  bool is_rewrite;                             /* The segment is written anew first. */
  struct cg_log_rewrite rewrite;               /* How; its `arg` is the worker's meanwhile. */
  struct cg_log_seal seal;                     /* The segment; rewritten, that of the new file. */
  uint64_t first_segments[CG_TABLE_PARTS_MAX]; /* Of the tables to be merged; rewriting: of the */
  uint64_t last_segments[CG_TABLE_PARTS_MAX];  /* one that has the segment, at 0. */
  uint32_t crcs[CG_TABLE_PARTS_MAX];           /* Of the headers of these tables. */
  uint32_t part_count;                         /* How many tables. */
  enum cg_code code;                           /* What came of it. */
  uint32_t corrupt;  /* Of a merge or rewriting: the table that is damaged or gone, */
  bool has_corrupt;  /* if this is true. */
  struct cg_err err; /* Why not; set when code is not CG_OK. */
};

/* Where a job stands. */
enum cg_worker_state { CG_WORKER_IDLE, CG_WORKER_WAITING, CG_WORKER_DONE };

/* The worker. */
struct cg_worker {
  struct cg_table_place place; /* Where tables lie; its strings are the index's. */
  cg_log_progress_fn progress; /* Called on the worker thread; may be NULL. */
  void *progress_arg;          /* Passed to progress. */
  bool is_manual;              /* No thread. */
  bool has_thread;             /* The thread was made. */
  pthread_t thread;            /* It. */
  pthread_mutex_t mutex;       /* Over the job while it waits, and is_stopping. */
  pthread_cond_t wake;         /* A job waits, or stopping. */
  bool is_stopping;            /* The thread is to end. */
  atomic_bool is_cancelled;    /* The job is to end. */
  _Atomic uint32_t state;      /* enum cg_worker_state. */
  struct cg_worker_job job;    /* The thread's while it waits, else the loop thread's. */
};

/* Makes it idle. `place` but for is_cancelled is copied; its strings are kept. */
void cg_worker_init(struct cg_worker *worker, const struct cg_table_place *place, bool is_manual,
                    cg_log_progress_fn progress, void *progress_arg);
/* Ends the job under way, and the thread. */
void cg_worker_stop(struct cg_worker *worker);

/* Whether it can take a job. */
static inline bool cg_worker_is_idle(const struct cg_worker *worker) {
  return atomic_load_explicit(&worker->state, memory_order_acquire) == CG_WORKER_IDLE;
}
/* Gives it a job, which is copied; it must be idle. CG_EIO: no thread could be made. */
enum cg_code cg_worker_give(struct cg_worker *worker, const struct cg_worker_job *job,
                            struct cg_err *err);
/* The job that is done, or NULL; valid until the next is given. */
const struct cg_worker_job *cg_worker_take(struct cg_worker *worker);

#endif
