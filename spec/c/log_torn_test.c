/* log_torn_test.c - a log's last segment cut off at every byte, and damaged bytes below and above
 * what was durable: a torn tail is cut and told of, damage is refused and nothing is changed.
 * Of the 262,144 torn tails those with other bytes than zeros behind the cut are tried at each
 * eighth byte; at all of them with CATGA_SEEDS from 10,000 (make torture). */
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
#include "support/log_world.h"

#define CUT_BYTES (64u << 10) /* So many places of cutting before the end. */
#define SEGMENT_BYTES (128u << 10)
#define BEHIND_BYTES ((size_t)256) /* Of chance and stale bytes behind a cut. */

/* What stands behind the byte where the log is cut. */
enum behind {
  BEHIND_NOTHING, /* The file ends. */
  BEHIND_ZEROS,   /* Zeros. */
  BEHIND_CHANCE,  /* Anything. */
  BEHIND_STALE    /* Whole commits of another life of the disk. */
};

/* The bytes of another log of the same shape: what the disk's blocks may have held before. */
static uint8_t *stale_bytes(size_t size) {
  struct log_world world;
  log_world_open_seeded(&world, SEGMENT_BYTES, 9);
  log_world_fill(&world, CG_SEGMENT_HEADER_BYTES + CUT_BYTES + 8192, false);
  size_t file_size;
  const uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &file_size);
  assert_true(file_size >= size);
  uint8_t *copy = cg_alloc(size);
  memcpy(copy, bytes, size);
  log_world_free(&world);
  return copy;
}

static void put_behind(struct log_world *world, enum behind behind, const uint8_t *stale,
                       uint8_t *at, size_t offset, size_t size) {
  if (behind == BEHIND_ZEROS)
    memset(at, 0, size);
  else if (behind == BEHIND_STALE)
    memcpy(at, stale + offset, size);
  else
    for (size_t i = 0; i < size; i++)
      at[i] = (uint8_t)sim_fs_random(world->sim, 256);
}

/* Cuts the log at every byte before its end and expects the whole commits before. */
static void cut_everywhere(enum behind behind) {
  struct log_world world;
  log_world_open(&world, SEGMENT_BYTES);
  log_world_fill(&world, CG_SEGMENT_HEADER_BYTES + CUT_BYTES + 4096, true);
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_kill(world.sim);

  size_t size;
  const uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
  uint64_t end = log_world_end_of(&world, bytes, world.model.count - 1);
  uint8_t *whole = cg_alloc((size_t)end);
  memcpy(whole, bytes, (size_t)end);
  size_t commits = world.model.count;
  uint8_t *stale = stale_bytes((size_t)end);
  /* Backwards in one file: what is cut off stays off, so that each open costs little. */
  uint64_t step = behind < BEHIND_CHANCE || log_world_is_torture() ? 1 : 8;
  for (uint64_t cut = end; cut + CUT_BYTES > end && cut >= CG_SEGMENT_HEADER_BYTES; cut -= step) {
    while (commits > 0 && log_world_end_of(&world, whole, commits - 1) > cut)
      commits--;
    uint64_t last =
        commits > 0 ? log_world_end_of(&world, whole, commits - 1) : CG_SEGMENT_HEADER_BYTES;
    bool is_torn = false;
    if (behind == BEHIND_NOTHING) {
      const struct cg_fs *fs = sim_fs_calls(world.sim);
      int handle = fs->open(fs->arg, LOG_WORLD_PATH, CG_FS_WRITE);
      /* Recovery has cut and grown nothing below here; put back what it has zeroed. */
      fs->pwrite(fs->arg, handle, whole, (size_t)cut, 0);
      fs->truncate(fs->arg, handle, cut);
      fs->close(fs->arg, handle);
    } else {
      uint8_t *file = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
      memcpy(file, whole, (size_t)cut);
      /* What is far behind was put there before, and cut off. */
      size_t some = end - cut < BEHIND_BYTES ? (size_t)(end - cut) : BEHIND_BYTES;
      put_behind(&world, behind, stale, file + cut, (size_t)cut, some);
      memset(file + cut + some, 0, (size_t)(end - cut) - some);
    }
    const uint8_t *file = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
    uint64_t until = cut + BEHIND_BYTES < end ? cut + BEHIND_BYTES : end; /* Then zeros. */
    for (uint64_t at = last; at < size && at < until && !is_torn; at++)
      is_torn = file[at] != 0;
    log_world_expect_commits(&world, commits);
    if (is_torn != (world.said[0] != 0))
      fail_msg("cut at %llu: a torn tail %s told of", (unsigned long long)cut,
               is_torn ? "was not" : "was wrongly");
  }
  cg_free(stale);
  cg_free(whole);
  log_world_free(&world);
}

static void test_a_log_truncated_at_any_byte_opens_with_the_whole_commits(void **state) {
  (void)state;
  cut_everywhere(BEHIND_NOTHING);
}

