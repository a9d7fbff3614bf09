/* model_test.c - read models: jobs on the worker, transactions, versions, finding, closing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/model.h"

static uv_loop_t loop;
static struct cg_model *model;
static struct cg_model_job *last; /* The job that was done last. */
static int done_count;
static char directory[64];
static char path[128];

static int setup(void **state) {
  (void)state;
  strcpy(directory, "/tmp/catga-model-test-XXXXXX");
  if (!mkdtemp(directory))
    return -1;
  snprintf(path, sizeof(path), "%s/models.sqlite", directory);
  done_count = 0;
  struct cg_err err;
  return uv_loop_init(&loop) == 0 && cg_model_open(&model, &loop, path, false, &err) == CG_OK ? 0
                                                                                              : -1;
}

static void close_model(void) {
  cg_model_close(model);
  model = NULL;
  uv_run(&loop, UV_RUN_DEFAULT);
}

static int teardown(void **state) {
  (void)state;
  close_model();
  cg_model_job_free(last);
  last = NULL;
  static const char *const endings[] = {"", "-wal", "-shm"};
  for (int i = 0; i < 3; i++) {
    char name[160];
    snprintf(name, sizeof(name), "%s%s", path, endings[i]);
    unlink(name);
  }
  rmdir(directory);
  return uv_loop_close(&loop);
}

static void reopen(void) {
  struct cg_err err;
  close_model();
  assert_int_equal(cg_model_open(&model, &loop, path, false, &err), CG_OK);
}

static void keep_last(void *arg, struct cg_model_job *job) {
  (void)arg;
  cg_model_job_free(last);
  last = job;
  done_count++;
}

/* Submits and lets the loop run until nothing is under way. */
static enum cg_code run(struct cg_model_job *job) {
  struct cg_err err;
  assert_int_equal(cg_model_submit(model, job, keep_last, NULL, &err), CG_OK);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_ptr_equal(last, job);
  return job->code;
}

static void add_text(struct cg_model_job *job, const char *text) {
  cg_model_entry_add(job->request, text, text != NULL ? strlen(text) : 0);
}

static enum cg_code define(const char *projection, uint32_t version) {
  return run(cg_model_job_new(CG_MODEL_DEFINE, projection, version));
}

/* An APPLY of NULL-ended pairs; a document "-" deletes. */
static struct cg_model_job *changes(uint32_t version, uint64_t from, uint64_t to, ...) {
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_APPLY, "Orders", version);
  job->from = from;
  job->position = to;
  va_list args;
  va_start(args, to);
  for (const char *key = va_arg(args, const char *); key != NULL;
       key = va_arg(args, const char *)) {
    const char *doc = va_arg(args, const char *);
    add_text(job, key);
    add_text(job, strcmp(doc, "-") == 0 ? NULL : doc);
  }
  va_end(args);
  return job;
}

/* The entries of the last reply, with blanks between; "~" is an absent one. */
static const char *reply(void) {
  static char text[1024];
  size_t offset = 0, size;
  const void *bytes;
  text[0] = 0;
  while (cg_model_entry_next(last->reply, &offset, &bytes, &size)) {
    if (text[0] != 0)
      strcat(text, " ");
    strncat(text, bytes != NULL ? bytes : "~", bytes != NULL ? size : 1);
  }
  return text;
}

static const char *fetch(uint32_t version, const char *key) {
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_FETCH, "Orders", version);
  add_text(job, key);
  assert_int_equal(run(job), CG_OK);
  return reply();
}

static const char *list(void) {
  assert_int_equal(run(cg_model_job_new(CG_MODEL_LIST, NULL, 0)), CG_OK);
  return reply();
}

static void test_documents_live_over_a_restart(void **state) {
  (void)state;
  assert_int_equal(define("Orders", 1), CG_OK);
  assert_int_equal(last->position, 0);
  assert_true(last->is_serving);
  assert_int_equal(run(changes(1, 0, 7, "a", "{\"n\":1}", "b", "{}", "", "{\"n\":0}", NULL)),
                   CG_OK);
  assert_int_equal(run(changes(1, 7, 9, "b", "-", "a", "{\"n\":2}", "gone", "-", NULL)), CG_OK);
  reopen();
  assert_int_equal(define("Orders", 1), CG_OK);
  assert_int_equal(last->position, 9);
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_FETCH, "Orders", 1);
  add_text(job, "b");
  add_text(job, "a");
  add_text(job, "");
  assert_int_equal(run(job), CG_OK);
  assert_string_equal(reply(), "~ {\"n\":2} {\"n\":0}");
}

