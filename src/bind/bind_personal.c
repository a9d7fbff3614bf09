/* bind_personal.c - keys of persons, and encryption with them, for Lua; see
 * lua/catga/_meta/personal.lua.
 *
 * Changes of keys are written by libuv's pool, one batch at a time: what is asked for while one is
 * under way shares the next sync. A task that waits for its changes is woken by the batch that
 * holds them, with the batch's error if there was one.
 * Owns: a keys userdata owns the keys and the tasks that wait. Thread: the loop thread, but for
 * work() (a thread of the pool). */
#include <lauxlib.h>
#include <nettle/base64.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "store/store.h"

#define KEYS_TYPE "catga.personal_keys"
#define LIST_MAX 10000                 /* Keys of one list. */
#define LOOK_MAX 100000                /* Keys that one list looks at. */
#define SEALED_MAX ((size_t)512 << 20) /* Characters of an encrypted text. */

/* A task that waits until a change is durable. */
struct waiter {
  uint64_t change;      /* The one it waits for. */
  struct cg_task *task; /* Parked. */
  struct waiter *next;  /* In the list, in no order. */
};

/* Keys as Lua holds them (through a boxed pointer). */
struct personal {
  struct cg_runtime *runtime;  /* Whose tasks use it. */
  struct cg_keys *keys;        /* NULL once closed. */
  struct cg_clock clock;       /* Stamps keys. */
  struct cg_buf *scratch;      /* Texts that are sealed and unsealed; wiped after use. */
  struct waiter *waiters;      /* Tasks that wait. */
  struct cg_keys_batch *batch; /* Under way, or NULL. */
  uint64_t batch_until;        /* The last change in it. */
  uv_work_t work;              /* Of the batch. */
  uv_sem_t written;            /* Posted by the pool's thread when it has written. */
  bool is_working;             /* `work` is not back. */
};

static void begin_batch(struct personal *personal);
static void finish_batch(struct personal *personal);
static void wake_waiters(struct personal *personal, uint64_t until, const struct cg_err *err);
static void work(uv_work_t *request);
static void after_work(uv_work_t *request, int status);
static void free_personal(struct personal *personal);

static struct personal *check_keys(lua_State *L, int index) {
  struct personal **box = luaL_checkudata(L, index, KEYS_TYPE);
  if (*box == NULL || (*box)->keys == NULL)
    luaL_error(L, "the keys of persons are closed");
  return *box;
}

static struct cg_keys_ref check_ref(lua_State *L, int index) {
  size_t size;
  const char *text = luaL_checklstring(L, index, &size);
  struct cg_keys_ref ref;
  luaL_argcheck(L, cg_keys_ref_parse(text, size, &ref), index, "not the name of a key");
  return ref;
}

static void push_ref(lua_State *L, const struct cg_keys_ref *ref) {
  char text[CG_KEYS_REF_CHARS];
  cg_keys_ref_format(ref, text);
  lua_pushstring(L, text);
}

/* Empties the scratch buffer so that nothing personal is left in it. */
static void wipe_scratch(struct personal *personal) {
  if (personal->scratch->capacity > 0)
    explicit_bzero(personal->scratch->data, personal->scratch->capacity);
  personal->scratch->size = 0;
}

/* The text option `name` of the table at index 1, or NULL; it stays on the stack. */
static const char *option_text(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  return luaL_optstring(L, -1, NULL);
}

/* Opens the keys with the master keys that the two files hold; a path of NULL: none. */
static enum cg_code open_keys(struct cg_keys **keys, struct cg_keys_options *options,
                              const char *master_path, const char *old_path, struct cg_err *err) {
  uint8_t master[CG_KEYS_MASTER_BYTES], old[CG_KEYS_MASTER_BYTES];
  enum cg_code code = CG_OK;
  if (master_path != NULL)
    code = cg_keys_master_read(master_path, master, err);
  if (code == CG_OK && old_path != NULL)
    code = cg_keys_master_read(old_path, old, err);
  options->master = master_path != NULL ? master : NULL;
  options->master_old = old_path != NULL ? old : NULL;
  if (code == CG_OK)
    code = cg_keys_open(keys, options, err);
  explicit_bzero(master, sizeof(master));
  explicit_bzero(old, sizeof(old));
  return code;
}

