/* log_contract_test.c - what every kind of log must do, run for each kind: the file kind on a
 * simulated disk and the memory kind, both in manual mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

enum kind { KIND_FILE, KIND_MEMORY };

/* A log of one kind. */
struct world {
  enum kind kind;                /* Which. */
  struct sim_fs *sim;            /* The disk; also the source of chance. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* The log. */
  unsigned progress_count;       /* Calls of progress. */
};

static void count_progress(void *arg) {
  struct world *world = arg;
  world->progress_count++;
}

static enum cg_code open_log(struct world *world, struct cg_err *err) {
  log_model_begin(&world->model);
  return world->kind == KIND_FILE ? cg_log_open_file(&world->log, "/log", &world->options, err)
                                  : cg_log_open_memory(&world->log, &world->options, err);
}

/* Makes a log of the kind in *state with segments of 64 KiB. */
static void open_world(struct world *world, void **state) {
  *world = (struct world){.kind = *(enum kind *)*state, .sim = sim_fs_new(3)};
  world->options = (struct cg_log_options){
      .fs = sim_fs_calls(world->sim),
      .clock = cg_clock_of(&world->clock),
      .segment_bytes = 64 << 10,
      .nonce_seed = 1,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &world->model,
      .progress = count_progress,
      .progress_arg = world,
  };
  assert_int_equal(open_log(world, NULL), CG_OK);
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

static void append(struct world *world, uint32_t record_count, uint32_t data_max) {
  struct cg_err err;
  if (log_model_append(&world->model, world->log, record_count, data_max, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static void test_an_empty_log_begins_at_position_1(void **state) {
  struct world world;
  struct cg_record record;
  open_world(&world, state);
  assert_int_equal(cg_log_next_position(world.log), 1);
  assert_int_equal(cg_log_durable_position(world.log), 1);
  assert_int_equal(cg_log_failed(world.log, NULL), CG_OK);
  assert_false(cg_log_turn(world.log));
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_END);
  append(&world, 1, 10); /* The same cursor finds it later. */
  assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_OK);
  assert_int_equal(record.position, 1);
  assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_END);
  cg_log_cursor_free(cursor);
  free_world(&world);
}

static void test_commits_are_durable_after_a_turn_and_not_before(void **state) {
  struct world world;
  open_world(&world, state);
  append(&world, 3, 100);
  append(&world, 2, 100);
  assert_int_equal(cg_log_next_position(world.log), 6);
  assert_int_equal(cg_log_durable_position(world.log), 1);
  assert_int_equal(world.progress_count, 0);
  assert_true(cg_log_turn(world.log));
  assert_int_equal(cg_log_durable_position(world.log), 6);
  assert_int_equal(world.progress_count, 1);
  assert_false(cg_log_turn(world.log));
  assert_int_equal(world.progress_count, 1);
  free_world(&world);
}

static void test_another_tail_is_a_conflict(void **state) {
  struct world world;
  struct cg_err err;
  cg_log_place place;
  open_world(&world, state);
  append(&world, 2, 10);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct log_model_commit commit = {.first_position = 3, .record_count = 1};
  log_model_encode(&commit, buf);
  for (uint64_t tail = 0; tail < 10; tail++)
    if (tail != 3)
      assert_int_equal(cg_log_append(world.log, buf->data, buf->size, 1, tail, &place, &err),
                       CG_ECONFLICT);
  assert_int_equal(cg_log_next_position(world.log), 3);
  cg_buf_unref(buf);
  free_world(&world);
}

static void test_bytes_that_are_no_records_are_refused(void **state) {
  struct world world;
  struct cg_err err;
  cg_log_place place;
  open_world(&world, state);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct log_model_commit commit = {.first_position = 1, .record_count = 3, .data_max = 50};
  log_model_encode(&commit, buf);
  assert_int_equal(cg_log_append(world.log, buf->data, buf->size, 2, 1, &place, &err), CG_EINVAL);
  assert_int_equal(cg_log_append(world.log, buf->data, buf->size, 4, 1, &place, &err), CG_EINVAL);
  assert_int_equal(cg_log_append(world.log, buf->data, 0, 0, 1, &place, &err), CG_EINVAL);
  assert_int_equal(cg_log_append(world.log, buf->data, buf->size - 8, 3, 1, &place, &err),
                   CG_EINVAL);
  buf->data[0] += 8;
  assert_int_equal(cg_log_append(world.log, buf->data, buf->size, 3, 1, &place, &err), CG_EINVAL);
  buf->data[0] -= 8;
  assert_int_equal(cg_log_append(world.log, buf->data, buf->size, 3, 1, &place, &err), CG_OK);
  cg_buf_unref(buf);
  free_world(&world);
}

static void test_a_commit_that_fits_no_segment_is_refused(void **state) {
  struct world world;
  struct cg_err err;
  cg_log_place place;
  open_world(&world, state);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  uint8_t *data = cg_alloc(64 << 10);
  /* Segment less header and room for a mark, less the commit's header and end, less the
   * record's. */
  size_t size_max = (64 << 10) - 4096 - 56 - 56 - 48;
  for (size_t size = size_max - 8; size <= size_max + 8; size += 8) {
    struct cg_record record = {.data = data, .data_size = (uint32_t)size};
    buf->size = 0;
    cg_record_append(buf, &record);
    enum cg_code code = cg_log_append(world.log, buf->data, buf->size, 1,
                                      cg_log_next_position(world.log), &place, &err);
    assert_int_equal(code, size <= size_max ? CG_OK : CG_ELIMIT);
    cg_log_turn(world.log);
  }
  assert_int_equal(cg_log_durable_position(world.log), 3);
  cg_free(data);
  cg_buf_unref(buf);
  free_world(&world);
}

static void test_pending_bytes_are_bounded(void **state) {
  struct world world;
  struct cg_err err;
  open_world(&world, state);
  cg_log_abandon(world.log);
  world.options.pending_bytes_max = 20000;
  sim_fs_kill(world.sim);
  assert_int_equal(open_log(&world, NULL), CG_OK);
  uint64_t pending = 0;
  while (log_model_append(&world.model, world.log, 1, 1000, &err) == CG_OK)
    pending++;
  assert_int_equal(err.code, CG_ELIMIT);
  assert_in_range(pending, 15, 100);
  assert_true(cg_log_turn(world.log));
  append(&world, 1, 1000);
  free_world(&world);
}

/* Reads all, by cursor and by place, with some commits durable and some pending. */
static void test_everything_appended_can_be_read(void **state) {
  struct world world;
  open_world(&world, state);
  for (int count = 0; count < 300; count++) {
    append(&world, 1 + (uint32_t)sim_fs_random(world.sim, 5), 2000);
    if (sim_fs_random(world.sim, 7) == 0)
      cg_log_turn(world.log);
    if (count % 20 == 0)
      assert_null(log_model_compare(&world.model, world.log));
  }
  assert_null(log_model_compare(&world.model, world.log));
  cg_log_turn(world.log);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_a_cursor_begins_after_any_position_and_stops_at_any(void **state) {
  struct world world;
  struct cg_record record;
  open_world(&world, state);
  for (int count = 0; count < 60; count++) {
    append(&world, 1 + (uint32_t)sim_fs_random(world.sim, 4), 3000);
    if (count == 20 || count == 40)
      cg_log_turn(world.log);
  }
  uint64_t tail = cg_log_next_position(world.log);
  for (uint64_t after = 0; after < tail + 2; after++) {
    struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, after);
    uint64_t until = after + 1 + sim_fs_random(world.sim, 6);
    uint64_t end = until < tail ? until : tail;
    for (uint64_t position = after + 1; position < end; position++) {
      assert_int_equal(cg_log_cursor_next(cursor, until, &record, NULL), CG_OK);
      assert_int_equal(record.position, position);
      assert_true(log_model_matches(log_model_find(&world.model, position), &record));
    }
    assert_int_equal(cg_log_cursor_next(cursor, until, &record, NULL), CG_END);
    if (until < tail) { /* It goes on when it may. */
      assert_int_equal(cg_log_cursor_next(cursor, until + 1, &record, NULL), CG_OK);
      assert_int_equal(record.position, until);
    }
    cg_log_cursor_free(cursor);
  }
  free_world(&world);
}

/* A cursor that follows sees every record once, whatever is written between its calls. */
static void test_a_cursor_follows_the_tail(void **state) {
  struct world world;
  struct cg_record record;
  open_world(&world, state);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  uint64_t position = 1;
  for (int count = 0; count < 2000; count++) {
    switch (sim_fs_random(world.sim, 4)) {
    case 0:
      append(&world, 1 + (uint32_t)sim_fs_random(world.sim, 3), 800);
      break;
    case 1:
      cg_log_turn(world.log);
      break;
    default: {
      bool is_durable_only = sim_fs_random(world.sim, 2) == 0;
      uint64_t until =
          is_durable_only ? cg_log_durable_position(world.log) : cg_log_next_position(world.log);
      enum cg_code code = cg_log_cursor_next(cursor, until, &record, NULL);
      assert_int_equal(code, position < until ? CG_OK : CG_END);
      if (code != CG_OK)
        break;
      assert_int_equal(record.position, position);
      assert_true(log_model_matches(log_model_find(&world.model, position), &record));
      position++;
    }
    }
  }
  assert_true(position > 500);
  cg_log_cursor_free(cursor);
  free_world(&world);
}

static void test_a_place_where_nothing_is_is_not_found(void **state) {
  struct world world;
  struct cg_record record;
  struct cg_err err;
  open_world(&world, state);
  append(&world, 1, 100);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  assert_int_equal(cg_log_read(world.log, UINT64_C(7) << 32 | 520, buf, &record, &err),
                   CG_ENOTFOUND);
  assert_int_equal(cg_log_read(world.log, 8000, buf, &record, &err), CG_ENOTFOUND);
  cg_buf_unref(buf);
  free_world(&world);
}

static void test_statistics_count_commits(void **state) {
  struct world world;
  struct cg_log_stats stats;
  open_world(&world, state);
  append(&world, 2, 100);
  append(&world, 1, 100);
  cg_log_turn(world.log);
  cg_log_stats_read(world.log, &stats);
  assert_int_equal(stats.commit_count, 2);
  assert_int_equal(stats.segment_count, 1);
  assert_int_equal(stats.cut_bytes, 0);
  if (world.kind == KIND_FILE) {
    assert_int_equal(stats.sync_count, 1);
    assert_true(stats.write_bytes > 200);
  }
  free_world(&world);
}

/* --- the memory kind alone --- */

static void test_a_snapshot_holds_the_whole_commits_below_a_position(void **state) {
  enum kind kind = KIND_MEMORY;
  (void)state;
  void *memory = &kind;
  struct world world;
  open_world(&world, &memory);
  for (int count = 0; count < 50; count++)
    append(&world, 1 + (uint32_t)count % 3, 100);
  cg_log_turn(world.log);
  size_t all = world.model.count;
  for (uint64_t until = 0; until <= cg_log_next_position(world.log) + 1; until++) {
    struct cg_log *snapshot = cg_log_memory_snapshot(world.log, until);
    size_t count = 0;
    while (count < all &&
           world.model.commits[count].first_position + world.model.commits[count].record_count <=
               until)
      count++;
    struct cg_log_options options = world.options;
    struct cg_log *reopened;
    options.snapshot = snapshot;
    log_model_begin(&world.model);
    assert_int_equal(cg_log_open_memory(&reopened, &options, NULL), CG_OK);
    assert_null(world.model.fault);
    assert_int_equal(world.model.seen_commit, count);
    assert_int_equal(cg_log_next_position(reopened), world.model.seen_position);
    assert_int_equal(cg_log_durable_position(reopened), world.model.seen_position);
    world.model.count = count;
    assert_null(log_model_compare(&world.model, snapshot));
    assert_null(log_model_compare(&world.model, reopened));
    world.model.count = all;
    cg_log_close(snapshot, NULL);
    cg_log_abandon(reopened);
  }
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_a_memory_log_that_is_not_manual_is_durable_at_once(void **state) {
  (void)state;
  struct world world = {.sim = sim_fs_new(1), .kind = KIND_MEMORY};
  world.options = (struct cg_log_options){.progress = count_progress, .progress_arg = &world};
  assert_int_equal(open_log(&world, NULL), CG_OK);
  append(&world, 2, 10);
  assert_int_equal(cg_log_durable_position(world.log), 3);
  assert_int_equal(world.progress_count, 1);
  free_world(&world);
}

/* --- the file kind alone --- */

static void test_the_modes_say_when_a_commit_counts_as_durable(void **state) {
  (void)state;
  for (int mode = CG_DURABILITY_FSYNC; mode <= CG_DURABILITY_MEMORY; mode++) {
    enum kind kind = KIND_FILE;
    void *file = &kind;
    struct world world;
    open_world(&world, &file);
    cg_log_abandon(world.log);
    sim_fs_kill(world.sim);
    world.options.durability = (enum cg_durability)mode;
    assert_int_equal(open_log(&world, NULL), CG_OK);
    uint64_t syncs = sim_fs_sync_count(world.sim);
    append(&world, 1, 100);
    assert_int_equal(cg_log_durable_position(world.log), mode == CG_DURABILITY_MEMORY ? 2 : 1);
    assert_true(cg_log_turn(world.log));
    assert_int_equal(cg_log_durable_position(world.log), 2);
    assert_int_equal(sim_fs_sync_count(world.sim), syncs + (mode == CG_DURABILITY_FSYNC));
    cg_clock_virtual_advance(&world.clock, 49);
    assert_false(cg_log_turn(world.log));
    cg_clock_virtual_advance(&world.clock, 1);
    assert_int_equal(cg_log_turn(world.log), mode != CG_DURABILITY_FSYNC);
    assert_int_equal(sim_fs_sync_count(world.sim), syncs + 1);
    free_world(&world);
  }
}

static void test_an_idle_log_writes_one_mark_after_the_delay(void **state) {
  (void)state;
  enum kind kind = KIND_FILE;
  void *file = &kind;
  struct world world;
  open_world(&world, &file);
  assert_false(cg_log_turn(world.log));
  append(&world, 1, 100);
  assert_true(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 99);
  assert_false(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 1);
  assert_true(cg_log_turn(world.log));
  cg_clock_virtual_advance(&world.clock, 10000);
  assert_false(cg_log_turn(world.log));
  append(&world, 1, 100); /* Behind a mark it goes on as ever. */
  assert_true(cg_log_turn(world.log));
  assert_null(log_model_compare(&world.model, world.log));
  cg_log_abandon(world.log);
  sim_fs_crash(world.sim);
  assert_int_equal(open_log(&world, NULL), CG_OK);
  assert_null(log_model_settle(&world.model));
  assert_int_equal(world.model.count, 2);
  free_world(&world);
}

#define FOR_EACH_KIND(test)                                                                        \
  {#test " (file)", test, NULL, NULL, (void *)&file_kind}, {                                       \
#test " (memory)", test, NULL, NULL, (void *)&memory_kind                                      \
  }

int main(void) {
  static const enum kind file_kind = KIND_FILE, memory_kind = KIND_MEMORY;
  const struct CMUnitTest tests[] = {
      FOR_EACH_KIND(test_an_empty_log_begins_at_position_1),
      FOR_EACH_KIND(test_commits_are_durable_after_a_turn_and_not_before),
      FOR_EACH_KIND(test_another_tail_is_a_conflict),
      FOR_EACH_KIND(test_bytes_that_are_no_records_are_refused),
      FOR_EACH_KIND(test_a_commit_that_fits_no_segment_is_refused),
      FOR_EACH_KIND(test_pending_bytes_are_bounded),
      FOR_EACH_KIND(test_everything_appended_can_be_read),
      FOR_EACH_KIND(test_a_cursor_begins_after_any_position_and_stops_at_any),
      FOR_EACH_KIND(test_a_cursor_follows_the_tail),
      FOR_EACH_KIND(test_a_place_where_nothing_is_is_not_found),
      FOR_EACH_KIND(test_statistics_count_commits),
      cmocka_unit_test(test_a_snapshot_holds_the_whole_commits_below_a_position),
      cmocka_unit_test(test_a_memory_log_that_is_not_manual_is_durable_at_once),
      cmocka_unit_test(test_the_modes_say_when_a_commit_counts_as_durable),
      cmocka_unit_test(test_an_idle_log_writes_one_mark_after_the_delay),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
