/* log.h - the event log: the contract of a log and its local kinds, `file` and `memory`.
 *
 * A log is one sequence of commits; a commit is one or more records, all of them or none. Records
 * have positions 1, 2, 3, ... over the whole log. See record.h for the bytes.
 *
 * How to use: cg_log_open; cg_log_append commits (they are copied, so the caller's memory is free
 * at once); learn by cg_log_durable_position, or the `progress` callback, how far they are durable;
 * read by place (fast, from an index) or in order with a cursor; cg_log_close.
 *
 * The contract, which every kind keeps and spec/c/log_contract_test.c checks:
 *  - Placed at once, durable later. cg_log_append gives a commit its positions and its place, or
 *    refuses it without a trace. From then on it can be read. It is acknowledged once the durable
 *    position has passed it.
 *  - Whole and in order. The durable position only grows and always stands between two commits:
 *    acknowledgement order is commit order.
 *  - Expected tail. An append states the position that it must get; another tail is CG_ECONFLICT.
 *  - Bounds. A commit has at most cg_log_commit_bytes_max bytes of records, and at most
 *    pending_bytes_max bytes are pending; CG_ELIMIT names the bound. Nothing is split. While none
 *    are pending every commit within the first bound is taken.
 *  - A prefix. An open finds the first commits that were appended, each as it was, none twice, and
 *    at least all that were acknowledged (in the weaker modes: as the mode says).
 *  - An unknown outcome is the kind's. A remote answer may come late, twice or never: the kind
 *    reads the tail and settles what is there. The caller never appends again what was taken.
 *  - Fenced. A log has one owner. In files a second open is refused (CG_EBUSY); a remote log is
 *    taken over by the second open, and the first owner is failed with CG_EFENCED as soon as it
 *    meets a tail that is not its own. What of its commits came before that may be acknowledged
 *    before it fails.
 *  - Failed is final. The durable position stands still, appends return the code and message of
 *    cg_log_failed (CG_EFENCED or CG_EFAILED). Both positions, the statistics, and reads of what is
 *    durable go on; what is not durable may be there or not. Close returns the error and frees.
 *
 * Rules of the file kind:
 *  1. A batch is all commits of one sync. It is written only after the sync of the batch before.
 *  2. The durable position grows only after the sync that covers it returned without error.
 *  3. The first failed write or sync is final: the log enters the state failed, nothing of that
 *     batch is ever acknowledged, no further write or sync is tried on the file.
 *  4. No space for the next segment (or the next zero-filled stretch) is CG_EFULL on appends, not
 *     failed; appends work again when there is space.
 *
 * Owns: files, the writer thread, pending bytes. Thread: append, read and close belong to one
 * thread (the loop thread); durable_position and failed may be read from any; `progress` is called
 * on the writer thread. */
#ifndef CG_LOG_LOG_H
#define CG_LOG_LOG_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/say.h"
#include "log/record.h"
#include "log/tools.h" /* Tools for the files of a log: behind the same door. */

struct cg_log;

/* When a commit counts as durable. */
enum cg_durability {
  CG_DURABILITY_FSYNC, /* Written and fdatasync done. */
  CG_DURABILITY_OS,    /* Written; synced within 50 ms. */
  CG_DURABILITY_MEMORY /* Taken over by the log; written and synced within 50 ms. */
};

/* Where a record lies: segment number in the upper 32 bits, byte offset / 8 in the lower. */
typedef uint64_t cg_log_place;

/* Called during open for every record found, in order. The record points into memory that is only
 * valid during the call. */
typedef void (*cg_log_replay_fn)(void *arg, const struct cg_record *record, cg_log_place place);

/* Called after the durable position grew, or the log failed, or space came back: on the thread that
 * made it so, in manual logs inside cg_log_turn, and inside cg_log_append where commits are durable
 * at once. Must be short and must not call the log, but for durable_position and failed. */
typedef void (*cg_log_progress_fn)(void *arg);

/* A sealed segment: whole and durable, because the next one has been published behind it. It
 * changes only by being rewritten (scavenged, compressed), which gives it another nonce. */
