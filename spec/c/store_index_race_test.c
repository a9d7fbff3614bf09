/* store_index_race_test.c - somebody removes or damages files of the index while they are worked
 * on: nothing is answered wrong, and what was asked for can be done in the end.
 *
 * What happens between any two file calls is the same as if it happened before a call that names or
 * changes a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "store/store_state.h"
#include "support/index_world.h"

#define CALLS_MAX 2000u          /* File calls before which something happens. */
#define TRIES_MAX 4              /* Of a rewriting, after which it must have been done. */
#define SMALL_BYTES (64u << 10)  /* Of a segment. */
#define LARGE_BYTES (400u << 10) /* Its entries fill pages of their own. */

static struct index_world *world;
static uint64_t calls_left;     /* Until something happens; 0: it has, or nothing will. */
static void (*happening)(void); /* What. */

static int remove_one(void *arg, const char *name) {
  char path[128];
  (void)arg;
  snprintf(path, sizeof(path), "/data/index/%s", name);
  sim_fs_remove(world->sim, path);
  return 0;
}

static void remove_index(void) {
  index_world_each_table(world, remove_one, NULL);
  sim_fs_remove(world->sim, "/data/index");
}

/* --- calls that name a file, or change one --- */

static void count_call(void) {
  if (calls_left > 0 && --calls_left == 0)
    happening();
}

static int spy_open(void *arg, const char *path, enum cg_fs_mode mode) {
  count_call();
  return sim_fs_calls(world->sim)->open(arg, path, mode);
}

static int spy_rename(void *arg, const char *from, const char *to) {
  count_call();
  return sim_fs_calls(world->sim)->rename(arg, from, to);
}

static int spy_sync_dir(void *arg, const char *path) {
  count_call();
  return sim_fs_calls(world->sim)->sync_dir(arg, path);
}

static int64_t spy_pwrite(void *arg, int handle, const void *bytes, size_t size, uint64_t offset) {
  count_call();
  return sim_fs_calls(world->sim)->pwrite(arg, handle, bytes, size, offset);
}

static void spy(uint64_t calls, void (*what)(void)) {
  world->fs.open = spy_open;
  world->fs.rename = spy_rename;
  world->fs.sync_dir = spy_sync_dir;
  world->fs.pwrite = spy_pwrite;
  calls_left = calls;
  happening = what;
}

/* --- stories --- */

/* A disk with six sealed segments of about this size: a table of four and two of one. */
static void prepare_sized(uint64_t seed, uint32_t segment_bytes) {
  world = index_world_new(seed);
  world->options.log.segment_bytes = segment_bytes;
  index_world_close(world);
  index_world_open(world);
  index_world_fill(world, 6);
  index_world_turn(world);
  assert_int_equal(index_world_table_count(world), 3);
}

/* The same with small segments. */
static void prepare(uint64_t seed) {
  prepare_sized(seed, SMALL_BYTES);
}

/* Begins to rewrite a segment and turns until that is over. */
static enum cg_code rewrite_once(uint32_t number, struct cg_err *err) {
  enum cg_code code = index_world_rewrite(world, number, 5, err);
  if (code != CG_OK)
    return code;
  index_world_turn(world);
  return index_world_rewritten(world, err);
}

/* Rewrites a segment as a scavenge does: again while the index is busy. */
static void rewrite(uint32_t number) {
  struct cg_err err;
  enum cg_code code = CG_EBUSY;
  for (int tries = 0; code == CG_EBUSY && tries < TRIES_MAX; tries++)
    code = rewrite_once(number, &err);
  if (code != CG_OK)
    fail_msg("segment %u: %s", number, err.message);
}

/* The index comes to what it should be, here and on the disk. */
static void settle(void) {
  for (int round = 0; round < 3; round++) {
    cg_clock_virtual_advance(&world->clock, 11000);
    index_world_turn(world);
  }
  index_world_check_some(world, 40);
  index_world_kill(world);
  index_world_open(world);
  index_world_check(world);
}

static void a_table_may_be_removed_any_number_of_times(void **state) {
  (void)state;
  prepare(1);
  for (int round = 0; round < 2; round++) {
    struct cg_err err;
    for (int time = 0; time < 4; time++) { /* It is made again, and removed before it is used. */
      remove_index();
      if (rewrite_once(5, &err) != CG_EBUSY)
        fail_msg("%s", err.message);
      index_world_check_some(world, 20);
    }
    rewrite(5);
    rewrite(1);
  }
  settle();
  index_world_free(world);
}

static void the_index_may_be_removed_at_any_call_of_a_rewriting(void **state) {
  (void)state;
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    prepare(call);
    spy(call, remove_index);
    rewrite(call % 6);
    bool has_happened = calls_left == 0;
    rewrite((call + 1) % 6);
    settle();
    index_world_free(world);
    if (!has_happened) {
      assert_true(call > 10);
      return;
    }
  }
  fail_msg("there was always one more call");
}

static void the_index_may_be_removed_at_any_call_of_builder_and_merger(void **state) {
  (void)state;
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    world = index_world_new(call);
    index_world_fill(world, 3);
    index_world_turn(world);
    index_world_fill(world, 5);
    spy(call, remove_index);
    index_world_turn(world);
    bool has_happened = calls_left == 0;
    settle();
    index_world_turn(world);
    assert_int_equal(index_world_table_count(world), 2);
    index_world_free(world);
    if (!has_happened) {
      assert_true(call > 10);
      return;
    }
  }
  fail_msg("there was always one more call");
}

/* --- damage --- */

static const char *const paths[] = {"/data/index/table-0000000000-0000000003.idx",
                                    "/data/index/table-0000000005-0000000005.idx"};

