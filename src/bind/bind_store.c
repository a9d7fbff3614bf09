/* bind_store.c - the event store for Lua; see lua/catga/_meta/store.lua.
 *
 * A task that has committed parks until its position is durable. The parked ones stand in a FIFO,
 * because positions become durable in order; the log's writer thread wakes the loop once a batch.
 * Owns: a store userdata owns the store, its wake-up handle and the FIFO. Thread: the loop thread,
 * but for on_progress (the log's writer thread). */
#include "bind/bind_store.h"

#include <assert.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* Commits of a turn gather up to this before the writer takes them. */
#define FLUSH_BYTES (64u << 10)
#define STREAM_NUMBER_MAX 9007199254740992.0 /* 2^53. */
#define RING_START 256u                      /* Places for parked tasks at first; a power of two. */

/* The userdata of a store. */
struct box {
  const char *mark;            /* &store_mark: says what the metatable says, without a look-up
                                  by name in every call. */
  struct cg_bind_store *store; /* NULL once closed. */
};

static const char store_mark = 's'; /* Its address marks the userdata of stores. */

static void on_progress(void *arg);
static void on_turn_end(void *arg);
static void on_async(uv_async_t *handle);
static void wake_durable(struct cg_bind_store *store);
static void wake_failed(struct cg_bind_store *store, const struct cg_err *err);
static void spawn_on_failed(struct cg_bind_store *store, const struct cg_err *err);
static void on_closed(uv_handle_t *handle);

struct cg_bind_store *cg_bind_check_store(lua_State *L, int index) {
  struct box *box = lua_touserdata(L, index);
  if (box == NULL || lua_objlen(L, index) != sizeof(*box) || box->mark != &store_mark)
    box = luaL_checkudata(L, index, CG_BIND_STORE_TYPE); /* Raises. */
  if (box->store == NULL || box->store->store == NULL)
    luaL_error(L, "the store is closed");
  return box->store;
}

cg_store_stream cg_bind_check_stream(lua_State *L, int index, struct cg_bind_store *store) {
  double number = luaL_checknumber(L, index);
  luaL_argcheck(L,
                number >= 0 && number < STREAM_NUMBER_MAX &&
                    !cg_store_is_stale(store->store, (cg_store_stream)number),
                index, "not the number of a stream, or not any more: find it by name again");
  return (cg_store_stream)number;
}

/* A field of the options table at index 1, as a string or NULL; stays on the stack. */
static const char *option_string(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  return lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
}

static double option_number(lua_State *L, const char *name, double fallback) {
  lua_getfield(L, 1, name);
  return lua_isnil(L, -1) ? fallback : luaL_checknumber(L, -1);
}

static enum cg_durability check_durability(lua_State *L) {
  static const char *const names[] = {"fsync", "os", "memory"};
  const char *name = option_string(L, "durability");
  for (int i = 0; name != NULL && i < 3; i++)
    if (strcmp(name, names[i]) == 0)
      return (enum cg_durability)i;
  if (name != NULL)
    luaL_error(L, "durability is \"fsync\", \"os\" or \"memory\", not \"%s\"", name);
  return CG_DURABILITY_FSYNC;
}

static struct cg_bind_store *new_store(lua_State *L, struct cg_runtime *runtime) {
  struct box *box = lua_newuserdata(L, sizeof(*box));
  *box = (struct box){.mark = &store_mark};
  luaL_getmetatable(L, CG_BIND_STORE_TYPE);
  lua_setmetatable(L, -2);
  struct cg_bind_store *store = cg_alloc(sizeof(*store));
  box->store = store;
  store->runtime = runtime;
  store->scratch = cg_buf_take(runtime->pool, 0);
  store->ring_capacity = RING_START;
  store->ring = cg_alloc(RING_START * sizeof(store->ring[0]));
  store->on_failed = CG_NO_REF;
  uv_async_init(runtime->loop, &store->async, on_async);
  uv_unref((uv_handle_t *)&store->async);
  store->async.data = store;
  store->hook = (struct cg_turn_hook){.run = on_turn_end, .arg = store};
  cg_tasks_add_hook(runtime, &store->hook);
  return store;
}

