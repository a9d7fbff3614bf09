/* model.h - read models: JSON documents and checkpoints in one SQLite database, not on the loop
 * thread.
 *
 * A projection has one table of documents a version and one checkpoint: the position up to which
 * the log's events are in it. Documents and checkpoint change in one transaction, so that each
 * event is applied exactly once. One version of a projection serves reads; another one may be built
 * beside it. A database that belongs to one version alone may hold tables of the projection's own,
 * which SQL statements change in the same transaction.
 *
 * A transaction may stay open over several jobs, so that a handler can ask what the statements
 * before it have done. Meanwhile jobs that read wait, unless they ask from inside.
 *
 * How to use: cg_model_open; make a job, add its entries, submit it; its `done` is called on the
 * loop thread with the results in it. Jobs run one at a time in the order of submission, so a
 * job sees what those before it did. cg_model_close.
 * Owns: the database, one worker thread (all signals blocked in it), submitted jobs. Thread: the
 * loop thread. Nothing here blocks but cg_model_close, which waits for the job that runs. */
#ifndef CG_STORE_MODEL_H
#define CG_STORE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define CG_MODEL_JOBS_MAX 10000u                     /* Jobs that wait; more is CG_ELIMIT. */
#define CG_MODEL_NAME_BYTES_MAX 200                  /* Of a projection's name. */
#define CG_MODEL_FIND_MAX 10000u                     /* Documents of one find. */
#define CG_MODEL_REPLY_BYTES_MAX ((size_t)256 << 20) /* Of one job; more is CG_ELIMIT. */

struct cg_model;
struct cg_model_job;

/* Called on the loop thread when a job is done; frees the job when it has read it. May submit
 * other jobs; must not close. */
typedef void (*cg_model_done_fn)(void *arg, struct cg_model_job *job);

/* What a job does, its entries, and what it leaves in `reply` and fields. */
enum cg_model_verb {
  CG_MODEL_LIST,   /* Reply, 4 entries a checkpoint: projection, version, position, serving 0|1. */
  CG_MODEL_DEFINE, /* Makes the version's table when it is missing; sets position, is_serving. The
                      first version of a projection serves at once. */
  CG_MODEL_FETCH,  /* Entries: keys. Reply: a document or an absent entry for each. */
  CG_MODEL_APPLY,  /* Entries: pairs of key and document (absent: the key is deleted). One
                      transaction that also moves the checkpoint from `from` to `position`;
                      CG_ECONFLICT when it does not stand at `from`: nothing was changed. */
  CG_MODEL_FIND,   /* Entries: see cg_model_job_where. Reply: pairs of key and document. */
  CG_MODEL_SERVE,  /* From now on this version serves reads; the other ones are dropped. */
  CG_MODEL_DROP,   /* Drops this version. */
  CG_MODEL_RUN,    /* Runs `statements`, whatever they are: they are the program's own. */
  CG_MODEL_QUERY,  /* Runs one statement that only reads. Reply: see cg_model_columns. */
  CG_MODEL_UNDO    /* Rolls back the open transaction, if there is one. */
};

/* What a field is compared with. */
enum cg_model_match { CG_MODEL_STRING, CG_MODEL_NUMBER, CG_MODEL_BOOLEAN, CG_MODEL_NULL };

/* Kinds of SQL values. */
enum cg_model_kind {
  CG_MODEL_VALUE_NULL,
  CG_MODEL_VALUE_INTEGER,
  CG_MODEL_VALUE_REAL,
  CG_MODEL_VALUE_TEXT,
  CG_MODEL_VALUE_BLOB
};

/* A value of a row. */
struct cg_model_value {
  enum cg_model_kind kind; /* Which of those below is set. */
  int64_t integer;         /* INTEGER. */
  double real;             /* REAL. */
  const char *bytes;       /* TEXT, BLOB: in the reply. */
  size_t size;             /* TEXT, BLOB. */
};

