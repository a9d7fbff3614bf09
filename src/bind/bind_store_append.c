/* bind_store_append.c - committing to the store from Lua: units of work and journals.
 *
 * Owns: nothing. Thread: the loop thread. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind_store.h"

/* Gives a record its time and id, from one reading of the clock. */
static enum cg_code stamp(struct cg_bind_store *store, struct cg_store_event *event,
                          struct cg_err *err) {
  event->time_ms = cg_clock_wall_ms(&store->clock);
  return cg_store_new_id_at(store->store, event->time_ms, &event->id, err);
}

/* begin() */
static int bind_store_begin(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  /* Who commits will wait: nothing may be committed where that is not possible. */
  if (cg_task_current(store->runtime) != NULL)
    cg_task_check_park(store->runtime, L);
  cg_store_begin(store->store);
  store->is_building = true;
  return 0;
}

/* add(stream, expected, type, data_json, metadata_json, flags) -> version, id | nil, err */
static int bind_store_add(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_store_event event = {.stream = cg_bind_check_stream(L, 2, store)};
  event.expected = (int64_t)luaL_checknumber(L, 3);
  event.type = luaL_checklstring(L, 4, &event.type_size);
  size_t data_size;
  const char *data = luaL_checklstring(L, 5, &data_size);
  event.metadata = luaL_optlstring(L, 6, NULL, &event.metadata_size);
  event.flags = (uint16_t)luaL_optint(L, 7, 0);
  if (!store->is_building)
    return luaL_error(L, "add outside of begin and commit");
  struct cg_err err;
  struct cg_buf *buf;
  if (event.metadata == NULL)
    event.metadata_size = 0;
  if (stamp(store, &event, &err) != CG_OK ||
      cg_store_add(store->store, &event, &buf, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  cg_buf_append(buf, data, data_size);
  uint64_t version = cg_store_added(store->store);
  lua_pushnumber(L, (lua_Number)version);
  char id[CG_ID_CHARS];
  lua_pushlstring(L, id, cg_id_format(event.id, id));
  return 2;
}

/* expect(stream_name, expected) -> true | nil, err: a condition of the commit being built */
static int bind_store_expect(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  size_t size;
  const char *name = luaL_checklstring(L, 2, &size);
  int64_t expected = (int64_t)luaL_checknumber(L, 3);
  if (!store->is_building)
    return luaL_error(L, "expect outside of begin and commit");
  struct cg_err err;
  if (cg_store_expect(store->store, name, size, expected, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* commit() -> position of the first record, position after the last | nil, err */
static int bind_store_commit(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  if (!store->is_building)
    return luaL_error(L, "commit without begin");
  store->is_building = false;
  struct cg_err err;
  uint64_t first;
  if (cg_store_commit(store->store, &first, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushnumber(L, (lua_Number)first);
  lua_pushnumber(L, (lua_Number)cg_log_next_position(cg_store_log(store->store)));
  return 2;
}

/* rollback() */
static int bind_store_rollback(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  if (store->is_building)
    cg_store_rollback(store->store);
  store->is_building = false;
  return 0;
}

/* What stands around the value in the data of a journal's record; the strings are Lua's. */
struct frame {
  const char *head;  /* Members before it, each with a comma behind. */
  const char *field; /* Its key. */
  const char *tail;  /* Members after it, each with a comma before; may be NULL. */
  size_t head_size;  /* Bytes of head. */
  size_t field_size; /* Bytes of field. */
  size_t tail_size;  /* Bytes of tail; 0 when it is NULL. */
};

/* Appends `{<head>"<field>":`. */
static void write_head(struct cg_buf *buf, const char *head, size_t head_size, const char *field,
                       size_t field_size) {
  uint8_t *room = cg_buf_room(buf, head_size + field_size + 4);
  *room++ = '{';
  memcpy(room, head, head_size);
  room += head_size;
  *room++ = '"';
  memcpy(room, field, field_size);
  room += field_size;
  *room++ = '"';
  *room = ':';
  buf->size += head_size + field_size + 4;
}

/* Appends `{<head>"<field>":<value><tail>}` to buf and pushes the value as a reader will decode it:
 * what is stored is what the caller goes on with. nil is written as "nil":true. */
static enum cg_code write_data(lua_State *L, int value, const struct frame *frame, size_t size_max,
                               struct cg_buf *buf, struct cg_err *err) {
  if (lua_isnil(L, value)) {
    write_head(buf, frame->head, frame->head_size, "nil", 3);
    cg_buf_append(buf, "true", 4);
    lua_pushnil(L);
  } else {
    write_head(buf, frame->head, frame->head_size, frame->field, frame->field_size);
    enum cg_code code = cg_value_encode_copy(L, value, frame->field, buf, size_max, err);
    if (code != CG_OK)
      return code;
  }
  uint8_t *room = cg_buf_room(buf, frame->tail_size + 1);
  if (frame->tail_size > 0)
    memcpy(room, frame->tail, frame->tail_size);
  room[frame->tail_size] = '}';
  buf->size += frame->tail_size + 1;
  return CG_OK;
}

/* journal(stream, type, flags, head, field, value, tail, joins) -> true, value, time | false, err
 * Adds one record with the data {head "field": value tail} to the commit being built (joins), or to
 * one of its own, commits, and parks until it is durable. */
static int bind_store_journal(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  if (lua_gettop(L) < 8)
    lua_settop(L, 8);
  cg_task_check_park(store->runtime, L);
  struct cg_store_event event = {.expected = CG_STORE_ANY};
  event.stream = cg_bind_check_stream(L, 2, store);
  event.type = luaL_checklstring(L, 3, &event.type_size);
  event.flags = (uint16_t)(luaL_checkint(L, 4) | CG_RECORD_JOURNAL);
  struct frame frame;
  frame.head = luaL_checklstring(L, 5, &frame.head_size);
  frame.field = luaL_checklstring(L, 6, &frame.field_size);
  frame.tail = luaL_optlstring(L, 8, NULL, &frame.tail_size);

  struct cg_err err;
  struct cg_buf *buf;
  bool joins = lua_toboolean(L, 9);
  if (joins && !store->is_building)
    return luaL_error(L, "no commit is being built that this record could join");
  if (!joins) /* What a script left behind that ran out of memory must not join this one. */
    cg_store_begin(store->store);
  store->is_building = false;
  if (stamp(store, &event, &err) != CG_OK ||
      cg_store_add(store->store, &event, &buf, &err) != CG_OK)
    goto fail;
  lua_pushboolean(L, 1);
  if (write_data(L, 7, &frame, store->journal_max, buf, &err) != CG_OK)
    goto fail;
  lua_pushnumber(L, (lua_Number)event.time_ms);
  cg_store_added(store->store);
  uint64_t first;
  if (cg_store_commit(store->store, &first, &err) != CG_OK)
    return cg_bind_false(L, &err);
  uint64_t last = cg_log_next_position(cg_store_log(store->store)) - 1;
  return cg_bind_wait_durable(L, store, last, 3);

fail:
  cg_store_rollback(store->store);
  return cg_bind_false(L, &err);
}

/* new_id() -> id | nil, err */
static int bind_store_new_id(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_err err;
  uint64_t id;
  if (cg_store_new_id(store->store, &id, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  char text[CG_ID_CHARS];
  lua_pushlstring(L, text, cg_id_format(id, text));
  return 1;
}

/* encode(value, name) -> json | nil, err: within message_size_max */
static int bind_store_encode(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  const char *name = luaL_optstring(L, 3, "data");
  struct cg_err err;
  store->scratch->size = 0;
  if (cg_value_encode(L, 2, name, store->scratch, store->size_max, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushlstring(L, (const char *)store->scratch->data, store->scratch->size);
  return 1;
}

/* encode_args(...) -> json | nil, err */
static int bind_store_encode_args(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_err err;
  store->scratch->size = 0;
  int count = lua_gettop(L) - 1;
  if (cg_value_encode_args(L, 2, count, store->scratch, store->size_max, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushlstring(L, (const char *)store->scratch->data, store->scratch->size);
  return 1;
}

const luaL_Reg cg_bind_store_append_methods[] = {{"begin", bind_store_begin},
                                                 {"add", bind_store_add},
                                                 {"expect", bind_store_expect},
                                                 {"commit", bind_store_commit},
                                                 {"rollback", bind_store_rollback},
                                                 {"journal", bind_store_journal},
                                                 {"new_id", bind_store_new_id},
                                                 {"encode", bind_store_encode},
                                                 {"encode_args", bind_store_encode_args},
                                                 {NULL, NULL}};
