/* value_write.c - Lua values to JSON bytes.
 *
 * How it works: one walk. The members of an object are written as Lua's `next` gives them, with a
 * note of where each lies; when they did not come in order, their bytes are put in order at the
 * end, so no member is looked up twice. A table that begins with key 1 is written as a list while
 * `next` counts up, which it does for nearly every list; else the list is counted and indexed.
 * Recursion ends at CG_JSON_DEPTH_MAX; a cycle always gets there, and only then is looked for.
 * Owns: nothing; notes of large objects are Lua userdata, so a memory error leaks nothing.
 * Thread: the one of the Lua state. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bind/value.h"
#include "bind/value_path.h"
#include "codec/codec.h"

#define MEMBERS_LOCAL 16 /* Objects with more members take their notes in userdata. */

/* Where one member of an object lies in the buffer. */
struct member {
  const char *key;   /* The Lua string; alive as long as the table has it. */
  uint32_t key_size; /* Bytes of key. */
  uint32_t size;     /* Bytes of key, colon and value in the buffer. */
  size_t start;      /* Offset of the first of them. */
};

/* The notes of one object that is being written. */
struct members {
  struct member *list;                /* `local`, or userdata in the stack slot `slot`. */
  size_t count;                       /* Members written. */
  size_t capacity;                    /* Room in list. */
  int slot;                           /* Stack index that keeps the userdata alive. */
  bool is_sorted;                     /* They came in order so far. */
  struct member local[MEMBERS_LOCAL]; /* Enough for nearly all. */
};

/* One encoding in progress. */
struct writer {
  lua_State *L;
  struct cg_buf *buf;        /* The output. */
  size_t start;              /* The buffer's size before. */
  size_t end_max;            /* The size it may reach. */
  struct cg_err *err;        /* The caller's; may be NULL. */
  struct cg_value_path path; /* Where we are. */
};

static enum cg_code write_value(struct writer *writer, int index);
static enum cg_code write_table(struct writer *writer, int index);
static enum cg_code write_object(struct writer *writer, int index);
static enum cg_code write_list(struct writer *writer, int index);
static enum cg_code fail_size(struct writer *writer);

/* Appends a few bytes that are known here. */
static inline void put(struct writer *writer, const char *bytes, size_t size) {
  memcpy(cg_buf_room(writer->buf, size), bytes, size);
  writer->buf->size += size;
}

/* Prepares an encoding. */
static void begin(struct writer *writer, lua_State *L, const char *name, struct cg_buf *buf,
                  size_t size_max, struct cg_err *err) {
  writer->L = L;
  writer->buf = buf;
  writer->start = buf->size;
  writer->end_max = buf->size + (size_max < CG_VALUE_BYTES_MAX ? size_max : CG_VALUE_BYTES_MAX);
  writer->err = err;
  cg_value_path_init(&writer->path, name);
}

/* Ends an encoding: undoes all when it failed. */
static enum cg_code end(struct writer *writer, int top, enum cg_code code) {
  lua_settop(writer->L, top);
  if (code != CG_OK)
    writer->buf->size = writer->start;
  return code;
}

enum cg_code cg_value_encode(lua_State *L, int index, const char *name, struct cg_buf *buf,
                             size_t size_max, struct cg_err *err) {
  struct writer writer;
  int top = lua_gettop(L);
  begin(&writer, L, name, buf, size_max, err);
  return end(&writer, top, write_value(&writer, index > 0 ? index : top + 1 + index));
}

/* Appends the places of nil among the arguments. */
static void write_nils(struct writer *writer, int first, int count) {
  put(writer, "],\"nils\":[", 10);
  bool is_first = true;
  for (int i = 0; i < count; i++) {
    if (!lua_isnil(writer->L, first + i))
      continue;
    if (!is_first)
      put(writer, ",", 1);
    is_first = false;
    cg_json_write_number(writer->buf, i + 1, NULL); /* A small integer cannot fail. */
  }
  put(writer, "]}", 2);
}

enum cg_code cg_value_encode_args(lua_State *L, int first, int count, struct cg_buf *buf,
                                  size_t size_max, struct cg_err *err) {
  if (count > CG_VALUE_ARGS_MAX)
    return cg_err_set(err, CG_ELIMIT, "%d arguments; a call takes at most %d", count,
                      CG_VALUE_ARGS_MAX);
  struct writer writer;
  int top = lua_gettop(L);
  first = first > 0 ? first : top + 1 + first;
  begin(&writer, L, "argument", buf, size_max, err);

  bool has_nil = false;
  for (int i = 0; i < count; i++)
    has_nil |= lua_isnil(L, first + i);
  if (has_nil)
    put(&writer, "{\"args\":", 8);
  put(&writer, "[", 1);
  for (int i = 0; i < count; i++) {
    if (i > 0)
      put(&writer, ",", 1);
    writer.path.argument = i + 1;
    enum cg_code code = write_value(&writer, first + i);
    if (code != CG_OK)
      return end(&writer, top, code);
  }
  if (has_nil)
    write_nils(&writer, first, count);
  else
    put(&writer, "]", 1);
  bool is_too_large = buf->size > writer.end_max;
  return end(&writer, top, is_too_large ? fail_size(&writer) : CG_OK);
}

