/* bind_fs.c - files of scripts, for Lua; see lua/catga/_meta/fs.lua.
 *
 * Each call makes a job of libuv's pool; a task parks in job:wait() and takes the results as the
 * running task. A job nobody waits for any more is done and freed.
 * Owns: a job userdata its job, a file userdata its descriptor. Thread: the loop thread. */
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "bind/bind_fs.h"
#include "runtime/files.h"

#define JOB_TYPE "catga.file_job"
#define FILE_TYPE "catga.file"
#define SIZE_MAX_BYTES ((double)((size_t)1 << 30)) /* Of one read. */

/* A job and who waits for it. */
struct request {
  struct cg_files_job *job; /* Freed with the request. */
  struct cg_task *task;     /* Parked in wait, or NULL. */
  bool is_submitted;        /* Under way. */
  bool is_held;             /* By its userdata. */
};

/* An open file. */
struct file {
  int fd; /* -1 once closed. */
};

/* A job's descriptor goes with it: of a file that nobody took, or a copy to read from. */
static void free_request(struct request *request) {
  if (request->job->fd >= 0)
    close(request->job->fd);
  cg_files_job_free(request->job);
  cg_free(request);
}

static void on_done(struct cg_files_job *job) {
  struct request *request = job->arg;
  request->is_submitted = false;
  if (!request->is_held) {
    free_request(request);
    return;
  }
  struct cg_task *task = request->task;
  request->task = NULL;
  if (task != NULL && job->runtime != NULL && !job->runtime->is_stopping)
    cg_task_wake(task, 0);
}

static struct request *check_job(lua_State *L, int index) {
  struct request **box = luaL_checkudata(L, index, JOB_TYPE);
  return *box;
}

/* A flag of the table at index 2. */
static bool flag(lua_State *L, const char *name) {
  lua_getfield(L, 2, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/* A number of the table at index 2, from 0 to `most`. */
static double number(lua_State *L, const char *name, double most) {
  lua_getfield(L, 2, name);
  double value = luaL_optnumber(L, -1, 0);
  luaL_argcheck(L, value >= 0 && value <= most, 2, name);
  lua_pop(L, 1);
  return value;
}

/* Pushes a job object; the job is not submitted. */
static struct cg_files_job *push_job(lua_State *L, enum cg_files_verb verb, const char *path,
                                     const char *path_to) {
  struct request **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, JOB_TYPE);
  lua_setmetatable(L, -2);
  struct request *request = cg_alloc(sizeof(*request));
  request->job = cg_files_job_new(verb, path, path_to);
  request->job->on_done = on_done;
  request->job->arg = request;
  request->is_held = true;
  *box = request;
  return request->job;
}

static void submit(lua_State *L, struct cg_files_job *job) {
  struct request *request = job->arg;
  request->is_submitted = true;
  cg_files_submit(cg_runtime_of(L), job);
}

/* job(verb, { path, to?, bytes?, max?, mode?, deep?, synced?, link? }) -> job */
static int bind_fs_job(lua_State *L) {
  static const char *const VERBS[] = {"read",   "write",  "append", "stat", "list", "mkdir",
                                      "remove", "rename", "copy",   "temp", "open", NULL};
  enum cg_files_verb verb = (enum cg_files_verb)luaL_checkoption(L, 1, NULL, VERBS);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  bool is_deep = flag(L, "deep"), is_synced = flag(L, "synced"), is_link = flag(L, "link");
  double size_max = number(L, "max", SIZE_MAX_BYTES), mode = number(L, "mode", 07777);
  lua_getfield(L, 2, "path");
  const char *path = luaL_checkstring(L, 3);
  lua_getfield(L, 2, "to");
  const char *to = luaL_optstring(L, 4, NULL);
  luaL_argcheck(L, to != NULL || (verb != CG_FILES_RENAME && verb != CG_FILES_COPY), 2, "to");
  lua_getfield(L, 2, "bytes");
  size_t size = 0;
  const char *bytes = luaL_optlstring(L, 5, "", &size);
  luaL_argcheck(L, (double)size <= SIZE_MAX_BYTES, 2, "over 1 GiB");

  struct cg_files_job *job = push_job(L, verb, path, to);
  cg_buf_append(job->bytes, bytes, size);
  job->size_max = (uint64_t)size_max;
  job->mode = (uint32_t)mode;
  job->is_deep = is_deep;
  job->is_synced = is_synced;
  job->is_link = is_link;
  submit(L, job);
  return 1;
}

static void cancel_wait(struct cg_task *task, void *arg) {
  (void)task;
  struct request *request = arg;
  request->task = NULL;
}

/* job:wait(): parks until it is done */
static int bind_fs_wait(lua_State *L) {
  struct request *request = check_job(L, 1);
  if (!request->is_submitted)
    return 0;
  luaL_argcheck(L, request->task == NULL, 1, "another task waits for it");
  struct cg_runtime *runtime = cg_runtime_of(L);
  cg_task_check_park(runtime, L);
  request->task = cg_task_current(runtime);
  lua_settop(L, 1); /* The task holds the userdata: it must not be collected meanwhile. */
  return cg_task_park(runtime, L, 1, cancel_wait, request);
}

static void push_info(lua_State *L, const struct cg_files_info *info) {
  static const char *const TYPES[] = {"file", "directory", "link", "other"};
  const char *type = info->type == 'f'   ? TYPES[0]
                     : info->type == 'd' ? TYPES[1]
                     : info->type == 'l' ? TYPES[2]
                                         : TYPES[3];
  lua_createtable(L, 0, 6);
  lua_pushstring(L, type);
  lua_setfield(L, -2, "type");
  lua_pushnumber(L, (lua_Number)info->size);
  lua_setfield(L, -2, "size");
  lua_pushnumber(L, info->changed_ms);
  lua_setfield(L, -2, "changed");
  char text[48];
  snprintf(text, sizeof(text), "%o", info->mode);
  lua_pushstring(L, text);
  lua_setfield(L, -2, "mode");
  snprintf(text, sizeof(text), "%llx.%llx", (unsigned long long)info->device,
           (unsigned long long)info->inode);
  lua_pushstring(L, text);
  lua_setfield(L, -2, "id");
}

/* A list of { name, type, ... } in the order of the directory. */
static void push_list(lua_State *L, const struct cg_buf *bytes) {
  lua_newtable(L);
  int pushed = 0;
  for (size_t at = 0; at < bytes->size;) {
    struct cg_files_info info;
    memcpy(&info, bytes->data + at, sizeof(info));
    const char *name = (const char *)bytes->data + at + sizeof(info);
    push_info(L, &info);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "name");
    lua_rawseti(L, -2, ++pushed);
    at += sizeof(info) + strlen(name) + 1;
  }
}

