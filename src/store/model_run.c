/* model_run.c - prepares, binds and steps statements of projections.
 *
 * What a statement may do is decided when it is prepared, by SQLite's authorizer: a handler changes
 * rows of its own tables and nothing else, and gets no function that gives something else every
 * time, so that a rebuild comes to the same rows. Prepared statements are kept by their text.
 * Owns: see model_run.h. Thread: the model's worker thread. */
#include "store/model_run.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/codec.h"
#include "store/model_sql.h"

#define KEPT_COUNT 64                /* Prepared statements that are kept. */
#define TEXT_SHOWN 200               /* Bytes of a statement that errors show. */
#define PROGRESS_STEPS 2000          /* Of SQLite's machine between two looks at the time. */
#define NS_PER_MS 1000000u           /* Nanoseconds. */
#define OWN_MARK ((uint64_t)1 << 53) /* Of statements among a handler's that are the program's. */
#define OWN_PREFIX "catga_"          /* Of our tables' names. */

/* What a statement may do. */
enum right { MAY_READ, MAY_WRITE, MAY_ALL };

/* A prepared statement. */
struct kept {
  char *text;              /* NULL: a free place. Owned. */
  size_t size;             /* Bytes of it. */
  enum right right;        /* With which it was prepared. */
  sqlite3_stmt *statement; /* Owned. */
};

/* Runs statements on a connection. */
struct cg_model_run {
  sqlite3 *db;                  /* The caller's. */
  const char *name;             /* Of its file. */
  const atomic_bool *is_ending; /* A QUERY is to be broken off. */
  uint64_t deadline;            /* Of the QUERY that runs, uv_hrtime; 0: none. */
  bool is_late;                 /* It was broken off because of it. */
  struct kept kept[KEPT_COUNT]; /* In no order. */
  uint32_t next;                /* The place that is used again when all are taken. */
  char refusal[256];            /* What the authorizer has refused; "": nothing. */
};

/* A statement of a buffer. */
struct cut {
  uint64_t mark;    /* Whose it is. */
  const char *text; /* In the buffer, without a zero. */
  uint32_t size;    /* Bytes of it. */
  uint32_t count;   /* Values that follow. */
};

void cg_model_statement_begin(struct cg_buf *statements, uint64_t mark, const char *text,
                              size_t size, uint32_t value_count) {
  uint32_t bytes = (uint32_t)size;
  assert(size <= UINT32_MAX && mark != 0);
  cg_buf_append(statements, &mark, sizeof(mark));
  cg_buf_append(statements, &bytes, sizeof(bytes));
  cg_buf_append(statements, text, size);
  cg_buf_append(statements, &value_count, sizeof(value_count));
}

static void add_kind(struct cg_buf *buf, enum cg_model_kind value) {
  uint8_t kind = (uint8_t)value;
  cg_buf_append(buf, &kind, sizeof(kind));
}

static void add_bytes(struct cg_buf *buf, enum cg_model_kind kind, const void *bytes, size_t size) {
  uint32_t count = (uint32_t)size;
  add_kind(buf, kind);
  cg_buf_append(buf, &count, sizeof(count));
  cg_buf_append(buf, bytes, size);
}

static void add_integer(struct cg_buf *buf, int64_t integer) {
  add_kind(buf, CG_MODEL_VALUE_INTEGER);
  cg_buf_append(buf, &integer, sizeof(integer));
}

static void add_real(struct cg_buf *buf, double real) {
  add_kind(buf, CG_MODEL_VALUE_REAL);
  cg_buf_append(buf, &real, sizeof(real));
}

void cg_model_statement_null(struct cg_buf *statements) {
  add_kind(statements, CG_MODEL_VALUE_NULL);
}

void cg_model_statement_number(struct cg_buf *statements, double number) {
  const double whole_max = 9007199254740992.0;
  if (number >= -whole_max && number <= whole_max && number == (double)(int64_t)number)
    add_integer(statements, (int64_t)number);
  else
    add_real(statements, number);
}

