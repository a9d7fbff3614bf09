/* log_torn_test.c - a log's last segment cut off at every byte, and damaged bytes below and above
 * what was durable: a torn tail is cut and told of, damage is refused and nothing is changed. */
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

#define CUT_BYTES (64u << 10) /* So many places of cutting before the end. */
#define SEGMENT_BYTES (128u << 10)
#define SEGMENT_PATH "/log/segment-0000000000.log"

/* A log and how it is opened. */
struct world {
  struct sim_fs *sim;            /* The disk. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_say say;             /* Writes what recovery says into `said`. */
  char said[512];                /* The last line. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* The log. */
};

static void keep_line(void *arg, enum cg_say_level level, const char *line) {
  (void)level;
  struct world *world = arg;
  snprintf(world->said, sizeof(world->said), "%s", line);
}

static void open_world(struct world *world, uint64_t segment_bytes) {
  *world = (struct world){.sim = sim_fs_new(7)};
  world->say = (struct cg_say){.fd = -1, .sink = keep_line, .sink_arg = world};
  world->options = (struct cg_log_options){
      .fs = sim_fs_calls(world->sim),
      .clock = cg_clock_of(&world->clock),
      .say = &world->say,
      .segment_bytes = segment_bytes,
      .nonce_seed = 1,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &world->model,
  };
  log_model_begin(&world->model);
  assert_int_equal(cg_log_open_file(&world->log, "/log", &world->options, NULL), CG_OK);
}

static void free_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

/* Opens the log as it stands on the disk and expects exactly `count` commits; closes it as a crash
 * would. */
static void expect_commits(struct world *world, size_t count) {
  struct cg_err err;
  struct log_model whole = world->model;
  world->said[0] = 0;
  log_model_begin(&world->model);
  world->model.acknowledged_position = 0;
  enum cg_code code = cg_log_open_file(&world->log, "/log", &world->options, &err);
  if (code != CG_OK)
    fail_msg("expected %zu commits: %s", count, err.message);
  if (world->model.fault)
    fail_msg("%s", world->model.fault);
  if (world->model.seen_commit != count)
    fail_msg("%zu commits came back, expected %zu", world->model.seen_commit, count);
  cg_log_abandon(world->log);
  world->log = NULL;
  sim_fs_kill(world->sim);
  world->model = whole;
}

/* Expects that opening is refused with these words in the message and without a change. */
static void expect_refused(struct world *world, const char *file, long offset) {
  struct cg_err err;
  size_t size;
  char text[64];
  const uint8_t *bytes = sim_fs_bytes(world->sim, SEGMENT_PATH, &size);
  uint8_t *before = NULL;
  if (bytes) {
    before = cg_alloc(size);
    memcpy(before, bytes, size);
  }
  world->model.is_blind = true;
  enum cg_code code = cg_log_open_file(&world->log, "/log", &world->options, &err);
  world->model.is_blind = false;
  if (code != CG_ECORRUPT)
    fail_msg("damage in %s at %ld was not refused: %d", file, offset, code);
  snprintf(text, sizeof(text), "%s: offset ", file);
  if (offset >= 0)
    snprintf(text, sizeof(text), "%s: offset %ld:", file, offset);
  if (!strstr(err.message, text))
    fail_msg("'%s' is not in '%s'", text, err.message);
  if (bytes) {
    bytes = sim_fs_bytes(world->sim, SEGMENT_PATH, &size);
    assert_int_equal(memcmp(before, bytes, size), 0);
    cg_free(before);
  }
  world->log = NULL;
  sim_fs_kill(world->sim);
}

/* Appends commits, all in one batch or each in its own, until the end is over `bytes`. */
static void fill(struct world *world, uint64_t bytes, bool is_one_batch) {
  uint64_t offset = 0;
  struct cg_err err;
  while (offset < bytes) {
    uint32_t data_max = (uint32_t)sim_fs_random(world->sim, 4000);
    assert_int_equal(log_model_append(&world->model, world->log,
                                      1 + (uint32_t)sim_fs_random(world->sim, 3), data_max, &err),
                     CG_OK);
    offset = (world->model.commits[world->model.count - 1].place & UINT32_MAX) * 8;
    if (!is_one_batch)
      assert_true(cg_log_turn(world->log));
  }
  cg_log_turn(world->log);
}

/* Where a commit begins in its segment. */
static uint64_t begin_of(const struct world *world, size_t commit) {
  return (world->model.commits[commit].place & UINT32_MAX) * 8 - CG_COMMIT_HEADER_BYTES;
}

