/* value_read.c - JSON text to Lua values.
 *
 * How it works: the elements of a list and the members of an object stay on the Lua stack until
 * their table is complete, so that it is made once in the right size; a large one gets its table
 * when HELD_MAX are there and grows from then on. Keys are interned by Lua, so that a duplicate
 * among the held ones is a pointer that was seen. Recursion ends at CG_JSON_DEPTH_MAX, which the
 * reader checks.
 * Owns: nothing; all memory is the caller's, on the C stack, or Lua's, so a memory error leaks
 * nothing. Thread: the one of the Lua state. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "bind/value.h"
#include "bind/value_path.h"
#include "codec/codec.h"

#define HELD_MAX 16       /* Elements or members that wait on the stack for their table. */
#define SCRATCH_LOCAL 512 /* Bytes of text whose strings can be unescaped on the C stack. */
#define ROOM_MIN 6        /* Stack slots that one element or member needs at most. */

/* One decoding in progress. */
struct reader {
  lua_State *L;
  struct cg_json_reader json;   /* Gives the tokens. */
  struct cg_json_token token;   /* The last one. */
  struct cg_err *err;           /* The caller's; may be NULL. */
  struct cg_buf scratch;        /* Room for unescaped strings; never grows. */
  struct cg_value_path path;    /* Where we are. */
  uint8_t local[SCRATCH_LOCAL]; /* The room, when the text is short. */
};

static enum cg_code next(struct reader *reader);
static enum cg_code read_value(struct reader *reader, int top);
static enum cg_code read_list(struct reader *reader, int table);
static enum cg_code read_object(struct reader *reader, int table);
static enum cg_code expect(struct reader *reader, enum cg_json_kind kind);

/* Prepares a decoding. May push a value that must stay until the end. */
static void begin(struct reader *reader, lua_State *L, const char *name, const char *text,
                  size_t size, struct cg_err *err) {
  reader->L = L;
  reader->err = err;
  reader->scratch = (struct cg_buf){.data = reader->local, .capacity = SCRATCH_LOCAL, .refs = 1};
  if (size > SCRATCH_LOCAL && memchr(text, '\\', size) != NULL) {
    reader->scratch.data = lua_newuserdata(L, size);
    reader->scratch.capacity = size;
  }
  cg_json_reader_init(&reader->json, text, size, &reader->scratch);
  cg_value_path_init(&reader->path, name);
}

/* Makes room on the Lua stack for one element or member. Asked each time: what was granted before
 * may be gone, as the collector shrinks the stack of a coroutine that is not running. */
static inline enum cg_code reserve(struct reader *reader) {
  if (lua_checkstack(reader->L, ROOM_MIN))
    return CG_OK;
  return cg_value_path_fail(&reader->path, CG_ELIMIT, reader->err, "the Lua stack is full");
}

enum cg_code cg_value_decode(lua_State *L, const char *name, const char *text, size_t size,
                             struct cg_err *err) {
  struct reader reader;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, ROOM_MIN))
    return cg_err_set(err, CG_ELIMIT, "the Lua stack is full");
  begin(&reader, L, name, text, size, err);
  int start = lua_gettop(L);
  enum cg_code code = reserve(&reader);
  if (code == CG_OK)
    code = next(&reader);
  if (code == CG_OK)
    code = read_value(&reader, start);
  if (code == CG_OK)
    code = next(&reader); /* Only CG_JSON_END can follow a complete value. */
  if (code != CG_OK) {
    lua_settop(L, top);
    return code;
  }
  if (start > top)
    lua_remove(L, start); /* The scratch. */
  return CG_OK;
}

/* Pushes the values of the list whose beginning was read, to stack index `first` and above. */
static enum cg_code read_args_list(struct reader *reader, int first, int *count) {
  for (*count = 0;; ++*count) {
    reader->path.argument = *count + 1;
    enum cg_code code = next(reader);
    if (code != CG_OK || reader->token.kind == CG_JSON_ARRAY_END)
      return code;
    if (*count == CG_VALUE_ARGS_MAX)
      return cg_value_path_fail(&reader->path, CG_ELIMIT, reader->err,
                                "a call takes at most %d arguments", CG_VALUE_ARGS_MAX);
    code = reserve(reader);
    if (code == CG_OK)
      code = read_value(reader, first + *count - 1);
    if (code != CG_OK)
      return code;
  }
}

