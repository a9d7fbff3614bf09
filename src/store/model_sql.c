/* model_sql.c - jobs of read models as SQL.
 *
 * The write-ahead log with synchronous=NORMAL: a crash of the machine may lose the last
 * transactions, each with its checkpoint, and the projection applies those events again.
 * The table of a version has a rowid: with keys in no order it takes twice as many documents a
 * second as one without, because only the small index is touched all over.
 * Prepared statements are kept for each table, for as long as the connection lives.
 * Owns: see model_sql.h. Thread: the model's worker thread. */
#include "store/model_sql.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/model_find.h"
#include "store/model_run.h"

#define FORMAT_VERSION 1     /* PRAGMA user_version of our files. */
#define BUSY_MS 5000         /* How long another process may hold the database. */
#define TABLE_NAME_BYTES 512 /* A name with every character doubled, version, quotes. */

/* At most 16 MiB of pages cached, and as much of the write-ahead log between two of its merges. */
static const char *const PRAGMAS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                                   "PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000";

/* Statements that are the same for all tables. */
enum common { BEGIN, COMMIT, ROLLBACK, MOVE, FIND_CHECKPOINT, LIST, COMMON_COUNT };

static const char *const COMMON_SQL[COMMON_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [MOVE] = "UPDATE catga_checkpoints SET position = ?1"
             " WHERE projection = ?2 AND version = ?3 AND position = ?4",
    [FIND_CHECKPOINT] = "SELECT position, serving FROM catga_checkpoints"
                        " WHERE projection = ?1 AND version = ?2",
    [LIST] = "SELECT projection, version, position, serving FROM catga_checkpoints"
             " ORDER BY projection, version"};

/* Statements on one table; %s is its quoted name. */
enum own { PUT, DELETE, GET, OWN_COUNT };

static const char *const OWN_SQL[OWN_COUNT] = {
    [PUT] = ("INSERT INTO %s (key, doc) VALUES (?1, ?2)"
             " ON CONFLICT (key) DO UPDATE SET doc = excluded.doc"),
    [DELETE] = "DELETE FROM %s WHERE key = ?1",
    [GET] = "SELECT doc FROM %s WHERE key = ?1"};

/* The prepared statements of one version's table. */
struct table {
  char *projection;                    /* Owned. */
  uint64_t version;                    /* Of the projection. */
  sqlite3_stmt *statements[OWN_COUNT]; /* Owned. */
  struct table *next;                  /* In the list of all. */
};

/* The database; the worker thread's. */
struct cg_model_sql {
  sqlite3 *db;                        /* The connection; owned. */
  const char *name;                   /* Of the file, for errors; SQLite's memory. */
  sqlite3_stmt *common[COMMON_COUNT]; /* Owned. */
  struct table *tables;               /* Those used so far. */
  struct cg_model_run *run;           /* For statements; owned. */
};

