/* store_contract_test.c - what the event store must do on every kind of log, rule by rule: files on
 * a simulated disk and on a real one, memory, and a log on a server behind a network. Stories of
 * crashes are in store_contract_crash_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/store_world.h"

static struct cg_err err;

static void open_store(struct store_world *world) {
  if (store_world_open(world, &err) != CG_OK)
    fail_msg("%s", err.message);
}

/* Makes and opens a store on the kind in *state. */
static void open_world(struct store_world *world, void **state) {
  store_world_init(world, *(enum kind_world_kind *)*state, 5);
  open_store(world);
}

static void add(struct store_world *world, const char *stream, int64_t expected, const char *data) {
  if (store_world_add(world, stream, expected, data, 0, NULL, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static uint64_t commit(struct store_world *world) {
  uint64_t first;
  if (cg_store_commit(world->store, &first, &err) != CG_OK)
    fail_msg("%s", err.message);
  return first;
}

static void append(struct store_world *world, const char *stream, const char *data) {
  cg_store_begin(world->store);
  add(world, stream, CG_STORE_ANY, data);
  commit(world);
}

static void check(struct store_world *world, const char *stream, uint64_t version,
                  const char *data) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  cg_store_stream number;
  assert_int_equal(cg_store_find(world->store, stream, strlen(stream), false, &number, &err),
                   CG_OK);
  if (cg_store_read(world->store, number, version, buf, &record, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(record.version, version);
  assert_int_equal(record.data_size, strlen(data));
  assert_memory_equal(record.data, data, record.data_size);
  cg_buf_unref(buf);
}

static void test_a_commit_over_several_streams_is_there_at_once_and_later(void **state) {
  struct store_world world;
  open_world(&world, state);
  append(&world, "a", "a0");
  cg_store_begin(world.store);
  add(&world, "a", 0, "a1");
  add(&world, "b", CG_STORE_NONE, "b0");
  add(&world, "a", 1, "a2");
  assert_int_equal(commit(&world), 2);
  for (int round = 0; round < 3; round++) {
    check(&world, "a", 0, "a0");
    check(&world, "a", 1, "a1");
    check(&world, "a", 2, "a2");
    check(&world, "b", 0, "b0");
    assert_int_equal(store_world_count(&world, "a"), 3);
    if (round == 0)
      assert_true(store_world_settle(&world));
    if (round == 1) {
      store_world_crash(&world, true);
      open_store(&world);
    }
  }
  store_world_deinit(&world);
}

static void test_what_is_expected_is_checked_of_written_and_of_other_streams(void **state) {
  static const struct {
    const char *stream;
    int64_t expected;
    enum cg_code code;
  } cases[] = {
      {"full", CG_STORE_ANY, CG_OK},
      {"full", CG_STORE_NONE, CG_ECONFLICT},
      {"full", CG_STORE_EXISTS, CG_OK},
      {"full", 1, CG_OK},
      {"full", 0, CG_ECONFLICT},
      {"full", 2, CG_ECONFLICT},
      {"full", INT64_MAX, CG_ECONFLICT},
      {"full", INT64_MIN, CG_ECONFLICT},
      {"empty", CG_STORE_ANY, CG_OK},
      {"empty", CG_STORE_NONE, CG_OK},
      {"empty", CG_STORE_EXISTS, CG_ECONFLICT},
      {"empty", 0, CG_ECONFLICT},
  };
  struct store_world world;
  open_world(&world, state);
  append(&world, "full", "0");
  append(&world, "full", "1");
  for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
    const char *stream = cases[index].stream;
    int64_t expected = cases[index].expected;
    cg_store_begin(world.store);
    add(&world, "other", CG_STORE_ANY, "before");
    assert_int_equal(cg_store_expect(world.store, stream, strlen(stream), expected, &err),
                     cases[index].code);
    if (cases[index].code != CG_OK)
      assert_non_null(strstr(err.message, stream));
    assert_int_equal(store_world_add(&world, stream, expected, "x", 0, NULL, &err),
                     cases[index].code);
    cg_store_rollback(world.store);
    assert_int_equal(store_world_count(&world, "full"), 2);
    assert_int_equal(store_world_count(&world, "other"), 0);
  }
  cg_store_begin(world.store);
  assert_int_equal(cg_store_expect(world.store, "", 0, CG_STORE_ANY, &err), CG_EINVAL);
  assert_int_equal(cg_store_expect(world.store, "full", 4, 1, &err), CG_OK);
  add(&world, "other", CG_STORE_NONE, "after");
  commit(&world);
  check(&world, "other", 0, "after");
  store_world_deinit(&world);
}

static void test_a_condition_makes_no_stream(void **state) {
  struct store_world world;
  open_world(&world, state);
  cg_store_begin(world.store);
  assert_int_equal(cg_store_expect(world.store, "nobody", 6, CG_STORE_NONE, &err), CG_OK);
  assert_int_equal(cg_store_expect(world.store, "nobody", 6, 3, &err), CG_ECONFLICT);
  assert_non_null(strstr(err.message, "stream nobody: expected version 3"));
  cg_store_rollback(world.store);
  cg_store_stream nobody;
  assert_int_equal(cg_store_find(world.store, "nobody", 6, false, &nobody, &err), CG_ENOTFOUND);
  store_world_deinit(&world);
}

/* The store splits nothing: what the log cannot hold in a commit is refused, and leaves nothing. */
static void test_a_commit_over_the_bound_of_the_log_is_refused_as_a_whole(void **state) {
  struct store_world world;
  open_world(&world, state);
  uint64_t max = cg_log_commit_bytes_max(world.kind.log);
  char *data = cg_alloc(max / 2 + 1);
  memset(data, 'x', max / 2);
  append(&world, "a", "a0");
  cg_store_begin(world.store);
  add(&world, "a", 0, data);
  add(&world, "b", CG_STORE_NONE, data);
  uint64_t first;
  assert_int_equal(cg_store_commit(world.store, &first, &err), CG_ELIMIT);
  assert_non_null(strstr(err.message, "commit_bytes_max"));
  assert_int_equal(store_world_count(&world, "a"), 1);
  assert_int_equal(store_world_count(&world, "b"), 0);
  cg_store_begin(world.store);
  add(&world, "a", 0, data);
  assert_int_equal(commit(&world), 2);
  assert_true(store_world_settle(&world));
  check(&world, "a", 1, data);
  cg_free(data);
  store_world_deinit(&world);
}

static void test_too_much_pending_is_refused_and_taken_later(void **state) {
  struct store_world world;
  store_world_init(&world, *(enum kind_world_kind *)*state, 5);
  world.kind.options.pending_bytes_max = 1000;
  open_store(&world);
  uint64_t count = 0, first;
  enum cg_code code = CG_OK;
  for (; code == CG_OK && count < 100; count += code == CG_OK) {
    cg_store_begin(world.store);
    add(&world, "a", count == 0 ? CG_STORE_NONE : (int64_t)count - 1, "some data");
    code = cg_store_commit(world.store, &first, &err);
  }
  assert_int_equal(code, CG_ELIMIT);
  assert_non_null(strstr(err.message, "pending_bytes_max = 1000"));
  assert_in_range(count, 3, 20);
  assert_int_equal(store_world_count(&world, "a"), count);
  assert_true(store_world_settle(&world));
  append(&world, "a", "more");
  check(&world, "a", count, "more");
  store_world_deinit(&world);
}

/* Kinds that can fail: files on the simulated disk, and the server. */
static void test_a_failed_store_takes_nothing_and_still_reads(void **state) {
  struct store_world world;
  open_world(&world, state);
  append(&world, "a", "a0");
  append(&world, "b", "b0");
  assert_true(store_world_settle(&world));
  enum cg_code failed = CG_EFAILED;
  struct cg_store *second = NULL;
  if (world.kind.kind == KIND_WORLD_FILE) {
    sim_fs_fault(world.kind.sim, SIM_FAULT_ERROR, 5, 1, true);
  } else {
    struct cg_store_options options = world.options;
    options.log.progress = NULL;
    failed = CG_EFENCED;
    assert_int_equal(cg_store_open(&second, &options, &err), CG_OK);
  }
  append(&world, "a", "a1"); /* Taken, and never acknowledged. */
  assert_true(store_world_settle(&world));
  assert_int_equal(cg_log_failed(world.kind.log, &err), failed);
  assert_int_equal(cg_log_durable_position(world.kind.log), 3);
  sim_fs_fault(world.kind.sim, SIM_FAULT_NONE, 0, 0, false);
  for (int round = 0; round < 2; round++) {
    uint64_t first;
    cg_store_begin(world.store);
    add(&world, "b", 0, "b1");
    assert_int_equal(cg_store_commit(world.store, &first, &err), failed);
    assert_int_equal(store_world_count(&world, "b"), 1);
    check(&world, "a", 0, "a0");
    check(&world, "b", 0, "b0");
  }
  if (second) {
    cg_store_stream stream;
    assert_int_equal(cg_store_find(second, "a", 1, false, &stream, &err), CG_OK);
    assert_int_equal(cg_store_count(second, stream), 1);
    cg_store_abandon(second);
  }
  assert_int_equal(store_world_close(&world, &err), failed);
  store_world_deinit(&world);
}

/* Ids are never given twice while the log keeps their records. */
static void test_ids_grow_over_openings(void **state) {
  struct store_world world;
  open_world(&world, state);
  uint64_t last = 0, id, first;
  for (int round = 0; round < 20; round++) {
    cg_store_begin(world.store);
    assert_int_equal(store_world_add(&world, "a", CG_STORE_ANY, "x", 0, &id, &err), CG_OK);
    assert_int_equal(cg_store_commit(world.store, &first, &err), CG_OK);
    assert_true(id > last);
    last = id;
    if (round % 3 == 0)
      world.kind.clock.wall_ms -= 5000; /* Also when the clock goes back. */
    assert_true(store_world_settle(&world));
    if (round % 5 == 4) {
      assert_int_equal(store_world_close(&world, &err), CG_OK);
      open_store(&world);
    } else {
      store_world_crash(&world, round % 2 == 0);
      open_store(&world);
    }
  }
  assert_int_equal(store_world_count(&world, "a"), 20);
  store_world_deinit(&world);
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
      ON_EACH_KIND(test_a_commit_over_several_streams_is_there_at_once_and_later),
      ON_EACH_KIND(test_what_is_expected_is_checked_of_written_and_of_other_streams),
      ON_EACH_KIND(test_a_condition_makes_no_stream),
      ON_EACH_KIND(test_a_commit_over_the_bound_of_the_log_is_refused_as_a_whole),
      ON_EACH_KIND(test_too_much_pending_is_refused_and_taken_later),
      ON("file", test_a_failed_store_takes_nothing_and_still_reads, KIND_WORLD_FILE),
      ON("remote", test_a_failed_store_takes_nothing_and_still_reads, KIND_WORLD_REMOTE),
      ON_EACH_KIND(test_ids_grow_over_openings),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
