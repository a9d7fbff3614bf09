/* value_path.h - where in a value we are, for error messages; private to value_*.c.
 *
 * How to use: set steps[depth - 1] before the value below is visited, and call cg_value_path_fail
 * or cg_value_path_prefix when something is wrong there.
 * Owns: nothing; the keys belong to Lua. Thread: the one of the Lua state. */
#ifndef CG_BIND_VALUE_PATH_H
#define CG_BIND_VALUE_PATH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codec/codec.h"

/* One step into a table. */
struct cg_value_step {
  const char *key; /* NULL: a place in a list. Else a string that Lua keeps alive. */
  size_t key_size; /* Bytes of key. */
  size_t place;    /* In a list, from 1. */
  int table;       /* Encoding: stack index of the table that this step goes into. */
};

/* A path from the outermost value. */
struct cg_value_path {
  const char *name;                              /* How it begins; never NULL. */
  int argument;                                  /* From 1; printed after the name. 0: none. */
  uint32_t depth;                                /* Steps in use; one for each open table. */
  struct cg_value_step steps[CG_JSON_DEPTH_MAX]; /* Outermost first. */
};

/* Sets the name (NULL: "value") and empties the path; the steps stay undefined. */
void cg_value_path_init(struct cg_value_path *path, const char *name);

/* Sets the error with the path in front of the message; returns `code`. */
enum cg_code cg_value_path_fail(const struct cg_value_path *path, enum cg_code code,
                                struct cg_err *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts the path in front of an error that is set; returns its `code`. */
enum cg_code cg_value_path_prefix(const struct cg_value_path *path, enum cg_code code,
                                  struct cg_err *err);

#endif
