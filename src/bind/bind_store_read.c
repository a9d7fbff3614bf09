/* bind_store_read.c - reading the store from Lua.
 *
 * Owns: nothing. Thread: the loop thread. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bind/bind_store.h"

#define READ_COUNT_MAX 100000 /* Events of one read call. */

struct cg_bind_store *cg_bind_check_reading(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  cg_store_rollback(store->store);
  store->is_building = false;
  return store;
}

enum cg_code cg_bind_push_event(lua_State *L, const struct cg_record *record, struct cg_err *err) {
  luaL_checkstack(L, 8, "too many values");
  lua_createtable(L, 0, 8); /* A ninth field is rare. */
  lua_pushnumber(L, (lua_Number)record->position);
  lua_setfield(L, -2, "position");
  lua_pushnumber(L, (lua_Number)record->version);
  lua_setfield(L, -2, "version");
  lua_pushnumber(L, (lua_Number)record->time_ms);
  lua_setfield(L, -2, "time");
  char id[CG_ID_CHARS];
  lua_pushlstring(L, id, cg_id_format(record->id, id));
  lua_setfield(L, -2, "id");
  lua_pushlstring(L, record->stream, record->stream_size);
  lua_setfield(L, -2, "stream");
  lua_pushlstring(L, record->type, record->type_size);
  lua_setfield(L, -2, "type");
  if (cg_value_decode(L, "data", (const char *)record->data, record->data_size, err) != CG_OK)
    goto fail;
  lua_setfield(L, -2, "data");
  if (record->metadata_size > 0) {
    if (cg_value_decode(L, "metadata", (const char *)record->metadata, record->metadata_size,
                        err) != CG_OK)
      goto fail;
    lua_setfield(L, -2, "metadata");
  }
  if ((record->flags & CG_RECORD_PERSONAL) != 0) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "personal");
  }
  return CG_OK;

fail:
  lua_pop(L, 1);
  return cg_err_prefix(err, "event %llu", (unsigned long long)record->position);
}

/* Reads a version, or when it was scavenged the next one that is there; *version gets which.
 * CG_END: there is none. */
static enum cg_code read_near(struct cg_bind_store *store, cg_store_stream stream, bool is_backward,
                              uint64_t *version, struct cg_record *record, struct cg_err *err) {
  enum cg_code code = cg_store_read(store->store, stream, *version, store->scratch, record, err);
  if (code == CG_ENOTFOUND) {
    code = cg_store_seek(store->store, stream, *version, is_backward, version, err);
    if (code == CG_OK)
      code = cg_store_read(store->store, stream, *version, store->scratch, record, err);
  }
  return code;
}

/* read(stream, from, max, backward) -> events | nil, err */
static int bind_store_read(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_reading(L);
  cg_store_stream stream = cg_bind_check_stream(L, 2, store);
  double from = luaL_checknumber(L, 3), max = luaL_checknumber(L, 4);
  bool is_backward = lua_toboolean(L, 5);
  luaL_argcheck(L, max >= 1 && max <= READ_COUNT_MAX, 4, "from 1 to 100000 events at once");
  luaL_argcheck(L, from >= 0, 3, "versions start at 0");
  double count = (double)cg_store_count(store->store, stream);
  if (is_backward && from >= count)
    from = count - 1;
  lua_newtable(L);
  if (from < 0 || from >= count)
    return 1;
  uint64_t version = (uint64_t)from;
  for (int pushed = 0; pushed < max;) {
    struct cg_err err;
    struct cg_record record;
    enum cg_code code = read_near(store, stream, is_backward, &version, &record, &err);
    if (code == CG_END)
      break;
    if (code == CG_OK)
      code = cg_bind_push_event(L, &record, &err);
    if (code != CG_OK)
      return cg_bind_fail(L, &err);
    lua_rawseti(L, -2, ++pushed);
    if (version == (is_backward ? 0 : (uint64_t)count - 1))
      break;
    version += is_backward ? UINT64_MAX : 1;
  }
  return 1;
}