/* Damages, or mends, pages with nothing but entries of a table: an open does not look at them. */
static void flip_entries(const char *path) {
  size_t size;
  struct cg_table *table;
  assert_int_equal(cg_table_open(&table, sim_fs_calls(world->sim), path, NULL), CG_OK);
  uint8_t *bytes = sim_fs_bytes(world->sim, path, &size);
  size_t at = (table->layout.units / CG_TABLE_PAGE_BYTES + 1) * CG_TABLE_PAGE_BYTES;
  assert_true(at + CG_TABLE_PAGE_BYTES <= table->layout.names);
  for (; at + CG_TABLE_PAGE_BYTES <= table->layout.names; at += CG_TABLE_PAGE_BYTES)
    bytes[at] ^= 1;
  cg_table_free(table);
}

/* Damages where a table's streams begin. */
static void flip_streams(const char *path) {
  size_t size;
  struct cg_table *table;
  assert_int_equal(cg_table_open(&table, sim_fs_calls(world->sim), path, NULL), CG_OK);
  sim_fs_bytes(world->sim, path, &size)[table->layout.streams] ^= 1;
  cg_table_free(table);
}

static void a_damaged_page_that_a_rewriting_meets_is_made_again(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 2; i++) {
    prepare_sized(1 + i, LARGE_BYTES);
    flip_entries(paths[i]);
    rewrite(i == 0 ? 2 : 5);
    settle();
    index_world_free(world);
  }
}

static void damage_that_comes_back_is_told(void **state) {
  (void)state;
  prepare_sized(1, LARGE_BYTES);
  struct cg_err err;
  flip_streams(paths[1]);
  assert_int_equal(rewrite_once(5, &err), CG_EBUSY);
  flip_streams(paths[1]);
  assert_int_equal(rewrite_once(5, &err), CG_ECORRUPT);
  index_world_check(world);
  index_world_free(world);
}

static void read_all(void) {
  if (cg_worker_is_idle(&world->store->worker))
    calls_left = 1; /* The loop thread is in the middle of something: it cannot read now. */
  else
    index_world_check_some(world, 40);
}

/* The loop's mapping of a table is damaged, that of the worker is not: a read builds the table
 * while the worker makes it with the new segment. */
static void a_read_may_mend_the_table_that_is_being_rewritten(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 2; i++)
    for (uint64_t call = 1;; call += 2) {
      assert_true(call < CALLS_MAX);
      prepare_sized(1 + i, LARGE_BYTES);
      index_world_close(world);
      flip_entries(paths[i]);
      world->options.streams_cached_max = 1;
      index_world_open(world);
      flip_entries(paths[i]);
      spy(call, read_all);
      rewrite(i == 0 ? 2 : 5);
      bool has_happened = calls_left == 0;
      calls_left = 0;
      settle();
      index_world_free(world);
      if (!has_happened)
        break;
    }
}

/* --- what does not fit --- */

static bool refuses; /* To put the next rewritten segment in place. */

static int refuse_rename(void *arg, const char *from, const char *to) {
  if (!refuses || strstr(to, "/log/") == NULL)
    return sim_fs_calls(world->sim)->rename(arg, from, to);
  refuses = false;
  return -EIO;
}

static void a_table_of_a_segment_that_was_not_put_in_place_is_made_again(void **state) {
  (void)state;
  for (uint32_t number = 0; number < 6; number++) {
    prepare(1 + number);
    world->fs.rename = refuse_rename;
    refuses = true;
    struct cg_err err;
    assert_int_equal(rewrite_once(number, &err), CG_EIO);
    assert_false(refuses);
    index_world_check(world);
    rewrite((number + 1) % 6);
    index_world_fill(world, 8); /* Then the tables of one are merged. */
    settle();
    index_world_turn(world);
    assert_int_equal(index_world_table_count(world), 2);
    index_world_free(world);
  }
}

static void a_version_is_not_said_to_be_gone_when_a_segment_is(void **state) {
  (void)state;
  prepare_sized(1, LARGE_BYTES);
  index_world_close(world);
  flip_entries(paths[0]);
  world->options.streams_cached_max = 1;
  index_world_open(world);
  sim_fs_remove(world->sim, "/data/log/segment-0000000001.log");
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  uint32_t told_count = 0;
  for (uint32_t i = 0; i < 200; i++) {
    char name[64];
    cg_store_stream stream;
    struct cg_record record;
    struct cg_err err;
    size_t name_size = index_world_name(world->records[i].stream, name);
    assert_int_equal(cg_store_find(world->store, name, name_size, false, &stream, &err), CG_OK);
    enum cg_code code =
        cg_store_read(world->store, stream, world->records[i].version, buf, &record, &err);
    if (code == CG_OK)
      continue;
    assert_int_equal(code, CG_ECORRUPT);
    assert_non_null(strstr(err.message, "segment-0000000001.log"));
    told_count++;
  }
  assert_true(told_count > 10);
  cg_buf_unref(buf);
  index_world_free(world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_table_may_be_removed_any_number_of_times),
      cmocka_unit_test(the_index_may_be_removed_at_any_call_of_a_rewriting),
      cmocka_unit_test(the_index_may_be_removed_at_any_call_of_builder_and_merger),
      cmocka_unit_test(a_damaged_page_that_a_rewriting_meets_is_made_again),
      cmocka_unit_test(damage_that_comes_back_is_told),
      cmocka_unit_test(a_read_may_mend_the_table_that_is_being_rewritten),
      cmocka_unit_test(a_table_of_a_segment_that_was_not_put_in_place_is_made_again),
      cmocka_unit_test(a_version_is_not_said_to_be_gone_when_a_segment_is),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
