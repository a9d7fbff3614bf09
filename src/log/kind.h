/* kind.h - what every kind of log shares, and the functions a kind supplies.
 *
 * How to use: a kind embeds struct cg_log as its first member, fills in the struct with
 * cg_log_init, and supplies a struct cg_log_kind. log.c checks arguments and dispatches.
 *
 * What a remote kind has to know, beside the contract in log.h:
 *  - Taking a log over writes something at its tail, so that a request of the owner before, which
 *    is still on its way, finds another tail and is refused.
 *  - Each append on its way names the one that it must follow, by who wrote it and not by number
 *    alone: else, when one is lost and another owner's takes its number, the next one would fit.
 *    Then "stored" says that all before it are stored as well, and a request that arrives twice is
 *    refused the second time.
 *  - A refusal does not say that the owner is fenced, nor silence that a commit is lost: read the
 *    tail behind the last commit known to be stored. Own commits found there are stored; what is
 *    missing is sent again, the same bytes; anything of another owner there is the fence.
 *  - Answers of a connection that was given up are not listened to: the tail has told more.
 *
 * Owns: nothing. Thread: the loop thread but for the fields that say otherwise. */
#ifndef CG_LOG_KIND_H
#define CG_LOG_KIND_H

#include <stdatomic.h>

#include "log/log.h"
#include "log/reader.h"

#define CG_LOG_PENDING_BYTES_DEFAULT (UINT64_C(64) << 20)
#define CG_LOG_MARK_DELAY_MS_DEFAULT 100
#define CG_LOG_HANDLES_DEFAULT 256
#define CG_LOG_HANDLES_MIN 2

/* The functions of a kind. Arguments and errors are those of the function of the same name in
 * log.h; what append gets has been checked. */
struct cg_log_kind {
  uint64_t commit_bytes_max; /* Most bytes of records in a commit; 0: what fits a segment. */
  /* Stores the commit and sets *place; the caller counts positions up when it succeeds. */
  enum cg_code (*append)(struct cg_log *log, const uint8_t *records, size_t size,
                         uint32_t record_count, cg_log_place *place, struct cg_err *err);
  /* Appends the record's bytes to the empty `buf` and decodes it. */
  enum cg_code (*read)(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                       struct cg_record *record, struct cg_err *err);
  /* Puts the commit that holds cursor->position, which exists, under the cursor. */
  enum cg_code (*fetch)(struct cg_log *log, struct cg_log_cursor *cursor, struct cg_err *err);
  /* The next five are NULL in a kind without segments. */
  uint32_t (*seals)(struct cg_log *log, const struct cg_log_seal **seals); /* cg_log_seals. */
  bool (*seal_info)(struct cg_log *log, uint64_t number,
                    struct cg_log_seal_info *info);         /* cg_log_seal_info. */
  void (*id)(const struct cg_log *log, uint8_t log_id[16]); /* cg_log_id. */
  void (*waypoints)(struct cg_log *log, uint64_t number, const struct cg_log_waypoint *waypoints,
                    uint32_t count); /* cg_log_waypoints. */
  enum cg_code (*replace)(struct cg_log *log, const struct cg_log_seal *seal,
                          struct cg_err *err); /* cg_log_replace. */
  void (*flush)(struct cg_log *log);           /* NULL: nothing ever waits for it. */
  bool (*turn)(struct cg_log *log);            /* cg_log_turn. */
  void (*stats)(struct cg_log *log, struct cg_log_stats *stats); /* cg_log_stats. */
  enum cg_code (*close)(struct cg_log *log, struct cg_err *err); /* cg_log_close. */
  void (*abandon)(struct cg_log *log);                           /* cg_log_abandon. */
};

/* The part of a log that all kinds have. */
struct cg_log {
  const struct cg_log_kind *kind;    /* Its functions. */
  struct cg_log_options options;     /* With defaults filled in. */
  uint64_t commit_bytes_max;         /* See cg_log_commit_bytes_max. */
  uint64_t next_position;            /* What the next record gets. Loop thread. */
  uint64_t commit_count;             /* Appended in this run. Loop thread. */
  struct cg_err failure;             /* Why it failed; written once, before is_failed. */
  atomic_bool is_failed;             /* No more writes. Any thread. */
  uint8_t apart[64];                 /* Keeps what the writer changes off the cache line above. */
  _Atomic uint64_t durable_position; /* See log.h. Any thread. */
};

/* A cursor of any kind. */
struct cg_log_cursor {
  struct cg_log *log;      /* What it reads. */
  uint64_t position;       /* The next record to give out. */
  const uint8_t *at;       /* The next record under the cursor. */
  size_t left_size;        /* Bytes from there to the end of its commit. */
  uint32_t left_count;     /* Records from there to the end of its commit; 0: fetch. */
  uint64_t at_position;    /* Position of the record at `at`. */
  bool is_located;         /* number and offset are right for `position`. */
  uint64_t number;         /* Segment or chunk to read next. */
  uint64_t offset;         /* Where in it. */
  struct cg_reader reader; /* File kind: what it reads through. */
  struct cg_buf *copy;     /* File kind: a copy of a commit not written yet. */
};

/* Fills in the shared part of a zeroed log, with defaults for what is zero in `options`.
 * CG_EINVAL: a setting is out of range. */
enum cg_code cg_log_init(struct cg_log *log, const struct cg_log_kind *kind,
                         const struct cg_log_options *options, struct cg_err *err);
/* Makes the log failed for `failure` (copied; code CG_EFENCED: fenced); the first one stays. Any
 * one thread. */
void cg_log_fail(struct cg_log *log, const struct cg_err *failure);
/* CG_ELIMIT when `size` more bytes would pass the bound of what is pending. */
enum cg_code cg_log_check_pending(const struct cg_log *log, uint64_t pending_bytes, size_t size,
                                  struct cg_err *err);
/* Sets the durable position and calls progress; nothing when the log is failed. One thread of the
 * kind's choice, the one that calls cg_log_fail. */
void cg_log_publish(struct cg_log *log, uint64_t durable_position);

#endif