/* Is the record's type a true key of the table at `index` (or is there no table)? */
static bool is_wanted(lua_State *L, int index, const struct cg_record *record) {
  if (lua_isnoneornil(L, index))
    return true;
  lua_pushlstring(L, record->type, record->type_size);
  lua_rawget(L, index);
  bool wanted = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return wanted;
}

/* read_all(after, max, types, with_journals) -> events, position read up to | nil, err
 * Only what is durable. Looks at no more than READ_COUNT_MAX records a call. */
static int bind_store_read_all(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  double after = luaL_checknumber(L, 2), max = luaL_checknumber(L, 3);
  luaL_argcheck(L, after >= 0, 2, "positions start at 1; 0 reads from the beginning");
  luaL_argcheck(L, max >= 1 && max <= READ_COUNT_MAX, 3, "from 1 to 100000 events at once");
  bool with_journals = lua_toboolean(L, 5);
  lua_settop(L, 4);
  struct cg_log *log = cg_store_log(store->store);
  if (store->cursor == NULL || store->cursor_after != (uint64_t)after) {
    cg_log_cursor_free(store->cursor);
    store->cursor = cg_log_cursor_new(log, (uint64_t)after);
    store->cursor_after = (uint64_t)after;
  }
  lua_newtable(L);
  uint64_t until = cg_log_durable_position(log);
  int pushed = 0;
  for (int seen = 0; seen < READ_COUNT_MAX && pushed < max; seen++) {
    struct cg_err err;
    struct cg_record record;
    enum cg_code code = cg_log_cursor_next(store->cursor, until, &record, &err);
    if (code == CG_END)
      break;
    if (code != CG_OK)
      return cg_bind_fail(L, &err);
    store->cursor_after = record.position;
    uint16_t hidden = with_journals ? CG_RECORD_INTERNAL : CG_RECORD_INTERNAL | CG_RECORD_JOURNAL;
    if ((record.flags & hidden) != 0 || !is_wanted(L, 4, &record))
      continue;
    if (cg_bind_push_event(L, &record, &err) != CG_OK)
      return cg_bind_fail(L, &err);
    lua_rawseti(L, 5, ++pushed);
  }
  lua_pushnumber(L, (lua_Number)store->cursor_after);
  return 2;
}

/* positions() -> position the next record gets, position below which all is durable */
static int bind_store_positions(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_log *log = cg_store_log(store->store);
  lua_pushnumber(L, (lua_Number)cg_log_next_position(log));
  lua_pushnumber(L, (lua_Number)cg_log_durable_position(log));
  return 2;
}

/* log_id() -> 32 hexadecimal digits */
static int bind_store_log_id(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  uint8_t id[16];
  char text[2 * sizeof(id) + 1];
  cg_log_id(cg_store_log(store->store), id);
  for (size_t i = 0; i < sizeof(id); i++)
    snprintf(text + 2 * i, 3, "%02x", id[i]);
  lua_pushstring(L, text);
  return 1;
}

/* stats() -> table of counters */
static int bind_store_stats(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_log_stats stats;
  cg_log_stats_read(cg_store_log(store->store), &stats);
  lua_createtable(L, 0, 6);
  lua_pushnumber(L, (lua_Number)stats.commit_count);
  lua_setfield(L, -2, "commit_count");
  lua_pushnumber(L, (lua_Number)stats.sync_count);
  lua_setfield(L, -2, "sync_count");
  lua_pushnumber(L, (lua_Number)stats.write_bytes);
  lua_setfield(L, -2, "write_bytes");
  lua_pushnumber(L, (lua_Number)stats.segment_count);
  lua_setfield(L, -2, "segment_count");
  lua_pushnumber(L, (lua_Number)stats.cut_bytes);
  lua_setfield(L, -2, "cut_bytes");
  lua_pushnumber(L, (lua_Number)stats.written_position);
  lua_setfield(L, -2, "written_position");
  return 1;
}

const luaL_Reg cg_bind_store_read_methods[] = {
    {"read", bind_store_read},           {"read_all", bind_store_read_all},
    {"positions", bind_store_positions}, {"log_id", bind_store_log_id},
    {"stats", bind_store_stats},         {NULL, NULL}};
