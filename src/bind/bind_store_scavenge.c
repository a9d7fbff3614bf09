/* bind_store_scavenge.c - taking out of sealed segments what is not needed any more, step by step:
 * lua/catga/events/scavenge.lua decides, this does it. One segment at a time a store.
 *
 * Owns: nothing; the scavenge is the store userdata's. Thread: the loop thread. */
#include <lauxlib.h>

#include "bind/bind_store.h"

#define STEP_COUNT_MAX 100000 /* Records or streams of one call. */

void cg_bind_scavenge_stop(struct cg_bind_store *store) {
  if (store->scavenge != NULL && !store->is_rewriting)
    cg_scavenge_stop(store->scavenge);
}

/* The store at index 1, which looks at a segment and does not rewrite it yet. */
static struct cg_bind_store *check_looking(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  if (store->scavenge == NULL || store->is_rewriting)
    luaL_error(L, "no segment is being looked at");
  return store;
}

static uint32_t check_count(lua_State *L, int index) {
  double count = luaL_checknumber(L, index);
  luaL_argcheck(L, count >= 1 && count <= STEP_COUNT_MAX, index, "from 1 to 100000 at once");
  return (uint32_t)count;
}

static uint64_t check_number(lua_State *L, int index) {
  double number = luaL_checknumber(L, index);
  luaL_argcheck(L, number >= 0 && number <= 9007199254740992.0, index, "a number from 0 to 2^53");
  return (uint64_t)number;
}

static void set_number(lua_State *L, const char *name, uint64_t value) {
  lua_pushnumber(L, (lua_Number)value);
  lua_setfield(L, -2, name);
}

