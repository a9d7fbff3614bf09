/* bind_model.c - read models for Lua; see lua/catga/_meta/model.lua.
 *
 * Every call hands a job to the models' worker and returns at once with a job object. A task parks
 * in job:wait() and reads the results with job:take() as the running task, where running out of
 * memory is an ordinary Lua error. A job nobody holds any more is freed when it is done.
 * Owns: a models userdata owns the database, a job userdata its request. Thread: the loop
 * thread. */
#include <assert.h>
#include <lauxlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/model_rows.h"
#include "store/store.h"

#define MODELS_TYPE "catga.models"
#define JOB_TYPE "catga.model_job"
#define STATEMENTS_TYPE "catga.model_statements"
#define CONDITIONS_MAX 16                 /* Fields of one find. */
#define VERSION_MAX 9007199254740992.0    /* Whole numbers are exact up to here. */
#define STATEMENTS_BYTES_MAX (256u << 20) /* Of one list of statements. */

/* A job and who waits for it. */
struct request {
  struct cg_runtime *runtime; /* Wakes `task`. */
  struct cg_model_job *job;   /* The model's between submit and done; freed with the request. */
  struct cg_task *task;       /* Parked in wait, or NULL. */
  bool is_submitted;          /* Under way. */
  bool is_held;               /* By its userdata. */
};

static void on_done(void *arg, struct cg_model_job *job);
static void free_request(struct request *request);

static struct cg_model *check_models(lua_State *L, int index) {
  struct cg_model **box = luaL_checkudata(L, index, MODELS_TYPE);
  if (*box == NULL)
    luaL_error(L, "the read models are closed");
  return *box;
}

static struct request *check_job(lua_State *L, int index) {
  struct request **box = luaL_checkudata(L, index, JOB_TYPE);
  return *box;
}

static bool has_model(enum cg_model_verb verb) {
  return verb != CG_MODEL_LIST && verb != CG_MODEL_RUN && verb != CG_MODEL_QUERY &&
         verb != CG_MODEL_UNDO;
}

/* Pushes a job object for the model that arguments 2 and 3 name, if the verb is about one; nothing
 * is submitted yet. */
static struct request *push_job(lua_State *L, enum cg_model_verb verb) {
  const char *projection = has_model(verb) ? luaL_checkstring(L, 2) : NULL;
  double version = has_model(verb) ? luaL_checknumber(L, 3) : 0;
  luaL_argcheck(L, !has_model(verb) || (version >= 1 && version <= VERSION_MAX), 3,
                "a version is a whole number from 1");
  struct request **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, JOB_TYPE);
  lua_setmetatable(L, -2);
  struct request *request = cg_alloc(sizeof(*request));
  *box = request;
  request->runtime = cg_runtime_of(L);
  request->job = cg_model_job_new(verb, projection, (uint64_t)version);
  request->is_held = true;
  return request;
}

/* Hands the job over; one that is not taken is done, with the error. Ends a bound function whose
 * job object is at stack index `at`. */
static int submit(lua_State *L, struct cg_model *model, struct request *request, int at) {
  struct cg_err err;
  request->is_submitted = cg_model_submit(model, request->job, on_done, request, &err) == CG_OK;
  if (request->is_submitted) { /* From now on the job is the worker's. */
    cg_task_busy(request->runtime, 1);
  } else {
    request->job->code = err.code;
    request->job->err = err;
  }
  lua_pushvalue(L, at);
  return 1;
}

/* open(path, is_reader) -> models | nil, err; nil: in memory */
static int bind_model_open(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  bool is_reader = lua_toboolean(L, 2);
  struct cg_model **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, MODELS_TYPE);
  lua_setmetatable(L, -2);
  struct cg_err err;
  if (cg_model_open(box, cg_runtime_of(L)->loop, path, is_reader, &err) != CG_OK)
    return cg_bind_fail(L, &err);
  return 1;
}

/* close(): ends what is under way; harmless when closed. */
static int bind_model_close(lua_State *L) {
  struct cg_model **box = luaL_checkudata(L, 1, MODELS_TYPE);
  cg_model_close(*box);
  *box = NULL;
  return 0;
}

