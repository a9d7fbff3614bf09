/* value_write.c - Lua values to JSON bytes.
 *
 * How it works: one walk. The members of an object are written as Lua's `next` gives them, with a
 * note of where each lies; when they did not come in order, their bytes are put in order at the
 * end, so no member is looked up twice. A table that begins with key 1 is written as a list while
 * `next` counts up, which it does for nearly every list; else the list is counted and indexed.
 * Recursion ends at CG_JSON_DEPTH_MAX; a cycle always gets there, and only then is looked for.
 * Copying rides on the same walk. What the bytes decode to is the plain value itself but for
 * tables: they are made anew. A list's copy is filled as the list is written. The members of an
 * object stay on the stack, where the walk has put them, until their table can be made in the right
 * size; a large one gets its table when HELD_MAX are there and grows from then on.
 * Owns: nothing; notes of large objects are Lua userdata, so a memory error leaks nothing.
 * Thread: the one of the Lua state. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bind/value.h"
#include "bind/value_fault.h"
#include "bind/value_path.h"
#include "codec/codec.h"

#define MEMBERS_LOCAL 16 /* Objects with more members take their notes in userdata. */
#define HELD_MAX 16      /* Members that wait on the stack for the copy's table. */
#define LENGTH_MAX 1024  /* Elements that a list's copy has room for at first. */
#define ROOM_MIN 6       /* Stack slots that a table, element or member needs at most. */

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
  bool is_copying;           /* Every table leaves its copy on the stack. */
  struct cg_value_path path; /* Where we are. */
};

static enum cg_code write_value(struct writer *writer, int index);
static enum cg_code write_table(struct writer *writer, int index);
static enum cg_code write_object(struct writer *writer, int index);
static enum cg_code write_list(struct writer *writer, int index);
static enum cg_code fail_size(struct writer *writer);
static enum cg_code fail_stack(struct writer *writer);

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
  writer->is_copying = false;
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