/* Where the last commit ends, found by the size in its header. */
static uint64_t end_of(const struct world *world, const uint8_t *bytes, size_t commit) {
  uint32_t size;
  memcpy(&size, bytes + begin_of(world, commit) + 4, 4);
  return begin_of(world, commit) + size;
}

/* Cuts the log at every byte before its end, by `cut`, and expects the whole commits before. */
static void cut_everywhere(bool is_truncated) {
  struct world world;
  open_world(&world, SEGMENT_BYTES);
  fill(&world, CG_SEGMENT_HEADER_BYTES + CUT_BYTES + 4096, true);
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_kill(world.sim);

  size_t size;
  const uint8_t *bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
  uint64_t end = end_of(&world, bytes, world.model.count - 1);
  uint8_t *whole = cg_alloc((size_t)end);
  memcpy(whole, bytes, (size_t)end);
  size_t commits = world.model.count;
  /* Backwards in one file: what is cut off stays off, so that each open costs little. */
  for (uint64_t cut = end; cut + CUT_BYTES > end && cut >= CG_SEGMENT_HEADER_BYTES; cut--) {
    while (commits > 0 && end_of(&world, whole, commits - 1) > cut)
      commits--;
    if (is_truncated) {
      const struct cg_fs *fs = sim_fs_calls(world.sim);
      int handle = fs->open(fs->arg, SEGMENT_PATH, CG_FS_WRITE);
      /* Recovery has cut and grown nothing below here; put back what it has zeroed. */
      fs->pwrite(fs->arg, handle, whole, (size_t)cut, 0);
      fs->truncate(fs->arg, handle, cut);
      fs->close(fs->arg, handle);
    } else {
      uint8_t *file = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
      memcpy(file, whole, (size_t)cut);
      memset(file + cut, 0, (size_t)(end - cut));
    }
    expect_commits(&world, commits);
    uint64_t last = commits > 0 ? end_of(&world, whole, commits - 1) : CG_SEGMENT_HEADER_BYTES;
    bool is_torn = false;
    for (uint64_t at = last; at < cut; at++)
      is_torn |= whole[at] != 0;
    if (is_torn != (world.said[0] != 0))
      fail_msg("cut at %llu: a torn tail %s told of", (unsigned long long)cut,
               is_torn ? "was not" : "was wrongly");
  }
  cg_free(whole);
  free_world(&world);
}

static void test_a_log_truncated_at_any_byte_opens_with_the_whole_commits(void **state) {
  (void)state;
  cut_everywhere(true);
}

static void test_a_log_zeroed_from_any_byte_opens_with_the_whole_commits(void **state) {
  (void)state;
  cut_everywhere(false);
}

static void test_the_cut_is_told_with_file_offset_and_size(void **state) {
  (void)state;
  struct world world;
  open_world(&world, SEGMENT_BYTES);
  fill(&world, 10000, true);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size, last = world.model.count - 1;
  uint8_t *bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
  uint64_t begin = begin_of(&world, last), end = end_of(&world, bytes, last);
  bytes[begin + 60] ^= 1;
  expect_commits(&world, last);
  char text[160];
  snprintf(text, sizeof(text), "%s: offset %llu: cut a torn tail of %llu bytes", SEGMENT_PATH,
           (unsigned long long)begin, (unsigned long long)(end - begin));
  assert_non_null(strstr(world.said, text));
  bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
  for (uint64_t at = begin; at < size; at++)
    assert_int_equal(bytes[at], 0);
  expect_commits(&world, last);
  assert_string_equal(world.said, "");
  free_world(&world);
}

/* In one batch nothing proves anything: everything from the bad commit on goes, whole ones too. */
static void test_whole_commits_after_a_bad_one_of_the_same_batch_are_cut(void **state) {
  (void)state;
  struct world world;
  open_world(&world, SEGMENT_BYTES);
  fill(&world, 20000, true);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size, middle = world.model.count / 2;
  sim_fs_bytes(world.sim, SEGMENT_PATH, &size)[begin_of(&world, middle) + 20] ^= 4;
  expect_commits(&world, middle);
  free_world(&world);
}

/* With a mark behind it every byte of the log is protected. */
static void test_a_flipped_bit_below_the_mark_is_refused_with_file_and_offset(void **state) {
  (void)state;
  struct world world;
  open_world(&world, SEGMENT_BYTES);
  fill(&world, 40000, false);
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.log = NULL;
  sim_fs_kill(world.sim);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
  uint64_t end = end_of(&world, bytes, world.model.count - 1);
  size_t commit = 0;
  for (uint64_t at = CG_SEGMENT_HEADER_BYTES; at < end; at += 1 + at % 3) {
    while (commit + 1 < world.model.count && begin_of(&world, commit + 1) <= at)
      commit++;
    bytes[at] ^= (uint8_t)(1u << at % 8);
    expect_refused(&world, "segment-0000000000.log", (long)begin_of(&world, commit));
    bytes[at] ^= (uint8_t)(1u << at % 8);
  }
  expect_commits(&world, world.model.count);
  free_world(&world);
}