static void test_keys_may_hold_any_byte(void **state) {
  (void)state;
  define("Orders", 1);
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_APPLY, "Orders", 1);
  job->position = 1;
  cg_model_entry_add(job->request, "a\0b", 3);
  cg_model_entry_add(job->request, "1", 1);
  assert_int_equal(run(job), CG_OK);
  assert_string_equal(fetch(1, "a"), "~");
  job = cg_model_job_new(CG_MODEL_FETCH, "Orders", 1);
  cg_model_entry_add(job->request, "a\0b", 3);
  assert_int_equal(run(job), CG_OK);
  assert_string_equal(reply(), "1");
}

static void test_wrong_checkpoint_changes_nothing(void **state) {
  (void)state;
  define("Orders", 1);
  assert_int_equal(run(changes(1, 0, 5, "a", "1", NULL)), CG_OK);
  assert_int_equal(run(changes(1, 4, 6, "a", "2", NULL)), CG_ECONFLICT);
  assert_non_null(strstr(last->err.message, "Orders"));
  assert_int_equal(run(changes(2, 0, 6, "a", "2", NULL)), CG_EIO);
  assert_string_equal(fetch(1, "a"), "1");
  assert_string_equal(list(), "Orders 1 5 1");
  assert_int_equal(run(changes(1, 5, 6, "a", "2", NULL)), CG_OK);
  assert_string_equal(fetch(1, "a"), "2");
}

/* A trigger makes the second of two writes fail: the first must go too, and the checkpoint. */
static void test_failed_write_takes_back_the_batch(void **state) {
  (void)state;
  define("Orders", 1);
  sqlite3 *db;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  const char *trigger = "CREATE TRIGGER t BEFORE INSERT ON \"Orders@1\" WHEN new.key = 'bad'"
                        " BEGIN SELECT RAISE(ABORT, 'no'); END";
  assert_int_equal(sqlite3_exec(db, trigger, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  assert_int_equal(run(changes(1, 0, 5, "a", "1", "bad", "1", NULL)), CG_EIO);
  assert_string_equal(fetch(1, "a"), "~");
  assert_string_equal(list(), "Orders 1 0 1");
  assert_int_equal(run(changes(1, 0, 5, "a", "1", NULL)), CG_OK);
}

static void test_versions_are_built_beside(void **state) {
  (void)state;
  define("Orders", 1);
  run(changes(1, 0, 5, "a", "1", NULL));
  assert_int_equal(define("Orders", 2), CG_OK);
  assert_false(last->is_serving);
  run(changes(2, 0, 3, "a", "2", NULL));
  define("Other", 1);
  assert_string_equal(list(), "Orders 1 5 1 Orders 2 3 0 Other 1 0 1");
  assert_string_equal(fetch(1, "a"), "1");
  assert_int_equal(run(cg_model_job_new(CG_MODEL_SERVE, "Orders", 2)), CG_OK);
  assert_string_equal(list(), "Orders 2 3 1 Other 1 0 1");
  assert_string_equal(fetch(2, "a"), "2");
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_FETCH, "Orders", 1);
  assert_int_equal(run(job), CG_EIO);
  assert_int_equal(define("Orders", 1), CG_OK); /* Back again: from the beginning. */
  assert_string_equal(fetch(1, "a"), "~");
  assert_int_equal(run(cg_model_job_new(CG_MODEL_SERVE, "Orders", 3)), CG_ENOTFOUND);
  assert_string_equal(list(), "Orders 1 0 0 Orders 2 3 1 Other 1 0 1");
}

static void test_people_see_the_version_that_serves(void **state) {
  (void)state;
  define("Orders", 1);
  run(changes(1, 0, 5, "a", "1", NULL));
  define("Orders", 2);
  run(changes(2, 0, 3, "a", "2", NULL));
  for (int version = 1; version <= 2; version++) {
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT doc FROM Orders", -1, &statement, NULL), 0);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), version);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    assert_int_equal(run(cg_model_job_new(CG_MODEL_SERVE, "Orders", 2)), CG_OK);
  }
}

static void test_names_are_quoted(void **state) {
  (void)state;
  const char *odd = "a\"; DROP TABLE catga_checkpoints; --' x";
  assert_int_equal(define(odd, 1), CG_OK);
  assert_int_equal(define(odd, 2), CG_OK);
  assert_int_equal(run(cg_model_job_new(CG_MODEL_SERVE, odd, 2)), CG_OK);
  assert_int_equal(run(cg_model_job_new(CG_MODEL_FIND, odd, 2)), CG_OK);
  char name[600];
  memset(name, 'x', sizeof(name));
  name[599] = 0;
  assert_int_equal(define(name, 1), CG_EINVAL);
  assert_int_equal(define("Orders", 1), CG_OK);
  assert_int_equal(define("ORDERS", 1), CG_EEXISTS);
}

static struct cg_model_job *where(struct cg_model_job *job, const char *field,
                                  enum cg_model_match match, const void *bytes, size_t size) {
  struct cg_err err;
  if (job == NULL)
    job = cg_model_job_new(CG_MODEL_FIND, "Orders", 1);
  assert_int_equal(cg_model_job_where(job, field, match, bytes, size, &err), CG_OK);
  return job;
}

static const char *found(struct cg_model_job *job) {
  assert_int_equal(run(job), CG_OK);
  static char keys[256];
  size_t offset = 0, size;
  const void *bytes;
  keys[0] = 0;
  for (bool is_key = true; cg_model_entry_next(last->reply, &offset, &bytes, &size);
       is_key = !is_key)
    if (is_key)
      strncat(keys, bytes, size);
  return keys;
}

static void test_find(void **state) {
  (void)state;
  define("Orders", 1);
  run(changes(1, 0, 1, "a", "{\"s\":\"new\",\"n\":1,\"p\":true}", "b",
              "{\"s\":\"new\",\"n\":2.5,\"p\":1}", "c", "{\"s\":\"old\",\"n\":1.0,\"p\":null}", "d",
              "{\"s\":{\"x\":1},\"n\":\"1\",\"a.b\":7}", NULL));
  double one = 1, seven = 7;
  bool yes = true;
  assert_string_equal(found(where(NULL, "s", CG_MODEL_STRING, "new", 3)), "ab");
  assert_string_equal(found(where(NULL, "n", CG_MODEL_NUMBER, &one, sizeof(one))), "ac");
  assert_string_equal(found(where(NULL, "n", CG_MODEL_STRING, "1", 1)), "d");
  assert_string_equal(found(where(NULL, "p", CG_MODEL_BOOLEAN, &yes, sizeof(yes))), "a");
  assert_string_equal(found(where(NULL, "p", CG_MODEL_NUMBER, &one, sizeof(one))), "b");
  assert_string_equal(found(where(NULL, "p", CG_MODEL_NULL, NULL, 0)), "c");
  assert_string_equal(found(where(NULL, "s", CG_MODEL_STRING, "{\"x\":1}", 7)), "");
  assert_string_equal(found(where(NULL, "a.b", CG_MODEL_NUMBER, &seven, sizeof(seven))), "d");
  assert_string_equal(found(where(where(NULL, "s", CG_MODEL_STRING, "new", 3), "n", CG_MODEL_NUMBER,
                                  &one, sizeof(one))),
                      "a");
  struct cg_err err;
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_FIND, "Orders", 1);
  assert_int_equal(cg_model_job_where(job, "a\"b", CG_MODEL_NULL, NULL, 0, &err), CG_EINVAL);
  assert_int_equal(cg_model_job_sort(job, "a\\b", false, &err), CG_EINVAL);
  assert_string_equal(found(job), "abcd");
}

