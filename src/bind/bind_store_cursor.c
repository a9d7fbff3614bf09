/* bind_store_cursor.c - reading all of a store in order of positions: each reader has a cursor of
 * its own with a filter, and what the filter leaves out never reaches Lua.
 *
 * A cursor of one stream goes from version to version by the index instead: what it costs is what
 * it gives, however large the log is.
 *
 * Owns: a cursor userdata owns the log's cursor and the copy of its filter. Thread: the loop
 * thread. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind_store.h"

#define CURSOR_TYPE "catga.cursor"
#define BATCH_COUNT_MAX 100000     /* Events of one call. */
#define BATCH_BYTES_MAX (8u << 20) /* Their data; a batch ends with the event that reaches it. */
#define SEEN_COUNT_MAX 100000      /* Records that one call looks at. */
#define REST_COUNT 1000            /* After so many a reader that waits frees its window. */
#define FILTER_TYPES_MAX 10000     /* Types of one filter. */
#define FILTER_BYTES_MAX ((size_t)1024) /* Of a type, a prefix, a category, a stream's name. */

/* A text of a filter. */
struct text {
  const char *bytes; /* In the filter's own memory; NULL: not asked for. */
  size_t size;       /* Bytes of it. */
};

/* What a reader wants to see: all that is asked for must hold. */
struct filter {
  struct text *types;      /* Sorted; one of them, or NULL for any. */
  size_t type_count;       /* How many. */
  struct text type_prefix; /* The type begins so. */
  struct text category;    /* The stream's name up to its first "-" is this. */
  struct text stream;      /* The stream's name. */
  uint16_t hidden_flags;   /* Records with any of these are left out. */
  uint16_t needed_flags;   /* Those without one of these too. */
};

/* The userdata of a cursor; in its store's list while the store is open. */
struct cg_bind_cursor {
  struct cg_bind_store *store; /* NULL once the store is closed, or the cursor. */
  struct cg_bind_cursor *next; /* In the store's list. */
  struct cg_log_cursor *log;   /* NULL before it is needed, and when it is of one stream. */
  uint64_t log_count;          /* Records read by it. */
  uint64_t version;            /* Of one stream: the next to look at, once has_version. */
  bool has_version;            /* The version was found. */
  uint64_t after;              /* Looked at up to here. */
  struct filter filter;        /* What it lets through. */
};

/* Takes the cursor out of its store's list and frees what it has of the log. */
static void detach(struct cg_bind_cursor *cursor) {
  if (cursor->store == NULL)
    return;
  struct cg_bind_cursor **link = &cursor->store->cursors;
  while (*link != cursor)
    link = &(*link)->next;
  *link = cursor->next;
  cg_log_cursor_free(cursor->log);
  cursor->log = NULL;
  cursor->store = NULL;
}

void cg_bind_cursors_close(struct cg_bind_store *store) {
  while (store->cursors != NULL)
    detach(store->cursors);
}

static int compare_texts(const void *left, const void *right) {
  const struct text *a = left, *b = right;
  if (a->size != b->size)
    return a->size < b->size ? -1 : 1;
  return memcmp(a->bytes, b->bytes, a->size);
}

/* A copy of the string at the top of the stack, which is popped. */
static struct text take_text(lua_State *L) {
  size_t size;
  const char *bytes = lua_tolstring(L, -1, &size);
  char *copy = cg_alloc(size + 1);
  memcpy(copy, bytes, size);
  lua_pop(L, 1);
  return (struct text){.bytes = copy, .size = size};
}

static void check_text(lua_State *L, const char *field) {
  size_t size;
  if (lua_type(L, -1) != LUA_TSTRING)
    luaL_error(L, "a cursor's %s is a string, not a %s", field, luaL_typename(L, -1));
  lua_tolstring(L, -1, &size);
  if (size == 0 || size > FILTER_BYTES_MAX)
    luaL_error(L, "a cursor's %s has 1 to %d bytes", field, (int)FILTER_BYTES_MAX);
}

/* The text in a field of the filter table at index 3, or none. */
static struct text field_text(lua_State *L, const char *field) {
  lua_getfield(L, 3, field);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return (struct text){.bytes = NULL};
  }
  check_text(L, field);
  return take_text(L);
}

/* Reads the list of types in the filter table at index 3. What was read so far belongs to the
 * filter, so raising leaks nothing. */
static void read_types(lua_State *L, struct filter *filter) {
  lua_getfield(L, 3, "types");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return;
  }
  luaL_checktype(L, -1, LUA_TTABLE);
  size_t count = lua_objlen(L, -1);
  if (count > FILTER_TYPES_MAX)
    luaL_error(L, "a cursor takes at most %d types", FILTER_TYPES_MAX);
  filter->types = cg_alloc((count + 1) * sizeof(filter->types[0]));
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    check_text(L, "type");
    filter->types[i] = take_text(L);
    filter->type_count++;
  }
  lua_pop(L, 1);
  qsort(filter->types, count, sizeof(filter->types[0]), compare_texts);
}

