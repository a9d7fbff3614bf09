/* store_rewrite_test.c - segments written anew together with their part of the index: any story is
 * that of a model, wherever the power is lost and whatever happens to the index.
 *
 * CATGA_SEEDS=n runs n / 40 stories instead of 25; CATGA_SEED=n runs one. */
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

#define SEEDS_DEFAULT 25
#define STEPS 200       /* Of a story. */
#define CALLS_MAX 2000u /* File calls at which a fault is tried. */

static struct index_world *world;

static int remove_table(void *arg, const char *name) {
  char path[128];
  snprintf(path, sizeof(path), "/data/index/%s", name);
  if (sim_fs_random(world->sim, *(uint64_t *)arg) == 0)
    sim_fs_remove(world->sim, path);
  return 0;
}

static void restart(void) {
  switch (sim_fs_random(world->sim, 3)) {
  case 0:
    index_world_close(world);
    break;
  case 1:
    index_world_kill(world);
    break;
  default:
    index_world_crash(world);
  }
  uint64_t one_of = 1 + sim_fs_random(world->sim, 4);
  if (sim_fs_random(world->sim, 2) == 0)
    index_world_each_table(world, remove_table, &one_of);
  index_world_open(world);
}

/* Rewrites a segment if there is one and the worker is free. */
static void rewrite_some(void) {
  uint32_t count = index_world_seals(world);
  if (count == 0 || world->is_rewriting)
    return;
  struct cg_err err;
  enum cg_code code = index_world_rewrite(world, (uint32_t)sim_fs_random(world->sim, count),
                                          (uint32_t)sim_fs_random(world->sim, 11), &err);
  if (code != CG_OK && code != CG_EBUSY)
    fail_msg("rewrite: %s", err.message);
}

static void see_rewritten(void) {
  struct cg_err err;
  enum cg_code code = world->is_rewriting ? index_world_rewritten(world, &err) : CG_END;
  if (code != CG_OK && code != CG_END)
    fail_msg("rewritten: %s", err.message);
}

static void story(uint64_t seed) {
  world = index_world_new(seed);
  world->options.streams_cached_max = 1 + (uint32_t)sim_fs_random(world->sim, 200);
  index_world_close(world);
  index_world_open(world);
  for (int step = 0; step < STEPS; step++) {
    uint64_t chance = sim_fs_random(world->sim, 100);
    for (uint64_t n = sim_fs_random(world->sim, 10); n > 0; n--)
      index_world_commit(world);
    if (chance < 20)
      index_world_sync(world);
    else if (chance < 60)
      cg_store_turn(world->store);
    else if (chance < 70)
      index_world_turn(world);
    else if (chance < 85)
      rewrite_some();
    else if (chance < 97)
      index_world_check_some(world, 5);
    else
      restart();
    see_rewritten();
  }
  index_world_turn(world);
  see_rewritten();
  index_world_check(world);
  restart();
  index_world_check(world);
  index_world_free(world);
}

static void any_story_is_that_of_the_model(void **state) {
  (void)state;
  const char *seeds = getenv("CATGA_SEEDS"), *seed = getenv("CATGA_SEED");
  if (seed != NULL) {
    story(strtoull(seed, NULL, 10));
    return;
  }
  uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) / 40 + 1 : SEEDS_DEFAULT;
  for (uint64_t number = 1; number <= count; number++) {
    print_message("story %llu\n", (unsigned long long)number);
    story(number);
  }
}

/* A disk with six sealed segments: a table of four and two of one. */
static void prepare(uint64_t seed) {
  world = index_world_new(seed);
  index_world_fill(world, 6);
  index_world_turn(world);
  assert_int_equal(index_world_table_count(world), 3);
}

/* Begins to rewrite a segment and turns until that is over. */
static enum cg_code rewrite(uint32_t number, uint32_t of_ten, struct cg_err *err) {
  enum cg_code code = index_world_rewrite(world, number, of_ten, err);
  if (code != CG_OK)
    return code;
  index_world_turn(world);
  return index_world_rewritten(world, err);
}