/* list() -> job: { name, version, position, serving }... */
static int bind_model_list(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  struct request *request = push_job(L, CG_MODEL_LIST);
  return submit(L, model, request, lua_gettop(L));
}

/* define(name, version, is_apart, is_alone) -> job: position, is_serving */
static int bind_model_define(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  bool is_apart = lua_toboolean(L, 4), is_alone = lua_toboolean(L, 5);
  struct request *request = push_job(L, CG_MODEL_DEFINE);
  request->job->is_alone = is_alone;
  request->job->is_apart = is_apart;
  return submit(L, model, request, lua_gettop(L));
}

/* drop(name, version) -> job: true */
static int bind_model_drop(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  struct request *request = push_job(L, CG_MODEL_DROP);
  return submit(L, model, request, lua_gettop(L));
}

/* undo() -> job: true */
static int bind_model_undo(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  struct request *request = push_job(L, CG_MODEL_UNDO);
  return submit(L, model, request, lua_gettop(L));
}

static struct cg_buf *check_statements(lua_State *L, int index) {
  return *(struct cg_buf **)luaL_checkudata(L, index, STATEMENTS_TYPE);
}

/* Gives the job a copy of the statements at a stack index, unless there are none. */
static void add_statements(lua_State *L, struct cg_model_job *job, int index) {
  if (lua_isnoneornil(L, index))
    return;
  struct cg_buf *statements = check_statements(L, index);
  if (job->statements == NULL)
    job->statements = cg_buf_take(NULL, statements->size);
  cg_buf_append(job->statements, statements->data, statements->size);
}

/* run(statements) -> job: rows of the last one */
static int bind_model_run(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  check_statements(L, 2);
  struct request *request = push_job(L, CG_MODEL_RUN);
  add_statements(L, request->job, 2);
  request->job->max = 0;
  return submit(L, model, request, lua_gettop(L));
}

/* query(statements, max, timeout_ms, is_inside) -> job: rows */
static int bind_model_query(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  luaL_argcheck(L, check_statements(L, 2)->size > 0, 2, "there is no statement");
  double max = luaL_checknumber(L, 3), timeout_ms = luaL_checknumber(L, 4);
  luaL_argcheck(L, max >= 0 && max <= INT32_MAX, 3, "from 0");
  luaL_argcheck(L, timeout_ms >= 0 && timeout_ms <= INT32_MAX, 4, "from 0");
  bool is_inside = lua_toboolean(L, 5);
  struct request *request = push_job(L, CG_MODEL_QUERY);
  add_statements(L, request->job, 2);
  request->job->max = (uint32_t)max;
  request->job->timeout_ms = (uint32_t)timeout_ms;
  request->job->is_inside = is_inside;
  return submit(L, model, request, lua_gettop(L));
}

/* serve(name, version) -> job: true */
static int bind_model_serve(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  struct request *request = push_job(L, CG_MODEL_SERVE);
  return submit(L, model, request, lua_gettop(L));
}

/* fetch(name, version, keys, is_inside) -> job: { document or false, ... } in the order of the
 * keys */
static int bind_model_fetch(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  luaL_checktype(L, 4, LUA_TTABLE);
  bool is_inside = lua_toboolean(L, 5);
  struct request *request = push_job(L, CG_MODEL_FETCH);
  request->job->is_inside = is_inside;
  int at = lua_gettop(L);
  int count = (int)lua_objlen(L, 4);
  for (int i = 1; i <= count; i++) {
    size_t size;
    lua_rawgeti(L, 4, i);
    const char *key = luaL_checklstring(L, -1, &size);
    cg_model_entry_add(request->job->request, key, size);
    lua_pop(L, 1);
  }
  return submit(L, model, request, at);
}

