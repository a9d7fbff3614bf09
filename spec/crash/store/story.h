/* story.h - a store's content that follows from the number of each commit alone, written and
 * compared.
 *
 * Commit 1, 2, 3, ... has records whose streams, types and data are computed from its number, so a
 * reader needs nothing but the store to say whether something was lost, invented, repeated or put
 * into another order. Segments are small, so that a short story crosses many.
 *
 * How to use: story_open, story_check (what is there must be the first n commits, n at least those
 * acknowledged), story_write more, story_close.
 * Owns: the store. Thread: one. */
#ifndef SPEC_CRASH_STORY_H
#define SPEC_CRASH_STORY_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

#define STORY_SEGMENT_BYTES (64u << 10)

/* Told of each acknowledged commit: all up to `commit` are durable. */
typedef void (*story_acknowledge_fn)(void *arg, uint64_t commit);

/* One story. */
struct story {
  struct cg_store *store;    /* Open. */
  uint64_t commit;           /* Last commit that is in it. */
  uint64_t acknowledged;     /* Last one that is durable. */
  char fault[1024];          /* What is wrong. */
  struct story_waker *waker; /* Wakes the writer of the story. */
};

/* Opens the store in `directory` with the calls of `fs`. */
enum cg_code story_open(struct story *story, const char *directory, const struct cg_fs *fs,
                        uint64_t segment_bytes, struct cg_err *err);
/* Closes it as a program does that ends well. */
enum cg_code story_close(struct story *story, struct cg_err *err);
/* Reads all of it; false, and the fault is set, when it is not the first commits, at least
 * `acknowledged` of them; story->commit gets how many. */
bool story_check(struct story *story, uint64_t acknowledged);
/* Appends `count` commits, some under way at a time, and waits until all are durable.
 * The first error ends it; story->commit tells how many were appended. */
enum cg_code story_write(struct story *story, uint64_t count, story_acknowledge_fn acknowledge,
                         void *arg, struct cg_err *err);

#endif
