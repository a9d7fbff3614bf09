/* log_walk_test.c - cg_log_walk gives every commit in order, stops where it is told to, and names
 * the first damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define COMMITS 70
#define RECORDS ((uint64_t)2) /* Of a commit. */

/* A log, and what a walk over it has given. */
struct world {
  struct sim_fs *sim;      /* The disk. */
  struct log_model model;  /* What was appended. */
  struct cg_log *log;      /* Open while it is not NULL. */
  struct cg_log_walk walk; /* The last walk. */
  uint64_t next_position;  /* Behind what it has given. */
  uint64_t wrong_count;    /* Records that were not what was appended. */
};

static void on_commit(void *arg, const struct cg_commit_header *header, const uint8_t *records,
                      size_t size) {
  struct world *world = arg;
  assert_int_equal(header->first_position, world->next_position);
  size_t at = 0;
  for (uint32_t index = 0; index < header->record_count; index++) {
    struct cg_record record;
    size_t record_size;
    assert_int_equal(cg_record_decode(records + at, size - at, &record, &record_size, NULL), CG_OK);
    record.position = world->next_position++;
    at += record_size;
    const struct log_model_commit *commit = log_model_find(&world->model, record.position);
    world->wrong_count += !commit || !log_model_matches(commit, &record);
  }
  assert_int_equal(at, size);
}

/* Makes a log of three segments. */
static void make_log(struct world *world, bool is_closed) {
  *world = (struct world){.sim = sim_fs_new(5)};
  struct cg_log_options options = {
      .fs = sim_fs_calls(world->sim), .segment_bytes = 64 << 10, .nonce_seed = 1, .manual = true};
  assert_int_equal(cg_log_open_file(&world->log, "/log", &options, NULL), CG_OK);
  for (int count = 0; count < COMMITS; count++) {
    assert_int_equal(log_model_append(&world->model, world->log, RECORDS, 2000, NULL), CG_OK);
    cg_log_turn(world->log);
  }
  if (!is_closed)
    return;
  cg_log_close(world->log, NULL);
  world->log = NULL;
}

static enum cg_code walk(struct world *world, uint64_t until_position, struct cg_err *err) {
  world->next_position = 1;
  world->walk =
      (struct cg_log_walk){.until_position = until_position, .commit = on_commit, .arg = world};
  return cg_log_walk("/log", sim_fs_calls(world->sim), &world->walk, err);
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

static void test_all_commits_come_in_order(void **state) {
  (void)state;
  struct world world;
  make_log(&world, true);
  assert_int_equal(walk(&world, 0, NULL), CG_OK);
  assert_int_equal(world.next_position, COMMITS * RECORDS + 1);
  assert_int_equal(world.wrong_count, 0);
  assert_int_equal(world.walk.counts.segment_count, 3);
  assert_int_equal(world.walk.counts.record_count, COMMITS * RECORDS);
  free_world(&world);
}

static void test_an_open_log_is_read_up_to_a_position(void **state) {
  (void)state;
  struct world world;
  make_log(&world, false);
  assert_int_equal(walk(&world, 0, NULL), CG_EBUSY);
  for (uint64_t until = 1; until <= COMMITS * RECORDS + 1; until++) {
    assert_int_equal(walk(&world, until, NULL), CG_OK);
    assert_int_equal(world.next_position, (until - 1) / RECORDS * RECORDS + 1); /* Whole commits. */
  }
  assert_int_equal(world.wrong_count, 0);
  struct cg_err err;
  assert_int_equal(walk(&world, COMMITS * RECORDS + 2, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "said to be durable"));
  free_world(&world);
}

static void test_the_first_damage_is_named(void **state) {
  (void)state;
  struct world world;
  make_log(&world, true);
  size_t commit = 9, size;
  uint64_t offset = (world.model.commits[commit].place & UINT32_MAX) * 8 - 48;
  sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size)[offset + 70] ^= 1;
  struct cg_err err;
  char text[80];
  assert_int_equal(walk(&world, 0, &err), CG_ECORRUPT);
  snprintf(text, sizeof(text),
           "/log/segment-0000000000.log: offset %llu: ", (unsigned long long)offset);
  assert_memory_equal(err.message, text, strlen(text));
  assert_int_equal(world.next_position, commit * RECORDS + 1);
  sim_fs_remove(world.sim, "/log/segment-0000000001.log");
  sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size)[offset + 70] ^= 1;
  assert_int_equal(walk(&world, 0, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000001.log: offset 0: the file is missing"));
  assert_int_equal(cg_log_walk("/none", sim_fs_calls(world.sim), &world.walk, NULL), CG_ENOTFOUND);
  free_world(&world);
}

static void test_a_torn_tail_is_left_out(void **state) {
  (void)state;
  struct world world;
  make_log(&world, false);
  assert_int_equal(log_model_append(&world.model, world.log, RECORDS, 2000, NULL), CG_OK);
  cg_log_turn(world.log);
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_kill(world.sim);
  uint64_t place = world.model.commits[COMMITS].place;
  char path[64];
  size_t size;
  snprintf(path, sizeof(path), "/log/segment-%010d.log", (int)(place >> 32));
  sim_fs_bytes(world.sim, path, &size)[(place & UINT32_MAX) * 8 + 30] ^= 1;
  assert_int_equal(walk(&world, 0, NULL), CG_OK);
  assert_int_equal(world.next_position, COMMITS * RECORDS + 1);
  assert_true(world.walk.counts.torn_bytes > 0);
  free_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_all_commits_come_in_order),
      cmocka_unit_test(test_an_open_log_is_read_up_to_a_position),
      cmocka_unit_test(test_the_first_damage_is_named),
      cmocka_unit_test(test_a_torn_tail_is_left_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