/* Adds the changes in the table at a stack index as entries. */
static void add_changes(lua_State *L, struct cg_model_job *job, int index) {
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    size_t key_size, size = 0;
    luaL_checktype(L, -2, LUA_TSTRING);
    const char *key = lua_tolstring(L, -2, &key_size);
    const char *doc = lua_toboolean(L, -1) ? luaL_checklstring(L, -1, &size) : NULL;
    cg_model_entry_add(job->request, key, key_size);
    cg_model_entry_add(job->request, doc, size);
    lua_pop(L, 1);
  }
}

/* apply(name, version, from, position, changes, statements, more_statements) -> job: true; changes:
 * document or false by key */
static int bind_model_apply(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  double from = luaL_checknumber(L, 4), position = luaL_checknumber(L, 5);
  luaL_checktype(L, 6, LUA_TTABLE);
  lua_settop(L, 8);
  struct request *request = push_job(L, CG_MODEL_APPLY);
  int at = lua_gettop(L);
  request->job->from = (uint64_t)from;
  request->job->position = (uint64_t)position;
  add_changes(L, request->job, 6);
  add_statements(L, request->job, 7);
  add_statements(L, request->job, 8);
  return submit(L, model, request, at);
}

/* stage(name, version, changes, statements) -> job: true; the transaction stays open */
static int bind_model_stage(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_settop(L, 5);
  struct request *request = push_job(L, CG_MODEL_APPLY);
  int at = lua_gettop(L);
  request->job->stays_open = true;
  add_changes(L, request->job, 4);
  add_statements(L, request->job, 5);
  return submit(L, model, request, at);
}

/* Adds the condition whose field and value are on top of the stack. */
static enum cg_code add_condition(lua_State *L, struct cg_model_job *job, struct cg_err *err) {
  const char *field = luaL_checkstring(L, -2);
  size_t size;
  switch (lua_type(L, -1)) {
  case LUA_TSTRING: {
    const char *text = lua_tolstring(L, -1, &size);
    return cg_model_job_where(job, field, CG_MODEL_STRING, text, size, err);
  }
  case LUA_TNUMBER: {
    double number = lua_tonumber(L, -1);
    return cg_model_job_where(job, field, CG_MODEL_NUMBER, &number, sizeof(number), err);
  }
  case LUA_TBOOLEAN: {
    bool boolean = lua_toboolean(L, -1);
    return cg_model_job_where(job, field, CG_MODEL_BOOLEAN, &boolean, sizeof(boolean), err);
  }
  case LUA_TLIGHTUSERDATA:
    return cg_model_job_where(job, field, CG_MODEL_NULL, NULL, 0, err);
  default:
    return cg_err_set(err, CG_EINVAL,
                      "find: the field %s can be compared with a string, a number, a boolean or "
                      "null, not with a %s",
                      field, luaL_typename(L, -1));
  }
}

static enum cg_code add_conditions(lua_State *L, int index, struct cg_model_job *job,
                                   struct cg_err *err) {
  enum cg_code code = CG_OK;
  int count = 0;
  lua_pushnil(L);
  while (code == CG_OK && lua_next(L, index) != 0) {
    luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, index, "fields are named by strings");
    code = add_condition(L, job, err);
    lua_pop(L, 1);
    if (code == CG_OK && ++count > CONDITIONS_MAX)
      code = cg_err_set(err, CG_ELIMIT, "find compares up to %d fields", CONDITIONS_MAX);
  }
  return code;
}

/* find(name, version, where, max, offset, order, is_descending, is_inside) -> job: { key, document,
 * ... } | nil, err */
static int bind_model_find(lua_State *L) {
  struct cg_model *model = check_models(L, 1);
  luaL_checktype(L, 4, LUA_TTABLE);
  double max = luaL_checknumber(L, 5), offset = luaL_checknumber(L, 6);
  luaL_argcheck(L, max >= 1 && max <= CG_MODEL_FIND_MAX, 5, "from 1 to 10000 documents");
  luaL_argcheck(L, offset >= 0 && offset <= INT32_MAX, 6, "from 0");
  const char *order = luaL_optstring(L, 7, NULL);
  bool is_descending = lua_toboolean(L, 8), is_inside = lua_toboolean(L, 9);
  struct request *request = push_job(L, CG_MODEL_FIND);
  int at = lua_gettop(L);
  struct cg_err err;
  request->job->max = (uint32_t)max;
  request->job->offset = (uint32_t)offset;
  request->job->is_descending = is_descending;
  request->job->is_inside = is_inside;
  enum cg_code code = add_conditions(L, 4, request->job, &err);
  if (code == CG_OK && order != NULL)
    code = cg_model_job_sort(request->job, order, is_descending, &err);
  if (code != CG_OK)
    return cg_bind_fail(L, &err);
  return submit(L, model, request, at);
}