/* open{ directory?, clock, cached_max, master_file?, master_old_file? } -> keys | nil, err */
static int bind_personal_open(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "clock");
  struct cg_bind_clock *clock = cg_bind_check_clock(L, 2);
  struct cg_keys_options options = {.directory = option_text(L, "directory")};
  const char *master_path = option_text(L, "master_file");
  const char *old_path = option_text(L, "master_old_file");
  lua_getfield(L, 1, "cached_max");
  double cached_max = luaL_checknumber(L, -1);
  luaL_argcheck(L, cached_max >= 1 && cached_max <= INT32_MAX, 1, "cached_max is from 1");
  options.cached_max = (uint32_t)cached_max;
  struct personal **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, KEYS_TYPE);
  lua_setmetatable(L, -2);

  struct cg_err err;
  struct cg_keys *keys;
  if (open_keys(&keys, &options, master_path, old_path, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  struct personal *personal = cg_alloc(sizeof(*personal));
  *box = personal;
  personal->runtime = cg_runtime_of(L);
  personal->keys = keys;
  personal->clock = clock->clock;
  personal->scratch = cg_buf_take(NULL, 0);
  personal->work.data = personal;
  uv_sem_init(&personal->written, 0);
  return 1;
}

/* find(subject) -> name of its key, is it forgotten | nothing: it has none | nil, err */
static int bind_personal_find(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  size_t size;
  const char *subject = luaL_checklstring(L, 2, &size);
  struct cg_keys_ref ref;
  struct cg_err err;
  enum cg_code code = cg_keys_find(personal->keys, subject, size, &ref, &err);
  if (code == CG_ENOTFOUND)
    return 0;
  if (code != CG_OK && code != CG_EFORGOTTEN)
    return cg_bind_fail(L, &err);
  push_ref(L, &ref);
  lua_pushboolean(L, code == CG_EFORGOTTEN);
  return 2;
}

/* The key of a subject for a new event, made when it is missing. */
static enum cg_code key_for(struct personal *personal, const char *subject, size_t size,
                            bool may_return, struct cg_keys_ref *ref, struct cg_err *err) {
  enum cg_code code = cg_keys_find(personal->keys, subject, size, ref, err);
  if (code == CG_ENOTFOUND || (code == CG_EFORGOTTEN && may_return))
    code =
        cg_keys_make(personal->keys, subject, size, cg_clock_wall_ms(&personal->clock), ref, err);
  return code;
}

/* What seals is a text and what it is bound to, at stack index `at` and below. */
static void check_texts(lua_State *L, int at) {
  size_t size;
  luaL_checkstring(L, at);
  luaL_checklstring(L, at + 1, &size);
  luaL_argcheck(L, size <= CG_VALUE_BYTES_MAX, at + 1, "too long");
}

/* Seals them and pushes the result as base64; pushes nothing on an error. */
static enum cg_code push_sealed(lua_State *L, struct personal *personal,
                                const struct cg_keys_ref *ref, int at, struct cg_err *err) {
  size_t bound_size, plain_size;
  const char *bound = lua_tolstring(L, at, &bound_size);
  const char *plain = lua_tolstring(L, at + 1, &plain_size);
  personal->scratch->size = 0;
  enum cg_code code = cg_keys_seal(personal->keys, ref, bound, bound_size, plain, plain_size,
                                   personal->scratch, err);
  if (code != CG_OK)
    return code;
  size_t size = BASE64_ENCODE_RAW_LENGTH(personal->scratch->size);
  char *text = lua_newuserdata(L, size); /* Collected also when pushing runs out of memory. */
  base64_encode_raw(text, personal->scratch->size, personal->scratch->data);
  lua_pushlstring(L, text, size);
  lua_remove(L, -2);
  return CG_OK;
}

/* seal(subject, may_return, bound, plain) -> sealed, name of the key, change to wait for |
 * nil, err. Sealed is base64. */
static int bind_personal_seal(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  size_t subject_size;
  const char *subject = luaL_checklstring(L, 2, &subject_size);
  bool may_return = lua_toboolean(L, 3);
  check_texts(L, 4);
  struct cg_keys_ref ref;
  struct cg_err err;
  if (key_for(personal, subject, subject_size, may_return, &ref, &err) != CG_OK ||
      push_sealed(L, personal, &ref, 4, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  push_ref(L, &ref);
  lua_pushnumber(L, (lua_Number)cg_keys_queued(personal->keys));
  return 3;
}

/* seal_with(name of the key, bound, plain) -> sealed | nil, err */
static int bind_personal_seal_with(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  struct cg_keys_ref ref = check_ref(L, 2);
  check_texts(L, 3);
  struct cg_err err;
  return push_sealed(L, personal, &ref, 3, &err) == CG_OK ? 1 : cg_bind_fail(L, &err);
}

/* unseal(name of the key, bound, sealed) -> plain | nil, err */
static int bind_personal_unseal(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  size_t ref_size, bound_size, text_size;
  const char *ref_text = luaL_checklstring(L, 2, &ref_size);
  const char *bound = luaL_checklstring(L, 3, &bound_size);
  const char *text = luaL_checklstring(L, 4, &text_size);
  luaL_argcheck(L, text_size <= SEALED_MAX, 4, "too long");
  size_t size = BASE64_DECODE_LENGTH(text_size);
  uint8_t *sealed = lua_newuserdata(L, size + 1);
  struct base64_decode_ctx decoder;
  base64_decode_init(&decoder);
  struct cg_err err;
  enum cg_code code = CG_OK;
  struct cg_keys_ref ref;
  if (!cg_keys_ref_parse(ref_text, ref_size, &ref))
    code = cg_err_set(&err, CG_ECORRUPT, "the name of the key is damaged");
  else if (!base64_decode_update(&decoder, &size, sealed, text_size, text) ||
           !base64_decode_final(&decoder))
    code = cg_err_set(&err, CG_ECORRUPT, "the encrypted bytes are damaged: they are no base64");
  personal->scratch->size = 0;
  if (code == CG_OK)
    code = cg_keys_unseal(personal->keys, &ref, bound, bound_size, sealed, size, personal->scratch,
                          &err);
  if (code != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushlstring(L, (const char *)personal->scratch->data, personal->scratch->size);
  wipe_scratch(personal);
  return 1;
}

/* digest(subject) -> 64 hexadecimal digits | nil, err */
static int bind_personal_digest(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  size_t size;
  const char *subject = luaL_checklstring(L, 2, &size);
  uint8_t digest[CG_KEYS_DIGEST_BYTES];
  struct cg_err err;
  if (cg_keys_digest(personal->keys, subject, size, digest, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  char text[2 * sizeof(digest)];
  for (size_t i = 0; i < sizeof(text); i++)
    text[i] = "0123456789abcdef"[(digest[i / 2] >> (i % 2 == 0 ? 4 : 0)) & 15];
  lua_pushlstring(L, text, sizeof(text));
  return 1;
}

/* Reads the digits of a digest at a stack index; false when there is none. */
static bool opt_digest(lua_State *L, int index, uint8_t digest[CG_KEYS_DIGEST_BYTES]) {
  size_t size;
  const char *text = luaL_optlstring(L, index, NULL, &size);
  if (text == NULL)
    return false;
  luaL_argcheck(L, size == 2 * CG_KEYS_DIGEST_BYTES && strspn(text, "0123456789abcdef") == size,
                index, "not a digest");
  for (size_t i = 0; i < CG_KEYS_DIGEST_BYTES; i++) {
    uint8_t value = 0;
    for (size_t j = 0; j < 2; j++) {
      char letter = text[2 * i + j];
      value = (uint8_t)(value << 4 | (letter <= '9' ? letter - '0' : letter - 'a' + 10));
    }
    digest[i] = value;
  }
  return true;
}

/* forget(name of the key, digest?) -> change to wait for, was it in the file | nil, err */
static int bind_personal_forget(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  struct cg_keys_ref ref = check_ref(L, 2);
  uint8_t digest[CG_KEYS_DIGEST_BYTES];
  bool has_digest = opt_digest(L, 3, digest);
  struct cg_err err;
  enum cg_code code = cg_keys_forget(personal->keys, &ref, has_digest ? digest : NULL,
                                     cg_clock_wall_ms(&personal->clock), &err);
  if (code != CG_OK && code != CG_ENOTFOUND)
    return cg_bind_fail(L, &err);
  lua_pushnumber(L, (lua_Number)cg_keys_queued(personal->keys));
  lua_pushboolean(L, code == CG_OK);
  return 2;
}

/* Pushes { number, key, time, forgotten, subject? }. */
static void push_info(lua_State *L, const struct cg_keys_info *info) {
  lua_createtable(L, 0, 5);
  lua_pushnumber(L, (lua_Number)info->ref.number);
  lua_setfield(L, -2, "number");
  push_ref(L, &info->ref);
  lua_setfield(L, -2, "key");
  lua_pushnumber(L, (lua_Number)info->time_ms);
  lua_setfield(L, -2, "time");
  lua_pushboolean(L, info->is_forgotten);
  lua_setfield(L, -2, "forgotten");
  if (!info->is_forgotten) {
    lua_pushlstring(L, info->subject, info->subject_size);
    lua_setfield(L, -2, "subject");
  }
}

/* Is it to be listed? */
static bool info_fits(const struct cg_keys_info *info, const char *prefix, size_t size,
                      bool with_forgotten) {
  if (info->is_forgotten)
    return with_forgotten;
  return info->subject_size >= size && memcmp(info->subject, prefix, size) == 0;
}

/* list(prefix, after, max, forgotten) -> keys whose subject begins with prefix (and forgotten ones
 * if asked for), number looked at, is there more | nil, err */
static int bind_personal_list(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  size_t prefix_size;
  const char *prefix = luaL_checklstring(L, 2, &prefix_size);
  double after = luaL_checknumber(L, 3), max = luaL_checknumber(L, 4);
  luaL_argcheck(L, after >= 0 && after < 9e15, 3, "from 0");
  luaL_argcheck(L, max >= 1 && max <= LIST_MAX, 4, "from 1 to 10000");
  bool with_forgotten = lua_toboolean(L, 5);
  uint64_t cursor = (uint64_t)after, end = cursor + LOOK_MAX;
  lua_newtable(L);
  int pushed = 0;
  enum cg_code code = CG_ENOTFOUND;
  struct cg_err err;
  while (pushed < max && cursor < end) {
    struct cg_keys_info info;
    code = cg_keys_next(personal->keys, &cursor, (uint32_t)(end - cursor), &info, &err);
    if (code == CG_END)
      break;
    if (code != CG_OK && code != CG_ENOTFOUND)
      return cg_bind_fail(L, &err);
    if (code == CG_OK && info_fits(&info, prefix, prefix_size, with_forgotten)) {
      push_info(L, &info);
      lua_rawseti(L, -2, ++pushed);
    }
  }
  lua_pushnumber(L, (lua_Number)cursor);
  lua_pushboolean(L, code != CG_END);
  return 3;
}

/* damaged_count() -> keys that the file held damaged when it was opened */
static int bind_personal_damaged_count(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  lua_pushnumber(L, (lua_Number)cg_keys_damaged_count(personal->keys));
  return 1;
}

/* queued() -> changes of keys so far */
static int bind_personal_queued(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  lua_pushnumber(L, (lua_Number)cg_keys_queued(personal->keys));
  return 1;
}

/* wait(change) -> true | false, err; parks until the change is durable; cannot be interrupted. */
static int bind_personal_wait(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  double change = luaL_checknumber(L, 2);
  struct cg_err err;
  if (change <= (double)cg_keys_durable(personal->keys)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  if (cg_keys_failed(personal->keys, &err) != CG_OK)
    return cg_bind_false(L, &err);
  cg_task_check_park(personal->runtime, L);
  struct waiter *waiter = cg_alloc(sizeof(*waiter));
  *waiter = (struct waiter){.change = (uint64_t)change,
                            .task = cg_task_current(personal->runtime),
                            .next = personal->waiters};
  personal->waiters = waiter;
  begin_batch(personal);
  return cg_task_park(personal->runtime, L, 0, NULL, NULL);
}

/* flush() -> true | nil, err: writes what is pending without letting anything else run. */
static int bind_personal_flush(lua_State *L) {
  struct personal *personal = check_keys(L, 1);
  struct cg_err err;
  if (personal->batch != NULL)
    return luaL_error(L, "a batch is under way; flush is for opening");
  enum cg_code code = cg_keys_failed(personal->keys, &err);
  struct cg_keys_batch *batch = cg_keys_batch_begin(personal->keys);
  if (batch != NULL) {
    cg_keys_batch_write(batch);
    code = cg_keys_batch_end(personal->keys, batch, &err);
  }
  if (code != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* close(): tasks that wait get an error; harmless when closed. */
static int bind_personal_close(lua_State *L) {
  struct personal **box = luaL_checkudata(L, 1, KEYS_TYPE);
  struct personal *personal = *box;
  *box = NULL;
  if (personal == NULL)
    return 0;
  if (personal->batch != NULL) {
    uv_sem_wait(&personal->written);
    finish_batch(personal);
  }
  struct cg_err closed = {.code = CG_ECLOSED, .message = "the keys of persons were closed"};
  wake_waiters(personal, UINT64_MAX, &closed);
  cg_keys_close(personal->keys);
  personal->keys = NULL;
  if (!personal->is_working)
    free_personal(personal);
  return 0;
}

int cg_bind_personal(lua_State *L) {
  static const luaL_Reg functions[] = {{"open", bind_personal_open}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"find", bind_personal_find},
                                     {"seal", bind_personal_seal},
                                     {"seal_with", bind_personal_seal_with},
                                     {"unseal", bind_personal_unseal},
                                     {"digest", bind_personal_digest},
                                     {"forget", bind_personal_forget},
                                     {"list", bind_personal_list},
                                     {"damaged_count", bind_personal_damaged_count},
                                     {"queued", bind_personal_queued},
                                     {"wait", bind_personal_wait},
                                     {"flush", bind_personal_flush},
                                     {"close", bind_personal_close},
                                     {NULL, NULL}};
  cg_bind_type(L, KEYS_TYPE, methods, bind_personal_close);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

/* Hands what is pending to the pool, unless a batch is under way. All signals are blocked: the
 * first call makes the pool's threads, which must not take the guard's. */
static void begin_batch(struct personal *personal) {
  if (personal->batch != NULL || personal->is_working)
    return;
  personal->batch = cg_keys_batch_begin(personal->keys);
  if (personal->batch == NULL)
    return;
  personal->batch_until = cg_keys_queued(personal->keys);
  personal->is_working = true;
  cg_task_busy(personal->runtime, 1);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  uv_queue_work(personal->runtime->loop, &personal->work, work, after_work);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* On a thread of the pool. */
static void work(uv_work_t *request) {
  struct personal *personal = request->data;
  cg_keys_batch_write(personal->batch);
  uv_sem_post(&personal->written);
}

/* Takes the outcome of the batch over and tells who waited for it. */
static void finish_batch(struct personal *personal) {
  struct cg_err err;
  enum cg_code code = cg_keys_batch_end(personal->keys, personal->batch, &err);
  personal->batch = NULL;
  uint64_t until = code == CG_EFAILED ? UINT64_MAX : personal->batch_until;
  wake_waiters(personal, until, code == CG_OK ? NULL : &err);
}

static void after_work(uv_work_t *request, int status) {
  struct personal *personal = request->data;
  (void)status;
  personal->is_working = false;
  cg_task_busy(personal->runtime, -1);
  if (personal->keys == NULL) {
    free_personal(personal);
    return;
  }
  uv_sem_wait(&personal->written);
  finish_batch(personal);
  if (personal->waiters != NULL)
    begin_batch(personal);
}

/* Wakes the tasks that wait for changes up to `until`: with true, or with false and an error. */
static void wake_waiters(struct personal *personal, uint64_t until, const struct cg_err *err) {
  struct waiter **link = &personal->waiters;
  while (*link != NULL) {
    struct waiter *waiter = *link;
    if (waiter->change > until) {
      link = &waiter->next;
      continue;
    }
    *link = waiter->next;
    lua_State *values = cg_task_values(waiter->task);
    int count = 1;
    if (err != NULL)
      count = cg_bind_false(values, err);
    else
      lua_pushboolean(values, 1);
    cg_task_wake(waiter->task, count);
    cg_free(waiter);
  }
}

static void free_personal(struct personal *personal) {
  wipe_scratch(personal);
  cg_buf_unref(personal->scratch);
  uv_sem_destroy(&personal->written);
  cg_free(personal);
}