static void test_find_sorts_and_bounds(void **state) {
  (void)state;
  struct cg_err err;
  define("Orders", 1);
  run(changes(1, 0, 1, "a", "{\"n\":2}", "b", "{\"n\":10}", "c", "{\"n\":1}", "d", "{\"n\":2}",
              NULL));
  struct cg_model_job *job = cg_model_job_new(CG_MODEL_FIND, "Orders", 1);
  cg_model_job_sort(job, "n", false, &err);
  assert_string_equal(found(job), "cadb");
  job = cg_model_job_new(CG_MODEL_FIND, "Orders", 1);
  cg_model_job_sort(job, "n", true, &err);
  job->max = 2;
  job->offset = 1;
  assert_string_equal(found(job), "da");
}

static void test_jobs_run_in_order(void **state) {
  (void)state;
  struct cg_err err;
  define("Orders", 1);
  done_count = 0;
  for (uint64_t i = 0; i < 50; i++) {
    char doc[16];
    snprintf(doc, sizeof(doc), "%d", (int)i);
    cg_model_submit(model, changes(1, i, i + 1, "a", doc, NULL), keep_last, NULL, &err);
  }
  assert_string_equal(fetch(1, "a"), "49");
  assert_int_equal(done_count, 51);
}

static void test_close_ends_what_waits(void **state) {
  (void)state;
  struct cg_err err;
  define("Orders", 1);
  done_count = 0;
  for (uint64_t i = 0; i < 200; i++)
    cg_model_submit(model, changes(1, i, i + 1, "a", "1", NULL), keep_last, NULL, &err);
  close_model();
  assert_int_equal(done_count, 200);
  assert_true(last->code == CG_ECLOSED || last->code == CG_OK);
  assert_int_equal(cg_model_open(&model, &loop, path, false, &err), CG_OK);
}