/* Reads the places of nil and puts nil there; argument 1 is at stack index `first`. */
static enum cg_code read_nils(struct reader *reader, int first, int count) {
  lua_State *L = reader->L;
  enum cg_code code = expect(reader, CG_JSON_ARRAY_BEGIN);
  int before = 0;
  while (code == CG_OK) {
    code = next(reader);
    if (code != CG_OK || reader->token.kind == CG_JSON_ARRAY_END)
      break;
    double place = reader->token.kind == CG_JSON_NUMBER ? reader->token.number : 0;
    bool is_place = place > before && place <= count && place == trunc(place);
    if (!is_place || !lua_islightuserdata(L, first + (int)place - 1))
      return cg_value_path_fail(&reader->path, CG_EINVAL, reader->err,
                                "nils must be the places of nulls, in order");
    before = (int)place;
    lua_pushnil(L);
    lua_replace(L, first + before - 1);
  }
  return code;
}

/* Reads the key, which must be `key`. */
static enum cg_code expect_key(struct reader *reader, const char *key) {
  enum cg_code code = expect(reader, CG_JSON_KEY);
  if (code != CG_OK)
    return code;
  if (reader->token.size == strlen(key) && memcmp(reader->token.text, key, strlen(key)) == 0)
    return CG_OK;
  return cg_value_path_fail(&reader->path, CG_EINVAL, reader->err, "the key %s is expected", key);
}

/* Reads either form of an argument list. */
static enum cg_code read_args(struct reader *reader, int *count) {
  int first = lua_gettop(reader->L) + 1;
  enum cg_code code = next(reader);
  if (code != CG_OK)
    return code;
  if (reader->token.kind == CG_JSON_ARRAY_BEGIN)
    return read_args_list(reader, first, count);
  if (reader->token.kind != CG_JSON_OBJECT_BEGIN)
    return cg_value_path_fail(&reader->path, CG_EINVAL, reader->err, "a list is expected");

  code = expect_key(reader, "args");
  if (code == CG_OK)
    code = expect(reader, CG_JSON_ARRAY_BEGIN);
  if (code == CG_OK)
    code = read_args_list(reader, first, count);
  reader->path.argument = 0;
  if (code == CG_OK)
    code = expect_key(reader, "nils");
  if (code == CG_OK)
    code = read_nils(reader, first, *count);
  if (code == CG_OK)
    code = expect(reader, CG_JSON_OBJECT_END);
  return code;
}

enum cg_code cg_value_decode_args(lua_State *L, const char *text, size_t size, int *count,
                                  struct cg_err *err) {
  struct reader reader;
  int top = lua_gettop(L);
  *count = 0;
  if (!lua_checkstack(L, ROOM_MIN))
    return cg_err_set(err, CG_ELIMIT, "the Lua stack is full");
  begin(&reader, L, "argument", text, size, err);
  int start = lua_gettop(L);
  enum cg_code code = read_args(&reader, count);
  reader.path.argument = 0;
  if (code == CG_OK)
    code = next(&reader);
  if (code != CG_OK) {
    lua_settop(L, top);
    *count = 0;
    return code;
  }
  if (start > top)
    lua_remove(L, start); /* The scratch. */
  return CG_OK;
}

/* Reads the next token; adds the path to its errors. */
static enum cg_code next(struct reader *reader) {
  enum cg_code code = cg_json_next(&reader->json, &reader->token, reader->err);
  if (code != CG_OK)
    return cg_value_path_prefix(&reader->path, code, reader->err);
  return CG_OK;
}

/* Reads the next token, which must be of a kind. */
static enum cg_code expect(struct reader *reader, enum cg_json_kind kind) {
  enum cg_code code = next(reader);
  if (code == CG_OK && reader->token.kind != kind)
    return cg_value_path_fail(&reader->path, CG_EINVAL, reader->err,
                              "not the form of an argument list");
  return code;
}

/* Pushes the value that begins with the last token, above stack index `top`. The caller has made
 * room for it. */
static enum cg_code read_value(struct reader *reader, int top) {
  lua_State *L = reader->L;
  switch (reader->token.kind) {
  case CG_JSON_NULL:
    lua_pushlightuserdata(L, NULL);
    return CG_OK;
  case CG_JSON_FALSE:
  case CG_JSON_TRUE:
    lua_pushboolean(L, reader->token.kind == CG_JSON_TRUE);
    return CG_OK;
  case CG_JSON_NUMBER:
    lua_pushnumber(L, reader->token.number);
    return CG_OK;
  case CG_JSON_STRING:
    lua_pushlstring(L, reader->token.text, reader->token.size);
    return CG_OK;
  case CG_JSON_ARRAY_BEGIN:
    return read_list(reader, top + 1);
  case CG_JSON_OBJECT_BEGIN:
    return read_object(reader, top + 1);
  default: /* The reader gives the other kinds only inside of lists and objects. */
    return cg_value_path_fail(&reader->path, CG_EINVAL, reader->err, "a value is expected");
  }
}