/* Lets go of everything that reads the log, before it is closed. */
static void stop_reading(struct cg_bind_store *store) {
  cg_log_cursor_free(store->cursor);
  store->cursor = NULL;
  cg_bind_cursors_close(store);
  cg_bind_scavenge_stop(store);
}

/* Empties the box at stack index 1 and frees what is beside the store itself, once the loop has
 * turned. */
static void release_store(lua_State *L, struct cg_bind_store *store) {
  struct box *box = lua_touserdata(L, 1);
  box->store = NULL;
  store->store = NULL;
  cg_ref_drop(store->runtime, store->on_failed);
  store->on_failed = CG_NO_REF;
  cg_buf_unref(store->scratch);
  cg_scavenge_free(store->scavenge);
  store->scavenge = NULL;
  cg_tasks_remove_hook(store->runtime, &store->hook);
  uv_close((uv_handle_t *)&store->async, on_closed);
}

/* Opens the store with all signals blocked: so they are in the log's writer thread, which must not
 * take the guard's. */
static enum cg_code open_store(struct cg_store **opened, const struct cg_store_options *options,
                               struct cg_err *err) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  enum cg_code code = cg_store_open(opened, options, err);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return code;
}

/* open{ path?, memory?, clock, durability?, ... } -> store | nil, err */
static int bind_store_open(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  struct cg_runtime *runtime = cg_runtime_of(L);
  lua_getfield(L, 1, "clock");
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 2);
  struct cg_store_options options = {.path = option_string(L, "path")};
  options.node = (uint32_t)option_number(L, "node", 0);
  options.seed = (uint64_t)(uintptr_t)runtime ^ cg_clock_mono_ns(&runtime->clock);
  options.streams_cached_max = (uint32_t)option_number(L, "streams_cached_max", 0);
  options.log.clock = clock->clock;
  options.log.say = runtime->say;
  options.log.durability = check_durability(L);
  options.log.flush_bytes = FLUSH_BYTES;
  options.log.segment_bytes = (uint64_t)option_number(L, "segment_bytes", 0);
  options.log.pending_bytes_max = (uint64_t)option_number(L, "pending_bytes_max", 0);
  lua_getfield(L, 1, "manual");
  options.log.manual = lua_toboolean(L, -1);
  lua_getfield(L, 1, "memory");
  struct cg_log **memory = lua_isnil(L, -1) ? NULL : luaL_checkudata(L, -1, CG_BIND_LOG_TYPE);
  size_t size_max = (size_t)option_number(L, "message_size_max", 1 << 20);
  size_t journal_max = (size_t)option_number(L, "journal_size_max", (double)size_max);

  struct cg_bind_store *store = new_store(L, runtime);
  store->clock = clock->clock;
  store->size_max = size_max;
  store->journal_max = journal_max < size_max ? journal_max : size_max;
  lua_getfield(L, 1, "on_failed");
  if (lua_isfunction(L, -1))
    store->on_failed = cg_ref_take(runtime, L);
  else
    lua_pop(L, 1);
  options.log.progress = on_progress;
  options.log.progress_arg = store;
  if (memory != NULL)
    options.log.snapshot = *memory;
  if (options.path != NULL)
    options.log.fs = cg_fs_fault_from_environment(&store->fault);
  struct cg_err err;
  struct cg_store *opened;
  if (open_store(&opened, &options, &err) != CG_OK) {
    lua_replace(L, 1);
    release_store(L, store);
    return cg_bind_fail(L, &err);
  }
  store->store = opened;
  return 1;
}