static void each_segment_can_be_rewritten_again_and_again(void **state) {
  (void)state;
  prepare(1);
  for (uint32_t round = 0; round < 3; round++) {
    for (uint32_t number = 0; number < 6; number++) {
      struct cg_err err;
      if (rewrite(number, 2 + 4 * round, &err) != CG_OK)
        fail_msg("%s", err.message);
      index_world_check_some(world, 20);
      assert_int_equal(index_world_table_count(world), 3); /* None is left over. */
    }
    index_world_check(world);
  }
  uint64_t all = 1;
  index_world_close(world);
  index_world_open(world);
  index_world_check(world);
  index_world_close(world);
  index_world_each_table(world, remove_table, &all);
  index_world_open(world);
  index_world_check(world);
  index_world_free(world);
}

static uint64_t data_bytes_read; /* Of segments, behind their headers. */
static bool is_segment[64];      /* By handle. */

static int spy_open(void *arg, const char *path, enum cg_fs_mode mode) {
  int handle = sim_fs_calls(world->sim)->open(arg, path, mode);
  if (handle >= 0)
    is_segment[handle] =
        strstr(path, "/log/segment-00000000") != NULL && strstr(path, "segment-0000000006") == NULL;
  return handle;
}

static int64_t spy_pread(void *arg, int handle, void *bytes, size_t size, uint64_t offset) {
  if (is_segment[handle] && offset + size > CG_SEGMENT_HEADER_BYTES)
    data_bytes_read += size;
  return sim_fs_calls(world->sim)->pread(arg, handle, bytes, size, offset);
}

static void an_open_behind_it_reads_nothing_of_what_is_sealed(void **state) {
  (void)state;
  prepare(2);
  assert_int_equal(rewrite(1, 5, NULL), CG_OK);
  assert_int_equal(rewrite(5, 5, NULL), CG_OK);
  index_world_close(world);
  world->fs.open = spy_open;
  world->fs.pread = spy_pread;
  data_bytes_read = 0;
  index_world_open(world);
  assert_int_equal(data_bytes_read, 0);
  index_world_check(world);
  assert_true(data_bytes_read > 0);
  index_world_free(world);
}

static void one_at_a_time_and_only_what_is_sealed(void **state) {
  (void)state;
  struct cg_err err;
  struct cg_log_rewrite nothing = {.keep = NULL};
  prepare(3);
  assert_int_equal(cg_store_rewrite(world->store, 6, &nothing, &err), CG_ENOTFOUND);
  assert_int_equal(index_world_rewrite(world, 0, 5, &err), CG_OK);
  assert_int_equal(cg_store_rewrite(world->store, 1, &nothing, &err), CG_EBUSY);
  enum cg_code code;
  assert_false(cg_store_rewritten(world->store, &code, &err));
  index_world_turn(world);
  assert_int_equal(cg_store_rewrite(world->store, 1, &nothing, &err), CG_EBUSY);
  assert_int_equal(index_world_rewritten(world, &err), CG_OK);
  assert_int_equal(index_world_rewritten(world, &err), CG_END);
  index_world_check(world);
  index_world_free(world);

  struct cg_store_options options = {.seed = 1};
  struct cg_store *memory;
  assert_int_equal(cg_store_open(&memory, &options, &err), CG_OK);
  assert_int_equal(cg_store_rewrite(memory, 0, &nothing, &err), CG_ENOTFOUND);
  assert_int_equal(cg_store_close(memory, NULL), CG_OK);
}

static bool keep_none(void *arg, const struct cg_record *record) {
  (void)arg;
  (void)record;
  return false;
}

/* Expects that all records of the segments 0 to 3 are gone; each stream has so many versions still,
 * or, when nothing else is left of it and `may_forget`, none. */
static void expect_gone(const uint64_t *counts, uint32_t count, uint64_t end, bool may_forget) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  for (uint32_t position = 1; position < end; position++) {
    const struct index_world_record *record = &world->records[position - 1];
    char name[64];
    cg_store_stream stream;
    struct cg_record found;
    size_t size = index_world_name(record->stream, name);
    assert_true(record->stream < count);
    enum cg_code code = cg_store_find(world->store, name, size, false, &stream, NULL);
    if (code == CG_ENOTFOUND && may_forget)
      continue;
    assert_int_equal(code, CG_OK);
    assert_int_equal(cg_store_count(world->store, stream), counts[record->stream]);
    assert_int_equal(cg_store_read(world->store, stream, record->version, buf, &found, NULL),
                     CG_ENOTFOUND);
  }
  cg_buf_unref(buf);
}

