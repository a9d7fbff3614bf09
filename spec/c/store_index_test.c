/* store_index_test.c - the index of sealed segments: what is on the disk, what an open and a read
 * cost, numbers of streams, what is no table of this log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "support/index_world.h"

static struct index_world *world;

static int setup(void **state) {
  (void)state;
  world = index_world_new(1);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  index_world_free(world);
  world = NULL;
  return 0;
}

static void reopen(void) {
  index_world_close(world);
  index_world_open(world);
}

/* Removes a file of the index by chance. */
static int remove_some(void *arg, const char *name) {
  char path[128];
  snprintf(path, sizeof(path), "/data/index/%s", name);
  if (sim_fs_random(world->sim, *(uint64_t *)arg) == 0)
    sim_fs_remove(world->sim, path);
  return 0;
}

/* --- what is on the disk --- */

static void four_tables_of_a_size_become_one(void **state) {
  (void)state;
  for (uint32_t seals = 1; seals <= 21; seals++) {
    index_world_fill(world, seals);
    index_world_turn(world);
    assert_int_equal(index_world_table_count(world), seals / 16 + seals % 16 / 4 + seals % 4);
  }
  reopen();
  assert_int_equal(index_world_table_count(world), 3); /* 16, 4 and 1. */
  index_world_check(world);
}

static void the_newest_segments_are_not_waited_for(void **state) {
  (void)state;
  index_world_fill(world, 8);
  index_world_kill(world); /* No table was made yet. */
  index_world_open(world);
  assert_int_equal(index_world_table_count(world), 6);
  index_world_check(world);
  index_world_turn(world);
  assert_int_equal(index_world_table_count(world), 2);
  index_world_check(world);
}

static uint64_t data_bytes_read; /* Of sealed segments, behind their headers. */
static bool is_sealed[64];       /* By handle. */
static uint32_t sealed_count;    /* Segments that are sealed. */

static int spy_open(void *arg, const char *path, enum cg_fs_mode mode) {
  int handle = sim_fs_calls(world->sim)->open(arg, path, mode);
  const char *name = strstr(path, "/log/segment-");
  if (handle >= 0)
    is_sealed[handle] = name != NULL && strtoul(name + 13, NULL, 10) < sealed_count;
  return handle;
}

static int64_t spy_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  if (is_sealed[handle] && offset + size > CG_SEGMENT_HEADER_BYTES)
    data_bytes_read += size;
  return sim_fs_calls(world->sim)->pread(arg, handle, bytes, size, offset);
}

static void an_open_reads_nothing_of_what_is_sealed(void **state) {
  (void)state;
  index_world_fill(world, 9);
  index_world_turn(world);
  sealed_count = index_world_seals(world);
  world->fs.open = spy_open;
  world->fs.pread = spy_pread;
  data_bytes_read = 0;
  reopen();
  assert_int_equal(data_bytes_read, 0);
  index_world_check_some(world, 20);
  assert_true(data_bytes_read > 0); /* The spy sees something. */
}

static void a_stream_read_costs_what_it_returns(void **state) {
  (void)state;
  index_world_fill(world, 9);
  index_world_turn(world);
  sealed_count = index_world_seals(world);
  world->fs.open = spy_open;
  world->fs.pread = spy_pread;
  reopen();
  char name[64];
  cg_store_stream stream;
  size_t size = index_world_name(world->records[0].stream, name);
  data_bytes_read = 0;
  assert_int_equal(cg_store_find(world->store, name, size, false, &stream, NULL), CG_OK);
  assert_int_equal(data_bytes_read, 0);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  assert_int_equal(cg_store_read(world->store, stream, 0, buf, &record, NULL), CG_OK);
  assert_in_range(data_bytes_read, 1, 2048);
  data_bytes_read = 0; /* Reading by position begins at a waypoint, not at the segment's begin. */
  cg_buf_unref(buf);
}

/* --- numbers of streams --- */