void cg_model_statement_text(struct cg_buf *statements, const char *text, size_t size) {
  bool is_text = cg_utf8_valid_size(text, size) == size;
  add_bytes(statements, is_text ? CG_MODEL_VALUE_TEXT : CG_MODEL_VALUE_BLOB, text, size);
}

uint32_t cg_model_columns(const struct cg_buf *reply, size_t *offset) {
  uint32_t count = 0;
  *offset = 0;
  if (reply->size == 0)
    return 0;
  memcpy(&count, reply->data, sizeof(count));
  *offset = sizeof(count);
  return count;
}

bool cg_model_value_next(const struct cg_buf *reply, size_t *offset, struct cg_model_value *value) {
  if (*offset == reply->size)
    return false;
  const uint8_t *at = reply->data + *offset;
  uint32_t size;
  value->kind = *at++;
  *offset += 1;
  switch (value->kind) {
  case CG_MODEL_VALUE_INTEGER:
    memcpy(&value->integer, at, sizeof(value->integer));
    *offset += sizeof(value->integer);
    break;
  case CG_MODEL_VALUE_REAL:
    memcpy(&value->real, at, sizeof(value->real));
    *offset += sizeof(value->real);
    break;
  case CG_MODEL_VALUE_TEXT:
  case CG_MODEL_VALUE_BLOB:
    memcpy(&size, at, sizeof(size));
    value->size = size;
    value->bytes = (const char *)at + sizeof(size);
    *offset += sizeof(size) + size;
    break;
  case CG_MODEL_VALUE_NULL:
    break;
  }
  return true;
}

struct cg_model_run *cg_model_run_new(sqlite3 *db, const char *name, const atomic_bool *is_ending) {
  struct cg_model_run *run = cg_alloc(sizeof(*run));
  *run = (struct cg_model_run){.db = db, .name = name, .is_ending = is_ending};
  return run;
}

static void let_go(struct kept *kept) {
  sqlite3_finalize(kept->statement);
  cg_free(kept->text);
  *kept = (struct kept){.text = NULL};
}

void cg_model_run_free(struct cg_model_run *run) {
  if (run == NULL)
    return;
  for (int i = 0; i < KEPT_COUNT; i++)
    let_go(&run->kept[i]);
  cg_free(run);
}

/* Reads the head of the statement at *offset. */
static void cut_next(const struct cg_buf *buf, size_t *offset, struct cut *cut) {
  const uint8_t *at = buf->data + *offset;
  memcpy(&cut->mark, at, sizeof(cut->mark));
  memcpy(&cut->size, at + 8, sizeof(cut->size));
  cut->text = (const char *)at + 12;
  memcpy(&cut->count, at + 12 + cut->size, sizeof(cut->count));
  *offset += 16 + cut->size;
}

static int refuse(struct cg_model_run *run, const char *what, const char *name) {
  snprintf(run->refusal, sizeof(run->refusal), "%s%s%s", what, name != NULL ? " " : "",
           name != NULL ? name : "");
  return SQLITE_DENY;
}

/* Functions that give something else every time. */
static bool is_unsteady(const char *function) {
  static const char *const NAMES[] = {"random",       "randomblob",        "current_time",
                                      "current_date", "current_timestamp", "total_changes",
                                      "changes",      "sqlite_version"};
  for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
    if (sqlite3_stricmp(function, NAMES[i]) == 0)
      return true;
  return false;
}

static bool is_ours(const char *table) {
  return table != NULL && sqlite3_strnicmp(table, OWN_PREFIX, strlen(OWN_PREFIX)) == 0;
}

/* The authorizer of statements that only read. */
static int authorize_read(void *arg, int action, const char *first, const char *second,
                          const char *base, const char *trigger) {
  (void)base;
  (void)trigger;
  if (action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_RECURSIVE)
    return SQLITE_OK;
  if (action == SQLITE_FUNCTION)
    return sqlite3_stricmp(second, "load_extension") == 0 ? refuse(arg, "function", second)
                                                          : SQLITE_OK;
  return refuse(arg, "anything but SELECT", first);
}