/* seals() -> { { number, first_position, end_position, sealed, size, compressed }, ... } */
static int bind_seals(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_log *log = cg_store_log(store->store);
  const struct cg_log_seal *seals;
  uint32_t count = cg_log_seals(log, &seals);
  lua_createtable(L, (int)count, 0);
  for (uint32_t i = 0; i < count; i++) {
    struct cg_log_seal_info info = {.sealed_ms = 0};
    cg_log_seal_info(log, seals[i].number, &info);
    lua_createtable(L, 0, 6);
    set_number(L, "number", seals[i].number);
    set_number(L, "first_position", seals[i].first_position);
    set_number(L, "end_position", seals[i].end_position);
    set_number(L, "sealed", (uint64_t)info.sealed_ms);
    set_number(L, "size", info.file_bytes);
    lua_pushboolean(L, info.is_compressed);
    lua_setfield(L, -2, "compressed");
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* scavenge_begin(number) -> true | nil, err */
static int bind_begin(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  uint64_t number = check_number(L, 2);
  struct cg_err err;
  const struct cg_log_seal *seals;
  struct cg_log *log = cg_store_log(store->store);
  enum cg_code code;
  if (store->is_rewriting && cg_store_rewritten(store->store, &code, NULL))
    store->is_rewriting = false; /* The task that began it has not asked. */
  if (store->is_rewriting) {
    cg_err_set(&err, CG_EBUSY, "a segment is being rewritten");
    return cg_bind_fail(L, &err);
  }
  if (number >= cg_log_seals(log, &seals)) {
    cg_err_set(&err, CG_ENOTFOUND, "segment %llu is not sealed", (unsigned long long)number);
    return cg_bind_fail(L, &err);
  }
  cg_scavenge_free(store->scavenge);
  store->scavenge = cg_scavenge_new(log, &seals[number]);
  lua_pushboolean(L, 1);
  return 1;
}

/* scavenge_survey(max) -> is it done? | nil, err */
static int bind_survey(lua_State *L) {
  struct cg_bind_store *store = check_looking(L);
  uint32_t count = check_count(L, 2);
  bool is_done;
  struct cg_err err;
  if (cg_scavenge_survey(store->scavenge, count, &is_done, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushboolean(L, is_done);
  return 1;
}

/* scavenge_names(from, max) -> names of streams, the first has number `from` (from 1) */
static int bind_names(lua_State *L) {
  struct cg_bind_store *store = check_looking(L);
  uint64_t from = check_number(L, 2);
  uint32_t max = check_count(L, 3), count = cg_scavenge_stream_count(store->scavenge);
  luaL_argcheck(L, from >= 1, 2, "counted from 1");
  lua_newtable(L);
  for (uint32_t i = 0; i < max && from - 1 + i < count; i++) {
    size_t size;
    const char *name = cg_scavenge_name(store->scavenge, (uint32_t)from - 1 + i, &size);
    lua_pushlstring(L, name, size);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* scavenge_decide(number, first, since, kept, keeps_first) */
static int bind_decide(lua_State *L) {
  struct cg_bind_store *store = check_looking(L);
  uint64_t number = check_number(L, 2);
  luaL_argcheck(L, number >= 1 && number <= cg_scavenge_stream_count(store->scavenge), 2,
                "no stream of the segment");
  double kept = luaL_checknumber(L, 5);
  struct cg_retention retention = {.first_version = check_number(L, 3),
                                   .since_ms = (int64_t)check_number(L, 4),
                                   .kept_version =
                                       kept < 0 ? CG_RETENTION_NO_VERSION : (uint64_t)kept,
                                   .keeps_first = lua_toboolean(L, 6)};
  cg_scavenge_decide(store->scavenge, (uint32_t)number - 1, &retention);
  return 0;
}

/* scavenge_may_drop() -> may anything go? */
static int bind_may_drop(lua_State *L) {
  lua_pushboolean(L, cg_scavenge_may_drop(check_looking(L)->scavenge));
  return 1;
}

/* scavenge_weigh(max) -> is it done? | nil, err */
static int bind_weigh(lua_State *L) {
  struct cg_bind_store *store = check_looking(L);
  uint32_t count = check_count(L, 2);
  bool is_done;
  struct cg_err err;
  if (cg_scavenge_weigh(store->scavenge, count, &is_done, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushboolean(L, is_done);
  return 1;
}

/* scavenge_weight() -> { records, bytes, dropped, dropped_bytes } */
static int bind_weight(lua_State *L) {
  struct cg_bind_store *store = check_looking(L);
  struct cg_scavenge_weight weight;
  cg_scavenge_weight(store->scavenge, &weight);
  lua_createtable(L, 0, 4);
  set_number(L, "records", weight.record_count);
  set_number(L, "bytes", weight.record_bytes);
  set_number(L, "dropped", weight.dropped_count);
  set_number(L, "dropped_bytes", weight.dropped_bytes);
  return 1;
}

/* scavenge_rewrite(number, drops, compress) -> true | nil, err: begins it */
static int bind_rewrite(lua_State *L) {
  struct cg_bind_store *store = check_looking(L);
  uint64_t number = check_number(L, 2);
  struct cg_log_rewrite rewrite = {.compress = lua_toboolean(L, 4)};
  if (lua_toboolean(L, 3)) {
    rewrite.keep = cg_scavenge_keeps;
    rewrite.arg = store->scavenge;
  }
  cg_scavenge_stop(store->scavenge);
  struct cg_err err;
  if (cg_store_rewrite(store->store, number, &rewrite, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  store->is_rewriting = true;
  lua_pushboolean(L, 1);
  return 1;
}

/* scavenge_done() -> false: it goes on; true | nil, err: what came of it */
static int bind_done(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  enum cg_code code;
  struct cg_err err;
  if (!store->is_rewriting)
    return luaL_error(L, "no segment is being rewritten");
  if (!cg_store_rewritten(store->store, &code, &err)) {
    lua_pushboolean(L, 0);
    return 1;
  }
  store->is_rewriting = false;
  if (code != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* scavenge_end(): lets go of the segment, unless it is being rewritten */
static int bind_end(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  if (!store->is_rewriting) {
    cg_scavenge_free(store->scavenge);
    store->scavenge = NULL;
  }
  return 0;
}

const luaL_Reg cg_bind_store_scavenge_methods[] = {{"seals", bind_seals},
                                                   {"scavenge_begin", bind_begin},
                                                   {"scavenge_survey", bind_survey},
                                                   {"scavenge_names", bind_names},
                                                   {"scavenge_decide", bind_decide},
                                                   {"scavenge_may_drop", bind_may_drop},
                                                   {"scavenge_weigh", bind_weigh},
                                                   {"scavenge_weight", bind_weight},
                                                   {"scavenge_rewrite", bind_rewrite},
                                                   {"scavenge_done", bind_done},
                                                   {"scavenge_end", bind_end},
                                                   {NULL, NULL}};
