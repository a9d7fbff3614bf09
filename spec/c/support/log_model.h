/* log_model.h - what was appended to a log, so that what comes back can be compared with it.
 *
 * How to use: cg_log_append through log_model_append; after reopening, hand every replayed record
 * to log_model_see, then log_model_settle checks that a whole number of commits came back, at
 * least the acknowledged ones, and forgets the rest. The bytes of a record are computed from its
 * commit's salt and its position; a position that is used again after a crash gets another salt,
 * so a stale record is noticed.
 * Owns: the list of commits. Thread: one. */
#ifndef SPEC_LOG_MODEL_H
#define SPEC_LOG_MODEL_H

#include "log/log.h"

/* One commit appended. */
struct log_model_commit {
  uint64_t first_position; /* Of its first record. */
  uint32_t record_count;   /* Records. */
  uint32_t data_max;       /* Bound of the data size of its records. */
  uint64_t salt;           /* Its bytes come from it. */
  cg_log_place place;      /* Of its first record. */
};

/* All commits that the log should hold. All zero is empty. */
struct log_model {
  struct log_model_commit *commits; /* In order. */
  size_t count;                     /* How many. */
  size_t capacity;                  /* Room. */
  uint64_t acknowledged_position;   /* All below it must survive. */
  uint64_t salts;                   /* Counts salts up. */
  uint64_t seen_position;           /* Next position to be seen in replay. */
  size_t seen_commit;               /* Commit that it lies in. */
  const char *fault;                /* First thing that was wrong; NULL: none. */
  bool is_blind;                    /* Takes anything in replay. */
};

/* Frees the list. */
void log_model_deinit(struct log_model *model);
/* Appends a commit to the log and, when that succeeds, to the model. */
enum cg_code log_model_append(struct log_model *model, struct cg_log *log, uint32_t record_count,
                              uint32_t data_max, struct cg_err *err);
/* Encodes the records of a commit. */
void log_model_encode(const struct log_model_commit *commit, struct cg_buf *buf);
/* Whether a record is what the model says; its position must be set. */
bool log_model_matches(const struct log_model_commit *commit, const struct cg_record *record);
/* The commit that holds a position, or NULL. */
const struct log_model_commit *log_model_find(const struct log_model *model, uint64_t position);

/* Begins to see a log from its beginning. */
void log_model_begin(struct log_model *model);
/* Sees one record; a cg_log_replay_fn with the model as its argument. */
void log_model_see(void *arg, const struct cg_record *record, cg_log_place place);
/* After the last record: NULL when all is well, else what is wrong. Forgets what did not come
 * back. */
const char *log_model_settle(struct log_model *model);
/* Reads the whole log by cursor and a sample of places; NULL when all is as the model says. */
const char *log_model_compare(struct log_model *model, struct cg_log *log);

#endif
