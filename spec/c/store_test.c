/* store_test.c - the event store on a simulated disk: versions, what is expected of them, taking
 * back, reopening, ids over restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/store.h"
#include "support/sim_fs.h"

#define HOUR_MS 3600000
#define START_MS INT64_C(1767225600000)
#define MODEL_STREAMS 7
#define MODEL_COMMITS 4000
#define MANY_STREAMS 20000
#define ID_STORIES 200
#define FAULTS_MAX 200 /* Calls at which a fault is tried. */

static struct sim_fs *sim;
static struct cg_clock_virtual now;
static struct cg_store_options options;
static struct cg_store *store;
static struct cg_err err;

static enum cg_code setup_with(uint64_t seed) {
  sim = sim_fs_new(seed);
  now = (struct cg_clock_virtual){.wall_ms = START_MS};
  options = (struct cg_store_options){.path = "/data", .seed = 1};
  options.log.fs = sim_fs_calls(sim);
  options.log.clock = cg_clock_of(&now);
  options.log.segment_bytes = 1 << 20;
  options.log.manual = true;
  store = NULL;
  return cg_store_open(&store, &options, &err);
}

static int setup(void **state) {
  (void)state;
  return setup_with(7) == CG_OK ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  if (store != NULL)
    cg_store_abandon(store);
  sim_fs_free(sim);
  return 0;
}

static void make_durable(void) {
  while (cg_log_turn(cg_store_log(store)))
    ;
  assert_int_equal(cg_log_failed(cg_store_log(store), &err), CG_OK);
}

static void open_again(void) {
  enum cg_code code = cg_store_open(&store, &options, &err);
  if (code != CG_OK)
    fail_msg("%s", err.message);
}

/* Closes and opens, or ends the process, or loses power. */
static void reopen(void) {
  assert_int_equal(cg_store_close(store, &err), CG_OK);
  open_again();
}

static void kill_and_reopen(void) {
  cg_store_abandon(store);
  sim_fs_kill(sim);
  open_again();
}

static void lose_power_and_reopen(void) {
  cg_store_abandon(store);
  sim_fs_crash(sim);
  open_again();
}

static cg_store_stream stream_of(const char *name) {
  cg_store_stream stream;
  if (cg_store_find(store, name, strlen(name), true, &stream, &err) != CG_OK)
    fail_msg("%s", err.message);
  return stream;
}

/* Adds one record whose data is `text`. */
static enum cg_code add(cg_store_stream stream, int64_t expected, const char *text,
                        uint16_t flags) {
  struct cg_store_event event = {.stream = stream,
                                 .expected = expected,
                                 .type = "Happened",
                                 .type_size = 8,
                                 .flags = flags,
                                 .time_ms = now.wall_ms};
  enum cg_code code = cg_store_new_id(store, &event.id, &err);
  if (code != CG_OK)
    return code;
  struct cg_buf *data;
  code = cg_store_add(store, &event, &data, &err);
  if (code != CG_OK)
    return code;
  cg_buf_append(data, text, strlen(text));
  cg_store_added(store);
  return CG_OK;
}

static uint64_t commit(void) {
  uint64_t first;
  if (cg_store_commit(store, &first, &err) != CG_OK)
    fail_msg("%s", err.message);
  return first;
}

static void append(const char *name, const char *text) {
  cg_store_begin(store);
  assert_int_equal(add(stream_of(name), CG_STORE_ANY, text, 0), CG_OK);
  commit();
}