enum cg_code cg_value_encode_copy(lua_State *L, int index, const char *name, struct cg_buf *buf,
                                  size_t size_max, struct cg_err *err) {
  struct writer writer;
  int top = lua_gettop(L);
  begin(&writer, L, name, buf, size_max, err);
  writer.is_copying = true;
  if (!lua_checkstack(L, 1))
    return fail_stack(&writer);
  index = index > 0 ? index : top + 1 + index;
  enum cg_code code = write_value(&writer, index);
  if (code != CG_OK)
    return end(&writer, top, code);
  if (lua_gettop(L) > top)
    return CG_OK;
  if (lua_isnoneornil(L, index))
    lua_pushlightuserdata(L, NULL);
  else
    lua_pushvalue(L, index);
  return CG_OK;
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
    lua_settop(L, top);
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

/* Fails because Lua gives no more stack slots. */
static enum cg_code fail_stack(struct writer *writer) {
  return cg_value_path_fail(&writer->path, CG_ELIMIT, writer->err, "the Lua stack is full");
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

/* Writes the value at an absolute index. A table leaves one slot on the stack: its copy, or nil
 * when there is to be none; other values leave nothing, as they are their own copy. */
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
      return cg_value_fault_type(&writer->path, type, writer->err);
    put(writer, "null", 4);
    break;
  default:
    return cg_value_fault_type(&writer->path, type, writer->err);
  }
  if (code == CG_OK && writer->buf->size > writer->end_max)
    return fail_size(writer);
  return code;
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

/* Puts the copy of an empty table into the slot on top. */
static void copy_empty(lua_State *L, bool is_list) {
  lua_createtable(L, 0, 0);
  if (is_list) {
    cg_value_push_array_mt(L);
    lua_setmetatable(L, -2);
  }
  lua_replace(L, -2);
}

/* Writes a table. Leaves the slot on the stack. */
static enum cg_code write_table(struct writer *writer, int index) {
  lua_State *L = writer->L;
  struct cg_value_path *path = &writer->path;
  if (path->depth == CG_JSON_DEPTH_MAX)
    return cg_value_fault_depth(L, index, path, writer->err);
  if (!lua_checkstack(L, ROOM_MIN))
    return fail_stack(writer);

  path->steps[path->depth++].table = index;
  enum cg_code code = CG_OK;
  lua_pushnil(L); /* The slot: first for notes of a large object, at last for the copy. */
  lua_pushnil(L);
  if (!lua_next(L, index)) {
    bool is_list = has_array_mt(L, index);
    put(writer, is_list ? "[]" : "{}", 2);
    if (writer->is_copying)
      copy_empty(L, is_list);
  } else {
    bool is_list = lua_type(L, -2) == LUA_TNUMBER;
    code = is_list ? write_list(writer, index) : write_object(writer, index);
  }
  if (code == CG_OK)
    path->depth--;
  return code;
}

/* Writes the element at `place` of a list, which is on top of the stack, and puts its copy into the
 * table in the slot. Leaves what is below the element. */
static inline enum cg_code write_element(struct writer *writer, size_t place, int slot, int top) {
  put(writer, place == 1 ? "[" : ",", 1);
  enum cg_code code = write_value(writer, top);
  if (code != CG_OK)
    return code;
  if (writer->is_copying)
    lua_rawseti(writer->L, slot, (int)place);
  lua_settop(writer->L, top - 1);
  return CG_OK;
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
      return cg_value_fault_keys(L, index, &writer->path, writer->err);
    seen++;
    lua_pop(L, 1);
  }
  if (seen != count)
    return cg_value_fault_keys(L, index, &writer->path, writer->err);

  int slot = lua_gettop(L);
  for (size_t i = 1; i <= count; i++) {
    writer->path.steps[writer->path.depth - 1].place = i;
    lua_rawgeti(L, index, (int)i);
    enum cg_code code = write_element(writer, i, slot, slot + 1);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* Writes the elements of a list up to its end. The stack holds the slot, the first key, which is a
 * number, and its value. */
static enum cg_code write_elements(struct writer *writer, int index) {
  lua_State *L = writer->L;
  struct cg_value_step *step = &writer->path.steps[writer->path.depth - 1];
  size_t start = writer->buf->size;
  int top = lua_gettop(L);
  step->key = NULL;
  step->place = 0;
  do {
    step->place++;
    if (lua_type(L, -2) != LUA_TNUMBER || lua_tonumber(L, -2) != (double)step->place) {
      writer->buf->size = start; /* A copy begun is written over: the values are the same. */
      return write_list_unordered(writer, index);
    }
    enum cg_code code = write_element(writer, step->place, top - 2, top);
    if (code != CG_OK)
      return code;
  } while (lua_next(L, index));
  return CG_OK;
}

/* Writes a list. The stack as above. */
static enum cg_code write_list(struct writer *writer, int index) {
  lua_State *L = writer->L;
  int slot = lua_gettop(L) - 2;
  if (writer->is_copying) {
    size_t length = lua_objlen(L, index); /* With gaps, it may be far more than there is. */
    lua_createtable(L, (int)(length < LENGTH_MAX ? length : LENGTH_MAX), 0);
    lua_replace(L, slot);
  }
  enum cg_code code = write_elements(writer, index);
  if (code != CG_OK)
    return code;
  put(writer, "]", 1);
  if (writer->is_copying) {
    cg_value_push_array_mt(L);
    lua_setmetatable(L, slot);
  }
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
    return cg_value_fault_keys(L, index, &writer->path, writer->err);
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

/* Makes the copy's table from the members on the stack above the slot; it goes into the slot. */
static void copy_members(lua_State *L, int slot, size_t count) {
  lua_createtable(L, 0, (int)count);
  lua_replace(L, slot);
  for (size_t i = 0; i < count; i++)
    lua_rawset(L, slot);
}

/* Makes the copy's table from HELD_MAX members on the stack. Leaves the slot for the notes, the
 * table and the last key. */
static void copy_held_members(lua_State *L, int slot) {
  lua_pushvalue(L, -2);
  lua_replace(L, slot);
  lua_createtable(L, 0, HELD_MAX * 2);
  lua_insert(L, slot + 1);
  for (int i = 0; i < HELD_MAX; i++)
    lua_rawset(L, slot + 1);
  lua_pushvalue(L, slot);
}

/* Keeps the member that was just written, the `count`-th, for the copy: its key at top - 1, its
 * value at `top`, and above it the copy of that value when it is a table. Leaves its key on top,
 * for lua_next. */
static enum cg_code copy_member(struct writer *writer, size_t count, int slot, int top) {
  lua_State *L = writer->L;
  if (lua_gettop(L) > top)
    lua_replace(L, top);
  if (!lua_checkstack(L, ROOM_MIN))
    return fail_stack(writer);
  if (count == HELD_MAX) {
    copy_held_members(L, slot);
    return CG_OK;
  }
  lua_pushvalue(L, top - 1);
  if (count > HELD_MAX) {
    lua_insert(L, top - 1);
    lua_rawset(L, slot + 1);
  }
  return CG_OK;
}

/* Writes the members of an object up to its end. The stack holds the slot, the first key and its
 * value; it holds the slot and, when copying, what copy_member leaves, but no key, in the end. */
static enum cg_code write_members(struct writer *writer, struct members *members, int index) {
  lua_State *L = writer->L;
  do {
    int top = lua_gettop(L);
    enum cg_code code = write_member(writer, members, index, top);
    if (code == CG_OK && writer->is_copying)
      code = copy_member(writer, members->count, members->slot, top);
    else
      lua_settop(L, top - 1);
    if (code != CG_OK)
      return code;
  } while (lua_next(L, index));
  return CG_OK;
}

/* Writes an object. The stack holds the slot, the first key and its value. */
static enum cg_code write_object(struct writer *writer, int index) {
  lua_State *L = writer->L;
  struct members members; /* The local notes stay undefined: clearing them would cost. */
  members.list = members.local;
  members.count = 0;
  members.capacity = MEMBERS_LOCAL;
  members.slot = lua_gettop(L) - 2;
  members.is_sorted = true;

  put(writer, "{", 1);
  enum cg_code code = write_members(writer, &members, index);
  if (code != CG_OK)
    return code;
  if (has_array_mt(L, index))
    return cg_value_fault_keys(L, index, &writer->path, writer->err);
  if (!members.is_sorted)
    order_members(writer, &members);
  put(writer, "}", 1);
  if (!writer->is_copying)
    return CG_OK;
  if (members.count < HELD_MAX)
    copy_members(L, members.slot, members.count);
  else
    lua_replace(L, members.slot);
  return CG_OK;
}