/* Fails because the output is too large. */
static enum cg_code fail_size(struct writer *writer) {
  size_t size_max = writer->end_max - writer->start;
  if (size_max >= CG_VALUE_BYTES_MAX)
    return cg_value_path_fail(&writer->path, CG_ELIMIT, writer->err,
                              "here the JSON passes %zu bytes, more than any value may have",
                              size_max);
  return cg_value_path_fail(&writer->path, CG_ELIMIT, writer->err,
                            "here the JSON passes %zu bytes, the setting message_size_max",
                            size_max);
}

/* Fails because the value has a type that JSON cannot hold. */
static enum cg_code fail_type(struct writer *writer, int type) {
  const char *what = type == LUA_TFUNCTION        ? "a function"
                     : type == LUA_TTHREAD        ? "a coroutine"
                     : type == LUA_TUSERDATA      ? "a userdata"
                     : type == LUA_TLIGHTUSERDATA ? "a light userdata"
                                                  : "a cdata";
  return cg_value_path_fail(&writer->path, CG_EINVAL, writer->err,
                            "%s cannot be stored; return data only", what);
}

/* Writes a string; its size is checked before memory is taken. */
static inline enum cg_code write_string(struct writer *writer, const char *text, size_t size) {
  if (writer->buf->size > writer->end_max || size > writer->end_max - writer->buf->size)
    return fail_size(writer);
  enum cg_code code = cg_json_write_string(writer->buf, text, size, writer->err);
  if (code != CG_OK)
    return cg_value_path_prefix(&writer->path, code, writer->err);
  return CG_OK;
}

/* Writes the value at an absolute index. */
static enum cg_code write_value(struct writer *writer, int index) {
  lua_State *L = writer->L;
  enum cg_code code = CG_OK;
  int type = lua_type(L, index);
  switch (type) {
  case LUA_TSTRING: {
    size_t size;
    const char *text = lua_tolstring(L, index, &size);
    code = write_string(writer, text, size);
    break;
  }
  case LUA_TNUMBER:
    code = cg_json_write_number(writer->buf, lua_tonumber(L, index), writer->err);
    if (code != CG_OK)
      cg_value_path_prefix(&writer->path, code, writer->err);
    break;
  case LUA_TBOOLEAN:
    if (lua_toboolean(L, index))
      put(writer, "true", 4);
    else
      put(writer, "false", 5);
    break;
  case LUA_TTABLE:
    code = write_table(writer, index);
    break;
  case LUA_TNIL:
  case LUA_TNONE:
    put(writer, "null", 4);
    break;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, index) != NULL)
      return fail_type(writer, type);
    put(writer, "null", 4);
    break;
  default:
    return fail_type(writer, type);
  }
  if (code == CG_OK && writer->buf->size > writer->end_max)
    return fail_size(writer);
  return code;
}

/* Fails at the depth bound: names the cycle when there is one. */
static enum cg_code fail_depth(struct writer *writer, int table) {
  struct cg_value_path *path = &writer->path;
  uint32_t last = path->depth;
  for (uint32_t i = 1; i <= last; i++) {
    int inner = i < last ? path->steps[i].table : table;
    for (uint32_t j = 0; j < i; j++) {
      if (!lua_rawequal(writer->L, path->steps[j].table, inner))
        continue;
      path->depth = i;
      return cg_value_path_fail(path, CG_EINVAL, writer->err,
                                "a cycle: this table contains itself (%u levels up)", i - j);
    }
  }
  return cg_value_path_fail(path, CG_ELIMIT, writer->err, "nested deeper than %d levels",
                            CG_JSON_DEPTH_MAX);
}

/* True when the table at `index` has the array metatable. */
static bool has_array_mt(lua_State *L, int index) {
  if (!lua_getmetatable(L, index))
    return false;
  cg_value_push_array_mt(L);
  bool is_same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_same;
}