/* One request with its results. */
struct cg_model_job {
  enum cg_model_verb verb;   /* What to do. */
  char *projection;          /* Whose model; NULL for LIST. Owned. */
  uint64_t version;          /* Which version of it. */
  uint64_t from;             /* APPLY: the checkpoint before. */
  uint64_t position;         /* APPLY: the checkpoint after. DEFINE: result. */
  bool is_serving;           /* DEFINE: result. */
  bool is_apart;             /* DEFINE: its documents are in a database of its own, not here. */
  bool is_alone;             /* DEFINE: this is that database: the view is called "documents". */
  bool stays_open;           /* APPLY: the transaction stays open, the checkpoint where it is. */
  bool is_inside;            /* FETCH, FIND, QUERY: sees the open transaction. */
  bool is_cut;               /* QUERY: result; there were more rows than `max`. */
  uint32_t timeout_ms;       /* QUERY: CG_ETIMEOUT after so long; 0: none. */
  uint64_t mark;             /* Result: of the statement that failed; 0: none has. */
  struct cg_buf *statements; /* APPLY: run behind the documents; RUN, QUERY. See below. Owned. */
  char *order;               /* FIND: field to sort by, NULL: by key. Owned. */
  bool is_descending;        /* FIND: the sort is turned round. */
  uint32_t max;              /* FIND, QUERY: at most so many. FIND: up to CG_MODEL_FIND_MAX. */
  uint32_t offset;           /* FIND: leaves out the first ones. */
  struct cg_buf *request;    /* Entries, see cg_model_entry_add. */
  struct cg_buf *reply;      /* Entries; meaningless unless code is CG_OK. */
  enum cg_code code;         /* How it ended. */
  struct cg_err err;         /* Why, unless CG_OK. */
  cg_model_done_fn done;     /* Set by submit. */
  void *arg;                 /* Passed to done. */
  struct cg_model_job *next; /* In a queue. */
};

/* Starts the worker; it opens (or makes) the database file `path`, NULL: in memory. What is wrong
 * with the file is told by every job. `is_reader`: the file must be there and nothing is made or
 * set in it; for RUN and QUERY only. Errors: CG_EIO no thread. */
enum cg_code cg_model_open(struct cg_model **model, uv_loop_t *loop, const char *path,
                           bool is_reader, struct cg_err *err);
/* Waits for the job that runs (a QUERY is broken off), ends those that wait with CG_ECLOSED (done
 * is called for each of them, inside), closes the database; the memory is freed when the loop has
 * turned. NULL is fine. */
void cg_model_close(struct cg_model *model);

/* A job without entries. `projection` is copied; NULL only for LIST. */
struct cg_model_job *cg_model_job_new(enum cg_model_verb verb, const char *projection,
                                      uint64_t version);
/* Adds an entry to a request; NULL bytes: an absent one. */
void cg_model_entry_add(struct cg_buf *entries, const void *bytes, size_t size);
/* Walks entries: start with *offset = 0; false at the end. *bytes is NULL for an absent entry. */
bool cg_model_entry_next(const struct cg_buf *entries, size_t *offset, const void **bytes,
                         size_t *size);
/* Adds a condition to a FIND: a field of the document (no path) is the value, of which the bytes
 * are the string's, a double's or a bool's. CG_EINVAL: a field name with a quote, a backslash or a
 * control character cannot be searched for. */
enum cg_code cg_model_job_where(struct cg_model_job *job, const char *field,
                                enum cg_model_match match, const void *bytes, size_t size,
                                struct cg_err *err);
/* Sets the sort of a FIND; errors as above. */
enum cg_code cg_model_job_sort(struct cg_model_job *job, const char *field, bool is_descending,
                               struct cg_err *err);
/* Begins a statement in a buffer of statements: exactly `value_count` values must follow. `mark`,
 * not 0, says whose it is. */
void cg_model_statement_begin(struct cg_buf *statements, uint64_t mark, const char *text,
                              size_t size, uint32_t value_count);
/* Values of its parameters, in order. Text that is no UTF-8 is bound as a blob. */
void cg_model_statement_null(struct cg_buf *statements);
void cg_model_statement_number(struct cg_buf *statements, double number);
void cg_model_statement_text(struct cg_buf *statements, const char *text, size_t size);
/* The columns of the reply of a RUN or QUERY: how many, and behind *offset as many entries with
 * their names. 0: there are no rows. */
uint32_t cg_model_columns(const struct cg_buf *reply, size_t *offset);
/* The next value of its rows, which lie behind the columns; false at the end. */
bool cg_model_value_next(const struct cg_buf *reply, size_t *offset, struct cg_model_value *value);
/* Frees a job that is not submitted, or done. NULL is fine. */
void cg_model_job_free(struct cg_model_job *job);

/* Hands a job over; the job belongs to the model until done is called. CG_ELIMIT: too many wait;
 * the job stays the caller's. */
enum cg_code cg_model_submit(struct cg_model *model, struct cg_model_job *job,
                             cg_model_done_fn done, void *arg, struct cg_err *err);

#endif