static void test_a_log_zeroed_from_any_byte_opens_with_the_whole_commits(void **state) {
  (void)state;
  cut_everywhere(BEHIND_ZEROS);
}

static void test_a_log_with_anything_from_any_byte_on_opens_with_the_whole_commits(void **state) {
  (void)state;
  cut_everywhere(BEHIND_CHANCE);
}

static void
test_a_log_with_stale_bytes_from_any_byte_on_opens_with_the_whole_commits(void **state) {
  (void)state;
  cut_everywhere(BEHIND_STALE);
}

static void test_the_cut_is_told_with_file_offset_and_size(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, SEGMENT_BYTES);
  log_world_fill(&world, 10000, true);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size, last = world.model.count - 1;
  uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
  uint64_t begin = log_world_begin_of(&world, last), end = log_world_end_of(&world, bytes, last);
  bytes[begin + 60] ^= 1;
  log_world_expect_commits(&world, last);
  char text[160];
  snprintf(text, sizeof(text), "%s: offset %llu: cut a torn tail of %llu bytes", LOG_WORLD_PATH,
           (unsigned long long)begin, (unsigned long long)(end - begin));
  assert_non_null(strstr(world.said, text));
  bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
  for (uint64_t at = begin; at < size; at++)
    assert_int_equal(bytes[at], 0);
  log_world_expect_commits(&world, last);
  assert_string_equal(world.said, "");
  log_world_free(&world);
}

/* In one batch nothing proves anything: everything from the bad commit on goes, whole ones too. */
static void test_whole_commits_after_a_bad_one_of_the_same_batch_are_cut(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, SEGMENT_BYTES);
  log_world_fill(&world, 20000, true);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size, middle = world.model.count / 2;
  sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size)[log_world_begin_of(&world, middle) + 20] ^= 4;
  log_world_expect_commits(&world, middle);
  log_world_free(&world);
}

/* With a mark behind it every byte of the log is protected. */
static void test_a_flipped_bit_below_the_mark_is_refused_with_file_and_offset(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, SEGMENT_BYTES);
  log_world_fill(&world, 40000, false);
  assert_int_equal(cg_log_close(world.log, NULL), CG_OK);
  world.log = NULL;
  sim_fs_kill(world.sim);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
  uint64_t end = log_world_end_of(&world, bytes, world.model.count - 1);
  size_t commit = 0;
  for (uint64_t at = CG_SEGMENT_HEADER_BYTES; at < end; at += 1 + at % 3) {
    while (commit + 1 < world.model.count && log_world_begin_of(&world, commit + 1) <= at)
      commit++;
    bytes[at] ^= (uint8_t)(1u << at % 8);
    log_world_expect_refused(&world, "segment-0000000000.log",
                             (long)log_world_begin_of(&world, commit));
    bytes[at] ^= (uint8_t)(1u << at % 8);
  }
  log_world_expect_commits(&world, world.model.count);
  log_world_free(&world);
}

static void test_a_flipped_bit_in_a_segment_header_is_refused(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, 64 << 10);
  log_world_fill(&world, 6000, true);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
  for (uint64_t bit = 0; bit < CG_SEGMENT_HEADER_BYTES * 8; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    log_world_expect_refused(&world, "segment-0000000000.log", 0);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  log_world_expect_commits(&world, world.model.count);
  log_world_free(&world);
}

/* A hole: a durable commit overwritten with zeros. */
static void test_zeros_in_place_of_a_durable_commit_are_refused(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, SEGMENT_BYTES);
  log_world_fill(&world, 20000, false);
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  size_t size, middle = world.model.count / 2;
  uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
  uint64_t begin = log_world_begin_of(&world, middle);
  memset(bytes + begin, 0, log_world_begin_of(&world, middle + 1) - begin);
  log_world_expect_refused(&world, "segment-0000000000.log", (long)begin);
  log_world_free(&world);
}

/* A whole commit copied over the one after it, with proof behind it or with nothing behind it: no
 * crash can put it there. */
static void test_a_commit_moved_to_another_place_is_refused(void **state) {
  (void)state;
  struct log_world world;
  log_world_open(&world, SEGMENT_BYTES);
  for (int count = 0; count < 10; count++) {
    assert_int_equal(log_model_append(&world.model, world.log, 1, 100, NULL), CG_OK);
    cg_log_turn(world.log);
  }
  cg_log_abandon(world.log);
  sim_fs_kill(world.sim);
  for (size_t to = 1; to < 10; to++) {
    size_t size;
    uint8_t before[1024];
    uint8_t *bytes = sim_fs_bytes(world.sim, LOG_WORLD_PATH, &size);
    uint64_t from_begin = log_world_begin_of(&world, to - 1),
             to_begin = log_world_begin_of(&world, to);
    memcpy(before, bytes + to_begin, sizeof(before));
    memcpy(bytes + to_begin, bytes + from_begin, (size_t)(to_begin - from_begin));
    log_world_expect_refused(&world, "segment-0000000000.log", (long)to_begin);
    memcpy(bytes + to_begin, before, sizeof(before));
  }
  log_world_expect_commits(&world, 10);
  log_world_free(&world);
}

