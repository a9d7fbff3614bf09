/* store_world.h - an event store on a log of any kind, for contract tests.
 *
 * How to use: store_world_init, store_world_open, build commits by the store's own functions and
 * store_world_add, settle, crash or close, open again, store_world_deinit. What the world of the
 * log offers (time, chance, the server's troubles) is in `kind`; its model is not used.
 * Owns: the store, the disk or server. Thread: one. */
#ifndef SPEC_STORE_WORLD_H
#define SPEC_STORE_WORLD_H

#include "store/store.h"
#include "support/kind_world.h"

/* A store and its world. */
struct store_world {
  struct kind_world kind;          /* Below the store; its `log` is the store's while open. */
  struct cg_store_options options; /* How to open; a test may change it. */
  struct cg_store *store;          /* NULL: not open. */
};

/* Makes the world of a kind of log, all chance from `seed`; no store yet. */
void store_world_init(struct store_world *world, enum kind_world_kind kind, uint64_t seed);
/* Frees it, with the store when it is open. */
void store_world_deinit(struct store_world *world);

/* Opens world->store. */
enum cg_code store_world_open(struct store_world *world, struct cg_err *err);
/* Lets everything become durable, or the log fail; false when it did not come to an end. */
bool store_world_settle(struct store_world *world);
/* Ends the program that has the store open; see kind_world_crash. */
void store_world_crash(struct store_world *world, bool is_power_lost);
/* Closes world->store; what cg_store_close returns. */
enum cg_code store_world_close(struct store_world *world, struct cg_err *err);

/* Adds a record with this data to the commit being built; *id (may be NULL) gets its id. */
enum cg_code store_world_add(struct store_world *world, const char *stream, int64_t expected,
                             const char *data, uint16_t flags, uint64_t *id, struct cg_err *err);
/* How many records a stream has, also one that is not there. */
uint64_t store_world_count(struct store_world *world, const char *stream);

#endif