static void push_place(struct cg_bind_store *store, uint64_t position, struct cg_task *task) {
  if (store->ring_count == store->ring_capacity) {
    uint32_t capacity = store->ring_capacity * 2;
    struct cg_bind_waiter *ring = cg_alloc(capacity * sizeof(ring[0]));
    for (uint32_t i = 0; i < store->ring_count; i++)
      ring[i] = store->ring[(store->ring_first + i) & (store->ring_capacity - 1)];
    cg_free(store->ring);
    store->ring = ring;
    store->ring_first = 0;
    store->ring_capacity = capacity;
  }
  uint32_t place = (store->ring_first + store->ring_count++) & (store->ring_capacity - 1);
  store->ring[place] = (struct cg_bind_waiter){.position = position, .task = task};
  cg_task_busy(store->runtime, 1);
}

int cg_bind_wait_durable(lua_State *L, struct cg_bind_store *store, uint64_t position,
                         int held_count) {
  struct cg_log *log = cg_store_log(store->store);
  if (cg_log_durable_position(log) > position) {
    cg_bind_growth_wake(store); /* The wake-up from the log comes only when the loop turns. */
    return held_count;
  }
  cg_task_check_park(store->runtime, L);
  struct cg_err err;
  if (cg_log_failed(log, &err) != CG_OK)
    return cg_bind_false(L, &err);
  push_place(store, position, cg_task_current(store->runtime));
  return cg_task_park(store->runtime, L, held_count, NULL, NULL);
}

/* wait(position) -> true | false, err; parks until the position is durable. */
static int bind_store_wait(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  uint64_t position = (uint64_t)luaL_checknumber(L, 2);
  lua_pushboolean(L, 1);
  return cg_bind_wait_durable(L, store, position, 1);
}

/* failure() -> why the log takes no more commits, or nil: it does */
static int bind_store_failure(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_err err;
  if (cg_log_failed(cg_store_log(store->store), &err) == CG_OK)
    return 0;
  cg_value_push_err(L, &err);
  return 1;
}

static int bind_store_turn(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  lua_pushboolean(L, cg_log_turn(cg_store_log(store->store)));
  return 1;
}

