/* bind_store_stream.c - streams for Lua: their numbers, names and counts, and which there are.
 *
 * Owns: nothing. Thread: the loop thread. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind_store.h"
#include "codec/codec.h"

static void push_stream(lua_State *L, cg_store_stream stream) {
  lua_pushnumber(L, (lua_Number)stream);
}

/* stream(name, make) -> number | nil; none is made with a name that JSON could not hold. Raises
 * when the index cannot tell: no caller may take a stream that is there for one that is not. */
static int bind_store_stream(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  size_t size;
  const char *name = luaL_checklstring(L, 2, &size);
  bool make = lua_toboolean(L, 3);
  struct cg_err err;
  cg_store_stream stream;
  if (make && cg_utf8_valid_size(name, size) != size)
    return 0;
  enum cg_code code = cg_store_find(store->store, name, size, make, &stream, &err);
  if (code == CG_ENOTFOUND || code == CG_EINVAL)
    return 0;
  if (code != CG_OK)
    return cg_value_push_err(L, &err), lua_error(L);
  push_stream(L, stream);
  return 1;
}

/* count(stream) -> records */
static int bind_store_count(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_reading(L);
  lua_pushnumber(L, (lua_Number)cg_store_count(store->store, cg_bind_check_stream(L, 2, store)));
  return 1;
}

/* is_unfinished(stream) -> boolean; a stream whose number is stale is finished. */
static int bind_store_is_unfinished(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_reading(L);
  cg_store_stream stream = (cg_store_stream)luaL_checknumber(L, 2);
  lua_pushboolean(L, !cg_store_is_stale(store->store, stream) &&
                         cg_store_unfinished(store->store, stream));
  return 1;
}

/* is_stale(stream) -> boolean */
static int bind_store_is_stale(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  lua_pushboolean(L, cg_store_is_stale(store->store, (cg_store_stream)luaL_checknumber(L, 2)));
  return 1;
}

/* evicted_count() -> how many streams have left memory */
static int bind_store_evicted_count(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  lua_pushnumber(L, (lua_Number)cg_store_evicted_count(store->store));
  return 1;
}

/* name(stream) -> its name */
static int bind_store_name(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  size_t size;
  const char *name = cg_store_name(store->store, cg_bind_check_stream(L, 2, store), &size);
  lua_pushlstring(L, name, size);
  return 1;
}

/* unfinished(prefix) -> numbers of the unfinished streams whose names begin with it */
static int bind_store_unfinished(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_reading(L);
  size_t prefix_size, size;
  const char *prefix = luaL_optlstring(L, 2, "", &prefix_size);
  uint32_t count = cg_store_place_count(store->store);
  lua_newtable(L);
  int pushed = 0;
  for (uint32_t place = 0; place < count; place++) {
    cg_store_stream stream = cg_store_at(store->store, place);
    if (stream == CG_STORE_NO_STREAM || !cg_store_unfinished(store->store, stream))
      continue;
    const char *name = cg_store_name(store->store, stream, &size);
    if (size < prefix_size || memcmp(name, prefix, prefix_size) != 0)
      continue;
    push_stream(L, stream);
    lua_rawseti(L, -2, ++pushed);
  }
  return 1;
}

/* place_count() -> places of streams in memory: 0..n-1 */
static int bind_store_place_count(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  lua_pushnumber(L, cg_store_place_count(store->store));
  return 1;
}

/* at(place) -> number of the stream there | nil */
static int bind_store_at(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  double place = luaL_checknumber(L, 2);
  luaL_argcheck(L, place >= 0 && place < cg_store_place_count(store->store), 2, "not a place");
  cg_store_stream stream = cg_store_at(store->store, (uint32_t)place);
  if (stream == CG_STORE_NO_STREAM)
    return 0;
  push_stream(L, stream);
  return 1;
}

/* Adds a name to a buffer, its size before it: Lua may raise, so it gets them afterwards. */
static bool on_name(void *arg, const char *name, size_t size) {
  uint16_t stated = (uint16_t)size;
  cg_buf_append(arg, &stated, sizeof(stated));
  cg_buf_append(arg, name, size);
  return true;
}

/* streams(prefix, after, max) -> names | nil, err */
static int bind_store_streams(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_reading(L);
  struct cg_store_page page = {.max = 0};
  page.prefix = luaL_optlstring(L, 2, "", &page.prefix_size);
  page.after = luaL_optlstring(L, 3, "", &page.after_size);
  double max = luaL_checknumber(L, 4);
  luaL_argcheck(L, max >= 1 && max <= CG_STORE_STREAMS_MAX, 4, "from 1 to 10000 names at once");
  page.max = (uint32_t)max;
  struct cg_err err;
  struct cg_buf *names = store->scratch;
  names->size = 0;
  if (cg_store_streams(store->store, &page, on_name, names, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_newtable(L);
  int count = 0;
  for (size_t at = 0; at < names->size;) {
    uint16_t size;
    memcpy(&size, names->data + at, sizeof(size));
    lua_pushlstring(L, (const char *)names->data + at + sizeof(size), size);
    lua_rawseti(L, -2, ++count);
    at += sizeof(size) + size;
  }
  return 1;
}

const luaL_Reg cg_bind_store_stream_methods[] = {{"stream", bind_store_stream},
                                                 {"count", bind_store_count},
                                                 {"name", bind_store_name},
                                                 {"is_unfinished", bind_store_is_unfinished},
                                                 {"is_stale", bind_store_is_stale},
                                                 {"evicted_count", bind_store_evicted_count},
                                                 {"unfinished", bind_store_unfinished},
                                                 {"place_count", bind_store_place_count},
                                                 {"at", bind_store_at},
                                                 {"streams", bind_store_streams},
                                                 {NULL, NULL}};
