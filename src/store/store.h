/* store.h - the event store: streams with versions on any log. Door of the folder.
 *
 * A stream is a named sequence of records with versions 0, 1, 2, ... The index from stream and
 * version to a place in the log lives in memory and is built while the log is opened.
 *
 * How to use: cg_store_open; build one commit at a time with cg_store_begin, cg_store_add (once a
 * record, versions are checked at once), and cg_store_commit or cg_store_rollback; nothing else of
 * the store may be called between begin and the end of the commit. Read by stream and version, or
 * in order of positions with a log cursor.
 *
 * What is committed is visible to reads at once and durable later: see cg_log_durable_position. A
 * commit that was made after reading something is later in the log than what was read, so a crash
 * never keeps an effect and loses its cause.
 * Owns: the log, the index. Thread: the loop thread. */
#ifndef CG_STORE_STORE_H
#define CG_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "log/log.h"
#include "store/keys.h"  /* Keys of persons: behind the same door. */
#include "store/model.h" /* Read models: behind the same door. */

struct cg_store;

/* Number of a stream in this run of the store: valid until the store is closed. */
typedef uint32_t cg_store_stream;
#define CG_STORE_NO_STREAM UINT32_MAX

/* Expected versions beside an exact one (the version of the stream's last record). */
#define CG_STORE_ANY INT64_C(-1)    /* No check. */
#define CG_STORE_NONE INT64_C(-2)   /* The stream must have no record. */
#define CG_STORE_EXISTS INT64_C(-3) /* The stream must have a record. */

/* Opens another kind of log than the store's own two, with `options` as they are given; the store
 * owns the log from then on. Errors: the kind's. */
typedef enum cg_code (*cg_store_log_fn)(void *arg, const struct cg_log_options *options,
                                        struct cg_log **log, struct cg_err *err);

/* How to open a store. */
struct cg_store_options {
  const char *path;          /* Data directory, made when missing; the log lies in its folder
                                    `log`, the reservation of ids in its file `ids`. NULL: in
                                    memory. */
  struct cg_log_options log; /* replay and replay_arg are the store's own. */
  cg_store_log_fn open_log;  /* NULL: a log in files or in memory, as `path` says. */
  void *open_log_arg;        /* Passed to open_log. */
  uint64_t seed;             /* Seed of the name map; differs between runs. */
  uint32_t node;             /* Node of the ids, 0..CG_ID_NODE_MAX. */
};

/* One record to add. */
struct cg_store_event {
  cg_store_stream stream; /* Where to. */
  int64_t expected;       /* Version it must follow, or CG_STORE_ANY, _NONE, _EXISTS. */
  const char *type;       /* 1..CG_RECORD_TYPE_BYTES_MAX bytes. */
  size_t type_size;       /* Bytes of the type. */
  const void *metadata;   /* May be NULL when the size is 0. */
  size_t metadata_size;   /* Bytes of the metadata. */
  uint16_t flags;         /* enum cg_record_flags. */
  uint64_t id;            /* Snowflake. */
  int64_t time_ms;        /* Unix ms. */
};

/* Opens the store: opens the log, reads it once, builds the index. Errors: cg_log_open_*'s. */
enum cg_code cg_store_open(struct cg_store **store, const struct cg_store_options *options,
                           struct cg_err *err);
/* Closes the log (flushes, marks) and frees the store; the error of cg_log_close. */
enum cg_code cg_store_close(struct cg_store *store, struct cg_err *err);
/* Frees the store as a crash would leave the log. */
void cg_store_abandon(struct cg_store *store);

/* The log below, for durable_position, failed, cursors and statistics. */
struct cg_log *cg_store_log(struct cg_store *store);

/* The number of the stream `name`, or CG_STORE_NO_STREAM when no record was ever added to it and
 * `make` is false. CG_STORE_NO_STREAM also when the name is empty or over
 * CG_RECORD_STREAM_BYTES_MAX. */
cg_store_stream cg_store_find(struct cg_store *store, const char *name, size_t size, bool make);
/* The name of a stream; valid while the store is open. */
const char *cg_store_name(const struct cg_store *store, cg_store_stream stream, size_t *size);
/* How many records the stream has (also those of the commit being built). */
uint64_t cg_store_count(const struct cg_store *store, cg_store_stream stream);
/* True from a CG_RECORD_OPENS record until a CG_RECORD_CLOSES record. */
bool cg_store_unfinished(const struct cg_store *store, cg_store_stream stream);
/* How many streams there are: their numbers are 0..n-1. */
uint32_t cg_store_stream_count(const struct cg_store *store);

/* A new id, never given before by this store, also before a restart. Errors: CG_EIO and the like
 * when the reservation cannot be stored. */
enum cg_code cg_store_new_id(struct cg_store *store, uint64_t *id, struct cg_err *err);
/* The same for a caller that has just read the log's clock. */
enum cg_code cg_store_new_id_at(struct cg_store *store, int64_t now_ms, uint64_t *id,
                                struct cg_err *err);

/* Starts a commit; one that was begun and not ended is rolled back. */
void cg_store_begin(struct cg_store *store);
/* Starts a record: checks the expected version and returns in *data the buffer to which the caller
 * appends the record's data; then cg_store_added must follow. On an error nothing was added.
 * CG_ECONFLICT names stream, expected and actual version. */
enum cg_code cg_store_add(struct cg_store *store, const struct cg_store_event *event,
                          struct cg_buf **data, struct cg_err *err);
/* Ends the record; its version is returned. */
uint64_t cg_store_added(struct cg_store *store);
/* A condition of the commit being built, on a stream that the commit does not write: what
 * cg_store_add checks of `expected`, without adding. A stream that is not there has no record; the
 * name ends with a zero behind `size` bytes. CG_ECONFLICT as cg_store_add; CG_EINVAL: no name. */
enum cg_code cg_store_expect(struct cg_store *store, const char *name, size_t size,
                             int64_t expected, struct cg_err *err);
/* Appends what was added as one commit; *first gets the first record's position. Without records:
 * CG_OK and *first is the next position. On an error nothing was committed; the commit is over. */
enum cg_code cg_store_commit(struct cg_store *store, uint64_t *first, struct cg_err *err);
/* Forgets what was added. Also allowed between cg_store_add and cg_store_added, and when no commit
 * is being built. */
void cg_store_rollback(struct cg_store *store);

/* Reads one record; it points into `buf`, which is emptied first.
 * CG_ENOTFOUND: no such version. */
enum cg_code cg_store_read(struct cg_store *store, cg_store_stream stream, uint64_t version,
                           struct cg_buf *buf, struct cg_record *record, struct cg_err *err);

#endif
