/* log_contract_test.c - what every kind of log must do, rule by rule, run for each kind: files on a
 * simulated disk and on a real one, memory, and a log on a server behind a network. All are in
 * manual mode. What they must do in any story of crashes is in log_contract_crash_test.c. */
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
#include "support/kind_world.h"

#define APPENDS_MAX 1000 /* After so many a bound that was not met is none. */

static void open_log(struct kind_world *world) {
  struct cg_err err;
  if (kind_world_open(world, &err) != CG_OK)
    fail_msg("%s", err.message);
}

/* Makes and opens a log of the kind in *state. */
static void open_world(struct kind_world *world, void **state) {
  kind_world_init(world, *(enum kind_world_kind *)*state, 3);
  open_log(world);
}

static void free_world(struct kind_world *world) {
  if (world->log)
    assert_null(kind_world_check(world));
  kind_world_deinit(world);
}

static void settle(struct kind_world *world) {
  assert_true(kind_world_settle(world, world->log));
  assert_int_equal(cg_log_durable_position(world->log), cg_log_next_position(world->log));
}

static void append(struct kind_world *world, uint32_t record_count, uint32_t data_max) {
  struct cg_err err;
  if (log_model_append(&world->model, world->log, record_count, data_max, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static void test_an_empty_log_begins_at_position_1(void **state) {
  struct kind_world world;
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
  struct kind_world world;
  open_world(&world, state);
  append(&world, 3, 100);
  append(&world, 2, 100);
  assert_int_equal(cg_log_next_position(world.log), 6);
  assert_int_equal(cg_log_durable_position(world.log), 1);
  assert_int_equal(world.progress_count, 0);
  settle(&world);
  unsigned count = world.progress_count;
  assert_in_range(count, 1, 2); /* A commit each at most. */
  assert_false(cg_log_turn(world.log));
  assert_int_equal(world.progress_count, count);
  free_world(&world);
}

static void test_another_tail_is_a_conflict(void **state) {
  struct kind_world world;
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
  struct kind_world world;
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

/* Appends a commit of one record that is `size` bytes in all. */
static enum cg_code append_sized(struct kind_world *world, size_t size, struct cg_err *err) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record = {.data_size = (uint32_t)(size - 48)};
  uint8_t *data = cg_alloc(size);
  record.data = data;
  cg_record_append(buf, &record);
  assert_int_equal(buf->size, size);
  cg_log_place place;
  enum cg_code code = cg_log_append(world->log, buf->data, buf->size, 1,
                                    cg_log_next_position(world->log), &place, err);
  cg_free(data);
  cg_buf_unref(buf);
  return code;
}

static void test_a_commit_is_bounded_by_what_the_kind_can_hold(void **state) {
  struct kind_world world;
  struct cg_err err;
  open_world(&world, state);
  uint64_t max = cg_log_commit_bytes_max(world.log);
  if (world.kind == KIND_WORLD_REMOTE)
    assert_int_equal(max, 1 << 20);
  else /* Segment less header and room for a mark, less the commit's header and end. */
    assert_int_equal(max, (64 << 10) - 4096 - 56 - 56);
  assert_int_equal(append_sized(&world, max - 8, &err), CG_OK);
  settle(&world);
  assert_int_equal(append_sized(&world, max, &err), CG_OK);
  settle(&world);
  assert_int_equal(append_sized(&world, max + 8, &err), CG_ELIMIT);
  assert_non_null(strstr(err.message, "commit_bytes_max = "));
  assert_null(strstr(err.message, "pending")); /* Waiting would not help. */
  assert_int_equal(cg_log_next_position(world.log), 3);
  kind_world_deinit(&world);
}

static void test_the_bound_of_a_commit_can_be_set_lower(void **state) {
  struct kind_world world;
  struct cg_err err;
  kind_world_init(&world, *(enum kind_world_kind *)*state, 3);
  world.options.commit_bytes_max = 800;
  open_log(&world);
  assert_int_equal(cg_log_commit_bytes_max(world.log), 800);
  assert_int_equal(append_sized(&world, 800, &err), CG_OK);
  assert_int_equal(append_sized(&world, 808, &err), CG_ELIMIT);
  assert_non_null(strstr(err.message, "commit_bytes_max = 800"));
  assert_int_equal(kind_world_close(&world, &err), CG_OK);
  world.model.is_blind = true;
  world.options.commit_bytes_max = 1 << 30;
  assert_int_equal(kind_world_open(&world, &err), CG_EINVAL);
  assert_non_null(strstr(err.message, "commit_bytes_max = 1073741824"));
  kind_world_deinit(&world);
}

static void test_pending_bytes_are_bounded(void **state) {
  struct kind_world world;
  struct cg_err err;
  kind_world_init(&world, *(enum kind_world_kind *)*state, 3);
  world.options.pending_bytes_max = 20000;
  open_log(&world);
  unsigned pending = 0;
  while (pending < APPENDS_MAX && log_model_append(&world.model, world.log, 1, 1000, &err) == CG_OK)
    pending++;
  assert_in_range(pending, 15, 100);
  assert_int_equal(err.code, CG_ELIMIT);
  assert_non_null(strstr(err.message, "pending_bytes_max = 20000"));
  settle(&world);
  append(&world, 1, 1000);
  settle(&world);
  append(&world, 5, 6000); /* While nothing is pending, any commit is taken. */
  settle(&world);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

/* Whatever is done at once becomes durable commit by commit: progress never shows less than before,
 * nor a part of a commit. */
static void test_acknowledgement_order_is_commit_order(void **state) {
  struct kind_world world;
  open_world(&world, state);
  for (int round = 0; round < 30; round++) {
    uint64_t count = 1 + kind_world_random(&world, 40);
    for (uint64_t index = 0; index < count; index++) {
      uint32_t records = 1 + (uint32_t)kind_world_random(&world, 5);
      append(&world, records, kind_world_random(&world, 9) == 0 ? 9000 : 300);
      assert_null(kind_world_check(&world));
    }
    for (int turn = 0; turn < 500; turn++) {
      cg_log_turn(world.log);
      assert_null(kind_world_check(&world));
      if (turn % 5 == 0)
        cg_clock_virtual_advance(&world.clock, 1);
    }
    settle(&world);
  }
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_closing_makes_everything_durable(void **state) {
  struct kind_world world;
  open_world(&world, state);
  for (int round = 0; round < 5; round++) {
    for (int count = 0; count < 40; count++)
      append(&world, 1 + (uint32_t)count % 3, 500);
    world.model.acknowledged_position = cg_log_next_position(world.log);
    assert_int_equal(kind_world_close(&world, NULL), CG_OK);
    open_log(&world);
    assert_null(log_model_settle(&world.model));
    assert_int_equal(world.model.count, 40 * (round + 1));
    assert_null(log_model_compare(&world.model, world.log));
  }
  free_world(&world);
}

static void test_a_log_has_one_owner(void **state) {
  struct kind_world world;
  struct cg_log *second;
  struct cg_err err;
  open_world(&world, state);
  append(&world, 2, 100);
  settle(&world);
  struct cg_log_options options = world.options;
  options.progress = NULL;
  options.replay = NULL;
  enum cg_code code = kind_world_open_with(&world, &options, &second, &err);
  append(&world, 1, 100); /* The first does not know it yet. */
  assert_true(kind_world_settle(&world, world.log));
  if (world.kind != KIND_WORLD_REMOTE) {
    assert_int_equal(code, CG_EBUSY);
    assert_int_equal(cg_log_durable_position(world.log), 4);
    free_world(&world);
    return;
  }
  assert_int_equal(code, CG_OK);
  assert_int_equal(cg_log_failed(world.log, &err), CG_EFENCED);
  assert_non_null(strstr(err.message, "owner 2 has taken the log over"));
  assert_int_equal(cg_log_durable_position(world.log), 3);
  assert_int_equal(cg_log_next_position(second), 3);
  cg_log_abandon(second);
  free_world(&world);
}

/* Makes the log fail with two commits durable (positions 1 to 5) and one that is not: its disk
 * fails, or another owner takes it over. */
static enum cg_code fail_log(struct kind_world *world) {
  append(world, 2, 100);
  append(world, 3, 100);
  settle(world);
  append(world, 1, 100);
  if (world->kind == KIND_WORLD_FILE) {
    sim_fs_fault(world->sim, SIM_FAULT_ERROR, 5, 1, true);
  } else {
    struct cg_log *second;
    struct cg_log_options options = world->options;
    options.progress = NULL;
    options.replay = NULL;
    assert_int_equal(kind_world_open_with(world, &options, &second, NULL), CG_OK);
    cg_log_abandon(second);
  }
  assert_true(kind_world_settle(world, world->log));
  return world->kind == KIND_WORLD_FILE ? CG_EFAILED : CG_EFENCED;
}

/* Kinds that can fail: files on the simulated disk, and the server. */
static void test_what_a_failed_log_still_answers(void **state) {
  struct kind_world world;
  struct cg_err err;
  struct cg_log_stats stats;
  struct cg_record record;
  open_world(&world, state);
  enum cg_code failed = fail_log(&world);
  unsigned progress = world.progress_count;
  assert_int_equal(cg_log_failed(world.log, &err), failed);
  assert_true(err.message[0] != 0);
  for (int count = 0; count < 3; count++) {
    assert_int_equal(log_model_append(&world.model, world.log, 1, 100, &err), failed);
    cg_log_flush(world.log);
    assert_false(cg_log_turn(world.log));
    cg_clock_virtual_advance(&world.clock, 1000);
  }
  assert_int_equal(world.progress_count, progress);
  assert_int_equal(cg_log_durable_position(world.log), 6);
  assert_int_equal(cg_log_next_position(world.log), 7);
  cg_log_stats_read(world.log, &stats);
  assert_int_equal(stats.commit_count, 3);
  assert_null(kind_world_check(&world));

  if (world.kind == KIND_WORLD_FILE)
    sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  for (uint64_t position = 1; position < 6; position++) {
    assert_int_equal(cg_log_cursor_next(cursor, 6, &record, &err), CG_OK);
    assert_true(log_model_matches(log_model_find(&world.model, position), &record));
  }
  assert_int_equal(cg_log_cursor_next(cursor, 6, &record, &err), CG_END);
  cg_log_cursor_free(cursor);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  assert_int_equal(cg_log_read(world.log, world.model.commits[0].place, buf, &record, &err), CG_OK);
  record.position = 1;
  assert_true(log_model_matches(&world.model.commits[0], &record));
  cg_buf_unref(buf);
  assert_int_equal(kind_world_close(&world, &err), failed);
  world.model.acknowledged_position = 6;
  if (world.kind == KIND_WORLD_FILE)
    sim_fs_kill(world.sim);
  open_log(&world);
  assert_null(log_model_settle(&world.model));
  free_world(&world);
}

/* Reads all, by cursor and by place, with some commits durable and some pending. */
static void test_everything_appended_can_be_read(void **state) {
  struct kind_world world;
  open_world(&world, state);
  for (int count = 0; count < 300; count++) {
    append(&world, 1 + (uint32_t)kind_world_random(&world, 5), 2000);
    if (kind_world_random(&world, 7) == 0)
      cg_log_turn(world.log);
    if (count % 20 == 0)
      assert_null(log_model_compare(&world.model, world.log));
  }
  assert_null(log_model_compare(&world.model, world.log));
  settle(&world);
  assert_null(log_model_compare(&world.model, world.log));
  free_world(&world);
}

static void test_a_cursor_begins_after_any_position_and_stops_at_any(void **state) {
  struct kind_world world;
  struct cg_record record;
  open_world(&world, state);
  for (int count = 0; count < 60; count++) {
    append(&world, 1 + (uint32_t)kind_world_random(&world, 4), 3000);
    if (count == 20 || count == 40)
      cg_log_turn(world.log);
  }
  uint64_t tail = cg_log_next_position(world.log);
  for (uint64_t after = 0; after < tail + 2; after++) {
    struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, after);
    uint64_t until = after + 1 + kind_world_random(&world, 6);
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
  struct kind_world world;
  struct cg_record record;
  open_world(&world, state);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 0);
  uint64_t position = 1;
  for (int count = 0; count < 2000; count++) {
    switch (kind_world_random(&world, 4)) {
    case 0:
      append(&world, 1 + (uint32_t)kind_world_random(&world, 3), 800);
      break;
    case 1:
      cg_log_turn(world.log);
      cg_clock_virtual_advance(&world.clock, world.kind == KIND_WORLD_REMOTE);
      break;
    default: {
      bool is_durable_only = kind_world_random(&world, 2) == 0;
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
  struct kind_world world;
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
  struct kind_world world;
  struct cg_log_stats stats;
  open_world(&world, state);
  append(&world, 2, 100);
  append(&world, 1, 100);
  settle(&world);
  cg_log_stats_read(world.log, &stats);
  assert_int_equal(stats.commit_count, 2);
  assert_int_equal(stats.segment_count, 1);
  assert_int_equal(stats.cut_bytes, 0);
  if (world.kind == KIND_WORLD_FILE) {
    assert_int_equal(stats.sync_count, 1);
    assert_true(stats.write_bytes > 200);
  }
  free_world(&world);
}

#define ON(name, test, kind)                                                                       \
  { #test " (" name ")", test, NULL, NULL, (void *)&kinds[kind] }
#define ON_EACH_KIND(test)                                                                         \
  ON("file", test, KIND_WORLD_FILE), ON("real file", test, KIND_WORLD_FILE_REAL),                  \
      ON("memory", test, KIND_WORLD_MEMORY), ON("remote", test, KIND_WORLD_REMOTE)

int main(void) {
  static const enum kind_world_kind kinds[] = {KIND_WORLD_FILE, KIND_WORLD_FILE_REAL,
                                               KIND_WORLD_MEMORY, KIND_WORLD_REMOTE};
  const struct CMUnitTest tests[] = {
      ON_EACH_KIND(test_an_empty_log_begins_at_position_1),
      ON_EACH_KIND(test_commits_are_durable_after_a_turn_and_not_before),
      ON_EACH_KIND(test_another_tail_is_a_conflict),
      ON_EACH_KIND(test_bytes_that_are_no_records_are_refused),
      ON_EACH_KIND(test_a_commit_is_bounded_by_what_the_kind_can_hold),
      ON_EACH_KIND(test_the_bound_of_a_commit_can_be_set_lower),
      ON_EACH_KIND(test_pending_bytes_are_bounded),
      ON_EACH_KIND(test_acknowledgement_order_is_commit_order),
      ON_EACH_KIND(test_closing_makes_everything_durable),
      ON("file", test_a_log_has_one_owner,
         KIND_WORLD_FILE), /* Nobody else reaches one in memory. */
      ON("real file", test_a_log_has_one_owner, KIND_WORLD_FILE_REAL),
      ON("remote", test_a_log_has_one_owner, KIND_WORLD_REMOTE),
      ON("file", test_what_a_failed_log_still_answers, KIND_WORLD_FILE),
      ON("remote", test_what_a_failed_log_still_answers, KIND_WORLD_REMOTE),
      ON_EACH_KIND(test_everything_appended_can_be_read),
      ON_EACH_KIND(test_a_cursor_begins_after_any_position_and_stops_at_any),
      ON_EACH_KIND(test_a_cursor_follows_the_tail),
      ON_EACH_KIND(test_a_place_where_nothing_is_is_not_found),
      ON_EACH_KIND(test_statistics_count_commits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