static void test_a_flipped_bit_in_a_segment_header_is_refused(void **state) {
  (void)state;
  struct world world;
  open_world(&world, 64 << 10);
  fill(&world, 6000, true);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
  for (uint64_t bit = 0; bit < CG_SEGMENT_HEADER_BYTES * 8; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    expect_refused(&world, "segment-0000000000.log", 0);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  expect_commits(&world, world.model.count);
  free_world(&world);
}

/* A hole: a durable commit overwritten with zeros. */
static void test_zeros_in_place_of_a_durable_commit_are_refused(void **state) {
  (void)state;
  struct world world;
  open_world(&world, SEGMENT_BYTES);
  fill(&world, 20000, false);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size, middle = world.model.count / 2;
  uint8_t *bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
  uint64_t begin = begin_of(&world, middle);
  memset(bytes + begin, 0, begin_of(&world, middle + 1) - begin);
  expect_refused(&world, "segment-0000000000.log", (long)begin);
  free_world(&world);
}

/* A whole commit copied over the one after it, with proof behind it or with nothing behind it: no
 * crash can put it there. */
static void test_a_commit_moved_to_another_place_is_refused(void **state) {
  (void)state;
  struct world world;
  open_world(&world, SEGMENT_BYTES);
  for (int count = 0; count < 10; count++) {
    assert_int_equal(log_model_append(&world.model, world.log, 1, 100, NULL), CG_OK);
    cg_log_turn(world.log);
  }
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  for (size_t to = 1; to < 10; to++) {
    size_t size;
    uint8_t before[1024];
    uint8_t *bytes = sim_fs_bytes(world.sim, SEGMENT_PATH, &size);
    uint64_t from_begin = begin_of(&world, to - 1), to_begin = begin_of(&world, to);
    memcpy(before, bytes + to_begin, sizeof(before));
    memcpy(bytes + to_begin, bytes + from_begin, (size_t)(to_begin - from_begin));
    expect_refused(&world, "segment-0000000000.log", (long)to_begin);
    memcpy(bytes + to_begin, before, sizeof(before));
  }
  expect_commits(&world, 10);
  free_world(&world);
}

/* --- several segments --- */

static const char *const paths[] = {"/log/segment-0000000000.log", "/log/segment-0000000001.log",
                                    "/log/segment-0000000002.log", "/log/segment-0000000003.log",
                                    "/log/segment-0000000004.log"};
#define PATHS 5

/* Makes a log of five segments. */
static void open_segments(struct world *world) {
  open_world(world, 64 << 10);
  while (world->model.count == 0 ||
         world->model.commits[world->model.count - 1].place >> 32 < PATHS - 1) {
    assert_int_equal(log_model_append(&world->model, world->log, 3, 3000, NULL), CG_OK);
    cg_log_turn(world->log);
  }
  cg_log_abandon(world->log);
  world->log = NULL;
  sim_fs_kill(world->sim);
}

/* A copy of a file's bytes. */
static uint8_t *copy_of(struct world *world, const char *path, size_t *size) {
  const uint8_t *bytes = sim_fs_bytes(world->sim, path, size);
  assert_non_null(bytes);
  uint8_t *copy = cg_alloc(*size);
  memcpy(copy, bytes, *size);
  return copy;
}

static void test_a_missing_segment_is_refused(void **state) {
  (void)state;
  for (int missing = 0; missing + 1 < PATHS; missing++) {
    struct world world;
    open_segments(&world);
    sim_fs_remove(world.sim, paths[missing]);
    expect_refused(&world, strrchr(paths[missing], '/') + 1, 0);
    free_world(&world);
  }
}

static void test_swapped_or_copied_segments_are_refused(void **state) {
  (void)state;
  for (int left = 0; left < PATHS; left++)
    for (int right = 0; right < PATHS; right++) {
      if (left == right)
        continue;
      struct world world;
      open_segments(&world);
      size_t left_size, right_size;
      uint8_t *left_bytes = copy_of(&world, paths[left], &left_size);
      uint8_t *right_bytes = copy_of(&world, paths[right], &right_size);
      sim_fs_put(world.sim, paths[right], left_bytes, left_size);
      if (left < right) /* Swapped; else `left` is there twice. */
        sim_fs_put(world.sim, paths[left], right_bytes, right_size);
      expect_refused(&world, strrchr(paths[left < right ? left : right], '/') + 1, 0);
      cg_free(left_bytes);
      cg_free(right_bytes);
      free_world(&world);
    }
}

static void test_a_segment_of_another_log_is_refused(void **state) {
  (void)state;
  struct world world, other;
  open_segments(&world);
  open_world(&other, 64 << 10);
  free_world(&other);
  other = (struct world){.sim = sim_fs_new(8)};
  other.options = world.options;
  other.options.fs = sim_fs_calls(other.sim);
  other.options.nonce_seed = 2;
  other.options.replay_arg = &other.model;
  log_model_begin(&other.model);
  assert_int_equal(cg_log_open_file(&other.log, "/log", &other.options, NULL), CG_OK);
  while (other.model.count == 0 || other.model.commits[other.model.count - 1].place >> 32 < 3)
    assert_int_equal(log_model_append(&other.model, other.log, 3, 3000, NULL), CG_OK);
  cg_log_turn(other.log);
  size_t size;
  uint8_t *bytes = copy_of(&other, paths[2], &size);
  sim_fs_put(world.sim, paths[2], bytes, size);
  expect_refused(&world, "segment-0000000002.log", 0);
  cg_free(bytes);
  free_world(&other);
  free_world(&world);
}

/* Every segment but the last is proven whole by the next one's header. */
static void test_damage_in_a_segment_that_has_a_next_one_is_refused(void **state) {
  (void)state;
  struct world world;
  open_segments(&world);
  for (int index = 0; index + 1 < PATHS; index++) {
    size_t size;
    const char *name = strrchr(paths[index], '/') + 1;
    uint8_t *bytes = sim_fs_bytes(world.sim, paths[index], &size);
    size_t last = 0;
    while (last + 1 < world.model.count &&
           world.model.commits[last + 1].place >> 32 == (uint64_t)index)
      last++;
    while (world.model.commits[last].place >> 32 != (uint64_t)index)
      last++;
    while (last + 1 < world.model.count &&
           world.model.commits[last + 1].place >> 32 == (uint64_t)index)
      last++;
    uint64_t begin = begin_of(&world, last), end = end_of(&world, bytes, last);
    bytes[begin + 50] ^= 128;
    expect_refused(&world, name, (long)begin);
    bytes[begin + 50] ^= 128;
    bytes[size - 1] ^= 1; /* In the zeros behind it. */
    expect_refused(&world, name, (long)end);
    bytes[size - 1] ^= 1;
    uint8_t *whole = copy_of(&world, paths[index], &size);
    sim_fs_put(world.sim, paths[index], whole, (size_t)begin);
    expect_refused(&world, name, (long)begin);
    sim_fs_put(world.sim, paths[index], whole, 100);
    expect_refused(&world, name, 0);
    sim_fs_put(world.sim, paths[index], whole, 0);
    expect_refused(&world, name, 0);
    sim_fs_put(world.sim, paths[index], whole, size);
    cg_free(whole);
  }
  expect_commits(&world, world.model.count);
  free_world(&world);
}

static void test_what_a_crash_left_of_a_new_segment_is_removed(void **state) {
  (void)state;
  struct world world;
  open_segments(&world);
  size_t size;
  sim_fs_put(world.sim, "/log/segment-0000000005.log.tmp", "half", 4);
  sim_fs_put(world.sim, "/log/notes.txt", "mine", 4);
  expect_commits(&world, world.model.count);
  assert_null(sim_fs_bytes(world.sim, "/log/segment-0000000005.log.tmp", &size));
  assert_non_null(sim_fs_bytes(world.sim, "/log/notes.txt", &size));
  free_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_log_truncated_at_any_byte_opens_with_the_whole_commits),
      cmocka_unit_test(test_a_log_zeroed_from_any_byte_opens_with_the_whole_commits),
      cmocka_unit_test(test_the_cut_is_told_with_file_offset_and_size),
      cmocka_unit_test(test_whole_commits_after_a_bad_one_of_the_same_batch_are_cut),
      cmocka_unit_test(test_a_flipped_bit_below_the_mark_is_refused_with_file_and_offset),
      cmocka_unit_test(test_a_flipped_bit_in_a_segment_header_is_refused),
      cmocka_unit_test(test_zeros_in_place_of_a_durable_commit_are_refused),
      cmocka_unit_test(test_a_commit_moved_to_another_place_is_refused),
      cmocka_unit_test(test_a_missing_segment_is_refused),
      cmocka_unit_test(test_swapped_or_copied_segments_are_refused),
      cmocka_unit_test(test_a_segment_of_another_log_is_refused),
      cmocka_unit_test(test_damage_in_a_segment_that_has_a_next_one_is_refused),
      cmocka_unit_test(test_what_a_crash_left_of_a_new_segment_is_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
