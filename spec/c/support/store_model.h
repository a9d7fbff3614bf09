/* store_model.h - an event store on a simulated disk, and beside it a model of what it must tell.
 *
 * How to use: store_model_init; operations of one's own, or store_model_commit; store_model_sync;
 * leave the store in one of three ways and store_model_open it again; the checks compare what the
 * store tells with the model. Whatever is wrong fails the cmocka test. All chance comes from the
 * seed, by store_model_random.
 * The bytes of a record follow from its salt, stream and version, so any mix-up is noticed.
 * Owns: disk, store and model. Thread: one. */
#ifndef SPEC_STORE_MODEL_H
#define SPEC_STORE_MODEL_H

#include "store/store.h"
#include "support/sim_fs.h"

#define STORE_MODEL_STREAMS 2000      /* Streams that there can be. */
#define STORE_MODEL_NAME_BYTES 320    /* Room for a name and a zero. */
#define STORE_MODEL_RECORDS_MAX 65536 /* Of one life of the model; more fails the test. */

/* One record. */
struct store_model_record {
  uint32_t stream;  /* Its stream. */
  uint32_t version; /* In that stream. */
  uint32_t salt;    /* Its bytes follow from it. */
  uint16_t flags;   /* enum cg_record_flags. */
  bool ends;        /* The last one of its commit. */
  bool is_leaving;  /* The rewriting under way drops it. */
  bool is_gone;     /* It was dropped. */
  int64_t time_ms;  /* Of the record. */
  uint64_t id;      /* Of the record. */
};

/* One stream. */
struct store_model_stream {
  uint32_t *positions;    /* Of its records, by version. */
  uint32_t count;         /* How many records it has had. */
  uint32_t capacity;      /* Room. */
  bool is_unfinished;     /* Opened and not closed. */
  cg_store_stream number; /* As the store gave it last in this run. */
};

/* The store and what it must tell. */
struct store_model {
  struct sim_fs *sim;                                         /* The disk, and chance. */
  struct cg_clock_virtual clock;                              /* The time. */
  struct cg_store_options options;                            /* Of the store. */
  struct cg_store *store;                                     /* NULL: not open. */
  struct store_model_record records[STORE_MODEL_RECORDS_MAX]; /* By position, from 1. */
  uint32_t count;                                             /* Records committed. */
  uint32_t durable_count; /* Of those, acknowledged when the store was left. */
  struct store_model_stream streams[STORE_MODEL_STREAMS]; /* All there can be. */
  uint64_t last_id;                                       /* Newest id given. */
  bool is_rewriting;                                      /* A segment is being written anew. */
  struct cg_log_seal old_seal;                            /* Of it, before. */
};

/* Makes the model with an empty disk and an open store; free it with store_model_free. */
struct store_model *store_model_new(uint64_t seed);
void store_model_free(struct store_model *model);
/* A number below `bound`. */
uint32_t store_model_random(struct store_model *model, uint32_t bound);
/* A stream by chance: mostly one of a few. */
uint32_t store_model_any_stream(struct store_model *model);
/* The name of a stream, with a zero behind it; its size is returned. Some are long, and some begin
 * with another's. */
size_t store_model_name(uint32_t stream, char name[STORE_MODEL_NAME_BYTES]);
/* The store's number of a stream; CG_STORE_NO_STREAM: it has none. */
cg_store_stream store_model_find(struct store_model *model, uint32_t stream, bool make);

/* Adds a record to the commit that the store is building, which must take it or, when the version
 * `expected` is a wrong one, refuse it. What it is: *record; true when it was added. `count`: how
 * many records the stream has, with those of the commit. */
bool store_model_add(struct store_model *model, struct store_model_record *record, uint32_t count,
                     int64_t expected, bool is_right);
/* Takes the records of a commit that the store has just made into the model. */
void store_model_committed(struct store_model *model, const struct store_model_record *records,
                           uint32_t count);

/* Makes everything durable. */
void store_model_sync(struct store_model *model);
/* Closes the store; or ends the process; or loses power. */
void store_model_close(struct store_model *model);
void store_model_kill(struct store_model *model);
void store_model_crash(struct store_model *model);
/* Opens the store again; forgets what the log has lost, which must be whole commits at its end that
 * were not acknowledged. */
void store_model_open(struct store_model *model);

/* Begins to write a segment anew without some records, unless there is none or the store is busy.
 * Never without the last record of a stream, nor one that opens or closes it. */
void store_model_rewrite(struct store_model *model);
/* To be called after turns: sees whether the segment is another one by now. */
void store_model_see_rewritten(struct store_model *model);

/* Compares one stream: count, name, unfinished or not, and up to `max` records from a version on,
 * forward and backward. */
void store_model_check_stream(struct store_model *model, uint32_t stream, uint32_t max);
/* Reads up to `max` records on by position. */
void store_model_check_cursor(struct store_model *model, uint64_t after, uint32_t max);
/* Compares the names that begin with the first bytes of one, page by page. */
void store_model_check_names(struct store_model *model);
/* Compares what is unfinished, and the numbers that were given in this run. */
void store_model_check_numbers(struct store_model *model);
/* Compares everything. */
void store_model_check(struct store_model *model);

#endif
