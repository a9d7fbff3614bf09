/* scavenge.h - what of one sealed segment is not needed any more.
 *
 * How to use, on the loop thread: cg_scavenge_new; cg_scavenge_survey until it says that it is
 * done: then the streams that have records in the segment are known; decide what is kept of each;
 * cg_scavenge_weigh until it is done: then it is known how much would go; if that is worth it, give
 * cg_scavenge_keeps to cg_log_rewrite, on any thread, while nothing else uses the scavenge;
 * cg_scavenge_free. Each call looks at a bounded number of records, so that others have their turn.
 * Memory: a name and 64 bytes for each stream of the segment.
 * Owns: names, decisions, a cursor. Thread: one at a time. */
#ifndef CG_STORE_SCAVENGE_H
#define CG_STORE_SCAVENGE_H

#include "log/log.h"
#include "store/retention.h"

struct cg_scavenge;

/* What the records of the segment weigh. */
struct cg_scavenge_weight {
  uint64_t record_count;  /* Records that are there. */
  uint64_t record_bytes;  /* Their bytes. */
  uint64_t dropped_count; /* Of them, those that go. */
  uint64_t dropped_bytes; /* Their bytes. */
};

/* Begins with a segment; `seal` is copied. Free it before the log. */
struct cg_scavenge *cg_scavenge_new(struct cg_log *log, const struct cg_log_seal *seal);
/* Gives up a survey or weighing under way: nothing of the log is used any more. */
void cg_scavenge_stop(struct cg_scavenge *scavenge);
/* NULL is fine. */
void cg_scavenge_free(struct cg_scavenge *scavenge);

/* Reads up to `record_count_max` records on; *is_done when the end is reached. CG_ECORRUPT,
 * CG_EIO. */
enum cg_code cg_scavenge_survey(struct cg_scavenge *scavenge, uint32_t record_count_max,
                                bool *is_done, struct cg_err *err);
/* How many streams were found; they have places 0..n-1. */
uint32_t cg_scavenge_stream_count(const struct cg_scavenge *scavenge);
/* The name of one; valid until the scavenge is freed. */
const char *cg_scavenge_name(const struct cg_scavenge *scavenge, uint32_t place, size_t *size);
/* Says what is kept of a stream; until then, all of it. */
void cg_scavenge_decide(struct cg_scavenge *scavenge, uint32_t place,
                        const struct cg_retention *retention);
/* Whether something may go, as far as the decisions tell without weighing. */
bool cg_scavenge_may_drop(const struct cg_scavenge *scavenge);
/* Reads the records once more, as cg_scavenge_survey, and weighs them by the decisions. */
enum cg_code cg_scavenge_weigh(struct cg_scavenge *scavenge, uint32_t record_count_max,
                               bool *is_done, struct cg_err *err);
/* What the weighing found. */
void cg_scavenge_weight(const struct cg_scavenge *scavenge, struct cg_scavenge_weight *weight);
/* The `keep` of cg_log_rewrite: by the decisions. A record of a stream that the survey has not met
 * is kept. */
bool cg_scavenge_keeps(void *scavenge, const struct cg_record *record);

#endif