static void cancel_wait(struct cg_task *task, void *arg) {
  (void)task;
  struct request *request = arg;
  request->task = NULL;
}

/* job:wait() -> true; parks until the job is done. One task waits at a time. */
static int bind_job_wait(lua_State *L) {
  struct request *request = check_job(L, 1);
  lua_pushboolean(L, 1);
  if (!request->is_submitted)
    return 1;
  cg_task_check_park(request->runtime, L);
  if (request->task != NULL)
    return luaL_error(L, "another task waits for this job");
  request->task = cg_task_current(request->runtime);
  lua_insert(L, 1); /* The job object stays with the task while it is parked. */
  return cg_task_park(request->runtime, L, 2, cancel_wait, request);
}

/* Pushes the entries of the reply as a list; an absent one is false. */
static void push_entries(lua_State *L, const struct cg_model_job *job) {
  const void *bytes;
  size_t size, offset = 0;
  int count = 0;
  lua_newtable(L);
  while (cg_model_entry_next(job->reply, &offset, &bytes, &size)) {
    if (bytes != NULL)
      lua_pushlstring(L, bytes, size);
    else
      lua_pushboolean(L, 0);
    lua_rawseti(L, -2, ++count);
  }
}

/* Pushes the error of a job, and the mark of the statement that has failed, if one has. */
static int push_failure(lua_State *L, const struct cg_model_job *job) {
  cg_bind_fail(L, &job->err);
  if (job->mark == 0)
    return 2;
  lua_pushnumber(L, (lua_Number)job->mark);
  return 3;
}

/* job:take() -> what the job was for | nil, err, mark */
static int bind_job_take(lua_State *L) {
  struct request *request = check_job(L, 1);
  struct cg_model_job *job = request->job;
  if (request->is_submitted)
    return luaL_error(L, "the job is not done");
  if (job->code != CG_OK)
    return push_failure(L, job);
  switch (job->verb) {
  case CG_MODEL_DEFINE:
    lua_pushnumber(L, (lua_Number)job->position);
    lua_pushboolean(L, job->is_serving);
    return 2;
  case CG_MODEL_LIST:
  case CG_MODEL_FETCH:
  case CG_MODEL_FIND:
    push_entries(L, job);
    return 1;
  case CG_MODEL_RUN:
  case CG_MODEL_QUERY:
    return cg_bind_rows(L, job);
  default:
    lua_pushboolean(L, 1);
    return 1;
  }
}

static int bind_job_gc(lua_State *L) {
  struct request **box = lua_touserdata(L, 1);
  if (*box == NULL)
    return 0;
  (*box)->is_held = false;
  if (!(*box)->is_submitted)
    free_request(*box);
  *box = NULL;
  return 0;
}

/* statements() -> an empty list of SQL statements */
static int bind_statements_new(lua_State *L) {
  struct cg_buf **box = lua_newuserdata(L, sizeof(*box));
  *box = NULL;
  luaL_getmetatable(L, STATEMENTS_TYPE);
  lua_setmetatable(L, -2);
  *box = cg_buf_take(NULL, 256);
  return 1;
}

/* Raises when an argument from `index` on cannot be the value of a parameter. */
static void check_values(lua_State *L, int index) {
  for (int i = index; i <= lua_gettop(L); i++) {
    int type = lua_type(L, i);
    if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA ||
        type == LUA_TTHREAD || type > LUA_TTHREAD)
      luaL_error(L,
                 "value %d of the statement is a %s; there may be strings, numbers, booleans, nil "
                 "and null",
                 i - index + 1, luaL_typename(L, i));
  }
}