/* close() -> true | nil, err: flushes, marks. Tasks that wait are woken first. */
static int bind_store_close(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_store *closing = store->store;
  struct cg_err err;
  stop_reading(store);
  enum cg_code code = cg_store_close(closing, &err);
  if (code == CG_OK)
    wake_failed(store, NULL); /* All of them are durable now. */
  else
    wake_failed(store, &err);
  release_store(L, store);
  if (code != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* abandon(): as a crash would; waiting tasks get an error. */
static int bind_store_abandon(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  struct cg_err closed = {.code = CG_ECLOSED, .message = "the store was abandoned"};
  stop_reading(store);
  cg_store_abandon(store->store);
  wake_failed(store, &closed);
  release_store(L, store);
  return 0;
}

/* snapshot(until) -> memory log with the commits wholly below position `until`; for open{memory=};
 * and the position behind its last record */
static int bind_store_snapshot(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  uint64_t until = (uint64_t)luaL_checknumber(L, 2);
  struct cg_log **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, CG_BIND_LOG_TYPE);
  lua_setmetatable(L, -2);
  *box = cg_log_memory_snapshot(cg_store_log(store->store), until);
  lua_pushnumber(L, (lua_Number)cg_log_next_position(*box));
  return 2;
}

static int bind_store_gc(lua_State *L) {
  struct box *box = lua_touserdata(L, 1);
  struct cg_bind_store *store = box->store;
  if (store == NULL)
    return 0;
  struct cg_err err;
  stop_reading(store);
  if (cg_store_close(store->store, &err) != CG_OK)
    cg_say(store->runtime->say, CG_SAY_ERROR, "closing the store: %s", err.message);
  cg_bind_growth_forget(store);
  release_store(L, store);
  return 0;
}

static int bind_log_gc(lua_State *L) {
  struct cg_log **box = lua_touserdata(L, 1);
  if (*box != NULL)
    cg_log_abandon(*box);
  *box = NULL;
  return 0;
}

int cg_bind_store(lua_State *L) {
  static const luaL_Reg functions[] = {{"open", bind_store_open}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"wait", bind_store_wait},
                                     {"turn", bind_store_turn},
                                     {"close", bind_store_close},
                                     {"abandon", bind_store_abandon},
                                     {"failure", bind_store_failure},
                                     {"snapshot", bind_store_snapshot},
                                     {NULL, NULL}};
  static const luaL_Reg none[] = {{NULL, NULL}};
  cg_bind_type(L, CG_BIND_LOG_TYPE, none, bind_log_gc);
  cg_bind_type(L, CG_BIND_STORE_TYPE, methods, bind_store_gc);
  cg_bind_cursor_type(L);
  luaL_getmetatable(L, CG_BIND_STORE_TYPE);
  lua_getfield(L, -1, "__index");
  luaL_register(L, NULL, cg_bind_store_append_methods);
  luaL_register(L, NULL, cg_bind_store_cursor_methods);
  luaL_register(L, NULL, cg_bind_store_growth_methods);
  luaL_register(L, NULL, cg_bind_store_read_methods);
  luaL_register(L, NULL, cg_bind_store_scavenge_methods);
  luaL_register(L, NULL, cg_bind_store_stream_methods);
  lua_pop(L, 2);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

/* On the writer thread, and on that of the index. */
static void on_progress(void *arg) {
  struct cg_bind_store *store = arg;
  uv_async_send(&store->async);
}

/* Lets the store do some of its own work; what is left over waits for another turn of the loop. */
static void turn_store(struct cg_bind_store *store) {
  if (cg_store_turn(store->store))
    uv_async_send(&store->async);
}

/* What the tasks of this turn have committed goes to the disk together. */
static void on_turn_end(void *arg) {
  struct cg_bind_store *store = arg;
  if (store->store == NULL)
    return;
  if (store->ring_count > 0)
    cg_log_flush(cg_store_log(store->store));
  turn_store(store);
}

static void on_async(uv_async_t *handle) {
  struct cg_bind_store *store = handle->data;
  if (store->store == NULL)
    return;
  wake_durable(store);
  struct cg_err err;
  if (cg_log_failed(cg_store_log(store->store), &err) != CG_OK && !store->failure_told) {
    store->failure_told = true;
    wake_failed(store, &err);
    spawn_on_failed(store, &err);
  }
  cg_tasks_turn(store->runtime);
  if (store->store != NULL)
    turn_store(store);
}

static struct cg_task *pop_waiter(struct cg_bind_store *store) {
  struct cg_task *task = store->ring[store->ring_first].task;
  store->ring_first = (store->ring_first + 1) & (store->ring_capacity - 1);
  store->ring_count--;
  cg_task_busy(store->runtime, -1);
  return task;
}

static void wake_durable(struct cg_bind_store *store) {
  uint64_t durable = cg_log_durable_position(cg_store_log(store->store));
  while (store->ring_count > 0 && store->ring[store->ring_first].position < durable)
    cg_task_wake(pop_waiter(store), 0);
  cg_bind_growth_wake(store);
}

/* Wakes all that wait: with their results (err NULL), or with false and an error in their place. */
static void wake_failed(struct cg_bind_store *store, const struct cg_err *err) {
  struct cg_err closed = {.code = CG_ECLOSED, .message = "the store was closed"};
  cg_bind_growth_end(store, err != NULL ? err : &closed);
  while (store->ring_count > 0) {
    struct cg_task *task = pop_waiter(store);
    if (err == NULL) {
      cg_task_wake(task, 0);
      continue;
    }
    lua_State *values = cg_task_clear(task);
    cg_task_wake(task, cg_bind_false(values, err));
  }
}

static void spawn_on_failed(struct cg_bind_store *store, const struct cg_err *err) {
  if (store->on_failed == CG_NO_REF)
    return;
  lua_State *L = store->runtime->L;
  cg_ref_push(L, store->on_failed);
  cg_value_push_err(L, err);
  cg_task_spawn(store->runtime, L, 1);
}

static void on_closed(uv_handle_t *handle) {
  struct cg_bind_store *store = handle->data;
  cg_free(store->ring);
  cg_free(store);
}