/* Writes a table. Leaves the stack as it was when it succeeds. */
static enum cg_code write_table(struct writer *writer, int index) {
  lua_State *L = writer->L;
  struct cg_value_path *path = &writer->path;
  if (path->depth == CG_JSON_DEPTH_MAX)
    return fail_depth(writer, index);
  if (!lua_checkstack(L, 6))
    return cg_value_path_fail(path, CG_ELIMIT, writer->err, "the Lua stack is full");

  path->steps[path->depth++].table = index;
  enum cg_code code = CG_OK;
  lua_pushnil(L); /* The slot for notes of a large object. */
  lua_pushnil(L);
  if (!lua_next(L, index)) {
    put(writer, has_array_mt(L, index) ? "[]" : "{}", 2);
    lua_pop(L, 1);
  } else {
    bool is_list = lua_type(L, -2) == LUA_TNUMBER;
    code = is_list ? write_list(writer, index) : write_object(writer, index);
  }
  if (code == CG_OK)
    path->depth--;
  return code;
}

/* What is wrong with the keys of a table. */
struct key_faults {
  bool has_names;   /* String keys. */
  bool has_numbers; /* Number keys. */
  bool has_gap;     /* A number key other than 1 without the one before it: `gap`. */
  double gap;       /* The smallest of these, so that every run names the same. */
  int other_type;   /* The lowest Lua type of other keys; LUA_TNONE without. */
};

/* Looks at the key on top. */
static void note_key(lua_State *L, int index, struct key_faults *faults) {
  int type = lua_type(L, -1);
  if (type == LUA_TSTRING) {
    faults->has_names = true;
    return;
  }
  if (type != LUA_TNUMBER) {
    if (faults->other_type == LUA_TNONE || type < faults->other_type)
      faults->other_type = type;
    return;
  }
  faults->has_numbers = true;
  double key = lua_tonumber(L, -1);
  lua_pushnumber(L, key - 1);
  lua_rawget(L, index);
  bool is_gap = key != 1 && (lua_isnil(L, -1) || key - 1 == key);
  lua_pop(L, 1);
  if (is_gap && (!faults->has_gap || key < faults->gap)) {
    faults->has_gap = true;
    faults->gap = key;
  }
}

/* Fails because the keys are not those of a list or an object. All keys are looked at, so that the
 * message does not depend on their order. The path becomes that of the table. */
static enum cg_code fail_keys(struct writer *writer, int index) {
  lua_State *L = writer->L;
  struct cg_value_path *path = &writer->path;
  struct key_faults faults = {.other_type = LUA_TNONE};
  path->depth--;
  if (!lua_checkstack(L, 4))
    return cg_value_path_fail(path, CG_ELIMIT, writer->err, "the Lua stack is full");
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    note_key(L, index, &faults);
  }
  if (faults.other_type != LUA_TNONE)
    return cg_value_path_fail(path, CG_EINVAL, writer->err, "a %s cannot be a key; use strings",
                              lua_typename(L, faults.other_type));
  if (faults.has_names && faults.has_numbers)
    return cg_value_path_fail(path, CG_EINVAL, writer->err,
                              "a table with both number keys and named keys cannot be stored; use "
                              "one or the other");
  if (faults.has_names)
    return cg_value_path_fail(path, CG_EINVAL, writer->err,
                              "a table made by catga.json.array has named keys");
  return cg_value_path_fail(path, CG_EINVAL, writer->err,
                            "a list with gaps or a table with number keys cannot be stored; fill "
                            "gaps with catga.null, use strings as keys (the key %.14g)",
                            faults.gap);
}

/* Writes a list whose keys do not come in order: checks them all, then goes by index. The stack
 * holds the slot, a key and its value. */
static enum cg_code write_list_unordered(struct writer *writer, int index) {
  lua_State *L = writer->L;
  size_t count = lua_objlen(L, index);
  size_t seen = 0;
  lua_pop(L, 2);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (!(key >= 1 && key <= (double)count) || key != (double)(size_t)key)
      return fail_keys(writer, index);
    seen++;
    lua_pop(L, 1);
  }
  if (seen != count)
    return fail_keys(writer, index);

  put(writer, "[", 1);
  for (size_t i = 1; i <= count; i++) {
    if (i > 1)
      put(writer, ",", 1);
    writer->path.steps[writer->path.depth - 1].place = i;
    lua_rawgeti(L, index, (int)i);
    enum cg_code code = write_value(writer, lua_gettop(L));
    if (code != CG_OK)
      return code;
    lua_pop(L, 1);
  }
  put(writer, "]", 1);
  lua_pop(L, 1);
  return CG_OK;
}