struct cg_log_seal {
  uint64_t number;         /* Of the segment. */
  uint64_t first_position; /* Of its first record. */
  uint64_t end_position;   /* Behind its last record: the first position of the next segment. */
  uint32_t nonce;          /* Of its file. */
  uint32_t chain;          /* Check that it ends with, as the next segment states it. */
};

/* Where a commit begins. The first of a sealed segment is its first commit; each further one is
 * about 1 MiB further on. */
struct cg_log_waypoint {
  uint64_t position; /* First position of the commit. */
  uint64_t offset;   /* Where the commit begins in the (uncompressed) segment. */
};

/* Called once while a log with sealed segments is opened, before any replay: returns how many of
 * them, counted from the first, need not be read and replayed (0..count); of those only the headers
 * are checked. May read sealed segments by cg_log_scan; must not use the log. Memory of the
 * arguments is valid during the call only. An error in *err (code other than CG_OK) ends the open
 * with it. */
typedef uint32_t (*cg_log_resume_fn)(void *arg, const uint8_t log_id[16],
                                     const struct cg_log_seal *seals, uint32_t count,
                                     struct cg_err *err);

/* How to open a log. Zero fields mean the default. */
struct cg_log_options {
  const struct cg_fs *fs;        /* Default: the system's. */
  struct cg_clock clock;         /* Default: the system's. */
  struct cg_say *say;            /* Where recovery reports; NULL: silent. */
  enum cg_durability durability; /* Default: fsync. */
  uint64_t segment_bytes;        /* Default 256 MiB; at least 64 KiB, a multiple of 4,096. */
  uint64_t commit_bytes_max;     /* Default, and at most, the kind's own: see below. */
  uint64_t pending_bytes_max;    /* Default 64 MiB: appended and not yet written (remote: not yet
                                 acknowledged); above: CG_ELIMIT. */
  uint64_t flush_bytes;     /* Default 0: every append wakes the writer. Else commits gather until
                                 cg_log_flush, or until so many bytes wait, at most 1 ms: fewer and
                                 larger syncs for a caller that appends many in a row. */
  uint32_t mark_delay_ms;   /* Default 100: idle time before a mark is written. */
  uint64_t nonce_seed;      /* 0: nonces and log id from the system's randomness. */
  bool manual;              /* No writer thread: cg_log_turn does its work (specs). */
  cg_log_replay_fn replay;  /* May be NULL. */
  void *replay_arg;         /* Passed to replay. */
  cg_log_resume_fn resume;  /* May be NULL: everything is replayed. */
  void *resume_arg;         /* Passed to resume. */
  uint64_t proven_position; /* Default 0: none. Files derived from the log prove that all records
                                 below it were durable: a log that ends before it is CG_ECORRUPT. */
  uint32_t handles_max;     /* Default 256: files of sealed segments open at once; at least 2. */
  cg_log_progress_fn progress;   /* May be NULL. */
  void *progress_arg;            /* Passed to progress. */
  const struct cg_log *snapshot; /* Memory kind: begin with a copy of its records, which are
                                      replayed; NULL: empty. Not kept. */
};

/* What a log has done. */
struct cg_log_stats {
  uint64_t commit_count;     /* Appended in this run. */
  uint64_t sync_count;       /* Syncs done in this run. */
  uint64_t write_bytes;      /* Bytes written in this run. */
  uint64_t segment_count;    /* Segments there now. */
  uint64_t cut_bytes;        /* Cut from a torn tail by this open. */
  uint64_t written_position; /* Records below it can be read from the log's files; 0: no files. */
};

/* Opens (or makes) the log in directory `path`, recovers it, calls replay for every record.
 * Errors: CG_EBUSY another process has it open; CG_ECORRUPT damage (file and offset named; nothing
 * was changed); CG_EPERM not writable; CG_EINVAL not a directory; CG_EFULL; CG_EIO.
 * The directory above must exist. The log is freed by cg_log_close. */