/* Makes the table of a list from the `count` values from `table` on, and puts it there. */
static void make_list(lua_State *L, int table, int count, int capacity) {
  lua_createtable(L, capacity, 0);
  lua_insert(L, table);
  for (int i = count; i > 0; i--)
    lua_rawseti(L, table, i);
}

/* Pushes the list whose beginning was read, to stack index `table`. */
static enum cg_code read_list(struct reader *reader, int table) {
  lua_State *L = reader->L;
  struct cg_value_step *step = &reader->path.steps[reader->path.depth++];
  int count = 0;
  step->key = NULL;
  for (;;) {
    step->place = (size_t)count + 1;
    enum cg_code code = next(reader);
    if (code != CG_OK)
      return code;
    if (reader->token.kind == CG_JSON_ARRAY_END)
      break;
    int top = count < HELD_MAX ? table + count - 1 : table;
    code = reserve(reader);
    if (code == CG_OK)
      code = read_value(reader, top);
    if (code != CG_OK)
      return code;
    count++;
    if (count == HELD_MAX)
      make_list(L, table, count, HELD_MAX * 2);
    else if (count > HELD_MAX)
      lua_rawseti(L, table, count);
  }
  if (count < HELD_MAX)
    make_list(L, table, count, count);
  cg_value_push_array_mt(L);
  lua_setmetatable(L, table);
  reader->path.depth--;
  return CG_OK;
}

/* Makes the table of an object from the `count` pairs from `table` on, and puts it there. */
static void make_object(lua_State *L, int table, int count, int capacity) {
  lua_createtable(L, 0, capacity);
  lua_insert(L, table);
  for (int i = 0; i < count; i++)
    lua_rawset(L, table);
}

/* True when the key on top was there before: among the held ones, or in the table at `table`. */
static bool is_duplicate(lua_State *L, const char *key, const char **held, int count, int table) {
  if (count < HELD_MAX) {
    for (int i = 0; i < count; i++) {
      if (held[i] == key)
        return true;
    }
    held[count] = key;
    return false;
  }
  lua_pushvalue(L, -1);
  lua_rawget(L, table);
  bool is_there = !lua_isnil(L, -1);
  lua_pop(L, 1);
  return is_there;
}

/* Pushes key and value of the member whose key was read. */
static enum cg_code read_member(struct reader *reader, const char **held, int count, int table) {
  struct cg_value_step *step = &reader->path.steps[reader->path.depth - 1];
  int top = count < HELD_MAX ? table + 2 * count - 1 : table;
  enum cg_code code = reserve(reader);
  if (code != CG_OK)
    return code;
  lua_pushlstring(reader->L, reader->token.text, reader->token.size);
  step->key = lua_tolstring(reader->L, -1, &step->key_size);
  if (is_duplicate(reader->L, step->key, held, count, table))
    return cg_value_path_fail(&reader->path, CG_EINVAL, reader->err, "this key is there twice");
  code = next(reader);
  return code == CG_OK ? read_value(reader, top + 1) : code;
}

/* Pushes the object whose beginning was read, to stack index `table`. */
static enum cg_code read_object(struct reader *reader, int table) {
  lua_State *L = reader->L;
  uint32_t depth = reader->path.depth;
  const char *held[HELD_MAX]; /* Keys, kept alive by the stack. */
  int count = 0;
  for (;; count++) {
    enum cg_code code = next(reader); /* An error between members is one of the object itself. */
    if (code != CG_OK)
      return code;
    if (reader->token.kind == CG_JSON_OBJECT_END)
      break;
    reader->path.depth = depth + 1;
    code = read_member(reader, held, count, table);
    if (code != CG_OK)
      return code;
    reader->path.depth = depth;
    if (count + 1 == HELD_MAX)
      make_object(L, table, HELD_MAX, HELD_MAX * 2);
    else if (count >= HELD_MAX)
      lua_rawset(L, table);
  }
  if (count < HELD_MAX)
    make_object(L, table, count, count);
  return CG_OK;
}
