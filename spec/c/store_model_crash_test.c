/* store_model_crash_test.c - random operations on a store give what a model in memory gives:
 * commits with right and wrong expectations, reads in every way, restarts, lost power, streams that
 * leave memory, segments that are rewritten, files of the index that are gone.
 *
 * A story has 5,000 operations, every tenth one 25,000. CATGA_SEEDS=n runs n / 50 stories instead
 * of 4, at most 145, which are 1,000,000 operations; CATGA_SEED=n runs the one with that seed,
 * which is printed before each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/store_model.h"

#define OPERATIONS 5000       /* Of a story. */
#define OPERATIONS_LONG 25000 /* Of every tenth. */
#define STORIES 4
#define STORIES_MAX 145
#define RECORDS_MAX 4 /* Of a commit. */
#define READS 12      /* Records of one read. */

/* A commit that is being built. */
struct commit {
  struct store_model *model;                      /* Whose. */
  struct store_model_record records[RECORDS_MAX]; /* Added so far. */
  uint32_t count;                                 /* How many. */
};

/* How many records a stream has, with those of the commit. */
static uint32_t count_in(const struct commit *commit, uint32_t stream) {
  uint32_t count = commit->model->streams[stream].count;
  for (uint32_t index = 0; index < commit->count; index++)
    count += commit->records[index].stream == stream;
  return count;
}

/* An expectation that holds for a stream with `count` records. */
static int64_t right_version(struct store_model *model, uint32_t count) {
  switch (store_model_random(model, 3)) {
  case 0:
    return CG_STORE_ANY;
  case 1:
    return count > 0 ? CG_STORE_EXISTS : CG_STORE_NONE;
  default:
    return count > 0 ? (int64_t)count - 1 : CG_STORE_NONE;
  }
}

/* One that does not. */
static int64_t wrong_version(struct store_model *model, uint32_t count) {
  switch (store_model_random(model, 3)) {
  case 0:
    return count > 0 ? CG_STORE_NONE : CG_STORE_EXISTS;
  case 1:
    return (int64_t)count + store_model_random(model, 3);
  default:
    return count > 1 ? (int64_t)store_model_random(model, count - 1) : (int64_t)count;
  }
}

/* A condition on a stream that the commit does not write; whether it holds. */
static bool add_condition(struct commit *commit) {
  struct store_model *model = commit->model;
  uint32_t stream = store_model_any_stream(model);
  uint32_t count = model->streams[stream].count;
  if (count_in(commit, stream) != count)
    return true;
  bool is_right = store_model_random(model, 10) < 7;
  char name[STORE_MODEL_NAME_BYTES];
  size_t size = store_model_name(stream, name);
  int64_t expected = is_right ? right_version(model, count) : wrong_version(model, count);
  enum cg_code code = cg_store_expect(model->store, name, size, expected, NULL);
  assert_int_equal(code, is_right ? CG_OK : CG_ECONFLICT);
  return is_right;
}

/* Adds up to four records to up to four streams; each may meet a wrong expectation first. */
static void add_records(struct commit *commit) {
  struct store_model *model = commit->model;
  uint32_t count = 1 + store_model_random(model, RECORDS_MAX);
  while (commit->count < count) {
    struct store_model_record record = {.stream = store_model_any_stream(model)};
    uint32_t before = count_in(commit, record.stream);
    bool is_right = store_model_random(model, 10) < 9;
    int64_t expected = is_right ? right_version(model, before) : wrong_version(model, before);
    if (store_model_add(model, &record, before, expected, is_right))
      commit->records[commit->count++] = record;
  }
}

static void commit_some(struct store_model *model) {
  struct commit commit = {.model = model};
  bool is_wanted = store_model_random(model, 12) > 0;
  cg_store_begin(model->store);
  if (store_model_random(model, 4) == 0)
    is_wanted &= add_condition(&commit);
  add_records(&commit);
  if (store_model_random(model, 8) == 0)
    is_wanted &= add_condition(&commit);
  if (!is_wanted) {
    cg_store_rollback(model->store);
    store_model_check_stream(model, commit.records[0].stream, 1);
    return;
  }
  uint64_t first;
  struct cg_err err;
  if (cg_store_commit(model->store, &first, &err) != CG_OK)
    fail_msg("commit: %s", err.message);
  assert_int_equal(first, model->count + 1);
  store_model_committed(model, commit.records, commit.count);
}

static void turn(struct store_model *model, uint32_t count_max) {
  for (uint32_t count = 0; count < count_max && cg_store_turn(model->store); count++)
    ;
  store_model_see_rewritten(model);
}

/* Removes a file of the index by chance. */
static int remove_some(void *arg, const char *name) {
  struct store_model *model = arg;
  char path[128];
  snprintf(path, sizeof(path), "/data/index/%s", name);
  if (store_model_random(model, 3) == 0)
    sim_fs_remove(model->sim, path);
  return 0;
}

static void restart(struct store_model *model) {
  static void (*const leave[])(struct store_model *) = {store_model_close, store_model_kill,
                                                        store_model_crash};
  leave[store_model_random(model, 3)](model);
  if (store_model_random(model, 3) == 0) {
    const struct cg_fs *fs = sim_fs_calls(model->sim);
    fs->list(fs->arg, "/data/index", remove_some, model);
  }
  store_model_open(model);
  for (int count = 0; count < 20; count++)
    store_model_check_stream(model, store_model_any_stream(model), READS);
  store_model_check_numbers(model);
}

/* The clock goes on, and back now and then. */
static void pass_time(struct store_model *model) {
  bool is_back = store_model_random(model, 20) == 0;
  model->clock.wall_ms += is_back ? -3600000 : (int64_t)store_model_random(model, 5000);
}

static void operate(struct store_model *model) {
  uint32_t chance = store_model_random(model, 1000);
  if (chance < 420)
    commit_some(model);
  else if (chance < 520)
    cg_log_turn(cg_store_log(model->store));
  else if (chance < 560)
    store_model_sync(model);
  else if (chance < 720)
    turn(model, 1 + store_model_random(model, 20));
  else if (chance < 900)
    store_model_check_stream(model, store_model_any_stream(model), READS);
  else if (chance < 960)
    store_model_check_cursor(model, store_model_random(model, model->count + 1), READS);
  else if (chance < 970)
    store_model_check_names(model);
  else if (chance < 976)
    store_model_check_numbers(model);
  else if (chance < 990)
    pass_time(model);
  else if (chance < 996)
    store_model_rewrite(model);
  else
    restart(model);
}

static void story(uint64_t seed) {
  print_message("CATGA_SEED=%llu\n", (unsigned long long)seed);
  struct store_model *model = store_model_new(seed);
  int count = seed % 10 == 0 ? OPERATIONS_LONG : OPERATIONS;
  for (int operation = 0; operation < count; operation++)
    operate(model);
  store_model_check(model);
  restart(model);
  store_model_check(model);
  store_model_free(model);
}

static void any_story_is_that_of_the_model(void **state) {
  (void)state;
  const char *seeds = getenv("CATGA_SEEDS"), *seed = getenv("CATGA_SEED");
  if (seed != NULL) {
    story(strtoull(seed, NULL, 10));
    return;
  }
  uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) / 50 + 1 : STORIES;
  if (count > STORIES_MAX)
    count = STORIES_MAX;
  for (uint64_t number = 1; number <= count; number++)
    story(number);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_story_is_that_of_the_model),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
