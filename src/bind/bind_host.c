/* bind_host.c - what the Lua half needs of the host: output, files of an app, hashes, randomness.
 *
 * Owns: nothing. Thread: the loop thread. */
#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "bind/bind.h"
#include "runtime/watch.h"

#define FILE_BYTES_MAX (16u << 20) /* A script or data file read whole. */

/* say(level, text): level is "debug", "info", "warn" or "error" */
static int bind_host_say(lua_State *L) {
  static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
  int level = luaL_checkoption(L, 1, "info", levels);
  cg_say(cg_runtime_of(L)->say, (enum cg_say_level)level, "%s", luaL_checkstring(L, 2));
  return 0;
}

static int fail_errno(lua_State *L, const char *what, const char *path, int errno_value) {
  struct cg_err err;
  cg_err_set(&err, cg_err_from_errno(errno_value), "%s %s: %s", what, path, strerror(errno_value));
  return cg_bind_fail(L, &err);
}

/* list(path) -> array of { name, is_directory } sorted by name | nil, err */
static int bind_host_list(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct dirent **entries;
  int count = scandir(path, &entries, NULL, alphasort);
  if (count < 0)
    return fail_errno(L, "read directory", path, errno);
  lua_newtable(L);
  int pushed = 0;
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    if (name[0] != '.') {
      lua_pushfstring(L, "%s/%s", path, name);
      struct stat info;
      bool is_directory = stat(lua_tostring(L, -1), &info) == 0 && S_ISDIR(info.st_mode);
      lua_pop(L, 1);
      lua_createtable(L, 0, 2);
      lua_pushstring(L, name);
      lua_setfield(L, -2, "name");
      lua_pushboolean(L, is_directory);
      lua_setfield(L, -2, "is_directory");
      lua_rawseti(L, -2, ++pushed);
    }
    free(entries[i]);
  }
  free(entries);
  return 1;
}

/* read_file(path) -> text | nil, err */
static int bind_host_read_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return fail_errno(L, "open", path, errno);
  struct stat info;
  if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) ||
      info.st_size > (off_t)FILE_BYTES_MAX) {
    fclose(file);
    struct cg_err err;
    cg_err_set(&err, CG_EINVAL, "%s is not a regular file of at most 16 MiB", path);
    return cg_bind_fail(L, &err);
  }
  struct cg_buf *buf = cg_buf_take(NULL, (size_t)info.st_size + 1);
  buf->size = fread(buf->data, 1, (size_t)info.st_size, file);
  fclose(file);
  lua_pushlstring(L, (const char *)buf->data, buf->size);
  cg_buf_unref(buf);
  return 1;
}

/* sha256(text) -> 64 hexadecimal digits */
static int bind_host_sha256(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  struct sha256_ctx context;
  uint8_t digest[SHA256_DIGEST_SIZE];
  sha256_init(&context);
  sha256_update(&context, size, (const uint8_t *)text);
  sha256_digest(&context, sizeof(digest), digest);
  char hex[SHA256_DIGEST_SIZE * 2 + 1];
  for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
    snprintf(hex + 2 * i, 3, "%02x", digest[i]);
  lua_pushlstring(L, hex, sizeof(hex) - 1);
  return 1;
}

/* random_seed() -> a whole number from 0 to 2^48-1 of the system's randomness */
static int bind_host_random_seed(lua_State *L) {
  uint64_t seed = 0;
  if (getrandom(&seed, 6, 0) != 6)
    seed = cg_clock_mono_ns(&cg_runtime_of(L)->clock) & 0xffffffffffffu;
  lua_pushnumber(L, (lua_Number)seed);
  return 1;
}

/* absolute(path) -> absolute path with links resolved | nil, err */
static int bind_host_absolute(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  char *resolved = realpath(path, NULL);
  if (resolved == NULL)
    return fail_errno(L, "find", path, errno);
  lua_pushstring(L, resolved);
  free(resolved);
  return 1;
}

/* A watch, as Lua holds it. */
struct host_watch {
  struct cg_watch *watch;     /* NULL once stopped. */
  struct cg_runtime *runtime; /* Runs `changed`. */
  cg_ref changed;             /* Function to run as a task. */
};

static void on_changed(void *arg) {
  struct host_watch *box = arg;
  cg_ref_push(box->runtime->L, box->changed);
  cg_task_spawn(box->runtime, box->runtime->L, 0);
}

/* watch(path, settle_ms, fn) -> watch | nil, err: fn runs as a task when files changed */
static int bind_host_watch(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  uint32_t settle_ms = (uint32_t)luaL_checkint(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  struct cg_runtime *runtime = cg_runtime_of(L);
  struct host_watch *box = lua_newuserdata(L, sizeof(*box));
  *box = (struct host_watch){.runtime = runtime, .changed = CG_NO_REF};
  luaL_getmetatable(L, "catga.watch");
  lua_setmetatable(L, -2);
  struct cg_err err;
  if (cg_watch_start(&box->watch, runtime->loop, path, settle_ms, on_changed, box, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  lua_pushvalue(L, 3);
  box->changed = cg_ref_take(runtime, L);
  return 1;
}

static int bind_host_watch_stop(lua_State *L) {
  struct host_watch *box = luaL_checkudata(L, 1, "catga.watch");
  cg_watch_stop(box->watch);
  cg_ref_drop(box->runtime, box->changed);
  box->watch = NULL;
  box->changed = CG_NO_REF;
  return 0;
}

/* guard(deadline_ms): starts the deadline of runaway handlers; 0 stops it */
static int bind_host_guard(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  int deadline_ms = luaL_checkint(L, 1);
  if (deadline_ms <= 0)
    cg_guard_stop(runtime);
  else
    cg_guard_start(runtime, (uint32_t)deadline_ms);
  return 0;
}

/* memory() -> bytes the Lua heap may have, as set; nil when there is no cap */
static int bind_host_set_memory_max(lua_State *L) {
  cg_runtime_set_memory_max(cg_runtime_of(L), (size_t)luaL_checknumber(L, 1));
  return 0;
}

/* exit(code): ends the program's loop gracefully */
static int bind_host_exit(lua_State *L) {
  struct cg_runtime *runtime = cg_runtime_of(L);
  runtime->exit_code = luaL_optint(L, 1, 0);
  if (runtime->on_exit != NULL)
    runtime->on_exit(runtime, runtime->on_exit_arg);
  return 0;
}

int cg_bind_host(lua_State *L) {
  static const luaL_Reg functions[] = {{"say", bind_host_say},
                                       {"list", bind_host_list},
                                       {"read_file", bind_host_read_file},
                                       {"sha256", bind_host_sha256},
                                       {"random_seed", bind_host_random_seed},
                                       {"absolute", bind_host_absolute},
                                       {"watch", bind_host_watch},
                                       {"guard", bind_host_guard},
                                       {"set_memory_max", bind_host_set_memory_max},
                                       {"exit", bind_host_exit},
                                       {NULL, NULL}};
  static const luaL_Reg watch_methods[] = {{"stop", bind_host_watch_stop}, {NULL, NULL}};
  cg_bind_type(L, "catga.watch", watch_methods, bind_host_watch_stop);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
