/* writer.h - takes appended commits, writes and syncs them in batches, and keeps what is pending
 * readable until it is written.
 *
 * How to use: cg_writer_start on a recovered log; the loop thread appends; the writer's thread (or
 * cg_writer_turn in manual logs) takes everything that is waiting, makes one write and one sync of
 * each run, publishes the durable position; cg_writer_finish makes all durable and writes the mark.
 * Owns: the thread, the two batches, the place where the next commit goes. Not the segments.
 * Thread: append and copy: loop thread; everything on files: the writer's. Fields name theirs. */
#ifndef CG_LOG_WRITER_H
#define CG_LOG_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "log/batch.h"
#include "log/kind.h"

#define CG_WRITER_GATHER_NS UINT64_C(1000000)      /* Longest that commits gather. */
#define CG_WRITER_SYNC_DELAY_NS UINT64_C(50000000) /* Modes os and memory: time to the sync. */

/* What the writer's thread is told to do. */
enum cg_writer_order {
  CG_WRITER_RUN,    /* Write what comes. */
  CG_WRITER_FINISH, /* Write all, mark, end. */
  CG_WRITER_ABANDON /* End, writing nothing more. */
};

/* Where a log ends when the writer takes over. */
struct cg_writer_tail {
  struct cg_segment *segment; /* The last segment, published. */
  uint64_t offset;            /* Where the next commit goes. */
  uint32_t chain;             /* Check of the last commit. */
  uint64_t next_position;     /* All before it is synced. */
  uint64_t marked_position;   /* Highest durable position that stands in the files. */
};

/* The writer. */
struct cg_writer {
  struct cg_log *log;    /* Whose commits; its options, durable position and failure. */
  struct cg_clock clock; /* Of the log in manual logs, else the system's: a real thread waits. */
  pthread_t thread;      /* Valid while has_thread. */
  bool has_thread;       /* Started. Loop thread. */

  pthread_mutex_t mutex;      /* Guards the next fields. */
  pthread_cond_t wake;        /* Signalled when the thread sleeps and shall not. */
  struct cg_batch batches[2]; /* Memory of the next two. */
  struct cg_batch *active;    /* Takes appends. */
  struct cg_batch *flight;    /* Being written, or written last. The writer fills in its blanks
                                 without the mutex, see batch.h. */
  struct cg_segment *tail;    /* Where the next commit goes; changed by the loop thread only. */
  uint64_t tail_offset;       /* Where in it. */
  bool is_sleeping;           /* The thread waits on `wake`. */
  bool is_wanted;             /* What waits is to be written now: flushed, or it is much. */
  bool wants_space;           /* Somebody met is_full: try to grow again. */
  enum cg_writer_order order; /* What to do. */

  struct cg_segment *segment; /* Where was written last. Writer, as all of these. */
  uint64_t end_offset;        /* End of what is written in it. */
  uint32_t chain;             /* Check of the last commit written. */
  int64_t time_ms;            /* Time of the last batch. */
  uint64_t written_position;  /* Position after the last record written. */
  uint64_t synced_position;   /* Position after the last record synced. */
  uint64_t stated_position;   /* Highest durable position in what is written. */
  uint64_t marked_position;   /* Highest durable position in what is synced. */
  uint64_t last_write_ns;     /* When the last write was, for the mark. */
  uint64_t sync_due_ns;       /* When to sync what is written; UINT64_MAX: nothing. */

  uint8_t apart[64];                  /* Keeps the next fields off the cache line above. */
  _Atomic uint64_t written_place;     /* End of what can be read from files. */
  _Atomic uint64_t published_number;  /* The last segment published; all before it are sealed, and
                                         the writer has done with them. */
  _Atomic uint64_t readable_position; /* Position after it; set after written_place. */
  atomic_size_t flight_bytes;         /* Bytes of `flight` not written yet. */
  atomic_bool is_full;                /* The zeros ahead cannot grow: no appends. */
  _Atomic uint64_t sync_count;        /* For the statistics. */
  _Atomic uint64_t write_bytes;       /* For the statistics. */
};

/* Prepares the writer and starts its thread, unless the log is manual. The log's options must be
 * filled in. CG_EIO: no thread. */
enum cg_code cg_writer_start(struct cg_writer *writer, struct cg_log *log,
                             const struct cg_writer_tail *tail, struct cg_err *err);
/* Ends the thread and frees the memory; `order` says whether what is pending is written. Failures
 * are found in the log. */
void cg_writer_stop(struct cg_writer *writer, enum cg_writer_order order);

/* Places and takes a commit. When it does not fit the last segment: CG_END if `next` is NULL, else
 * it goes into `next`, which becomes the last. *place gets where its first record lies.
 * CG_ELIMIT: too much is pending; CG_EFULL. */
enum cg_code cg_writer_append(struct cg_writer *writer, struct cg_segment *next,
                              const uint8_t *records, size_t records_size, uint32_t record_count,
                              cg_log_place *place, struct cg_err *err);
/* Lets everything appended so far be written now. */
void cg_writer_flush(struct cg_writer *writer);

/* Manual logs: one round of the writer's work; true when there was any. */
bool cg_writer_turn(struct cg_writer *writer);

/* Records with a position below it can be read from files, up to written_place. */
static inline uint64_t cg_writer_readable_position(const struct cg_writer *writer) {
  return atomic_load_explicit(&writer->readable_position, memory_order_acquire);
}

/* Appends the record at `place` to `buf` when it is still pending. */
bool cg_writer_copy_record(struct cg_writer *writer, cg_log_place place, struct cg_buf *buf);
/* Appends the records of the commit that holds `position` to `buf` when it is still pending;
 * *commit gets a copy of its entry. */
bool cg_writer_copy_commit(struct cg_writer *writer, uint64_t position, struct cg_buf *buf,
                           struct cg_batch_commit *commit);

#endif