/* --- several segments --- */

static const char *const paths[] = {"/log/segment-0000000000.log", "/log/segment-0000000001.log",
                                    "/log/segment-0000000002.log", "/log/segment-0000000003.log",
                                    "/log/segment-0000000004.log"};
#define PATHS 5

/* Makes a log of five segments. */
static void open_segments(struct log_world *world) {
  log_world_open(world, 64 << 10);
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
static uint8_t *copy_of(struct log_world *world, const char *path, size_t *size) {
  const uint8_t *bytes = sim_fs_bytes(world->sim, path, size);
  assert_non_null(bytes);
  uint8_t *copy = cg_alloc(*size);
  memcpy(copy, bytes, *size);
  return copy;
}

static void test_a_missing_segment_is_refused(void **state) {
  (void)state;
  for (int missing = 0; missing + 1 < PATHS; missing++) {
    struct log_world world;
    open_segments(&world);
    sim_fs_remove(world.sim, paths[missing]);
    log_world_expect_refused(&world, strrchr(paths[missing], '/') + 1, 0);
    log_world_free(&world);
  }
}

static void test_swapped_or_copied_segments_are_refused(void **state) {
  (void)state;
  for (int left = 0; left < PATHS; left++)
    for (int right = 0; right < PATHS; right++) {
      if (left == right)
        continue;
      struct log_world world;
      open_segments(&world);
      size_t left_size, right_size;
      uint8_t *left_bytes = copy_of(&world, paths[left], &left_size);
      uint8_t *right_bytes = copy_of(&world, paths[right], &right_size);
      sim_fs_put(world.sim, paths[right], left_bytes, left_size);
      if (left < right) /* Swapped; else `left` is there twice. */
        sim_fs_put(world.sim, paths[left], right_bytes, right_size);
      log_world_expect_refused(&world, strrchr(paths[left < right ? left : right], '/') + 1, 0);
      cg_free(left_bytes);
      cg_free(right_bytes);
      log_world_free(&world);
    }
}

static void test_a_segment_of_another_log_is_refused(void **state) {
  (void)state;
  struct log_world world, other;
  open_segments(&world);
  log_world_open(&other, 64 << 10);
  log_world_free(&other);
  other = (struct log_world){.sim = sim_fs_new(8)};
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
  log_world_expect_refused(&world, "segment-0000000002.log", 0);
  cg_free(bytes);
  log_world_free(&other);
  log_world_free(&world);
}

/* Every segment but the last is proven whole by the next one's header. */
static void test_damage_in_a_segment_that_has_a_next_one_is_refused(void **state) {
  (void)state;
  struct log_world world;
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
    uint64_t begin = log_world_begin_of(&world, last), end = log_world_end_of(&world, bytes, last);
    bytes[begin + 50] ^= 128;
    log_world_expect_refused(&world, name, (long)begin);
    bytes[begin + 50] ^= 128;
    bytes[size - 1] ^= 1; /* In the zeros behind it. */
    log_world_expect_refused(&world, name, (long)end);
    bytes[size - 1] ^= 1;
    uint8_t *whole = copy_of(&world, paths[index], &size);
    sim_fs_put(world.sim, paths[index], whole, (size_t)begin);
    log_world_expect_refused(&world, name, (long)begin);
    sim_fs_put(world.sim, paths[index], whole, 100);
    log_world_expect_refused(&world, name, 0);
    sim_fs_put(world.sim, paths[index], whole, 0);
    log_world_expect_refused(&world, name, 0);
    sim_fs_put(world.sim, paths[index], whole, size);
    cg_free(whole);
  }
  log_world_expect_commits(&world, world.model.count);
  log_world_free(&world);
}

static void test_what_a_crash_left_of_a_new_segment_is_removed(void **state) {
  (void)state;
  struct log_world world;
  open_segments(&world);
  size_t size;
  sim_fs_put(world.sim, "/log/segment-0000000005.log.tmp", "half", 4);
  sim_fs_put(world.sim, "/log/notes.txt", "mine", 4);
  log_world_expect_commits(&world, world.model.count);
  assert_null(sim_fs_bytes(world.sim, "/log/segment-0000000005.log.tmp", &size));
  assert_non_null(sim_fs_bytes(world.sim, "/log/notes.txt", &size));
  log_world_free(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_log_truncated_at_any_byte_opens_with_the_whole_commits),
      cmocka_unit_test(test_a_log_zeroed_from_any_byte_opens_with_the_whole_commits),
      cmocka_unit_test(test_a_log_with_anything_from_any_byte_on_opens_with_the_whole_commits),
      cmocka_unit_test(test_a_log_with_stale_bytes_from_any_byte_on_opens_with_the_whole_commits),
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
