/* tools.h - what can be done with the files of a log without opening it: verify, walk, repair,
 * back up and restore. Included by log.h.
 *
 * How to use: each is one call (repair two: what it would do, and doing it). `path` is the
 * directory of the log itself. Where a log must be closed its lock file is taken for the time of
 * the call, so CG_EBUSY means that a program has it open. `fs` NULL means the system's files.
 * Owns: nothing after return. Thread: any; the callbacks run on it. */
#ifndef CG_LOG_TOOLS_H
#define CG_LOG_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "log/record.h"

/* Called now and then, about once a MiB, with how much is done of how much there is to do. */
typedef void (*cg_log_progress_bytes_fn)(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/* What a check or a walk has met. */
struct cg_log_counts {
  uint64_t segment_count;  /* Files with a valid header. */
  uint64_t commit_count;   /* Whole commits, without marks. */
  uint64_t record_count;   /* Records in them. */
  uint64_t bytes;          /* Of files, zeros ahead included. */
  uint64_t commit_bytes;   /* Of commits and marks. */
  uint64_t first_position; /* Of the first record; 1 when there is none. */
  uint64_t end_position;   /* Behind the last record. */
  uint64_t fault_count;    /* Faults found; verify only. */
  uint64_t torn_bytes;     /* Bytes of a torn tail, which opening will cut. */
};

/* A check of every segment, commit and record. Zero fields are fine. */
struct cg_log_verify {
  /* Gets one line for each fault, and for what is no fault but worth a word. */
  void (*report)(void *arg, bool is_fault, const char *line);
  cg_log_progress_bytes_fn progress; /* May be NULL. */
  void *arg;                         /* Passed to both. */
  struct cg_log_counts counts;       /* Result, also when there are faults. */
};

/* Checks the closed log in `path` and changes nothing. CG_OK: no fault; CG_ECORRUPT: faults were
 * found and reported. A torn tail is reported but is no fault. CG_EBUSY, CG_ENOTFOUND, CG_EIO. */
enum cg_code cg_log_verify(const char *path, const struct cg_fs *fs, struct cg_log_verify *verify,
                           struct cg_err *err);

struct cg_log_seal;

/* Reads the headers of a closed log: *seals gets its sealed segments in order (free with cg_free;
 * NULL when there are none). CG_ECORRUPT, CG_ENOTFOUND, CG_EIO. */
enum cg_code cg_log_read_seals(const char *path, const struct cg_fs *fs, uint8_t log_id[16],
                               struct cg_log_seal **seals, uint32_t *count, struct cg_err *err);

/* A walk over all commits in order. Zero fields are fine. */
struct cg_log_walk {
  uint64_t until_position; /* Only commits that lie wholly below it, of a log that may be open:
                              take what it says is durable and written. 0: to the end of a closed
                              log; a torn tail is left out. */
  /* Gets each commit, marks too: its header (with the position of its first record) and its
   * records, encoded; valid during the call. */
  void (*commit)(void *arg, const struct cg_commit_header *header, const uint8_t *records,
                 size_t size);
  cg_log_progress_bytes_fn progress; /* May be NULL. */
  void *arg;                         /* Passed to both. */
  struct cg_log_counts counts;       /* Result. */
};

/* Walks over the log in `path`. CG_ECORRUPT: damage, with file and offset; CG_EBUSY, CG_ENOTFOUND,
 * CG_EIO. */
enum cg_code cg_log_walk(const char *path, const struct cg_fs *fs, struct cg_log_walk *walk,
                         struct cg_err *err);

#define CG_LOG_REPAIR_DERIVED_MAX 16 /* Names of derived files that a repair can put aside. */
#define CG_LOG_REPAIR_PATH_BYTES 4096

/* What a repair would do, and has done. */
struct cg_log_repair {
  bool is_needed;          /* False: the log opens as it is. */
  uint64_t segment;        /* Where the damage is. */
  uint64_t offset;         /* Where in it the log will end; 0: all of the segment goes. */
  bool is_cut;             /* The segment itself gets shorter; else only later ones go. */
  uint64_t moved_count;    /* Segments that are moved aside whole. */
  uint64_t first_position; /* First position that is lost: the log's next one after the repair. */
  uint64_t last_position;  /* Last position known to be lost; below the first: none is known. */
  uint64_t readable_count; /* Records among the lost that are whole in the files put aside. */
  uint64_t
      proven_position; /* To be set before plan: all below it was durable once, as derived files
                               prove; 0 or 1: nothing does. */
  char fault[CG_ERR_MESSAGE_BYTES];     /* What is wrong. */
  char aside[CG_LOG_REPAIR_PATH_BYTES]; /* Directory with the files put aside; after run. */
  /* To be set before run: paths of files (or directories) that are derived from the log, and so are
   * put aside too; those that are not there are passed over. Ends with NULL. */
  const char *derived[CG_LOG_REPAIR_DERIVED_MAX + 1];
};

/* Reads the closed log in `path` and says what a repair would do; changes nothing. What is not to
 * be set before is overwritten.
 * CG_ECORRUPT: it cannot be repaired, with the reason; CG_EBUSY, CG_ENOTFOUND, CG_EIO. */
enum cg_code cg_log_repair_plan(const char *path, const struct cg_fs *fs,
                                struct cg_log_repair *repair, struct cg_err *err);

/* Does what the plan says, which must be of this log as it is now. First everything that is
 * touched is put aside into `path`/aside-<time> together with a README; then the log is cut. May
 * be killed at any point: the log is then as it was, or repaired, or a new plan goes on.
 * `now_ms` names the directory. CG_ECONFLICT: the log has changed since the plan; CG_EBUSY,
 * CG_EFULL, CG_EIO. */
enum cg_code cg_log_repair_run(const char *path, const struct cg_fs *fs, int64_t now_ms,
                               struct cg_log_repair *repair, struct cg_err *err);

/* A backup: a directory with a log in its folder `log` and a `manifest` of its files. */
struct cg_log_backup {
  uint64_t until_position; /* As in struct cg_log_walk: 0 takes the lock of a closed log. */
  int64_t now_ms;          /* Noted in the manifest. */
  cg_log_progress_bytes_fn progress; /* May be NULL. */
  void *arg;                         /* Passed to progress. */
  bool is_first;                     /* Result: there was no earlier backup in the directory. */
  uint64_t segment_count;            /* Result: segments in the backup. */
  uint64_t copied_count;             /* Result: of these, copied now. */
  uint64_t copied_bytes;             /* Result: their bytes. */
  uint64_t bytes;                    /* Result: of all files in the backup. */
  uint64_t end_position;             /* Result: behind the last record in the backup. */
};

/* Brings the backup in `directory` (made when missing; the directory above must be there) up to
 * date with the log in `path`: what is there already is not copied again. Every byte that is
 * copied is checked. Until it is done, and when it fails or is killed, the backup that was there
 * before can be restored.
 * CG_EEXISTS: the directory holds something else; CG_ECONFLICT: it holds the backup of another
 * log, or of more than this log has now; CG_ECORRUPT: the log, or the backup's manifest, is
 * damaged; CG_EBUSY, CG_ENOTFOUND, CG_EFULL, CG_EIO. */
enum cg_code cg_log_backup(const char *path, const char *directory, const struct cg_fs *fs,
                           struct cg_log_backup *backup, struct cg_err *err);

/* Copies the backup in `directory` into the data directory `data`, which must be empty or missing
 * (what an earlier restore left unfinished counts as empty). Every byte is checked against the
 * manifest; the log opens only once all of it is there. Uses of the results: is_first is not set.
 * CG_EEXISTS: `data` is not empty; CG_ECORRUPT: the backup is damaged or incomplete;
 * CG_ENOTFOUND: there is no backup; CG_EFULL, CG_EIO. */
enum cg_code cg_log_restore(const char *directory, const char *data, const struct cg_fs *fs,
                            struct cg_log_backup *backup, struct cg_err *err);

#endif