static void read_filter(lua_State *L, struct filter *filter) {
  filter->hidden_flags = CG_RECORD_INTERNAL | CG_RECORD_JOURNAL;
  if (lua_isnoneornil(L, 3))
    return;
  read_types(L, filter);
  filter->type_prefix = field_text(L, "type_prefix");
  filter->category = field_text(L, "category");
  filter->stream = field_text(L, "stream");
  lua_getfield(L, 3, "journals");
  if (lua_toboolean(L, -1))
    filter->hidden_flags = CG_RECORD_INTERNAL;
  lua_getfield(L, 3, "personal");
  if (lua_toboolean(L, -1))
    filter->needed_flags = CG_RECORD_PERSONAL;
  lua_pop(L, 2);
}

static void free_filter(struct filter *filter) {
  for (size_t i = 0; i < filter->type_count; i++)
    cg_free((void *)filter->types[i].bytes);
  cg_free(filter->types);
  cg_free((void *)filter->type_prefix.bytes);
  cg_free((void *)filter->category.bytes);
  cg_free((void *)filter->stream.bytes);
  *filter = (struct filter){.types = NULL};
}

static bool is_text(const struct text *text, const char *bytes, size_t size) {
  return text->size == size && memcmp(text->bytes, bytes, size) == 0;
}

/* Does the name up to its first "-", or all of it when there is none, equal the text? */
static bool is_category(const struct text *text, const char *stream, size_t size) {
  const char *dash = memchr(stream, '-', size);
  return is_text(text, stream, dash != NULL ? (size_t)(dash - stream) : size);
}

static bool is_wanted(const struct filter *filter, const struct cg_record *record) {
  if ((record->flags & filter->hidden_flags) != 0 ||
      (record->flags & filter->needed_flags) != filter->needed_flags)
    return false;
  if (filter->types != NULL) {
    struct text type = {.bytes = record->type, .size = record->type_size};
    if (bsearch(&type, filter->types, filter->type_count, sizeof(type), compare_texts) == NULL)
      return false;
  }
  const struct text *prefix = &filter->type_prefix;
  if (prefix->bytes != NULL &&
      (record->type_size < prefix->size || memcmp(record->type, prefix->bytes, prefix->size) != 0))
    return false;
  if (filter->category.bytes != NULL &&
      !is_category(&filter->category, record->stream, record->stream_size))
    return false;
  return filter->stream.bytes == NULL ||
         is_text(&filter->stream, record->stream, record->stream_size);
}

/* store:cursor(after, filter) -> cursor */
static int bind_store_cursor(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  double after = luaL_checknumber(L, 2);
  luaL_argcheck(L, after >= 0, 2, "positions start at 1; 0 reads from the beginning");
  if (!lua_isnoneornil(L, 3))
    luaL_checktype(L, 3, LUA_TTABLE);
  struct cg_bind_cursor *cursor = lua_newuserdata(L, sizeof(*cursor));
  *cursor = (struct cg_bind_cursor){.after = (uint64_t)after};
  luaL_getmetatable(L, CURSOR_TYPE);
  lua_setmetatable(L, -2);
  read_filter(L, &cursor->filter);
  cursor->store = store;
  cursor->next = store->cursors;
  store->cursors = cursor;
  return 1;
}

static struct cg_bind_cursor *check_cursor(lua_State *L) {
  struct cg_bind_cursor *cursor = luaL_checkudata(L, 1, CURSOR_TYPE);
  if (cursor->store == NULL)
    luaL_error(L, "the cursor, or its store, is closed");
  return cursor;
}

/* One batch that is being read. */
struct batch {
  double max;     /* Events at most. */
  uint64_t until; /* Position below which all is durable. */
  size_t size;    /* Bytes of data so far. */
  int count;      /* Events so far, in the table at stack index 3. */
  int seen;       /* Records looked at. */
};

static bool is_full(const struct batch *batch) {
  return batch->seen >= SEEN_COUNT_MAX || batch->count >= batch->max ||
         batch->size >= BATCH_BYTES_MAX;
}

/* Pushes the record into the batch if it is wanted. */
static enum cg_code take(lua_State *L, struct cg_bind_cursor *cursor, struct batch *batch,
                         const struct cg_record *record, struct cg_err *err) {
  batch->seen++;
  cursor->after = record->position;
  if (!is_wanted(&cursor->filter, record))
    return CG_OK;
  enum cg_code code = cg_bind_push_event(L, record, err);
  if (code != CG_OK)
    return code;
  lua_rawseti(L, 3, ++batch->count);
  batch->size += record->data_size;
  return CG_OK;
}

