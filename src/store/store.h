/* store.h - the event store: streams with versions on any log. Door of the folder.
 *
 * A stream is a named sequence of records with versions 0, 1, 2, ... The index from stream and
 * version to a place in the log is in files for sealed segments (directory `index`, which may be
 * deleted: it is built again), and in memory for the rest, which is read while the log is opened.
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
#include "store/derived.h"      /* What derived files prove: behind the same door. */
#include "store/index_verify.h" /* Checking the index: behind the same door. */
#include "store/keys.h"         /* Keys of persons: behind the same door. */
#include "store/model.h"        /* Read models: behind the same door. */
#include "store/scavenge.h"     /* What a scavenge drops: behind the same door. */

struct cg_store;

/* Number of a stream in this run of the store, below 2^53. It is valid until the next
 * cg_store_turn; then it may be stale, because the stream was not used for long, is finished, and
 * left memory: cg_store_is_stale tells, and the stream has another number when it is found by name
 * again. The number of an unfinished stream is never stale. */
typedef uint64_t cg_store_stream;
#define CG_STORE_NO_STREAM UINT64_MAX

#define CG_STORE_STREAMS_CACHED_DEFAULT 1000000u
#define CG_STORE_REPLAYED_DEFAULT 6u
#define CG_STORE_STREAMS_MAX 10000u /* Names of one page. */

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
  const char *path;            /* Data directory, made when missing; the log lies in its folder
                                    `log`, the reservation of ids in its file `ids`. NULL: in
                                    memory. */
  struct cg_log_options log;   /* replay and resume, with their arguments, are the store's own. */
  cg_store_log_fn open_log;    /* NULL: a log in files or in memory, as `path` says. */
  void *open_log_arg;          /* Passed to open_log. */
  uint64_t seed;               /* Seed of the name map; differs between runs. */
  uint32_t node;               /* Node of the ids, 0..CG_ID_NODE_MAX. */
  uint32_t streams_cached_max; /* Streams in memory above which some are evicted; 0:
                                    CG_STORE_STREAMS_CACHED_DEFAULT. */
  uint32_t replayed_max;       /* Newest sealed segments that an open reads into memory when their
                                    index is missing; of others it is built first. 0:
                                    CG_STORE_REPLAYED_DEFAULT. */
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

/* Gives the number of the stream `name`; with `make` also when no record was ever added to it.
 * CG_ENOTFOUND: there is none (err is not set); CG_EINVAL: the name is empty or over
 * CG_RECORD_STREAM_BYTES_MAX; CG_ECORRUPT, CG_EIO, CG_EFULL: a damaged part of the index could not
 * be built again. *stream is CG_STORE_NO_STREAM then. */
enum cg_code cg_store_find(struct cg_store *store, const char *name, size_t size, bool make,
                           cg_store_stream *stream, struct cg_err *err);
/* Whether the number is of no stream any more (or never was). None of the functions below takes one
 * that is. */
bool cg_store_is_stale(const struct cg_store *store, cg_store_stream stream);
/* How many streams have left memory so far: while it stays the same no number becomes stale. */
uint64_t cg_store_evicted_count(const struct cg_store *store);
/* The name of a stream; valid as long as its number. */
const char *cg_store_name(const struct cg_store *store, cg_store_stream stream, size_t *size);
/* How many versions the stream has (also those of the commit being built, and scavenged ones). */
uint64_t cg_store_count(const struct cg_store *store, cg_store_stream stream);
/* True from a CG_RECORD_OPENS record until a CG_RECORD_CLOSES record. */
bool cg_store_unfinished(const struct cg_store *store, cg_store_stream stream);

/* The streams in memory, which are all unfinished ones and those used of late, have places
 * 0..n-1; a place may be free (CG_STORE_NO_STREAM). Higher places are younger, roughly. */
uint32_t cg_store_place_count(const struct cg_store *store);
cg_store_stream cg_store_at(const struct cg_store *store, uint32_t place);

/* Which names cg_store_streams gives: those that begin with `prefix` and are above `after`. */
struct cg_store_page {
  const char *prefix; /* May be NULL when its size is 0. */
  size_t prefix_size; /* Bytes of it. */
  const char *after;  /* May be NULL when its size is 0. */
  size_t after_size;  /* Bytes of it. */
  uint32_t max;       /* Names given at most, 1..CG_STORE_STREAMS_MAX. */
};
/* A false answer ends the walk. The name is valid during the call only. */
typedef bool (*cg_store_name_fn)(void *arg, const char *name, size_t size);
/* Calls `each` for streams that have records, in the order of their names (bytes). Looks at all
 * streams in memory, and at no more of the others than it gives. Not while a commit is being built.
 * Errors: cg_store_find's. */
enum cg_code cg_store_streams(struct cg_store *store, const struct cg_store_page *page,
                              cg_store_name_fn each, void *arg, struct cg_err *err);

/* A little of the work that keeps memory bounded; to be called when a turn of the loop ends and
 * when log.progress has rung (it also rings on the thread that makes tables). True: there is more
 * to do, call again soon. Numbers of streams may be stale afterwards. */
bool cg_store_turn(struct cg_store *store);

/* Begins to write a sealed segment anew (see cg_log_rewrite), with its part of the index, on the
 * thread that makes tables; cg_store_turn puts it in place when it is done. `rewrite` is copied;
 * its `arg` belongs to that thread until cg_store_rewritten has said that it is done, or the store
 * is closed. Errors: CG_EBUSY the thread has other work, or the segment is not in a table yet: try
 * again later; CG_ENOTFOUND no such sealed segment, or a store without files; CG_EIO no thread. */
enum cg_code cg_store_rewrite(struct cg_store *store, uint64_t number,
                              const struct cg_log_rewrite *rewrite, struct cg_err *err);
/* Whether what was begun is done; *code gets what came of it: CG_OK, or the error of
 * cg_log_rewrite, of cg_log_replace, or of the table. Asked once after each. */
bool cg_store_rewritten(struct cg_store *store, enum cg_code *code, struct cg_err *err);

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

/* Finds the record nearest to `version` that is there, from it on or (backward) up to it: some may
 * have been scavenged. CG_END: there is none. Errors: cg_store_find's. */
enum cg_code cg_store_seek(struct cg_store *store, cg_store_stream stream, uint64_t version,
                           bool is_backward, uint64_t *found, struct cg_err *err);
/* Reads one record; it points into `buf`, which is emptied first.
 * CG_ENOTFOUND: no such version, or it was scavenged; CG_ECORRUPT: also a file is gone. */
enum cg_code cg_store_read(struct cg_store *store, cg_store_stream stream, uint64_t version,
                           struct cg_buf *buf, struct cg_record *record, struct cg_err *err);

#endif
