/* value_keys.h - the short object keys that were read lately; private to value_*.c.
 *
 * How to use: push the cache once, then each key through cg_value_keys_push: a key that is known
 * costs a table access instead of a new look-up among all strings of the Lua state.
 * Owns: nothing; the cache is the Lua state's. Thread: the one of the Lua state. */
#ifndef CG_BIND_VALUE_KEYS_H
#define CG_BIND_VALUE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#define CG_VALUE_KEYS_MAX 256      /* Keys that are remembered; a power of two. */
#define CG_VALUE_KEYS_BYTES_MAX 16 /* Longer keys are not. */

/* One remembered key. Size and words together are its bytes. */
struct cg_value_key {
  uint64_t head;    /* The first 8 bytes; of a shorter key what it has, then zeros. */
  uint64_t tail;    /* The last 8 bytes; of a shorter key 0. */
  uint64_t size;    /* Bytes; 0 in an empty slot. */
  const char *text; /* The Lua string, which the cache's table keeps alive. */
};

/* The cache: a userdata, with a table of the strings beside it. */
struct cg_value_keys {
  struct cg_value_key keys[CG_VALUE_KEYS_MAX]; /* By hash. */
};

/* Pushes the table of strings and returns the cache, which lives as long as the Lua state. Needs
 * four free stack slots. Raises only for memory. */
struct cg_value_keys *cg_value_keys_open(lua_State *L);

/* Pushes the key `text` and returns its Lua string. `is_roomy`: 8 bytes from `text` on may be read
 * whatever the size is. `table` is the absolute stack index of the table of strings. Needs two free
 * stack slots. Raises only for memory. */
const char *cg_value_keys_push(lua_State *L, struct cg_value_keys *cache, int table,
                               const char *text, size_t size, bool is_roomy);

#endif