static void a_stream_of_which_nothing_is_left_keeps_its_count(void **state) {
  (void)state;
  prepare(4);
  const struct cg_log_seal *seals;
  cg_log_seals(cg_store_log(world->store), &seals);
  uint64_t end = seals[3].end_position;
  static uint64_t counts[INDEX_WORLD_RECORDS];
  memset(counts, 0, sizeof(counts));
  for (uint32_t i = 0; i < world->count; i++)
    counts[world->records[i].stream] = world->records[i].version + 1;
  for (uint32_t number = 0; number < 4; number++) {
    struct cg_log_rewrite rewrite = {.keep = keep_none};
    enum cg_code code;
    assert_int_equal(cg_store_rewrite(world->store, number, &rewrite, NULL), CG_OK);
    index_world_turn(world);
    assert_true(cg_store_rewritten(world->store, &code, NULL));
    assert_int_equal(code, CG_OK);
  }
  expect_gone(counts, INDEX_WORLD_RECORDS, end, false);
  index_world_close(world);
  index_world_open(world);
  expect_gone(counts, INDEX_WORLD_RECORDS, end, false);
  index_world_close(world);
  uint64_t all = 1;
  index_world_each_table(world, remove_table, &all);
  index_world_open(world);
  expect_gone(counts, INDEX_WORLD_RECORDS, end, true);
  index_world_free(world);
}

static void power_may_be_lost_at_any_call(void **state) {
  (void)state;
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    prepare(call);
    assert_int_equal(index_world_rewrite(world, call % 6, 5, NULL), CG_OK);
    sim_fs_fault(world->sim, SIM_FAULT_CRASH, 0, call, false);
    index_world_turn(world);
    bool has_faulted = sim_fs_has_faulted(world->sim);
    index_world_crash(world);
    index_world_open(world);
    index_world_check(world);
    index_world_free(world);
    if (!has_faulted) {
      assert_true(call > 20);
      return;
    }
  }
  fail_msg("there was always one more call");
}

static void no_error_of_a_file_call_makes_a_wrong_answer(void **state) {
  (void)state;
  static const int errors[] = {EIO, ENOSPC, EINTR};
  for (uint64_t call = 1; call < CALLS_MAX; call++) {
    prepare(call);
    assert_int_equal(index_world_rewrite(world, call % 6, 5, NULL), CG_OK);
    sim_fs_fault(world->sim, SIM_FAULT_ERROR, errors[call % 3], call, call % 2 == 0);
    index_world_turn(world);
    bool has_faulted = sim_fs_has_faulted(world->sim);
    sim_fs_fault(world->sim, SIM_FAULT_NONE, 0, 0, false);
    struct cg_err err;
    enum cg_code code = index_world_rewritten(world, &err);
    assert_int_not_equal(code, CG_END);
    index_world_check(world);
    code = rewrite(call % 6, 5, &err); /* Then it can be done, */
    if (code == CG_EBUSY)              /* but a table that does not fit is made again first. */
      code = rewrite(call % 6, 5, &err);
    if (code != CG_OK)
      fail_msg("call %llu: %s", (unsigned long long)call, err.message);
    index_world_check(world);
    index_world_kill(world);
    index_world_open(world);
    index_world_check(world);
    index_world_free(world);
    if (!has_faulted)
      return;
  }
  fail_msg("there was always one more call");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_story_is_that_of_the_model),
      cmocka_unit_test(each_segment_can_be_rewritten_again_and_again),
      cmocka_unit_test(an_open_behind_it_reads_nothing_of_what_is_sealed),
      cmocka_unit_test(one_at_a_time_and_only_what_is_sealed),
      cmocka_unit_test(a_stream_of_which_nothing_is_left_keeps_its_count),
      cmocka_unit_test(power_may_be_lost_at_any_call),
      cmocka_unit_test(no_error_of_a_file_call_makes_a_wrong_answer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