static enum cg_code read_log(lua_State *L, struct cg_bind_cursor *cursor, struct batch *batch,
                             struct cg_err *err) {
  enum cg_code code = CG_OK;
  if (cursor->log == NULL)
    cursor->log = cg_log_cursor_new(cg_store_log(cursor->store->store), cursor->after);
  while (code == CG_OK && !is_full(batch)) {
    struct cg_record record;
    code = cg_log_cursor_next(cursor->log, batch->until, &record, err);
    if (code == CG_OK)
      code = take(L, cursor, batch, &record, err);
  }
  cursor->log_count += (uint64_t)batch->seen;
  if (code == CG_END && cursor->log_count >= REST_COUNT) {
    cg_log_cursor_free(cursor->log);
    cursor->log = NULL;
    cursor->log_count = 0;
  }
  return code;
}

/* Reads the record of the stream at the version or the nearest one behind it. CG_END: none. */
static enum cg_code read_near(struct cg_bind_store *store, cg_store_stream stream, uint64_t version,
                              struct cg_record *record, struct cg_err *err) {
  uint64_t found;
  enum cg_code code = cg_store_seek(store->store, stream, version, false, &found, err);
  if (code != CG_OK)
    return code;
  return cg_store_read(store->store, stream, found, store->scratch, record, err);
}

/* Finds the first version of the stream behind the cursor's position. */
static enum cg_code find_version(struct cg_bind_cursor *cursor, cg_store_stream stream,
                                 struct cg_err *err) {
  uint64_t low = 0, high = cg_store_count(cursor->store->store, stream);
  while (low < high) {
    struct cg_record record;
    uint64_t middle = low + (high - low) / 2;
    enum cg_code code = read_near(cursor->store, stream, middle, &record, err);
    if (code != CG_OK && code != CG_END)
      return code;
    if (code == CG_END || record.position > cursor->after)
      high = middle;
    else
      low = record.version + 1;
  }
  cursor->version = low;
  cursor->has_version = true;
  return CG_OK;
}

/* Reads what is durable of the one stream. */
static enum cg_code read_stream(lua_State *L, struct cg_bind_cursor *cursor, struct batch *batch,
                                struct cg_err *err) {
  struct cg_bind_store *store = cursor->store;
  const struct text *name = &cursor->filter.stream;
  cg_store_rollback(store->store); /* What a script that ran out of memory left behind. */
  store->is_building = false;
  cg_store_stream stream;
  enum cg_code code = cg_store_find(store->store, name->bytes, name->size, false, &stream, err);
  if (code == CG_ENOTFOUND)
    code = CG_END;
  if (code == CG_OK && !cursor->has_version)
    code = find_version(cursor, stream, err);
  while (code == CG_OK && !is_full(batch)) {
    struct cg_record record;
    code = read_near(store, stream, cursor->version, &record, err);
    if (code == CG_OK && record.position >= batch->until)
      code = CG_END;
    if (code != CG_OK)
      break;
    cursor->version = record.version + 1;
    if (record.position > cursor->after)
      code = take(L, cursor, batch, &record, err);
  }
  if (code == CG_END && cursor->after + 1 < batch->until)
    cursor->after = batch->until - 1; /* Nothing else of it is durable. */
  return code;
}

/* next(max) -> events, position looked at up to, bytes of their data | nil, err */
static int bind_cursor_next(lua_State *L) {
  struct cg_bind_cursor *cursor = check_cursor(L);
  double max = luaL_checknumber(L, 2);
  luaL_argcheck(L, max >= 1 && max <= BATCH_COUNT_MAX, 2, "from 1 to 100000 events at once");
  struct batch batch = {.max = max};
  batch.until = cg_log_durable_position(cg_store_log(cursor->store->store));
  lua_settop(L, 2);
  lua_newtable(L);
  struct cg_err err;
  enum cg_code code = cursor->filter.stream.bytes == NULL ? read_log(L, cursor, &batch, &err)
                                                          : read_stream(L, cursor, &batch, &err);
  if (code != CG_OK && code != CG_END)
    return cg_bind_fail(L, &err);
  lua_pushnumber(L, (lua_Number)cursor->after);
  lua_pushnumber(L, (lua_Number)batch.size);
  return 3;
}

/* position() -> looked at up to here */
static int bind_cursor_position(lua_State *L) {
  lua_pushnumber(L, (lua_Number)check_cursor(L)->after);
  return 1;
}

/* close(): may be called again */
static int bind_cursor_close(lua_State *L) {
  detach(luaL_checkudata(L, 1, CURSOR_TYPE));
  return 0;
}

static int bind_cursor_gc(lua_State *L) {
  struct cg_bind_cursor *cursor = lua_touserdata(L, 1);
  detach(cursor);
  free_filter(&cursor->filter);
  return 0;
}

void cg_bind_cursor_type(lua_State *L) {
  static const luaL_Reg methods[] = {{"next", bind_cursor_next},
                                     {"position", bind_cursor_position},
                                     {"close", bind_cursor_close},
                                     {NULL, NULL}};
  cg_bind_type(L, CURSOR_TYPE, methods, bind_cursor_gc);
}

const luaL_Reg cg_bind_store_cursor_methods[] = {{"cursor", bind_store_cursor}, {NULL, NULL}};