static void a_stream_that_left_memory_has_another_number(void **state) {
  (void)state;
  world->options.streams_cached_max = 2;
  reopen();
  index_world_fill(world, 3);
  index_world_turn(world);
  char name[64];
  cg_store_stream numbers[100], again;
  uint32_t stale_count = 0;
  for (uint32_t i = 0; i < 100; i++)
    cg_store_find(world->store, name, index_world_name(i, name), false, &numbers[i], NULL);
  index_world_turn(world);
  index_world_turn(world);
  assert_true(cg_store_evicted_count(world->store) > 0);
  for (uint32_t i = 0; i < 100; i++) {
    size_t size = index_world_name(i, name);
    if (numbers[i] == CG_STORE_NO_STREAM || !cg_store_is_stale(world->store, numbers[i]))
      continue;
    stale_count++;
    assert_int_equal(cg_store_find(world->store, name, size, false, &again, NULL), CG_OK);
    assert_true(again != numbers[i] && cg_store_is_stale(world->store, numbers[i]));
    assert_true(again < UINT64_C(1) << 53);
  }
  assert_true(stale_count > 10);
  index_world_check(world);
}

static void what_is_unfinished_stays_in_memory(void **state) {
  (void)state;
  world->options.streams_cached_max = 1;
  reopen();
  index_world_fill(world, 6);
  for (int round = 0; round < 2; round++) {
    for (int turn = 0; turn < 5; turn++)
      index_world_turn(world);
    uint32_t unfinished_count = 0, others = 0;
    for (uint32_t place = 0; place < cg_store_place_count(world->store); place++) {
      cg_store_stream stream = cg_store_at(world->store, place);
      if (stream == CG_STORE_NO_STREAM)
        continue;
      if (cg_store_unfinished(world->store, stream))
        unfinished_count++;
      else
        others++;
    }
    assert_true(unfinished_count > 20);
    assert_true(others < 400); /* Those of the segment that is not sealed. */
    index_world_check(world);
    reopen();
  }
}

static void a_commit_under_way_is_not_disturbed(void **state) {
  (void)state;
  world->options.streams_cached_max = 1;
  reopen();
  index_world_fill(world, 2);
  index_world_turn(world);
  cg_store_stream stream;
  cg_store_begin(world->store);
  assert_int_equal(cg_store_find(world->store, "new", 3, true, &stream, NULL), CG_OK);
  for (int turn = 0; turn < 10; turn++)
    assert_false(cg_store_turn(world->store));
  assert_false(cg_store_is_stale(world->store, stream));
  cg_store_rollback(world->store);
  for (uint32_t i = 0; i < 1000; i++) {
    cg_store_stream other;
    char name[64];
    cg_store_find(world->store, name, index_world_name(1000 + i, name), true, &other, NULL);
    index_world_turn(world);
  }
  assert_true(cg_store_is_stale(world->store, stream)); /* It never got a record. */
}

static void a_commit_keeps_its_entries_while_tables_come(void **state) {
  (void)state;
  index_world_fill(world, 3);
  cg_store_stream stream;
  struct cg_store_event event = {.expected = CG_STORE_NONE, .type = "Kept", .type_size = 4};
  struct cg_buf *data;
  uint64_t first;
  assert_int_equal(cg_store_find(world->store, "kept", 4, true, &stream, NULL), CG_OK);
  event.stream = stream;
  cg_store_begin(world->store);
  assert_int_equal(cg_store_add(world->store, &event, &data, NULL), CG_OK);
  cg_store_added(world->store);
  for (int turn = 0; turn < 20; turn++)
    cg_store_turn(world->store);
  assert_int_equal(cg_store_commit(world->store, &first, NULL), CG_OK);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  assert_int_equal(cg_store_count(world->store, stream), 1);
  assert_int_equal(cg_store_read(world->store, stream, 0, buf, &record, NULL), CG_OK);
  assert_int_equal(record.position, first);
  cg_buf_unref(buf);
}

static void ids_go_on_behind_those_in_tables(void **state) {
  (void)state;
  index_world_fill(world, 3);
  index_world_turn(world);
  uint64_t before, after;
  assert_int_equal(cg_store_new_id(world->store, &before, NULL), CG_OK);
  index_world_kill(world);
  size_t size;
  /* The file of ids is lost, and so is all that is not sealed. */
  uint8_t *bytes = sim_fs_bytes(world->sim, "/data/ids", &size);
  memset(bytes, 0x55, size);
  bytes = sim_fs_bytes(world->sim, "/data/log/segment-0000000003.log", &size);
  memset(bytes + CG_SEGMENT_HEADER_BYTES, 0, size - CG_SEGMENT_HEADER_BYTES);
  world->durable_count = 0;
  world->clock.wall_ms -= 1000000000;
  index_world_open(world);
  assert_true(world->count > 100);
  assert_int_equal(cg_store_new_id(world->store, &after, NULL), CG_OK);
  assert_true(cg_id_decode(after).time_ms >= cg_id_decode(before).time_ms);
}

/* --- faults --- */