enum cg_code cg_log_open_file(struct cg_log **log, const char *path,
                              const struct cg_log_options *options, struct cg_err *err);

/* A log in memory: same contract; durable at once, unless `manual` is set: then commits become
 * durable only in cg_log_turn. */
enum cg_code cg_log_open_memory(struct cg_log **log, const struct cg_log_options *options,
                                struct cg_err *err);

/* Copies a memory log's commits that lie wholly below `until_position`, durable or not, into a new
 * memory log (specs: what a crash would have left). Open on it as options.snapshot, as often as
 * wanted, or read it; free it by cg_log_close. */
struct cg_log *cg_log_memory_snapshot(const struct cg_log *log, uint64_t until_position);

/* Writes and syncs what is pending, writes a mark, stops the writer, closes the files. Returns the
 * error when the last batch could not be made durable; the log is freed all the same. */
enum cg_code cg_log_close(struct cg_log *log, struct cg_err *err);

/* Frees the log as a crash would leave it: nothing pending is written (specs). */
void cg_log_abandon(struct cg_log *log);

/* Appends one commit of `record_count` >= 1 records that stand encoded (cg_record_append) in
 * `records`. `expected_tail` is the position the first record must get (cg_log_next_position);
 * *place gets where the first record lies: a later record of the commit lies its byte distance
 * further. Nothing is written when it fails.
 * Errors: CG_ECONFLICT another tail; CG_ELIMIT too many bytes pending (wait for progress) or the
 * commit is over cg_log_commit_bytes_max; CG_EINVAL the bytes are not `record_count` records;
 * CG_EFAILED, CG_EFENCED; CG_EFULL; CG_EIO or CG_EPERM the next segment cannot be made
 * (like CG_EFULL: a later append tries again). */
enum cg_code cg_log_append(struct cg_log *log, const uint8_t *records, size_t size,
                           uint32_t record_count, uint64_t expected_tail, cg_log_place *place,
                           struct cg_err *err);

/* How many bytes of records one commit may have: options.commit_bytes_max, by default what the kind
 * can hold. In files and in memory that is what fits one segment, or CG_COMMIT_BYTES_MAX with its
 * header; a remote kind may hold as little as 1 MiB. */
uint64_t cg_log_commit_bytes_max(const struct cg_log *log);

/* Lets everything appended so far be written now; see options.flush_bytes. Cheap when nothing
 * waits; nothing to do for a log in memory. */
void cg_log_flush(struct cg_log *log);

/* The position the next record gets; 1 in an empty log. */
uint64_t cg_log_next_position(const struct cg_log *log);
/* Every record with a position below it is durable in the mode asked for. Atomic. */
uint64_t cg_log_durable_position(const struct cg_log *log);
/* CG_OK, or why the log is failed (CG_EFENCED: another owner has taken it over; CG_EFAILED: all
 * else; and the message in err). Atomic. */
enum cg_code cg_log_failed(const struct cg_log *log, struct cg_err *err);

/* Reads the record at `place` (also one not written yet) into `buf`, emptied first; the record
 * points into it, its position is left 0. Checks its CRC when it comes from a file.
 * Errors: CG_ECORRUPT, CG_EIO, CG_ENOTFOUND (segment gone). */
enum cg_code cg_log_read(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                         struct cg_record *record, struct cg_err *err);

/* Reading in order of positions. */
struct cg_log_cursor;
/* A cursor at the first record with a position above `after`. Free it before the log. */
struct cg_log_cursor *cg_log_cursor_new(struct cg_log *log, uint64_t after);
void cg_log_cursor_free(struct cg_log_cursor *cursor);
/* The next record below position `until` (use cg_log_durable_position or cg_log_next_position);
 * valid until the next call. CG_END: none yet; later calls may find more. CG_ECORRUPT, CG_EIO. */
enum cg_code cg_log_cursor_next(struct cg_log_cursor *cursor, uint64_t until,
                                struct cg_record *record, struct cg_err *err);

/* `manual` logs: one batch of the writer's work; true when there was any. */
bool cg_log_turn(struct cg_log *log);