static void test_too_many_jobs_are_refused(void **state) {
  (void)state;
  struct cg_err err;
  enum cg_code code = CG_OK;
  uint32_t taken = 0;
  sqlite3 *db; /* Holds the database, so that the worker cannot go on. */
  define("Orders", 1);
  sqlite3_open(path, &db);
  assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  struct cg_model_job *job = NULL;
  while (code == CG_OK && taken < 2 * CG_MODEL_JOBS_MAX) {
    job = changes(1, taken, taken + 1, "a", "1", NULL);
    code = cg_model_submit(model, job, keep_last, NULL, &err);
    taken += code == CG_OK;
  }
  assert_int_equal(code, CG_ELIMIT);
  assert_in_range(taken, CG_MODEL_JOBS_MAX, CG_MODEL_JOBS_MAX + 1);
  cg_model_job_free(job);
  sqlite3_close(db);
  close_model();
  assert_int_equal(cg_model_open(&model, &loop, path, false, &err), CG_OK);
}

static void test_damaged_file_is_named(void **state) {
  (void)state;
  struct cg_err err;
  close_model();
  FILE *file = fopen(path, "wb");
  for (int i = 0; i < 1000; i++)
    fputs("not a database ", file);
  fclose(file);
  assert_int_equal(cg_model_open(&model, &loop, path, false, &err), CG_OK);
  assert_int_equal(define("Orders", 1), CG_ECORRUPT);
  assert_non_null(strstr(last->err.message, "models.sqlite"));
  assert_int_equal(define("Orders", 1), CG_ECORRUPT);
}

static void test_newer_format_is_refused(void **state) {
  (void)state;
  struct cg_err err;
  define("Orders", 1);
  close_model();
  sqlite3 *db;
  sqlite3_open(path, &db);
  sqlite3_exec(db, "PRAGMA user_version = 2", NULL, NULL, NULL);
  sqlite3_close(db);
  assert_int_equal(cg_model_open(&model, &loop, path, false, &err), CG_OK);
  assert_int_equal(define("Orders", 1), CG_EINVAL);
}

static void test_memory_database(void **state) {
  (void)state;
  struct cg_err err;
  close_model();
  assert_int_equal(cg_model_open(&model, &loop, NULL, false, &err), CG_OK);
  assert_int_equal(define("Orders", 1), CG_OK);
  assert_int_equal(run(changes(1, 0, 1, "a", "1", NULL)), CG_OK);
  assert_string_equal(fetch(1, "a"), "1");
}

/* A process that dies between batches and inside one leaves whole batches: a document that
 * counts, and the checkpoint beside it, are equal. */
static void test_killed_process_leaves_whole_batches(void **state) {
  (void)state;
  define("Orders", 1);
  close_model();
  uint64_t position = 0;
  for (int round = 0; round < 5; round++) {
    pid_t child = fork();
    if (child == 0) {
      struct cg_err err;
      uv_loop_t own;
      uv_loop_init(&own);
      cg_model_open(&model, &own, path, false, &err);
      for (uint64_t i = position;; i++) {
        char doc[32];
        snprintf(doc, sizeof(doc), "%d", (int)i + 1);
        if (i == position + 300 || /* The worker is somewhere in what was handed over. */
            cg_model_submit(model, changes(1, i, i + 1, "a", doc, "b", doc, NULL), keep_last, NULL,
                            &err) != CG_OK)
          _exit(0);
        if (i % 100 == 50)
          uv_run(&own, UV_RUN_DEFAULT);
      }
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    struct cg_err err;
    assert_int_equal(cg_model_open(&model, &loop, path, false, &err), CG_OK);
    assert_int_equal(define("Orders", 1), CG_OK);
    assert_true(last->position > position);
    position = last->position;
    char text[64];
    snprintf(text, sizeof(text), "%d", (int)position);
    assert_string_equal(fetch(1, "a"), text);
    assert_string_equal(fetch(1, "b"), text);
    if (round < 4)
      close_model();
  }
}

#define WITH_MODEL(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      WITH_MODEL(test_documents_live_over_a_restart),
      WITH_MODEL(test_keys_may_hold_any_byte),
      WITH_MODEL(test_wrong_checkpoint_changes_nothing),
      WITH_MODEL(test_failed_write_takes_back_the_batch),
      WITH_MODEL(test_versions_are_built_beside),
      WITH_MODEL(test_people_see_the_version_that_serves),
      WITH_MODEL(test_names_are_quoted),
      WITH_MODEL(test_find),
      WITH_MODEL(test_find_sorts_and_bounds),
      WITH_MODEL(test_jobs_run_in_order),
      WITH_MODEL(test_close_ends_what_waits),
      WITH_MODEL(test_too_many_jobs_are_refused),
      WITH_MODEL(test_damaged_file_is_named),
      WITH_MODEL(test_newer_format_is_refused),
      WITH_MODEL(test_memory_database),
      WITH_MODEL(test_killed_process_leaves_whole_batches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