static int refuse_mkdir(void *arg, const char *path) {
  return strstr(path, "/index") != NULL ? -EACCES : sim_fs_calls(world->sim)->mkdir(arg, path);
}

static void count_line(void *arg, enum cg_say_level level, const char *line) {
  if (level == CG_SAY_WARN && strstr(line, "memory") != NULL)
    ++*(int *)arg;
}

static void without_a_directory_the_log_is_read_into_memory(void **state) {
  (void)state;
  int line_count = 0;
  struct cg_say say = {.sink = count_line, .sink_arg = &line_count};
  world->fs.mkdir = refuse_mkdir;
  world->options.log.say = &say;
  reopen();
  index_world_fill(world, 5);
  index_world_turn(world);
  assert_int_equal(line_count, 1);
  index_world_check(world);
  reopen();
  assert_int_equal(line_count, 2);
  index_world_check(world);
  world->fs.mkdir = sim_fs_calls(world->sim)->mkdir;
  cg_clock_virtual_advance(&world->clock, 11000);
  index_world_turn(world);
  assert_int_equal(index_world_table_count(world), 2);
  index_world_check(world);
}

/* --- damage --- */

static int first_name(void *arg, const char *name) {
  snprintf(arg, 128, "/data/index/%s", name);
  return 1;
}

static void tables_cut_or_grown_are_built_again(void **state) {
  (void)state;
  char path[128];
  size_t size;
  index_world_fill(world, 5);
  index_world_turn(world);
  index_world_close(world);
  for (int round = 0; round < 40; round++) {
    index_world_each_table(world, first_name, path);
    uint8_t *bytes = sim_fs_bytes(world->sim, path, &size);
    uint8_t *other = calloc(1, size + 4096);
    memcpy(other, bytes, size);
    sim_fs_put(world->sim, path, other, round < 30 ? sim_fs_random(world->sim, size) : size + 4096);
    free(other);
    index_world_open(world);
    index_world_check_some(world, 10);
    index_world_turn(world);
    index_world_close(world);
  }
  index_world_open(world);
  index_world_check(world);
}

static void tables_of_another_log_are_not_used(void **state) {
  (void)state;
  index_world_fill(world, 5);
  index_world_turn(world);
  index_world_close(world);
  char path[128];
  size_t size;
  index_world_each_table(world, first_name, path);
  uint8_t *bytes = sim_fs_bytes(world->sim, path, &size);
  struct index_world *other = index_world_new(99);
  sim_fs_put_directory(other->sim, "/data/index");
  sim_fs_put(other->sim, path, bytes, size);
  struct index_world *mine = world;
  world = other;
  index_world_fill(world, 5);
  index_world_crash(world);
  index_world_open(world);
  index_world_check(world);
  index_world_turn(world);
  reopen();
  index_world_check(world);
  index_world_free(world);
  world = mine;
}

static void a_table_proves_that_segments_are_missing(void **state) {
  (void)state;
  index_world_fill(world, 5);
  index_world_turn(world);
  index_world_close(world);
  sim_fs_remove(world->sim, "/data/log/segment-0000000005.log");
  struct cg_err err;
  assert_int_equal(cg_store_open(&world->store, &world->options, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "/data/index"));
  sim_fs_remove(world->sim, "/data/log/segment-0000000004.log");
  sim_fs_remove(world->sim, "/data/log/segment-0000000003.log");
  assert_int_equal(cg_store_open(&world->store, &world->options, &err), CG_ECORRUPT);
  uint64_t all = 1;
  index_world_each_table(world, remove_some, &all);
  world->durable_count = 0;
  index_world_open(world); /* It was done on purpose. */
  assert_true(world->count > 100);
  index_world_check(world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
      TEST(four_tables_of_a_size_become_one),
      TEST(the_newest_segments_are_not_waited_for),
      TEST(an_open_reads_nothing_of_what_is_sealed),
      TEST(a_stream_read_costs_what_it_returns),
      TEST(a_stream_that_left_memory_has_another_number),
      TEST(what_is_unfinished_stays_in_memory),
      TEST(a_commit_under_way_is_not_disturbed),
      TEST(a_commit_keeps_its_entries_while_tables_come),
      TEST(ids_go_on_behind_those_in_tables),
      TEST(without_a_directory_the_log_is_read_into_memory),
      TEST(tables_cut_or_grown_are_built_again),
      TEST(tables_of_another_log_are_not_used),
      TEST(a_table_proves_that_segments_are_missing),
#undef TEST
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
