/* value.h - Lua values to JSON bytes and back: what every event, argument and result goes through.
 *
 * How to use: cg_value_encode appends one Lua value to a buffer, cg_value_decode pushes one value
 * read from text; the `_args` pair does the same for a list of arguments in which nil has a place.
 * What a value is: nil, booleans, finite numbers, UTF-8 strings, catga.null (the light userdata
 * NULL, which is cjson.null too), and tables of these. A table is a list when its keys are 1 to n
 * (n >= 1), or when it is empty and has the array metatable; else it is an object with string keys.
 * Tables are read raw: metamethods are not called, other metatables are ignored. Objects are
 * written in the byte order of their keys, so the same value is the same bytes in every Lua state.
 * Decoded lists get the array metatable, so that [] stays []; JSON null is read as catga.null.
 *
 * Errors: the message begins with the path of the value, `result.items[3].callback: a function
 * cannot be stored; return data only`. List places count from 1, as in Lua. CG_EINVAL: not a value;
 * CG_ELIMIT: nested deeper than CG_JSON_DEPTH_MAX, too large, or the Lua stack is full. On error
 * nothing is pushed and the buffer is as it was.
 * These functions never raise a Lua error but for memory, and never call back or yield; nothing
 * leaks when they raise. Owns: two registry entries of the Lua state, made on demand. Thread: the
 * one of the Lua state. */
#ifndef CG_BIND_VALUE_H
#define CG_BIND_VALUE_H

#include <stddef.h>

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

#define CG_VALUE_BYTES_MAX ((size_t)256 << 20) /* No value is larger, whatever a setting says. */
#define CG_VALUE_ARGS_MAX 200                  /* Arguments of one call. */

/* Appends the JSON of the value at `index`, at most `size_max` bytes of it (the setting
 * message_size_max, which the error names). `name` is how the path in an error begins, "result";
 * NULL stands for "value". `err` may be NULL. */
enum cg_code cg_value_encode(lua_State *L, int index, const char *name, struct cg_buf *buf,
                             size_t size_max, struct cg_err *err);

/* As cg_value_encode, and pushes the value that decoding the bytes would give: equal in all, shares
 * no table with the one at `index`, lists have the array metatable, nil has become catga.null. One
 * walk instead of two. On error nothing is pushed. Uses up to 40 Lua stack slots a level of
 * nesting. */
enum cg_code cg_value_encode_copy(lua_State *L, int index, const char *name, struct cg_buf *buf,
                                  size_t size_max, struct cg_err *err);

/* Pushes the value that `text` holds. Strict JSON; a duplicate key and an integer beyond 2^53 are
 * refused. `name` as above. `text` must stay valid during the call. Uses up to 34 Lua stack slots
 * a level of nesting, so decode on a long-lived Lua stack where one matters. */
enum cg_code cg_value_decode(lua_State *L, const char *name, const char *text, size_t size,
                             struct cg_err *err);

/* Appends the `count` values from stack index `first` on as one list. Without nil among them that
 * is a JSON list, [1,"a"]. With nil it is an object: the list with null in the places of nil, and
 * these places, counted from 1: {"args":[1,null,null],"nils":[2]} is 1, nil, catga.null. So nil
 * and catga.null stay apart, and trailing nils are kept. The path of an error begins with the
 * argument, `argument 2.items`. CG_ELIMIT also: more than CG_VALUE_ARGS_MAX. */
enum cg_code cg_value_encode_args(lua_State *L, int first, int count, struct cg_buf *buf,
                                  size_t size_max, struct cg_err *err);

/* Pushes the values of such a list and sets `*count` to their number (0 on error). */
enum cg_code cg_value_decode_args(lua_State *L, const char *text, size_t size, int *count,
                                  struct cg_err *err);

/* Pushes the array metatable of this Lua state. */
void cg_value_push_array_mt(lua_State *L);

/* Pushes a new error object { code = "invalid", message = "...", retryable = false } whose
 * tostring is "invalid: ...". */
void cg_value_push_err(lua_State *L, const struct cg_err *err);

#endif