/* The authorizer of a handler's statements. */
static int authorize_write(void *arg, int action, const char *first, const char *second,
                           const char *base, const char *trigger) {
  (void)base;
  (void)trigger;
  switch (action) {
  case SQLITE_SELECT:
  case SQLITE_READ:
  case SQLITE_RECURSIVE:
    return SQLITE_OK;
  case SQLITE_INSERT:
  case SQLITE_UPDATE:
  case SQLITE_DELETE:
    return is_ours(first) || strchr(first, '@') != NULL ? refuse(arg, "to write the table", first)
                                                        : SQLITE_OK;
  case SQLITE_FUNCTION:
    return is_unsteady(second) ? refuse(arg, "the function", second) : SQLITE_OK;
  default:
    return refuse(arg, "anything but INSERT, UPDATE, DELETE and SELECT", NULL);
  }
}

static enum cg_code fail_statement(struct cg_model_run *run, const struct cut *cut,
                                   struct cg_err *err) {
  char shown[TEXT_SHOWN + 4];
  bool is_long = cut->size > TEXT_SHOWN;
  snprintf(shown, sizeof(shown), "%.*s%s", is_long ? TEXT_SHOWN : (int)cut->size, cut->text,
           is_long ? "..." : "");
  if (run->refusal[0] != 0)
    return cg_err_set(err, CG_EINVAL, "%s is not allowed here: %s", run->refusal, shown);
  enum cg_code code = cg_model_sql_fail(run->db, run->name, shown, err);
  int status = sqlite3_errcode(run->db);
  if (status == SQLITE_ERROR || status == SQLITE_CONSTRAINT || status == SQLITE_MISMATCH ||
      status == SQLITE_RANGE || status == SQLITE_TOOBIG)
    return cg_err_set(err, CG_EINVAL, "%s: %s", sqlite3_errmsg(run->db), shown);
  return code;
}

/* Is there nothing but blanks and semicolons behind the first statement? */
static bool is_blank(const char *text, const char *end) {
  while (text < end && strchr(" \t\r\n;", *text) != NULL)
    text++;
  return text == end;
}

static enum cg_code prepare(struct cg_model_run *run, const struct cut *cut, enum right right,
                            sqlite3_stmt **out, struct cg_err *err) {
  const char *tail = NULL;
  run->refusal[0] = 0;
  if (right != MAY_ALL)
    sqlite3_set_authorizer(run->db, right == MAY_READ ? authorize_read : authorize_write, run);
  int status = sqlite3_prepare_v3(run->db, cut->text, (int)cut->size,
                                  right == MAY_ALL ? 0 : SQLITE_PREPARE_PERSISTENT, out, &tail);
  sqlite3_set_authorizer(run->db, NULL, NULL);
  if (status != SQLITE_OK)
    return fail_statement(run, cut, err);
  run->refusal[0] = 0;
  if (*out == NULL)
    return cg_err_set(err, CG_EINVAL, "there is no statement in the text: %.*s",
                      (int)(cut->size < TEXT_SHOWN ? cut->size : TEXT_SHOWN), cut->text);
  if (is_blank(tail, cut->text + cut->size))
    return CG_OK;
  sqlite3_finalize(*out);
  *out = NULL;
  return cg_err_set(err, CG_EINVAL, "one statement at a time; behind the first one stands: %.60s",
                    tail);
}

