/* log_file.h - the log in segment files, as its parts see it.
 *
 * How to use: log_file.c opens, appends and closes; file_read.c reads; file_seal.c has what is
 * about sealed segments. Each works on the one struct.
 * Owns: see the struct. Thread: the loop thread. */
#ifndef CG_LOG_LOG_FILE_H
#define CG_LOG_LOG_FILE_H

#include "log/handles.h"
#include "log/kind.h"
#include "log/segment.h"
#include "log/writer.h"

/* The log. Loop thread, but for the writer. */
struct cg_log_file {
  struct cg_log log;            /* The shared part. */
  char *directory;              /* Where it lies. */
  int lock;                     /* Handle of the lock file; -1: not open. */
  uint8_t log_id[16];           /* The same in all segments. */
  struct cg_segment **segments; /* By number; the last may not be published yet. */
  uint32_t segment_count;       /* How many. */
  uint32_t segment_capacity;    /* Room in the table; 0: exactly segment_count. */
  struct cg_log_seal *seals;    /* Of sealed segments, by number. */
  uint32_t seal_count;          /* How many are noted. */
  uint32_t seal_capacity;       /* Room in the table. */
  struct cg_handles handles;    /* Of sealed segments. */
  struct cg_block_cache *cache; /* Of compressed ones. */
  uint32_t handled_count;       /* So many segments from the first are bound by it. */
  uint64_t cut_bytes;           /* Cut by recovery. */
  struct cg_writer writer;      /* Started last. */
};

/* The log of a cg_log of this kind. */
static inline struct cg_log_file *cg_log_file_of(struct cg_log *log) {
  return (struct cg_log_file *)log; /* The shared part is the first member. */
}

/* Functions of the kind, see kind.h. */
enum cg_code cg_file_read_record(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                                 struct cg_record *record, struct cg_err *err);
enum cg_code cg_file_read_fetch(struct cg_log *log, struct cg_log_cursor *cursor,
                                struct cg_err *err);
uint32_t cg_file_seal_list(struct cg_log *log, const struct cg_log_seal **seals);
bool cg_file_seal_info(struct cg_log *log, uint64_t number, struct cg_log_seal_info *info);
void cg_file_seal_id(const struct cg_log *log, uint8_t log_id[16]);
void cg_file_seal_waypoints(struct cg_log *log, uint64_t number,
                            const struct cg_log_waypoint *waypoints, uint32_t count);
enum cg_code cg_file_seal_replace(struct cg_log *log, const struct cg_log_seal *seal,
                                  struct cg_err *err);

/* Lets a sealed segment share what the log's sealed segments share. */
void cg_file_seal_share(struct cg_log_file *file, struct cg_segment *segment);
/* Puts the files of newly sealed segments under the bound of open ones. */
void cg_file_seal_bound(struct cg_log_file *file);

#endif