/* Pushes a file object for a descriptor. */
static void push_file(lua_State *L, struct cg_files_job *job) {
  struct file *file = lua_newuserdata(L, sizeof(*file));
  *file = (struct file){.fd = job->fd};
  job->fd = -1;
  luaL_getmetatable(L, FILE_TYPE);
  lua_setmetatable(L, -2);
}

/* job:take() -> result of the verb | nil, err; once it is done */
static int bind_fs_take(lua_State *L) {
  struct request *request = check_job(L, 1);
  luaL_argcheck(L, !request->is_submitted, 1, "the job is not done");
  struct cg_files_job *job = request->job;
  if (job->code != CG_OK)
    return cg_bind_fail(L, &job->err);
  switch (job->verb) {
  case CG_FILES_READ:
  case CG_FILES_TEMP:
    lua_pushlstring(L, (const char *)job->bytes->data, job->bytes->size);
    return 1;
  case CG_FILES_READ_AT:
    lua_pushlstring(L, (const char *)job->bytes->data, job->bytes->size);
    push_info(L, &job->info);
    return 2;
  case CG_FILES_OPEN:
    push_file(L, job);
    push_info(L, &job->info);
    return 2;
  case CG_FILES_STAT:
    push_info(L, &job->info);
    return 1;
  case CG_FILES_LIST:
    push_list(L, job->bytes);
    return 1;
  default:
    lua_pushboolean(L, 1);
    return 1;
  }
}

static int bind_fs_job_gc(lua_State *L) {
  struct request *request = check_job(L, 1);
  if (request == NULL)
    return 0;
  request->is_held = false;
  if (request->is_submitted) { /* on_done frees it. */
    if (request->job->runtime->is_stopping)
      request->job->runtime = NULL;
    return 0;
  }
  free_request(request);
  return 0;
}

/* file:read(offset, max) -> job */
static int bind_fs_read(lua_State *L) {
  struct file *file = luaL_checkudata(L, 1, FILE_TYPE);
  luaL_argcheck(L, file->fd >= 0, 1, "the file is closed");
  double offset = luaL_checknumber(L, 2), size_max = luaL_checknumber(L, 3);
  luaL_argcheck(L, offset >= 0 && offset <= 9007199254740992.0, 2, "from 0");
  luaL_argcheck(L, size_max >= 1 && size_max <= SIZE_MAX_BYTES, 3, "from 1");
  struct cg_files_job *job = push_job(L, CG_FILES_READ_AT, NULL, NULL);
  job->fd = dup(file->fd); /* The file may be closed before the job is done. */
  if (job->fd < 0) {
    struct cg_err err;
    cg_err_set(&err, CG_ELIMIT, "too many open files");
    return cg_bind_fail(L, &err);
  }
  job->offset = (uint64_t)offset;
  job->size_max = (uint64_t)size_max;
  submit(L, job);
  return 1;
}

static int bind_fs_close(lua_State *L) {
  struct file *file = luaL_checkudata(L, 1, FILE_TYPE);
  if (file->fd >= 0)
    close(file->fd);
  file->fd = -1;
  return 0;
}

int cg_bind_fs(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"job", bind_fs_job}, {"watch", cg_bind_fs_watch}, {NULL, NULL}};
  static const luaL_Reg job_methods[] = {
      {"wait", bind_fs_wait}, {"take", bind_fs_take}, {NULL, NULL}};
  static const luaL_Reg file_methods[] = {
      {"read", bind_fs_read}, {"close", bind_fs_close}, {NULL, NULL}};
  cg_bind_type(L, JOB_TYPE, job_methods, bind_fs_job_gc);
  cg_bind_type(L, FILE_TYPE, file_methods, bind_fs_close);
  cg_bind_fs_watch_type(L);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