/* The prepared statement of a text, from those that are kept or new. */
static enum cg_code find_kept(struct cg_model_run *run, const struct cut *cut, enum right right,
                              sqlite3_stmt **out, struct cg_err *err) {
  for (int i = 0; i < KEPT_COUNT; i++) {
    struct kept *kept = &run->kept[i];
    if (kept->text != NULL && kept->size == cut->size && kept->right == right &&
        memcmp(kept->text, cut->text, cut->size) == 0) {
      *out = kept->statement;
      return CG_OK;
    }
  }
  sqlite3_stmt *statement = NULL;
  enum cg_code code = prepare(run, cut, right, &statement, err);
  if (code != CG_OK)
    return code;
  struct kept *kept = &run->kept[run->next++ % KEPT_COUNT];
  let_go(kept);
  *kept = (struct kept){.text = cg_strndup(cut->text, cut->size),
                        .size = cut->size,
                        .right = right,
                        .statement = statement};
  *out = statement;
  return CG_OK;
}

static int bind_value(sqlite3_stmt *statement, int place, const struct cg_model_value *value) {
  switch (value->kind) {
  case CG_MODEL_VALUE_INTEGER:
    return sqlite3_bind_int64(statement, place, value->integer);
  case CG_MODEL_VALUE_REAL:
    return sqlite3_bind_double(statement, place, value->real);
  case CG_MODEL_VALUE_TEXT:
    return sqlite3_bind_text(statement, place, value->bytes, (int)value->size, SQLITE_STATIC);
  case CG_MODEL_VALUE_BLOB:
    return sqlite3_bind_blob(statement, place, value->bytes, (int)value->size, SQLITE_STATIC);
  default:
    return SQLITE_OK;
  }
}

/* Binds the values at *offset, which it moves behind them. They point into the buffer. */
static enum cg_code bind_values(struct cg_model_run *run, sqlite3_stmt *statement,
                                const struct cut *cut, const struct cg_buf *buf, size_t *offset,
                                struct cg_err *err) {
  int wanted = sqlite3_bind_parameter_count(statement);
  if ((int)cut->count != wanted)
    return cg_err_set(err, CG_EINVAL, "%d values are needed and %u were given: %.*s", wanted,
                      cut->count, (int)(cut->size < TEXT_SHOWN ? cut->size : TEXT_SHOWN),
                      cut->text);
  for (int i = 1; i <= wanted; i++) {
    struct cg_model_value value;
    cg_model_value_next(buf, offset, &value);
    if (bind_value(statement, i, &value) != SQLITE_OK)
      return fail_statement(run, cut, err);
  }
  return CG_OK;
}

static void add_columns(sqlite3_stmt *statement, struct cg_buf *reply) {
  uint32_t count = (uint32_t)sqlite3_column_count(statement);
  cg_buf_append(reply, &count, sizeof(count));
  for (uint32_t i = 0; i < count; i++) {
    const char *name = sqlite3_column_name(statement, (int)i);
    cg_model_entry_add(reply, name, strlen(name));
  }
}

static void add_row(sqlite3_stmt *statement, struct cg_buf *reply) {
  int count = sqlite3_column_count(statement);
  for (int i = 0; i < count; i++) {
    switch (sqlite3_column_type(statement, i)) {
    case SQLITE_INTEGER:
      add_integer(reply, sqlite3_column_int64(statement, i));
      break;
    case SQLITE_FLOAT:
      add_real(reply, sqlite3_column_double(statement, i));
      break;
    case SQLITE_TEXT:
      add_bytes(reply, CG_MODEL_VALUE_TEXT, sqlite3_column_text(statement, i),
                (size_t)sqlite3_column_bytes(statement, i));
      break;
    case SQLITE_BLOB:
      add_bytes(reply, CG_MODEL_VALUE_BLOB, sqlite3_column_blob(statement, i),
                (size_t)sqlite3_column_bytes(statement, i));
      break;
    default:
      add_kind(reply, CG_MODEL_VALUE_NULL);
      break;
    }
  }
}