/* The sealed segments now, in order; valid until it is called again (also by another function), and
 * until the next append, rewrite or close. None in a log without segments. */
uint32_t cg_log_seals(struct cg_log *log, const struct cg_log_seal **seals);

/* What else is known of a sealed segment. */
struct cg_log_seal_info {
  int64_t sealed_ms;   /* Unix ms when the next segment was made. */
  uint64_t file_bytes; /* Of its file, about. */
  bool is_compressed;  /* In zstd blocks. */
};
/* Tells it; false when there is no such sealed segment. */
bool cg_log_seal_info(struct cg_log *log, uint64_t number, struct cg_log_seal_info *info);

/* The id of the log (random, the same for all its life); all zero for a log that has none. */
void cg_log_id(const struct cg_log *log, uint8_t log_id[16]);

/* Gives the waypoints of a sealed segment, of which a log that has not read it in this run has
 * none: seeking by position is quick then. Keeps the pointer until the log is closed, the segment
 * is rewritten or other waypoints are given; `count` 0 takes them away. */
void cg_log_waypoints(struct cg_log *log, uint64_t number, const struct cg_log_waypoint *waypoints,
                      uint32_t count);

/* Reads one sealed segment of the log in directory `path` on any thread, also while the log is
 * open: calls `waypoint` (may be NULL) and `record` for each in order. Checks headers, CRCs,
 * positions and chain against `seal` (from cg_log_seals or resume). The record is valid during the
 * call only; a false answer of `record` ends the scan with CG_ECANCELLED.
 * CG_ECORRUPT: file and offset are named; CG_ENOTFOUND; CG_EIO. */
struct cg_log_scan {
  bool (*record)(void *arg, const struct cg_record *record, cg_log_place place); /* Never NULL. */
  void (*waypoint)(void *arg, const struct cg_log_waypoint *waypoint);           /* May be NULL. */
  void *arg; /* Passed to both. */
};
enum cg_code cg_log_scan(const char *path, const struct cg_fs *fs, const struct cg_log_seal *seal,
                         const struct cg_log_scan *face, struct cg_err *err);

/* Rewriting a sealed segment, in two parts. cg_log_rewrite, on any thread, also while the log is
 * open, writes a new file beside the old one, without the records that `keep` (NULL: all are kept)
 * answers false for, and with `compress` in zstd blocks. Records keep their positions, and without
 * `keep` their places; the segment keeps its range of positions and the chain it ended with. *seal
 * gets the seal of the new file, which cg_log_scan can read already when `seal->nonce` is the new
 * one. Only one rewriting of a segment at a time; nothing is left behind when it fails.
 * cg_log_replace, on the loop thread, makes it the segment's file; places in that segment are
 * other ones from then on, and given waypoints are forgotten. A crash leaves the old file or the
 * new one. A file that was never made the segment's is removed by the next open.
 * Both: CG_ECORRUPT, CG_EIO, CG_EFULL, CG_ENOTFOUND (no such segment or file). Replace: CG_EINVAL
 * not sealed, or the file does not fit the segment; CG_EIO also when the directory cannot be
 * synced: then the new file is in use (see cg_log_seals), but a crash may bring back the old. */
struct cg_log_rewrite {
  bool (*keep)(void *arg, const struct cg_record *record); /* May be NULL. */
  void *arg;                                               /* Passed to keep. */
  bool compress;                                           /* Write zstd blocks. */
  int level;                                               /* Of zstd, 1..19; 0: 3. */
  uint64_t nonce_seed; /* 0: the nonce from the system's randomness. */
};
enum cg_code cg_log_rewrite(const char *path, const struct cg_fs *fs, struct cg_log_seal *seal,
                            const struct cg_log_rewrite *rewrite, struct cg_err *err);
enum cg_code cg_log_replace(struct cg_log *log, const struct cg_log_seal *seal, struct cg_err *err);

/* Reads the statistics. */
void cg_log_stats_read(struct cg_log *log, struct cg_log_stats *stats);

#endif