/* Writes a list. The stack holds the slot, the first key, which is a number, and its value. */
static enum cg_code write_list(struct writer *writer, int index) {
  lua_State *L = writer->L;
  struct cg_value_step *step = &writer->path.steps[writer->path.depth - 1];
  size_t start = writer->buf->size;
  int top = lua_gettop(L);
  step->key = NULL;
  step->place = 0;
  do {
    step->place++;
    if (lua_type(L, -2) != LUA_TNUMBER || lua_tonumber(L, -2) != (double)step->place) {
      writer->buf->size = start;
      return write_list_unordered(writer, index);
    }
    put(writer, step->place == 1 ? "[" : ",", 1);
    enum cg_code code = write_value(writer, top);
    if (code != CG_OK)
      return code;
    lua_pop(L, 1);
  } while (lua_next(L, index));
  put(writer, "]", 1);
  lua_pop(L, 1);
  return CG_OK;
}

/* Byte order of keys. */
static int compare(const void *left, const void *right) {
  const struct member *a = left;
  const struct member *b = right;
  if (a->key[0] != b->key[0]) /* Decides most; even an empty Lua string has its zero there. */
    return (uint8_t)a->key[0] < (uint8_t)b->key[0] ? -1 : 1;
  size_t size = a->key_size < b->key_size ? a->key_size : b->key_size;
  int order = memcmp(a->key, b->key, size);
  return order != 0 ? order : (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

/* Doubles the room for notes, in userdata that is kept in the slot. */
static void grow_members(lua_State *L, struct members *members) {
  size_t capacity = members->capacity * 2;
  struct member *list = lua_newuserdata(L, capacity * sizeof(*list));
  memcpy(list, members->list, members->count * sizeof(*list));
  lua_replace(L, members->slot);
  members->list = list;
  members->capacity = capacity;
}

/* Sorts the notes by key. */
static void sort_members(struct members *members) {
  if (members->count > MEMBERS_LOCAL) {
    qsort(members->list, members->count, sizeof(struct member), compare);
    return;
  }
  for (size_t i = 1; i < members->count; i++) {
    struct member member = members->list[i];
    size_t at = i;
    for (; at > 0 && compare(&member, &members->list[at - 1]) < 0; at--)
      members->list[at] = members->list[at - 1];
    members->list[at] = member;
  }
}

/* Puts the bytes of the members in the order of their keys. */
static void order_members(struct writer *writer, struct members *members) {
  struct cg_buf *buf = writer->buf;
  size_t start = members->list[0].start;
  size_t size = buf->size - start;
  sort_members(members);

  uint8_t *out = cg_buf_room(buf, size);
  for (size_t i = 0; i < members->count; i++) {
    const struct member *member = &members->list[i];
    if (i > 0)
      *out++ = ',';
    memcpy(out, buf->data + member->start, member->size);
    out += member->size;
  }
  memcpy(buf->data + start, buf->data + buf->size, size);
}

/* Writes the member on top of the stack, value above key, and notes it. */
static enum cg_code write_member(struct writer *writer, struct members *members, int index,
                                 int top) {
  lua_State *L = writer->L;
  struct cg_value_step *step = &writer->path.steps[writer->path.depth - 1];
  if (lua_type(L, top - 1) != LUA_TSTRING)
    return fail_keys(writer, index);
  if (members->count == members->capacity)
    grow_members(L, members);

  struct member *member = &members->list[members->count++];
  step->key = lua_tolstring(L, top - 1, &step->key_size);
  if (members->count > 1)
    put(writer, ",", 1);
  member->key = step->key;
  member->key_size = (uint32_t)step->key_size;
  member->start = writer->buf->size;
  if (members->count > 1 && members->is_sorted)
    members->is_sorted = compare(member - 1, member) < 0;

  enum cg_code code = write_string(writer, step->key, step->key_size);
  if (code != CG_OK)
    return code;
  put(writer, ":", 1);
  code = write_value(writer, top);
  member->size = (uint32_t)(writer->buf->size - member->start);
  return code;
}

/* Writes an object. The stack holds the slot, the first key and its value. */
static enum cg_code write_object(struct writer *writer, int index) {
  lua_State *L = writer->L;
  int top = lua_gettop(L);
  struct members members; /* The local notes stay undefined: clearing them would cost. */
  members.list = members.local;
  members.count = 0;
  members.capacity = MEMBERS_LOCAL;
  members.slot = top - 2;
  members.is_sorted = true;

  put(writer, "{", 1);
  do {
    enum cg_code code = write_member(writer, &members, index, top);
    if (code != CG_OK)
      return code;
    lua_pop(L, 1);
  } while (lua_next(L, index));

  if (has_array_mt(L, index))
    return fail_keys(writer, index);
  if (!members.is_sorted)
    order_members(writer, &members);
  put(writer, "}", 1);
  lua_pop(L, 1);
  return CG_OK;
}