static void check_record(cg_store_stream stream, uint64_t version, const char *text) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  if (cg_store_read(store, stream, version, buf, &record, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(record.version, version);
  assert_int_equal(record.data_size, strlen(text));
  assert_memory_equal(record.data, text, record.data_size);
  cg_buf_unref(buf);
}

static void versions_and_positions_are_counted_within_a_commit(void **state) {
  (void)state;
  append("a", "a0");
  cg_store_stream a = stream_of("a"), b = stream_of("b");
  cg_store_begin(store);
  assert_int_equal(add(a, 0, "a1", 0), CG_OK);
  assert_int_equal(add(b, CG_STORE_NONE, "b0", 0), CG_OK);
  assert_int_equal(add(a, 1, "a2", 0), CG_OK);
  assert_int_equal(add(b, CG_STORE_EXISTS, "b1", 0), CG_OK);
  assert_int_equal(cg_store_count(store, a), 3);
  assert_int_equal(commit(), 2);
  check_record(a, 2, "a2");
  check_record(b, 1, "b1");
  struct cg_record record;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  assert_int_equal(cg_store_read(store, a, 2, buf, &record, &err), CG_OK);
  assert_int_equal(record.position, 4);
  assert_int_equal(cg_store_read(store, a, 3, buf, &record, &err), CG_ENOTFOUND);
  assert_int_equal(cg_store_read(store, a, UINT64_MAX, buf, &record, &err), CG_ENOTFOUND);
  cg_buf_unref(buf);
}

static void what_is_expected_is_checked(void **state) {
  (void)state;
  append("full", "0");
  append("full", "1");
  static const struct {
    const char *name;
    int64_t expected;
    enum cg_code code;
  } cases[] = {
      {"full", CG_STORE_ANY, CG_OK},     {"full", CG_STORE_NONE, CG_ECONFLICT},
      {"full", CG_STORE_EXISTS, CG_OK},  {"full", 1, CG_OK},
      {"full", 0, CG_ECONFLICT},         {"full", 2, CG_ECONFLICT},
      {"full", INT64_MAX, CG_ECONFLICT}, {"full", INT64_MIN, CG_ECONFLICT},
      {"full", -4, CG_ECONFLICT},        {"empty", CG_STORE_ANY, CG_OK},
      {"empty", CG_STORE_NONE, CG_OK},   {"empty", CG_STORE_EXISTS, CG_ECONFLICT},
      {"empty", 0, CG_ECONFLICT},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    cg_store_begin(store);
    assert_int_equal(add(stream_of(cases[i].name), cases[i].expected, "x", 0), cases[i].code);
    if (cases[i].code != CG_OK)
      assert_non_null(strstr(err.message, cases[i].name));
    cg_store_rollback(store);
  }
  assert_int_equal(cg_store_count(store, stream_of("full")), 2);
  assert_int_equal(cg_store_count(store, stream_of("empty")), 0);
}

static void a_refused_record_leaves_those_before_it(void **state) {
  (void)state;
  cg_store_stream a = stream_of("a");
  char long_type[CG_RECORD_TYPE_BYTES_MAX + 1];
  memset(long_type, 't', sizeof(long_type));
  struct cg_store_event bad = {.stream = a, .expected = CG_STORE_ANY, .type = long_type};
  struct cg_buf *data;
  cg_store_begin(store);
  assert_int_equal(add(a, CG_STORE_NONE, "first", 0), CG_OK);
  assert_int_equal(cg_store_add(store, &bad, &data, &err), CG_EINVAL);
  bad.type_size = sizeof(long_type);
  assert_int_equal(cg_store_add(store, &bad, &data, &err), CG_EINVAL);
  assert_int_equal(add(a, CG_STORE_NONE, "no", 0), CG_ECONFLICT);
  assert_int_equal(add(a, 0, "second", 0), CG_OK);
  commit();
  reopen();
  a = stream_of("a");
  assert_int_equal(cg_store_count(store, a), 2);
  check_record(a, 1, "second");
}

/* Leaves a commit at one of the places where it can be left. */
static void leave_at(int place, cg_store_stream stream) {
  cg_store_begin(store);
  if (place >= 1)
    assert_int_equal(add(stream, CG_STORE_ANY, "gone", CG_RECORD_OPENS), CG_OK);
  if (place >= 2)
    assert_int_equal(add(stream, CG_STORE_ANY, "gone too", 0), CG_OK);
  if (place >= 3) { /* A record that was not ended. */
    struct cg_store_event event = {.stream = stream,
                                   .expected = CG_STORE_ANY,
                                   .type = "Open",
                                   .type_size = 4,
                                   .time_ms = now.wall_ms};
    struct cg_buf *data;
    assert_int_equal(cg_store_add(store, &event, &data, &err), CG_OK);
    cg_buf_append(data, "half", 4);
  }
}

static void taking_back_leaves_nothing_wherever_it_happens(void **state) {
  (void)state;
  cg_store_stream stream = stream_of("s");
  uint64_t kept = 0;
  for (int how = 0; how < 2; how++) {
    for (int place = 0; place <= 3; place++) {
      leave_at(place, stream);
      if (how == 0)
        cg_store_rollback(store); /* Else the next begin takes it back. */
      cg_store_begin(store);
      assert_int_equal(cg_store_count(store, stream), kept);
      assert_int_equal(add(stream, kept == 0 ? CG_STORE_NONE : (int64_t)kept - 1, "kept", 0),
                       CG_OK);
      commit();
      assert_false(cg_store_unfinished(store, stream));
      check_record(stream, kept++, "kept");
    }
  }
  cg_store_rollback(store); /* Nothing is being built: nothing happens. */
  reopen();
  stream = stream_of("s");
  assert_int_equal(cg_store_count(store, stream), kept);
  for (uint64_t version = 0; version < kept; version++)
    check_record(stream, version, "kept");
}

static void a_commit_that_the_log_refuses_is_taken_back(void **state) {
  (void)state;
  assert_int_equal(cg_store_close(store, &err), CG_OK);
  options.log.pending_bytes_max = 1;
  open_again();
  append("s", "taken");
  cg_store_stream stream = stream_of("s");
  cg_store_begin(store);
  assert_int_equal(add(stream, 0, "refused", CG_RECORD_OPENS), CG_OK);
  uint64_t first;
  assert_int_equal(cg_store_commit(store, &first, &err), CG_ELIMIT);
  assert_int_equal(cg_store_count(store, stream), 1);
  assert_false(cg_store_unfinished(store, stream));
  make_durable();
  append("s", "later");
  check_record(stream, 1, "later");
}

static void an_empty_commit_is_nothing(void **state) {
  (void)state;
  append("s", "one");
  cg_store_begin(store);
  assert_int_equal(commit(), 2);
  append("s", "two");
  reopen();
  assert_int_equal(cg_store_count(store, stream_of("s")), 2);
}

static size_t many_name(uint32_t number, char name[64]) {
  /* With zero bytes and bytes that are no text. */
  return (size_t)snprintf(name, 64, "stream%c%c%u", number % 3 == 0 ? '\0' : '-',
                          number % 5 == 0 ? 0xff : '.', number);
}

/* The last name seen, and how many. */
struct seen {
  char name[CG_RECORD_STREAM_BYTES_MAX];
  size_t size;
  uint32_t count;
};

static bool see_name(void *arg, const char *name, size_t size) {
  struct seen *seen = arg;
  memcpy(seen->name, name, size);
  seen->size = size;
  seen->count++;
  return true;
}

/* How many streams there are, page by page. */
static uint32_t count_names(void) {
  static struct seen seen;
  uint32_t before;
  seen.count = 0;
  seen.size = 0;
  do {
    before = seen.count;
    char after[CG_RECORD_STREAM_BYTES_MAX];
    memcpy(after, seen.name, seen.size);
    struct cg_store_page page = {.after = after, .after_size = seen.size, .max = 999};
    assert_int_equal(cg_store_streams(store, &page, see_name, &seen, &err), CG_OK);
  } while (seen.count > before);
  return seen.count;
}

static void many_streams_come_back(void **state) {
  (void)state;
  char name[64];
  char longest[CG_RECORD_STREAM_BYTES_MAX + 1];
  memset(longest, 'n', sizeof(longest));
  for (uint32_t i = 0; i < MANY_STREAMS; i++) {
    cg_store_stream stream;
    assert_int_equal(cg_store_find(store, name, many_name(i, name), true, &stream, &err), CG_OK);
    assert_int_equal(stream, i);
    cg_store_begin(store);
    assert_int_equal(add(stream, CG_STORE_NONE, "one", i % 2 == 0 ? CG_RECORD_OPENS : 0), CG_OK);
    if (i % 4 == 0)
      assert_int_equal(add(stream, 0, "two", CG_RECORD_CLOSES), CG_OK);
    commit();
    assert_int_equal(cg_store_unfinished(store, stream), i % 4 == 2);
    if (i % 1000 == 0)
      make_durable();
  }
  cg_store_stream last;
  assert_int_equal(cg_store_find(store, longest, sizeof(longest), true, &last, &err), CG_EINVAL);
  assert_int_equal(cg_store_find(store, "", 0, true, &last, &err), CG_EINVAL);
  assert_true(last == CG_STORE_NO_STREAM && cg_store_is_stale(store, last));
  assert_int_equal(cg_store_find(store, longest, sizeof(longest) - 1, true, &last, &err), CG_OK);
  cg_store_begin(store);
  assert_int_equal(add(last, CG_STORE_NONE, "longest", 0), CG_OK);
  commit();
  reopen();
  assert_int_equal(count_names(), MANY_STREAMS + 1);
  for (uint32_t i = 0; i < MANY_STREAMS; i++) {
    cg_store_stream stream;
    assert_int_equal(cg_store_find(store, name, many_name(i, name), false, &stream, &err), CG_OK);
    assert_int_equal(cg_store_count(store, stream), i % 4 == 0 ? 2 : 1);
    assert_int_equal(cg_store_unfinished(store, stream), i % 4 == 2);
  }
  assert_int_equal(cg_store_find(store, longest, sizeof(longest) - 1, false, &last, &err), CG_OK);
}

/* What the model test knows: every record that was committed, in order. */
struct model {
  uint8_t stream[MODEL_COMMITS * 4];
  uint32_t version[MODEL_COMMITS * 4];
  uint32_t count;
  uint32_t counts[MODEL_STREAMS];
};

static void model_text(const struct model *model, uint32_t i, char text[32]) {
  snprintf(text, 32, "%u of %u", model->version[i], model->stream[i]);
}

/* One commit of one to three records, or one that is taken back. */
static void model_commit(struct model *model, cg_store_stream streams[MODEL_STREAMS]) {
  uint32_t counts[MODEL_STREAMS];
  uint32_t staged = model->count;
  memcpy(counts, model->counts, sizeof(counts));
  cg_store_begin(store);
  for (uint64_t n = 1 + sim_fs_random(sim, 3); n > 0; n--) {
    uint8_t stream = (uint8_t)sim_fs_random(sim, MODEL_STREAMS);
    int64_t last = (int64_t)counts[stream] - 1;
    model->stream[staged] = stream;
    model->version[staged] = counts[stream];
    char text[32];
    model_text(model, staged, text);
    assert_int_equal(add(streams[stream], last < 0 ? 5 : last + 1, text, 0), CG_ECONFLICT);
    assert_int_equal(add(streams[stream], last < 0 ? CG_STORE_NONE : last, text, 0), CG_OK);
    counts[stream]++;
    staged++;
  }
  if (sim_fs_random(sim, 4) == 0) {
    cg_store_rollback(store);
    return;
  }
  assert_int_equal(commit(), model->count + 1);
  model->count = staged;
  memcpy(model->counts, counts, sizeof(counts));
}

/* After a loss of power the log may have lost its end. */
static void model_cut(struct model *model, uint64_t count) {
  assert_true(count <= model->count);
  model->count = (uint32_t)count;
  memset(model->counts, 0, sizeof(model->counts));
  for (uint32_t i = 0; i < model->count; i++)
    model->counts[model->stream[i]]++;
}

static void model_find(cg_store_stream streams[MODEL_STREAMS]) {
  for (int i = 0; i < MODEL_STREAMS; i++) {
    char name[24];
    snprintf(name, sizeof(name), "model-%d", i);
    streams[i] = stream_of(name);
  }
}

static void model_check(const struct model *model, cg_store_stream streams[MODEL_STREAMS]) {
  for (int i = 0; i < MODEL_STREAMS; i++)
    assert_int_equal(cg_store_count(store, streams[i]), model->counts[i]);
  for (uint32_t i = 0; i < model->count; i++) {
    char text[32];
    model_text(model, i, text);
    check_record(streams[model->stream[i]], model->version[i], text);
  }
}

static void any_story_of_commits_and_crashes_is_that_of_the_model(void **state) {
  (void)state;
  static struct model model;
  memset(&model, 0, sizeof(model));
  cg_store_stream streams[MODEL_STREAMS];
  uint64_t durable = 0;
  model_find(streams);
  for (int i = 0; i < MODEL_COMMITS; i++) {
    model_commit(&model, streams);
    uint64_t chance = sim_fs_random(sim, 200);
    if (chance < 20) {
      make_durable();
      durable = model.count;
    }
    if (chance >= 3)
      continue;
    if (chance == 0)
      reopen();
    else if (chance == 1)
      kill_and_reopen();
    else
      lose_power_and_reopen();
    uint64_t count = cg_log_next_position(cg_store_log(store)) - 1;
    assert_true(count >= durable && (chance != 0 || count == model.count));
    model_cut(&model, count);
    model_find(streams);
    model_check(&model, streams);
  }
  model_check(&model, streams);
}

static uint64_t new_id(void) {
  uint64_t id;
  if (cg_store_new_id(store, &id, &err) != CG_OK)
    fail_msg("%s", err.message);
  return id;
}

/* Gives ids away until the disk fails or so many are given; the last one. */
static uint64_t give_ids(uint64_t last) {
  for (uint64_t n = sim_fs_random(sim, 4) == 0 ? 9000 : 3; n > 0; n--) {
    uint64_t id; /* Given away, and never in the log. */
    if (cg_store_new_id(store, &id, &err) != CG_OK)
      break;
    assert_true(id > last);
    last = id;
  }
  return last;
}

/* Power may be lost in the middle of a reservation; the clock steps back now and then. */
static void ids_story(void) {
  void (*const restarts[])(void) = {kill_and_reopen, lose_power_and_reopen, lose_power_and_reopen};
  uint64_t last = 0;
  for (int round = 0; round < 12; round++) {
    if (sim_fs_random(sim, 2) == 0)
      sim_fs_fault(sim, SIM_FAULT_CRASH, 0, 1 + sim_fs_random(sim, 6), false);
    last = give_ids(last);
    if (sim_fs_has_faulted(sim)) {
      lose_power_and_reopen();
    } else {
      sim_fs_fault(sim, SIM_FAULT_NONE, 0, 0, false);
      restarts[sim_fs_random(sim, 3)]();
    }
    if (sim_fs_random(sim, 3) == 0)
      now.wall_ms -= HOUR_MS;
    else
      cg_clock_virtual_advance(&now, (int64_t)sim_fs_random(sim, 3000));
  }
}

static void ids_grow_over_restarts_whatever_the_clock_does(void **state) {
  for (uint64_t seed = 1; seed <= ID_STORIES; seed++) {
    teardown(state);
    assert_int_equal(setup_with(seed), CG_OK);
    ids_story();
  }
}

static void a_lost_file_of_ids_is_made_up_for_by_the_log(void **state) {
  (void)state;
  append("s", "an event");
  uint64_t last = new_id();
  make_durable();
  cg_store_abandon(store);
  sim_fs_kill(sim);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(sim, "/data/ids", &size);
  assert_non_null(bytes);
  memset(bytes, 0x55, size);
  now.wall_ms -= 100 * HOUR_MS;
  open_again();
  assert_true(cg_id_decode(new_id()).time_ms >= cg_id_decode(last).time_ms);
}

static void a_reservation_that_fails_gives_no_id(void **state) {
  (void)state;
  uint64_t last = new_id();
  now.wall_ms += HOUR_MS;
  sim_fs_fault(sim, SIM_FAULT_ERROR, 5, 1, true);
  uint64_t id;
  assert_int_equal(cg_store_new_id(store, &id, &err), CG_EIO);
  assert_int_equal(cg_store_new_id(store, &id, &err), CG_EIO);
  sim_fs_fault(sim, SIM_FAULT_NONE, 0, 0, false);
  assert_true(new_id() > last);
}

static void opening_may_fail_at_any_call(void **state) {
  (void)state;
  append("s", "an event");
  make_durable();
  assert_int_equal(cg_store_close(store, &err), CG_OK);
  int failed = 0;
  for (uint64_t call = 1; call <= FAULTS_MAX; call++) {
    sim_fs_fault(sim, SIM_FAULT_ERROR, 5, call, false);
    enum cg_code code = cg_store_open(&store, &options, &err);
    bool has_faulted = sim_fs_has_faulted(sim);
    sim_fs_fault(sim, SIM_FAULT_NONE, 0, 0, false);
    if (code == CG_OK) {
      assert_int_equal(cg_store_count(store, stream_of("s")), 1);
      cg_store_abandon(store);
    } else {
      assert_true(err.message[0] != '\0');
      failed++;
    }
    sim_fs_kill(sim);
    if (!has_faulted)
      break;
  }
  assert_true(failed >= 3);
  open_again();
  check_record(stream_of("s"), 0, "an event");
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
      TEST(versions_and_positions_are_counted_within_a_commit),
      TEST(what_is_expected_is_checked),
      TEST(a_refused_record_leaves_those_before_it),
      TEST(taking_back_leaves_nothing_wherever_it_happens),
      TEST(a_commit_that_the_log_refuses_is_taken_back),
      TEST(an_empty_commit_is_nothing),
      TEST(many_streams_come_back),
      TEST(any_story_of_commits_and_crashes_is_that_of_the_model),
      TEST(ids_grow_over_restarts_whatever_the_clock_does),
      TEST(a_lost_file_of_ids_is_made_up_for_by_the_log),
      TEST(a_reservation_that_fails_gives_no_id),
      TEST(opening_may_fail_at_any_call),
#undef TEST
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