/* add(mark, text, ...): nil, null, string, number or boolean for each parameter */
static int bind_statements_add(lua_State *L) {
  struct cg_buf *statements = check_statements(L, 1);
  double mark = luaL_checknumber(L, 2);
  size_t size;
  const char *text = luaL_checklstring(L, 3, &size);
  luaL_argcheck(L, mark >= 1, 2, "from 1");
  check_values(L, 4);
  if (statements->size > STATEMENTS_BYTES_MAX)
    return luaL_error(L, "the statements of one batch are over %d MiB",
                      (int)(STATEMENTS_BYTES_MAX >> 20));
  int top = lua_gettop(L);
  cg_model_statement_begin(statements, (uint64_t)mark, text, size, (uint32_t)(top - 3));
  for (int i = 4; i <= top; i++) {
    if (lua_type(L, i) == LUA_TSTRING) {
      const char *value = lua_tolstring(L, i, &size);
      cg_model_statement_text(statements, value, size);
    } else if (lua_type(L, i) == LUA_TNUMBER) {
      cg_model_statement_number(statements, lua_tonumber(L, i));
    } else if (lua_type(L, i) == LUA_TBOOLEAN) {
      cg_model_statement_number(statements, lua_toboolean(L, i));
    } else {
      cg_model_statement_null(statements);
    }
  }
  return 0;
}

/* size() -> bytes, for cut */
static int bind_statements_size(lua_State *L) {
  lua_pushnumber(L, (lua_Number)check_statements(L, 1)->size);
  return 1;
}

/* cut(size): takes back what was added since size() gave that */
static int bind_statements_cut(lua_State *L) {
  struct cg_buf *statements = check_statements(L, 1);
  double size = luaL_checknumber(L, 2);
  luaL_argcheck(L, size >= 0 && size <= (double)statements->size, 2, "not a size that it had");
  statements->size = (size_t)size;
  return 0;
}

static int bind_statements_gc(lua_State *L) {
  struct cg_buf **box = lua_touserdata(L, 1);
  cg_buf_unref(*box);
  *box = NULL;
  return 0;
}

int cg_bind_model(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"open", bind_model_open}, {"statements", bind_statements_new}, {NULL, NULL}};
  static const luaL_Reg statement_methods[] = {{"add", bind_statements_add},
                                               {"size", bind_statements_size},
                                               {"cut", bind_statements_cut},
                                               {NULL, NULL}};
  static const luaL_Reg methods[] = {{"list", bind_model_list},
                                     {"define", bind_model_define},
                                     {"fetch", bind_model_fetch},
                                     {"apply", bind_model_apply},
                                     {"find", bind_model_find},
                                     {"serve", bind_model_serve},
                                     {"drop", bind_model_drop},
                                     {"undo", bind_model_undo},
                                     {"run", bind_model_run},
                                     {"query", bind_model_query},
                                     {"stage", bind_model_stage},
                                     {"close", bind_model_close},
                                     {NULL, NULL}};
  static const luaL_Reg job_methods[] = {
      {"wait", bind_job_wait}, {"take", bind_job_take}, {NULL, NULL}};
  cg_bind_type(L, MODELS_TYPE, methods, bind_model_close);
  cg_bind_type(L, JOB_TYPE, job_methods, bind_job_gc);
  cg_bind_type(L, STATEMENTS_TYPE, statement_methods, bind_statements_gc);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

static void on_done(void *arg, struct cg_model_job *job) {
  struct request *request = arg;
  assert(request->job == job && request->is_submitted);
  request->is_submitted = false;
  cg_task_busy(request->runtime, -1);
  if (!request->is_held) {
    free_request(request);
  } else if (request->task != NULL) {
    struct cg_task *task = request->task;
    request->task = NULL;
    cg_task_wake(task, 0);
  }
}

static void free_request(struct request *request) {
  cg_model_job_free(request->job);
  cg_free(request);
}