/* Steps to the end; rows go into the reply, `max` at most (0: all), when there is one. */
static enum cg_code step_all(struct cg_model_run *run, sqlite3_stmt *statement,
                             const struct cut *cut, struct cg_model_job *job,
                             struct cg_buf *reply) {
  uint32_t rows = 0;
  enum cg_code code = CG_OK;
  int status = sqlite3_step(statement);
  if (reply != NULL)
    add_columns(statement, reply);
  for (; status == SQLITE_ROW && code == CG_OK; status = sqlite3_step(statement)) {
    if (reply == NULL)
      continue;
    if (job->max > 0 && rows++ == job->max) {
      job->is_cut = true;
      return CG_OK;
    }
    add_row(statement, reply);
    if (reply->size > CG_MODEL_REPLY_BYTES_MAX)
      return cg_err_set(&job->err, CG_ELIMIT, "the rows are over %zu MiB together; ask for fewer",
                        CG_MODEL_REPLY_BYTES_MAX >> 20);
  }
  return status == SQLITE_DONE ? CG_OK : fail_statement(run, cut, &job->err);
}

/* Runs the statement at *offset, which it moves behind it. */
static enum cg_code run_next(struct cg_model_run *run, struct cg_model_job *job, size_t *offset,
                             enum right right, struct cg_buf *reply) {
  struct cut cut;
  sqlite3_stmt *statement = NULL;
  cut_next(job->statements, offset, &cut);
  if (cut.mark == OWN_MARK)
    right = MAY_ALL;
  enum cg_code code = right == MAY_ALL ? prepare(run, &cut, right, &statement, &job->err)
                                       : find_kept(run, &cut, right, &statement, &job->err);
  if (code == CG_OK)
    code = bind_values(run, statement, &cut, job->statements, offset, &job->err);
  if (code == CG_OK)
    code = step_all(run, statement, &cut, job, reply);
  if (right == MAY_ALL) {
    sqlite3_finalize(statement);
  } else if (statement != NULL) {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement); /* They point into the job. */
  }
  if (code != CG_OK)
    job->mark = cut.mark;
  return code;
}

enum cg_code cg_model_run_writes(struct cg_model_run *run, struct cg_model_job *job) {
  enum cg_code code = CG_OK;
  size_t offset = 0;
  while (code == CG_OK && offset < job->statements->size)
    code = run_next(run, job, &offset, MAY_WRITE, NULL);
  return code;
}

enum cg_code cg_model_run_own(struct cg_model_run *run, struct cg_model_job *job) {
  enum cg_code code = CG_OK;
  size_t offset = 0;
  while (code == CG_OK && offset < job->statements->size) {
    job->reply->size = 0; /* Of the last one only. */
    code = run_next(run, job, &offset, MAY_ALL, job->reply);
  }
  if (code != CG_OK && !sqlite3_get_autocommit(run->db))
    sqlite3_exec(run->db, "ROLLBACK", NULL, NULL, NULL);
  return code;
}

/* SQLite asks now and then whether to go on. */
static int on_progress(void *arg) {
  struct cg_model_run *run = arg;
  run->is_late = run->deadline != 0 && uv_hrtime() >= run->deadline;
  return run->is_late || atomic_load(run->is_ending);
}

enum cg_code cg_model_run_query(struct cg_model_run *run, struct cg_model_job *job) {
  size_t offset = 0;
  assert(job->statements != NULL && job->statements->size > 0);
  run->deadline = job->timeout_ms > 0 ? uv_hrtime() + (uint64_t)job->timeout_ms * NS_PER_MS : 0;
  run->is_late = false;
  sqlite3_progress_handler(run->db, PROGRESS_STEPS, on_progress, run);
  enum cg_code code = run_next(run, job, &offset, MAY_READ, job->reply);
  sqlite3_progress_handler(run->db, 0, NULL, NULL);
  if (code != CG_OK && run->is_late)
    return cg_err_set(&job->err, CG_ETIMEOUT, "the query took longer than its timeout of %u ms",
                      job->timeout_ms);
  if (code != CG_OK && atomic_load(run->is_ending))
    return cg_err_set(&job->err, CG_ECLOSED, "the read models were closed");
  return code;
}
