/* json_fuzz.c - feeds any bytes to the JSON reader and to the Lua values above it.
 *
 * What must hold: nothing crashes, a text that is read can be written, what was written reads as
 * the same bytes again, and the Lua stack is left as it was. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "bind/value.h"
#include "codec/codec.h"

/* Ends the run when a property does not hold. */
static void must(int holds) {
  if (!holds)
    abort();
}

/* Writes the value on top to the emptied buffer, and pops it. */
static void write_top(lua_State *L, struct cg_buf *buf) {
  struct cg_err err;
  buf->size = 0;
  must(cg_value_encode(L, -1, NULL, buf, CG_VALUE_BYTES_MAX, &err) == CG_OK);
  lua_pop(L, 1);
}

/* A value that was read and written is the same text ever after. */
static void try_value(lua_State *L, const char *text, size_t size, struct cg_buf *first,
                      struct cg_buf *second) {
  struct cg_err err;
  if (cg_value_decode(L, NULL, text, size, &err) != CG_OK)
    return;
  write_top(L, first);
  must(cg_value_decode(L, NULL, (const char *)first->data, first->size, &err) == CG_OK);
  write_top(L, second);
  must(first->size == second->size && memcmp(first->data, second->data, first->size) == 0);
}

/* Pops the `count` arguments on top after writing them to the emptied buffer. */
static void write_args(lua_State *L, int count, struct cg_buf *buf) {
  struct cg_err err;
  buf->size = 0;
  must(cg_value_encode_args(L, 1, count, buf, CG_VALUE_BYTES_MAX, &err) == CG_OK);
  lua_settop(L, 0);
}

/* The same for a list of arguments. */
static void try_args(lua_State *L, const char *text, size_t size, struct cg_buf *first,
                     struct cg_buf *second) {
  struct cg_err err;
  int count;
  if (cg_value_decode_args(L, text, size, &count, &err) != CG_OK)
    return;
  write_args(L, count, first);
  int again;
  must(cg_value_decode_args(L, (const char *)first->data, first->size, &again, &err) == CG_OK);
  must(again == count && lua_gettop(L) == count);
  write_args(L, again, second);
  must(first->size == second->size && memcmp(first->data, second->data, first->size) == 0);
}

/* Reads all tokens; the Lua layer must accept no text that the reader refuses. */
static int is_json(const char *text, size_t size, struct cg_buf *scratch) {
  struct cg_json_reader reader;
  struct cg_json_token token;
  struct cg_err err;
  cg_json_reader_init(&reader, text, size, scratch);
  do {
    if (cg_json_next(&reader, &token, &err) != CG_OK)
      return 0;
    if (token.kind == CG_JSON_STRING || token.kind == CG_JSON_KEY)
      must(cg_utf8_valid_size(token.text, token.size) == token.size);
  } while (token.kind != CG_JSON_END);
  return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static lua_State *L; /* One for all inputs: making one costs more than the rest. */
  if (L == NULL)
    L = luaL_newstate();
  struct cg_buf *first = cg_buf_take(NULL, 16);
  struct cg_buf *second = cg_buf_take(NULL, 16);

  const char *text = (const char *)data;
  if (is_json(text, size, first)) {
    try_value(L, text, size, first, second);
    try_args(L, text, size, first, second);
  } else {
    int count;
    must(cg_value_decode(L, NULL, text, size, NULL) != CG_OK);
    must(cg_value_decode_args(L, text, size, &count, NULL) != CG_OK);
  }
  must(lua_gettop(L) == 0);

  cg_buf_unref(first);
  cg_buf_unref(second);
  return 0;
}
