/* log_thread_test.c - the file log with its writer thread on real files in a directory of its own.
 *
 * Nothing here sleeps: waiting is on a condition that `progress` signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "log/log.h"
#include "support/log_model.h"

#define WAIT_SECONDS_MAX 60 /* A wait that takes longer is a failure. */
#define SEEN_MAX 4096

/* A log in a temporary directory. */
struct world {
  char directory[64];            /* Temporary. */
  char path[80];                 /* Of the log in it. */
  struct log_model model;        /* What was appended. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* The log. */
  pthread_mutex_t mutex;         /* Guards the next fields. */
  pthread_cond_t progressed;     /* Signalled with it. */
  uint64_t progress_count;       /* Calls of progress. */
  uint64_t seen[SEEN_MAX];       /* Durable positions that progress has told of first. */
};

static void on_progress(void *arg) {
  struct world *world = arg;
  pthread_mutex_lock(&world->mutex);
  if (world->log && world->progress_count < SEEN_MAX)
    world->seen[world->progress_count] = cg_log_durable_position(world->log);
  world->progress_count++;
  pthread_cond_signal(&world->progressed);
  pthread_mutex_unlock(&world->mutex);
}

static void open_log(struct world *world) {
  struct cg_err err;
  log_model_begin(&world->model);
  if (cg_log_open_file(&world->log, world->path, &world->options, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static void open_world(struct world *world, enum cg_durability durability) {
  *world = (struct world){.directory = "/tmp/catga-log-test-XXXXXX"};
  pthread_mutex_init(&world->mutex, NULL);
  pthread_cond_init(&world->progressed, NULL);
  assert_non_null(mkdtemp(world->directory));
  snprintf(world->path, sizeof(world->path), "%s/log", world->directory);
  world->options = (struct cg_log_options){
      .durability = durability,
      .segment_bytes = 1 << 20,
      .mark_delay_ms = 1,
      .replay = log_model_see,
      .replay_arg = &world->model,
      .progress = on_progress,
      .progress_arg = world,
  };
  open_log(world);
}

/* Removes a directory of files. */
static void remove_directory(const char *path) {
  DIR *entries = opendir(path);
  const struct dirent *entry;
  char name[400];
  while (entries && (entry = readdir(entries))) {
    snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
    unlink(name);
  }
  if (entries)
    closedir(entries);
  rmdir(path);
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  remove_directory(world->path);
  remove_directory(world->directory);
  log_model_deinit(&world->model);
  pthread_cond_destroy(&world->progressed);
  pthread_mutex_destroy(&world->mutex);
}

/* Waits until the durable position is `position`. */
static void wait_durable(struct world *world, uint64_t position) {
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += WAIT_SECONDS_MAX;
  pthread_mutex_lock(&world->mutex);
  int error = 0;
  while (cg_log_durable_position(world->log) < position && error == 0)
    error = pthread_cond_timedwait(&world->progressed, &world->mutex, &limit);
  pthread_mutex_unlock(&world->mutex);
  assert_int_equal(error, 0);
}

/* Appends a commit; when too much is pending, waits first. */
static void append(struct world *world, uint32_t record_count, uint32_t data_max) {
  struct cg_err err;
  enum cg_code code;
  for (;;) {
    uint64_t durable = cg_log_durable_position(world->log);
    code = log_model_append(&world->model, world->log, record_count, data_max, &err);
    if (code != CG_ELIMIT)
      break;
    wait_durable(world, durable + 1);
  }
  if (code != CG_OK)
    fail_msg("%s", err.message);
}

static void test_commits_become_durable_without_being_asked(void **state) {
  (void)state;
  for (int mode = CG_DURABILITY_FSYNC; mode <= CG_DURABILITY_MEMORY; mode++) {
    struct world world;
    open_world(&world, (enum cg_durability)mode);
    for (int count = 0; count < 200; count++) {
      append(&world, 1 + (uint32_t)count % 3, 500);
      if (count % 4 == 0)
        wait_durable(&world, cg_log_next_position(world.log));
    }
    wait_durable(&world, cg_log_next_position(world.log));
    assert_null(log_model_compare(&world.model, world.log));
    assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
    open_log(&world);
    world.model.acknowledged_position = world.model.seen_position;
    assert_null(log_model_settle(&world.model));
    assert_int_equal(world.model.count, 200);
    free_world(&world);
  }
}

/* Commits that gather are written when they are flushed, and soon without; many share a sync. */
static void test_gathered_commits_share_syncs_and_are_never_left_behind(void **state) {
  (void)state;
  struct world world;
  open_world(&world, CG_DURABILITY_FSYNC);
  struct cg_err err;
  assert_int_equal(cg_log_close(world.log, &err), CG_OK);
  world.options.flush_bytes = 1 << 20;
  open_log(&world);
  append(&world, 1, 100); /* Nobody flushes. */
  wait_durable(&world, cg_log_next_position(world.log));

  struct cg_log_stats before, after;
  cg_log_stats_read(world.log, &before);
  for (int i = 0; i < 1000; i++)
    append(&world, 1, 100);
  cg_log_flush(world.log);
  wait_durable(&world, cg_log_next_position(world.log));
  cg_log_stats_read(world.log, &after);
  assert_true(after.sync_count - before.sync_count < 500);
  free_world(&world);
}

/* Appends a commit; when too much is pending, waits until anything has happened. Returns how often
 * it had to. */
static unsigned append_when_possible(struct world *world, uint32_t record_count) {
  struct timespec limit;
  struct cg_err err;
  unsigned waits = 0;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += WAIT_SECONDS_MAX;
  for (;;) {
    pthread_mutex_lock(&world->mutex);
    uint64_t before = world->progress_count;
    pthread_mutex_unlock(&world->mutex);
    enum cg_code code = log_model_append(&world->model, world->log, record_count, 900, &err);
    if (code == CG_OK)
      return waits;
    assert_int_equal(code, CG_ELIMIT);
    waits++;
    int error = 0;
    pthread_mutex_lock(&world->mutex);
    while (world->progress_count == before && error == 0)
      error = pthread_cond_timedwait(&world->progressed, &world->mutex, &limit);
    pthread_mutex_unlock(&world->mutex);
    assert_int_equal(error, 0);
  }
}

/* In every mode what is told to be durable only grows and ends with a whole commit, and whoever
 * meets the bound of what is pending is told when to go on. */
static void test_acknowledgement_order_is_commit_order(void **state) {
  (void)state;
  for (int mode = CG_DURABILITY_FSYNC; mode <= CG_DURABILITY_MEMORY; mode++) {
    struct world world;
    open_world(&world, (enum cg_durability)mode);
    assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
    world.log = NULL;
    world.options.pending_bytes_max = 8000;
    world.options.segment_bytes = 64 << 10; /* Batches go over the ends of segments. */
    open_log(&world);
    unsigned waits = 0;
    for (int count = 0; count < 1000; count++)
      waits += append_when_possible(&world, 1 + (uint32_t)count % 4);
    wait_durable(&world, cg_log_next_position(world.log));
    assert_true(waits > 0);
    pthread_mutex_lock(&world.mutex);
    uint64_t last = 1;
    for (uint64_t index = 0; index < world.progress_count && index < SEEN_MAX; index++) {
      uint64_t position = world.seen[index];
      assert_true(position >= last);
      last = position;
      const struct log_model_commit *commit = log_model_find(&world.model, position - 1);
      assert_true(position == 1 ||
                  (commit && commit->first_position + commit->record_count == position));
    }
    pthread_mutex_unlock(&world.mutex);
    assert_true(last > 1);
    free_world(&world);
  }
}

/* The loop thread appends and reads without pause while the writer works, over many segments. */
static void test_reading_and_writing_at_the_same_time(void **state) {
  (void)state;
  struct world world;
  open_world(&world, CG_DURABILITY_FSYNC);
  world.model.is_blind = true;
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  struct cg_record record;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_err err;
  uint64_t position = 1;
  for (int count = 0; count < 20000; count++) {
    append(&world, 1 + (uint32_t)count % 2, 600);
    const struct log_model_commit *last = &world.model.commits[world.model.count - 1];
    if (count % 3 == 0) { /* The newest, which is hardly written yet. */
      assert_int_equal(cg_log_read(world.log, last->place, buf, &record, &err), CG_OK);
      record.position = last->first_position;
      assert_true(log_model_matches(last, &record));
    }
    uint64_t until =
        count % 2 == 0 ? cg_log_next_position(world.log) : cg_log_durable_position(world.log);
    for (int step = 0; step < 3; step++) {
      enum cg_code code = cg_log_cursor_next(cursor, until, &record, &err);
      if (code == CG_END)
        break;
      assert_int_equal(code, CG_OK);
      assert_int_equal(record.position, position);
      assert_true(log_model_matches(log_model_find(&world.model, position), &record));
      position++;
    }
  }
  cg_buf_unref(buf);
  cg_log_cursor_free(cursor);
  struct cg_log_stats stats;
  cg_log_stats_read(world.log, &stats);
  assert_true(stats.segment_count > 5);
  assert_null(log_model_compare(&world.model, world.log));
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.model.is_blind = false;
  open_log(&world);
  assert_null(log_model_settle(&world.model));
  assert_int_equal(world.model.count, 20000);
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.log = NULL;
  assert_int_equal(cg_log_verify(world.path, NULL, &(struct cg_log_verify){0}, &err), CG_OK);
  free_world(&world);
}

/* One sealed segment being compressed on a thread of its own. */
struct job {
  const char *path;        /* Of the log. */
  struct cg_log_seal seal; /* Of the segment; of the new file when it is done. */
  struct cg_err err;       /* Why it failed. */
  enum cg_code code;       /* How it ended. */
  atomic_bool is_done;     /* It has. */
};

static void *compress(void *arg) {
  struct job *job = arg;
  struct cg_log_rewrite asked = {.compress = true};
  job->code = cg_log_rewrite(job->path, NULL, &job->seal, &asked, &job->err);
  atomic_store(&job->is_done, true);
  return NULL;
}

/* While the writer writes, another thread compresses what is sealed, and all of it is read. */
static void test_sealed_segments_are_rewritten_beside_the_writer(void **state) {
  (void)state;
  struct world world;
  open_world(&world, CG_DURABILITY_FSYNC);
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.options.segment_bytes = 64 << 10;
  world.options.handles_max = 2;
  remove_directory(world.path);
  open_log(&world);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  struct cg_record record;
  struct cg_err err;
  struct job job = {.path = world.path};
  pthread_t thread;
  bool is_running = false;
  uint32_t done_count = 0;
  const struct cg_log_seal *seals;
  for (int count = 0; count < 4000 || done_count < 5; count++) {
    if (count < 4000)
      append(&world, 1, 600);
    else if (count == 4000)
      wait_durable(&world, cg_log_next_position(world.log)); /* By now there are enough of them. */
    else
      sched_yield();
    if (!is_running && cg_log_seals(world.log, &seals) > done_count) {
      job.seal = seals[done_count];
      atomic_store(&job.is_done, false);
      assert_int_equal(pthread_create(&thread, NULL, compress, &job), 0);
      is_running = true;
    } else if (is_running && atomic_load(&job.is_done)) {
      pthread_join(thread, NULL);
      is_running = false;
      if (job.code != CG_OK || cg_log_replace(world.log, &job.seal, &job.err) != CG_OK)
        fail_msg("%s", job.err.message);
      done_count++;
    }
    enum cg_code code =
        cg_log_cursor_next(cursor, cg_log_durable_position(world.log), &record, &err);
    assert_true(code == CG_OK || code == CG_END);
    if (code == CG_OK)
      assert_true(log_model_matches(log_model_find(&world.model, record.position), &record));
  }
  if (is_running)
    pthread_join(thread, NULL);
  cg_log_cursor_free(cursor);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_closing_makes_all_durable(void **state) {
  (void)state;
  for (int round = 0; round < 20; round++) {
    struct world world;
    open_world(&world, round % 2 == 0 ? CG_DURABILITY_FSYNC : CG_DURABILITY_OS);
    for (int count = 0; count < round; count++)
      append(&world, 1, 5000);
    assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
    open_log(&world);
    assert_null(log_model_settle(&world.model));
    assert_int_equal(world.model.count, round);
    free_world(&world);
  }
}

static void test_abandoning_leaves_a_prefix(void **state) {
  (void)state;
  for (int round = 0; round < 20; round++) {
    struct world world;
    open_world(&world, CG_DURABILITY_FSYNC);
    for (int count = 0; count < round * 20; count++)
      append(&world, 1, 2000);
    world.model.acknowledged_position = cg_log_durable_position(world.log);
    cg_log_abandon(world.log);
    open_log(&world);
    assert_null(log_model_settle(&world.model));
    free_world(&world);
  }
}

static void test_a_second_opening_is_busy(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  struct cg_log *second;
  open_world(&world, CG_DURABILITY_FSYNC);
  assert_int_equal(cg_log_open_file(&second, world.path, &world.options, &err), CG_EBUSY);
  assert_int_equal(cg_log_verify(world.path, NULL, &(struct cg_log_verify){0}, &err), CG_EBUSY);
  free_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_commits_become_durable_without_being_asked),
      cmocka_unit_test(test_gathered_commits_share_syncs_and_are_never_left_behind),
      cmocka_unit_test(test_acknowledgement_order_is_commit_order),
      cmocka_unit_test(test_reading_and_writing_at_the_same_time),
      cmocka_unit_test(test_sealed_segments_are_rewritten_beside_the_writer),
      cmocka_unit_test(test_closing_makes_all_durable),
      cmocka_unit_test(test_abandoning_leaves_a_prefix),
      cmocka_unit_test(test_a_second_opening_is_busy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
