/* index_world.h - a store on a simulated disk, and what it should hold.
 *
 * How to use: index_world_new; commit by index_world_commit; make things durable, turn, reopen;
 * index_world_check compares all that the store tells with the model. A fault found is a failed
 * cmocka assertion.
 * Owns: the disk, the store, the model. Thread: one. */
#ifndef SPEC_INDEX_WORLD_H
#define SPEC_INDEX_WORLD_H

#include "store/store.h"
#include "support/sim_fs.h"

#define INDEX_WORLD_STREAMS 64    /* Streams that are used again and again. */
#define INDEX_WORLD_RECORDS 20000 /* Records of one story at most. */

/* One record. */
struct index_world_record {
  uint32_t stream;  /* Number of its stream. */
  uint32_t version; /* In that stream. */
  uint16_t flags;   /* Of the record. */
  uint16_t filler;  /* Bytes behind its text. */
  bool is_leaving;  /* A rewriting that is under way drops it. */
  bool is_gone;     /* It was dropped. */
};

/* The world of a story. */
struct index_world {
  struct sim_fs *sim;                                     /* The disk; also the source of chance. */
  struct cg_fs fs;                                        /* Its calls; a test may replace some. */
  struct cg_clock_virtual clock;                          /* The time. */
  struct cg_store_options options;                        /* Of the store. */
  struct cg_store *store;                                 /* NULL: not open. */
  struct index_world_record records[INDEX_WORLD_RECORDS]; /* By position, from 1. */
  uint32_t count;                                         /* Records committed. */
  uint32_t durable_count;                                 /* Of those, durable. */
  uint32_t stream_count;                                  /* Streams there have been. */
  bool is_rewriting;                                      /* A segment is being written anew. */
  struct cg_log_seal old_seal;                            /* Of it, before. */
};

/* An empty disk and an open store on it; segments of 64 KiB. */
struct index_world *index_world_new(uint64_t seed);
void index_world_free(struct index_world *world);

/* Opens the store, which must succeed. */
void index_world_open(struct index_world *world);
/* Closes it properly; ends the process; loses power. Each forgets what the log has lost. */
void index_world_close(struct index_world *world);
void index_world_kill(struct index_world *world);
void index_world_crash(struct index_world *world);
/* After an open: forgets records that the log does not have; checks that none is missing that was
 * durable. */
void index_world_settle(struct index_world *world);

/* The name of a stream of the model. */
size_t index_world_name(uint32_t stream, char name[64]);
/* Commits one to three records, of old streams or new ones; opens and closes some. */
void index_world_commit(struct index_world *world);
/* Commits until so many segments are sealed. */
void index_world_fill(struct index_world *world, uint32_t seal_count);
/* Makes everything durable. */
void index_world_sync(struct index_world *world);
/* Turns the store until there is nothing more to do. */
void index_world_turn(struct index_world *world);
/* Begins to write a sealed segment anew: makes everything durable, and drops so many records of
 * ten, but never the last of a stream, nor one that opens or closes it. */
enum cg_code index_world_rewrite(struct index_world *world, uint32_t number, uint32_t of_ten,
                                 struct cg_err *err);
/* After turns or an open: sees whether the segment is another one now. Gives what came of it;
 * CG_END when it is not over. */
enum cg_code index_world_rewritten(struct index_world *world, struct cg_err *err);
/* How many segments are sealed. */
uint32_t index_world_seals(struct index_world *world);

/* Compares the store with the model: each record read by stream and version, counts, what is
 * unfinished, names, and reading by position from some places. */
void index_world_check(struct index_world *world);
/* The same for some streams only. */
void index_world_check_some(struct index_world *world, uint32_t stream_count);

/* Calls `each` for the names of the files in the index. */
void index_world_each_table(struct index_world *world, cg_fs_name_fn each, void *arg);
/* How many files there are in the index. */
uint32_t index_world_table_count(struct index_world *world);

#endif
