/* mediator.h - the table of handlers written in C: from a message's name to a function. Door of
 * the folder.
 *
 * How to use: cg_mediator_add each handler, then cg_mediator_find and cg_mediator_dispatch a
 * message. A dispatch allocates nothing. Handlers written in Lua are not in this table: their
 * dispatch stays in Lua.
 * Owns: the table and the names. Thread: the loop thread. */
#ifndef CG_MEDIATOR_MEDIATOR_H
#define CG_MEDIATOR_MEDIATOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CG_MEDIATOR_NAME_BYTES_MAX 255  /* Bytes of a message's name. */
#define CG_MEDIATOR_HANDLERS_MAX 65536u /* Handlers in one table. */

struct cg_mediator;

/* What a handler answers. */
enum cg_mediator_kind { CG_MEDIATOR_COMMAND, CG_MEDIATOR_QUERY };

/* Handles one message; `reply` is the dispatcher's own and goes through untouched. Returns 0, or
 * another value when it answered with an error (it is counted). */
typedef int (*cg_mediator_fn)(void *arg, const char *data, size_t size, void *reply);

/* One handler. Read-only outside. */
struct cg_mediator_handler {
  const char *name;           /* Zero-terminated. */
  enum cg_mediator_kind kind; /* What it answers. */
  cg_mediator_fn fn;          /* Called for each message. */
  void *arg;                  /* Passed to fn. */
  uint64_t call_count;        /* Dispatches so far. */
  uint64_t failure_count;     /* Of these, answered with an error. */
};

/* An empty table; `seed` should differ between runs. */
struct cg_mediator *cg_mediator_new(uint64_t seed);
/* Frees the table; NULL is fine. */
void cg_mediator_free(struct cg_mediator *mediator);

/* Adds a handler; copies the name, keeps fn and arg. CG_EEXISTS: the name has one, of whichever
 * kind; CG_EINVAL: the name is empty or too long; CG_ELIMIT: too many. */
enum cg_code cg_mediator_add(struct cg_mediator *mediator, enum cg_mediator_kind kind,
                             const char *name, cg_mediator_fn fn, void *arg, struct cg_err *err);

/* The handler of a name, or NULL when there is none of that kind. Valid until the table is
 * freed. */
struct cg_mediator_handler *cg_mediator_find(struct cg_mediator *mediator,
                                             enum cg_mediator_kind kind, const char *name,
                                             size_t size);
/* How many handlers there are, and the one at `index`, in the order in which they were added. */
size_t cg_mediator_count(const struct cg_mediator *mediator);
struct cg_mediator_handler *cg_mediator_at(const struct cg_mediator *mediator, size_t index);

/* Calls a handler and counts. */
static inline int cg_mediator_dispatch(struct cg_mediator_handler *handler, const char *data,
                                       size_t size, void *reply) {
  handler->call_count++;
  int outcome = handler->fn(handler->arg, data, size, reply);
  if (outcome != 0)
    handler->failure_count++;
  return outcome;
}

#endif