static enum cg_code set_up(struct cg_model_sql *sql, struct cg_err *err);
static enum cg_code run_list(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_define(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_fetch(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_apply(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_serve(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_find(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_drop(struct cg_model_sql *sql, struct cg_model_job *job);
static enum cg_code run_undo(struct cg_model_sql *sql, struct cg_model_job *job);

/* Takes a table out of the list at `link` and frees it with its statements. */
static void free_table(struct table **link) {
  struct table *table = *link;
  *link = table->next;
  for (int i = 0; i < OWN_COUNT; i++)
    sqlite3_finalize(table->statements[i]);
  cg_free(table->projection);
  cg_free(table);
}

enum cg_code cg_model_sql_fail(sqlite3 *db, const char *name, const char *what,
                               struct cg_err *err) {
  enum cg_code code = CG_EIO;
  switch (sqlite3_errcode(db)) {
  case SQLITE_FULL:
    code = CG_EFULL;
    break;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    code = CG_EBUSY;
    break;
  case SQLITE_PERM:
  case SQLITE_READONLY:
    code = CG_EPERM;
    break;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return cg_err_set(err, CG_ECORRUPT,
                      "%s: %s; read models can be rebuilt: delete this file and those beside it "
                      "that begin with its name",
                      name, sqlite3_errmsg(db));
  default:
    break;
  }
  return cg_err_set(err, code, "%s: %s: %s", name, what, sqlite3_errmsg(db));
}

/* Sets the error from what SQLite says last. */
static enum cg_code fail(struct cg_model_sql *sql, const char *what, struct cg_err *err) {
  return cg_model_sql_fail(sql->db, sql->name, what, err);
}

enum cg_code cg_model_sql_open(struct cg_model_sql **out, const char *path, bool is_reader,
                               const atomic_bool *is_ending, struct cg_err *err) {
  struct cg_model_sql *sql = cg_alloc(sizeof(*sql));
  sql->name = path != NULL ? path : "read models in memory";
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (is_reader ? 0 : SQLITE_OPEN_CREATE);
  enum cg_code code = CG_OK;
  if (sqlite3_open_v2(path != NULL ? path : ":memory:", &sql->db, flags, NULL) != SQLITE_OK)
    code = fail(sql, "open", err);
  if (code == CG_OK && is_reader)
    sqlite3_busy_timeout(sql->db, BUSY_MS);
  else if (code == CG_OK)
    code = set_up(sql, err);
  if (code != CG_OK) {
    cg_model_sql_close(sql);
    return code;
  }
  sql->run = cg_model_run_new(sql->db, sql->name, is_ending);
  *out = sql;
  return CG_OK;
}

void cg_model_sql_close(struct cg_model_sql *sql) {
  if (sql == NULL)
    return;
  for (int i = 0; i < COMMON_COUNT; i++)
    sqlite3_finalize(sql->common[i]);
  while (sql->tables != NULL)
    free_table(&sql->tables);
  cg_model_run_free(sql->run);
  sqlite3_close(sql->db);
  cg_free(sql);
}

void cg_model_sql_run(struct cg_model_sql *sql, struct cg_model_job *job) {
  switch (job->verb) {
  case CG_MODEL_LIST:
    job->code = run_list(sql, job);
    break;
  case CG_MODEL_DEFINE:
    job->code = run_define(sql, job);
    break;
  case CG_MODEL_FETCH:
    job->code = run_fetch(sql, job);
    break;
  case CG_MODEL_APPLY:
    job->code = run_apply(sql, job);
    break;
  case CG_MODEL_FIND:
    job->code = run_find(sql, job);
    break;
  case CG_MODEL_SERVE:
    job->code = run_serve(sql, job);
    break;
  case CG_MODEL_DROP:
    job->code = run_drop(sql, job);
    break;
  case CG_MODEL_RUN:
    job->code = cg_model_run_own(sql->run, job);
    break;
  case CG_MODEL_QUERY:
    job->code = cg_model_run_query(sql->run, job);
    break;
  case CG_MODEL_UNDO:
    job->code = run_undo(sql, job);
    break;
  }
}

bool cg_model_sql_is_open(const struct cg_model_sql *sql) {
  return sql != NULL && !sqlite3_get_autocommit(sql->db);
}

static enum cg_code execute(struct cg_model_sql *sql, const char *text, struct cg_err *err) {
  if (sqlite3_exec(sql->db, text, NULL, NULL, NULL) != SQLITE_OK)
    return fail(sql, text, err);
  return CG_OK;
}

/* Executes a statement in which each %w is replaced by the next argument, quoted. */
static enum cg_code execute_named(struct cg_model_sql *sql, struct cg_err *err, const char *format,
                                  ...) {
  va_list args;
  va_start(args, format);
  char *text = sqlite3_vmprintf(format, args);
  va_end(args);
  if (text == NULL)
    return cg_err_set(err, CG_ENOMEM, "%s: no memory", sql->name);
  enum cg_code code = execute(sql, text, err);
  sqlite3_free(text);
  return code;
}

/* Runs a statement that gives no rows. */
static enum cg_code step(struct cg_model_sql *sql, sqlite3_stmt *statement, const char *what,
                         struct cg_err *err) {
  int status = sqlite3_step(statement);
  enum cg_code code = status == SQLITE_DONE ? CG_OK : fail(sql, what, err);
  sqlite3_reset(statement);
  return code;
}

static enum cg_code begin(struct cg_model_sql *sql, struct cg_err *err) {
  return step(sql, sql->common[BEGIN], "begin", err);
}

/* Ends a transaction: commits when `code` is CG_OK, else rolls back. Returns how it ended. */
static enum cg_code end(struct cg_model_sql *sql, enum cg_code code, struct cg_err *err) {
  if (code == CG_OK)
    code = step(sql, sql->common[COMMIT], "commit", err);
  if (code != CG_OK && !sqlite3_get_autocommit(sql->db))
    step(sql, sql->common[ROLLBACK], "rollback", NULL);
  return code;
}

static enum cg_code check_format(struct cg_model_sql *sql, struct cg_err *err) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(sql->db, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK)
    return fail(sql, "read its format", err);
  enum cg_code code = CG_OK;
  if (sqlite3_step(statement) != SQLITE_ROW)
    code = fail(sql, "read its format", err);
  else if (sqlite3_column_int(statement, 0) > FORMAT_VERSION)
    code = cg_err_set(err, CG_EINVAL,
                      "%s has format %d and was written by a newer version of the program",
                      sql->name, sqlite3_column_int(statement, 0));
  sqlite3_finalize(statement);
  return code;
}

static enum cg_code set_up(struct cg_model_sql *sql, struct cg_err *err) {
  static const char *const SCHEMA =
      "CREATE TABLE IF NOT EXISTS catga_checkpoints (projection TEXT NOT NULL,"
      " version INTEGER NOT NULL, position INTEGER NOT NULL, serving INTEGER NOT NULL,"
      " PRIMARY KEY (projection, version)) WITHOUT ROWID;"
      "CREATE TABLE IF NOT EXISTS catga_skipped (projection TEXT NOT NULL, version INTEGER NOT "
      "NULL,"
      " number INTEGER NOT NULL, position INTEGER NOT NULL, type TEXT, stream TEXT, code TEXT,"
      " message TEXT, time INTEGER, PRIMARY KEY (projection, version, number)) WITHOUT ROWID;"
      "PRAGMA user_version = 1";
  sqlite3_busy_timeout(sql->db, BUSY_MS);
  enum cg_code code = check_format(sql, err);
  if (code == CG_OK)
    code = execute(sql, PRAGMAS, err);
  if (code == CG_OK)
    code = execute(sql, SCHEMA, err);
  for (int i = 0; i < COMMON_COUNT && code == CG_OK; i++)
    if (sqlite3_prepare_v3(sql->db, COMMON_SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &sql->common[i],
                           NULL) != SQLITE_OK)
      code = fail(sql, COMMON_SQL[i], err);
  return code;
}

/* The quoted name of a version's table; CG_EINVAL when it is too long. */
static enum cg_code table_name(struct cg_model_job *job, char name[TABLE_NAME_BYTES]) {
  if (strlen(job->projection) > CG_MODEL_NAME_BYTES_MAX)
    return cg_err_set(&job->err, CG_EINVAL, "a projection's name has up to %d bytes: %.64s...",
                      CG_MODEL_NAME_BYTES_MAX, job->projection);
  sqlite3_snprintf(TABLE_NAME_BYTES, name, "\"%w@%llu\"", job->projection,
                   (unsigned long long)job->version);
  return CG_OK;
}

/* The prepared statements of the job's table. CG_EIO when there is no such table. */
static enum cg_code find_table(struct cg_model_sql *sql, struct cg_model_job *job,
                               struct table **out) {
  for (struct table *table = sql->tables; table != NULL; table = table->next)
    if (table->version == job->version && strcmp(table->projection, job->projection) == 0) {
      *out = table;
      return CG_OK;
    }
  char name[TABLE_NAME_BYTES];
  enum cg_code code = table_name(job, name);
  if (code != CG_OK)
    return code;
  struct table *table = cg_alloc(sizeof(*table));
  table->projection = cg_strndup(job->projection, strlen(job->projection));
  table->version = job->version;
  for (int i = 0; i < OWN_COUNT && code == CG_OK; i++) {
    char text[TABLE_NAME_BYTES + 128];
    sqlite3_snprintf(sizeof(text), text, OWN_SQL[i], name);
    if (sqlite3_prepare_v3(sql->db, text, -1, SQLITE_PREPARE_PERSISTENT, &table->statements[i],
                           NULL) != SQLITE_OK)
      code = fail(sql, text, &job->err);
  }
  table->next = sql->tables;
  sql->tables = table;
  if (code != CG_OK)
    free_table(&sql->tables);
  *out = sql->tables;
  return code;
}

/* Forgets the statements of the job's projection but those of its version. */
static void forget_others(struct cg_model_sql *sql, const struct cg_model_job *job) {
  struct table **link = &sql->tables;
  while (*link != NULL) {
    struct table *table = *link;
    if (table->version == job->version || strcmp(table->projection, job->projection) != 0)
      link = &table->next;
    else
      free_table(link);
  }
}

/* Adds a column of the current row to the reply as an entry. */
static enum cg_code add_column(struct cg_buf *reply, sqlite3_stmt *statement, int column,
                               struct cg_err *err) {
  const void *bytes = sqlite3_column_text(statement, column);
  size_t size = (size_t)sqlite3_column_bytes(statement, column);
  if (size + reply->size > CG_MODEL_REPLY_BYTES_MAX)
    return cg_err_set(err, CG_ELIMIT, "the documents are over %zu MiB together; ask for fewer",
                      CG_MODEL_REPLY_BYTES_MAX >> 20);
  cg_model_entry_add(reply, bytes, size);
  return CG_OK;
}

static void bind_key(sqlite3_stmt *statement, int place, const void *bytes, size_t size) {
  sqlite3_bind_text(statement, place, bytes, (int)size, SQLITE_STATIC);
}

/* Reads the checkpoint into the job; CG_ENOTFOUND when there is none. */
static enum cg_code read_checkpoint(struct cg_model_sql *sql, struct cg_model_job *job) {
  sqlite3_stmt *statement = sql->common[FIND_CHECKPOINT];
  bind_key(statement, 1, job->projection, strlen(job->projection));
  sqlite3_bind_int64(statement, 2, (sqlite3_int64)job->version);
  int status = sqlite3_step(statement);
  enum cg_code code = CG_OK;
  if (status == SQLITE_ROW) {
    job->position = (uint64_t)sqlite3_column_int64(statement, 0);
    job->is_serving = sqlite3_column_int(statement, 1) != 0;
  } else if (status == SQLITE_DONE) {
    code = cg_err_set(&job->err, CG_ENOTFOUND, "%s: no version %llu of projection %s", sql->name,
                      (unsigned long long)job->version, job->projection);
  } else {
    code = fail(sql, "read a checkpoint", &job->err);
  }
  sqlite3_reset(statement);
  return code;
}

static enum cg_code run_list(struct cg_model_sql *sql, struct cg_model_job *job) {
  sqlite3_stmt *statement = sql->common[LIST];
  enum cg_code code = CG_OK;
  int status = sqlite3_step(statement);
  for (; status == SQLITE_ROW && code == CG_OK; status = sqlite3_step(statement))
    for (int column = 0; column < 4 && code == CG_OK; column++)
      code = add_column(job->reply, statement, column, &job->err);
  if (code == CG_OK && status != SQLITE_DONE)
    code = fail(sql, "list the checkpoints", &job->err);
  sqlite3_reset(statement);
  return code;
}

/* Table names are the same to SQLite when they differ only in case. */
static enum cg_code check_case(struct cg_model_sql *sql, struct cg_model_job *job) {
  static const char *const TEXT = "SELECT projection FROM catga_checkpoints"
                                  " WHERE projection = ?1 COLLATE NOCASE AND projection <> ?1";
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(sql->db, TEXT, -1, &statement, NULL) != SQLITE_OK)
    return fail(sql, "look for like names", &job->err);
  bind_key(statement, 1, job->projection, strlen(job->projection));
  enum cg_code code = CG_OK;
  if (sqlite3_step(statement) == SQLITE_ROW)
    code = cg_err_set(&job->err, CG_EEXISTS,
                      "%s holds a projection %s: a name that differs only in case, %s, cannot "
                      "stand beside it",
                      sql->name, (const char *)sqlite3_column_text(statement, 0), job->projection);
  sqlite3_finalize(statement);
  return code;
}

/* The view shows the version that serves, if its documents are here: under the projection's name,
 * or as "documents", so that it is in no table's way, where the projection is alone. */
static enum cg_code make_view(struct cg_model_sql *sql, struct cg_model_job *job) {
  char name[TABLE_NAME_BYTES];
  const char *view = job->is_alone ? "documents" : job->projection;
  snprintf(name, sizeof(name), "%s@%llu", job->projection, (unsigned long long)job->version);
  bool is_here = sqlite3_table_column_metadata(sql->db, "main", name, "doc", NULL, NULL, NULL, NULL,
                                               NULL) == SQLITE_OK;
  enum cg_code code = execute_named(sql, &job->err, "DROP VIEW IF EXISTS \"%w\"", view);
  if (code == CG_OK && is_here)
    code = execute_named(sql, &job->err, "CREATE VIEW \"%w\" AS SELECT key, doc FROM \"%w\"", view,
                         name);
  return code;
}

static enum cg_code make_version(struct cg_model_sql *sql, struct cg_model_job *job) {
  unsigned long long version = job->version;
  enum cg_code code = CG_OK;
  if (!job->is_apart)
    code = execute_named(sql, &job->err,
                         "CREATE TABLE \"%w@%llu\" (key TEXT PRIMARY KEY NOT NULL,"
                         " doc TEXT NOT NULL)",
                         job->projection, version);
  if (code == CG_OK)
    code = execute_named(sql, &job->err,
                         "INSERT INTO catga_checkpoints SELECT %Q, %llu, 0, NOT EXISTS"
                         " (SELECT 1 FROM catga_checkpoints WHERE projection = %Q AND serving)",
                         job->projection, version, job->projection);
  if (code == CG_OK)
    code = read_checkpoint(sql, job);
  if (code == CG_OK && job->is_serving)
    code = make_view(sql, job);
  return code;
}

static enum cg_code run_define(struct cg_model_sql *sql, struct cg_model_job *job) {
  char name[TABLE_NAME_BYTES];
  enum cg_code code = table_name(job, name);
  if (code == CG_OK)
    code = read_checkpoint(sql, job);
  if (code != CG_ENOTFOUND)
    return code;
  code = check_case(sql, job);
  if (code == CG_OK)
    code = begin(sql, &job->err);
  if (code != CG_OK)
    return code;
  return end(sql, make_version(sql, job), &job->err);
}

static enum cg_code run_fetch(struct cg_model_sql *sql, struct cg_model_job *job) {
  struct table *table;
  enum cg_code code = find_table(sql, job, &table);
  const void *key;
  size_t size, offset = 0;
  while (code == CG_OK && cg_model_entry_next(job->request, &offset, &key, &size)) {
    sqlite3_stmt *statement = table->statements[GET];
    bind_key(statement, 1, key, size);
    int status = sqlite3_step(statement);
    if (status == SQLITE_ROW)
      code = add_column(job->reply, statement, 0, &job->err);
    else if (status == SQLITE_DONE)
      cg_model_entry_add(job->reply, NULL, 0);
    else
      code = fail(sql, "read a document", &job->err);
    sqlite3_reset(statement);
  }
  return code;
}

/* Writes the documents of an APPLY. */
static enum cg_code write_documents(struct cg_model_sql *sql, struct cg_model_job *job,
                                    struct table *table) {
  const void *key, *doc;
  size_t key_size, doc_size, offset = 0;
  enum cg_code code = CG_OK;
  while (code == CG_OK && cg_model_entry_next(job->request, &offset, &key, &key_size)) {
    bool has_doc = cg_model_entry_next(job->request, &offset, &doc, &doc_size);
    assert(has_doc);
    sqlite3_stmt *statement = table->statements[doc != NULL ? PUT : DELETE];
    bind_key(statement, 1, key, key_size);
    if (doc != NULL)
      bind_key(statement, 2, doc, doc_size);
    code = step(sql, statement, "write a document", &job->err);
  }
  return code;
}

/* Moves the checkpoint on, if it stands where the caller thinks. */
static enum cg_code move_checkpoint(struct cg_model_sql *sql, struct cg_model_job *job) {
  sqlite3_stmt *statement = sql->common[MOVE];
  sqlite3_bind_int64(statement, 1, (sqlite3_int64)job->position);
  bind_key(statement, 2, job->projection, strlen(job->projection));
  sqlite3_bind_int64(statement, 3, (sqlite3_int64)job->version);
  sqlite3_bind_int64(statement, 4, (sqlite3_int64)job->from);
  enum cg_code code = step(sql, statement, "move the checkpoint", &job->err);
  if (code == CG_OK && sqlite3_changes(sql->db) != 1)
    code = cg_err_set(&job->err, CG_ECONFLICT,
                      "%s: the checkpoint of projection %s version %llu is not at %llu: something "
                      "else has written to it",
                      sql->name, job->projection, (unsigned long long)job->version,
                      (unsigned long long)job->from);
  return code;
}

static enum cg_code run_apply(struct cg_model_sql *sql, struct cg_model_job *job) {
  struct table *table;
  enum cg_code code = find_table(sql, job, &table);
  if (code == CG_OK && sqlite3_get_autocommit(sql->db))
    code = begin(sql, &job->err);
  if (code == CG_OK && !job->stays_open)
    code = move_checkpoint(sql, job);
  if (code == CG_OK)
    code = write_documents(sql, job, table);
  if (code == CG_OK && job->statements != NULL)
    code = cg_model_run_writes(sql->run, job);
  if (code == CG_OK && job->stays_open)
    return CG_OK;
  return end(sql, code, &job->err);
}

static enum cg_code run_undo(struct cg_model_sql *sql, struct cg_model_job *job) {
  if (sqlite3_get_autocommit(sql->db))
    return CG_OK;
  return step(sql, sql->common[ROLLBACK], "rollback", &job->err);
}

/* Drops the tables of all versions of the job's projection but its own. */
static enum cg_code drop_others(struct cg_model_sql *sql, struct cg_model_job *job) {
  sqlite3_stmt *statement = sql->common[LIST];
  struct cg_buf *drops = cg_buf_take(NULL, 0);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    const char *projection = (const char *)sqlite3_column_text(statement, 0);
    uint64_t version = (uint64_t)sqlite3_column_int64(statement, 1);
    if (strcmp(projection, job->projection) != 0 || version == job->version)
      continue;
    char *text = sqlite3_mprintf("DROP TABLE IF EXISTS \"%w@%llu\";", projection,
                                 (unsigned long long)version);
    cg_buf_append(drops, text, strlen(text));
    sqlite3_free(text);
  }
  sqlite3_reset(statement);
  cg_buf_append(drops, "", 1);
  forget_others(sql, job);
  enum cg_code code = execute(sql, (const char *)drops->data, &job->err);
  cg_buf_unref(drops);
  return code;
}

static enum cg_code run_serve(struct cg_model_sql *sql, struct cg_model_job *job) {
  unsigned long long version = job->version;
  enum cg_code code = begin(sql, &job->err);
  if (code != CG_OK)
    return code;
  code = read_checkpoint(sql, job);
  if (code == CG_OK)
    code = make_view(sql, job);
  if (code == CG_OK)
    code = drop_others(sql, job);
  if (code == CG_OK)
    code = execute_named(sql, &job->err,
                         "DELETE FROM catga_checkpoints WHERE projection = %Q AND version <> %llu;"
                         "DELETE FROM catga_skipped WHERE projection = %Q AND version <> %llu;"
                         "UPDATE catga_checkpoints SET serving = 1 WHERE projection = %Q",
                         job->projection, version, job->projection, version, job->projection);
  return end(sql, code, &job->err);
}

static enum cg_code run_drop(struct cg_model_sql *sql, struct cg_model_job *job) {
  enum cg_code code = begin(sql, &job->err);
  if (code != CG_OK)
    return code;
  for (struct table **link = &sql->tables; *link != NULL;)
    if ((*link)->version == job->version && strcmp((*link)->projection, job->projection) == 0)
      free_table(link);
    else
      link = &(*link)->next;
  unsigned long long version = job->version;
  code =
      execute_named(sql, &job->err,
                    "DROP TABLE IF EXISTS \"%w@%llu\";"
                    "DELETE FROM catga_checkpoints WHERE projection = %Q AND version = %llu;"
                    "DELETE FROM catga_skipped WHERE projection = %Q AND version = %llu",
                    job->projection, version, job->projection, version, job->projection, version);
  return end(sql, code, &job->err);
}

static enum cg_code run_find(struct cg_model_sql *sql, struct cg_model_job *job) {
  char name[TABLE_NAME_BYTES];
  enum cg_code code = table_name(job, name);
  if (code != CG_OK)
    return code;
  sqlite3_stmt *statement = NULL;
  int status = cg_model_find_prepare(sql->db, job, name, &statement);
  if (status != SQLITE_OK)
    return fail(sql, "find documents", &job->err);
  for (status = sqlite3_step(statement); status == SQLITE_ROW && code == CG_OK;
       status = sqlite3_step(statement)) {
    code = add_column(job->reply, statement, 0, &job->err);
    if (code == CG_OK)
      code = add_column(job->reply, statement, 1, &job->err);
  }
  if (code == CG_OK && status != SQLITE_DONE)
    code = fail(sql, "find documents", &job->err);
  sqlite3_finalize(statement);
  return code;
}
