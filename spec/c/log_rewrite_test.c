/* log_rewrite_test.c - sealed segments written anew: what is kept stays as it was, what is dropped
 * is invisible, and only what fits is put in place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log/tools.h"
#include "support/rewrite_world.h"

static void on_line(void *arg, bool is_fault, const char *line) {
  (void)arg;
  if (is_fault)
    fail_msg("%s", line);
}

/* --- what stays --- */

static void check_keeping(enum keeping keeping, bool is_compressing) {
  struct rewrite_world world;
  rewrite_world_begin(&world, 5 + keeping, 4, keeping, is_compressing);
  rewrite_world_expect_kept(&world);
  uint64_t first_of_last = rewrite_world_seal(&world, 3).end_position;
  for (uint32_t number = 0; number < 4; number++) {
    struct cg_log_seal seal = rewrite_world_seal(&world, number), old = seal;
    assert_int_equal(rewrite_world_rewrite(&world, &seal, NULL), CG_OK);
    rewrite_world_expect_scanned(&world,
                                 &old); /* The old one is there, and the new one can be read. */
    world.rewritten_position = seal.end_position;
    rewrite_world_expect_scanned(&world, &seal);
    world.rewritten_position = seal.first_position;
    world.asked_count = 0;
    rewrite_world_replace(&world, number);
    assert_int_equal(world.asked_count, seal.end_position - seal.first_position);
    assert_false(rewrite_world_has_new_file(&world, number));
    seal = rewrite_world_seal(&world, number);
    rewrite_world_expect_scanned(&world, &seal);
    rewrite_world_expect_places(&world, &seal);
    rewrite_world_expect_kept(&world);
    if (keeping == KEEP_FEW || is_compressing)
      assert_true(rewrite_world_file_size(&world, number) < world.options.segment_bytes / 16 * 11);
  }
  rewrite_world_leave(&world);

  struct cg_err err;
  struct cg_log_verify verify = {.report = on_line};
  assert_int_equal(cg_log_verify("/log", sim_fs_calls(world.sim), &verify, NULL), CG_OK);
  uint64_t kept_count = 0;
  for (uint64_t position = 1; position < verify.counts.end_position; position++)
    kept_count += rewrite_world_next(&world, position) == position;
  assert_int_equal(verify.counts.record_count, kept_count);
  if (rewrite_world_open(&world, &err) != CG_OK) /* Replays all. */
    fail_msg("%s", err.message);
  assert_null(world.fault);
  assert_true(world.seen_position > first_of_last);
  assert_int_equal(world.seen_count, kept_count);
  rewrite_world_expect_kept(&world);
  assert_int_equal(log_model_append(&world.model, world.log, 3, 100, NULL), CG_OK);
  cg_log_turn(world.log);
  rewrite_world_expect_kept(&world);
  rewrite_world_end(&world);
}

static void test_what_is_kept_stays_as_it_was(void **state) {
  (void)state;
  for (int keeping = 0; keeping < KEEPINGS; keeping++)
    check_keeping((enum keeping)keeping, false);
}

static void test_what_is_kept_stays_as_it_was_when_it_is_compressed(void **state) {
  (void)state;
  for (int keeping = 0; keeping < KEEPINGS; keeping++)
    check_keeping((enum keeping)keeping, true);
}

static void test_a_segment_can_be_rewritten_again(void **state) {
  (void)state;
  struct rewrite_world world;
  rewrite_world_begin(&world, 20, 2, KEEP_ALL, false);
  static const enum keeping order[] = {KEEP_ALL, KEEP_HALF, KEEP_HALF};
  for (size_t index = 0; index < sizeof(order) / sizeof(*order); index++) {
    world.keeping = order[index];
    rewrite_world_replace(&world, 0);
    rewrite_world_replace(&world, 1);
    rewrite_world_expect_kept(&world);
  }
  /* From half of them to none: the holes grow together. */
  world.keeping = KEEP_NONE;
  for (uint32_t number = 0; number < 2; number++) {
    rewrite_world_replace(&world, number);
    assert_int_equal(rewrite_world_file_size(&world, number),
                     CG_SEGMENT_HEADER_BYTES + 48 + 48 + 8);
  }
  rewrite_world_expect_kept(&world);
  rewrite_world_leave(&world);
  assert_int_equal(rewrite_world_open(&world, NULL), CG_OK);
  assert_null(world.fault);
  rewrite_world_end(&world);
}

static void test_cursors_in_a_replaced_segment_find_their_place(void **state) {
  (void)state;
  for (int keeping = 0; keeping < KEEPINGS; keeping++) {
    struct rewrite_world world;
    struct cg_record record;
    struct cg_log_cursor *cursors[40];
    uint64_t positions[40];
    rewrite_world_begin(&world, 30, 2, (enum keeping)keeping, false);
    uint64_t tail = cg_log_next_position(world.log);
    for (uint64_t index = 0; index < 40; index++) {
      cursors[index] = cg_log_cursor_new(world.log, index * tail / 40);
      positions[index] = index * tail / 40 + 1;
      assert_int_equal(cg_log_cursor_next(cursors[index], UINT64_MAX, &record, NULL), CG_OK);
      assert_int_equal(record.position, positions[index]++);
    }
    rewrite_world_replace(&world, 0);
    rewrite_world_replace(&world, 1);
    for (uint64_t index = 0; index < 40; index++) {
      uint64_t seen_count = 0;
      while (cg_log_cursor_next(cursors[index], UINT64_MAX, &record, NULL) == CG_OK) {
        /* What it had read already it may give; else exactly what is kept. */
        if (seen_count++ > 7)
          assert_int_equal(record.position, rewrite_world_next(&world, positions[index]));
        assert_true(record.position >= positions[index]);
        assert_true(record.position <= rewrite_world_next(&world, positions[index]));
        assert_true(log_model_matches(log_model_find(&world.model, record.position), &record));
        positions[index] = record.position + 1;
      }
      assert_int_equal(rewrite_world_next(&world, positions[index]), tail);
      cg_log_cursor_free(cursors[index]);
    }
    rewrite_world_end(&world);
  }
}

static void test_a_cursor_stops_inside_of_a_hole(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_record record;
  rewrite_world_begin(&world, 40, 1, KEEP_NONE, false);
  rewrite_world_replace(&world, 0);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 3);
  assert_int_equal(cg_log_cursor_next(cursor, 9, &record, NULL), CG_END);
  assert_int_equal(cg_log_cursor_next(cursor, 10, &record, NULL), CG_END);
  assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_OK);
  assert_int_equal(record.position, world.rewritten_position);
  cg_log_cursor_free(cursor);
  rewrite_world_end(&world);
}

static void test_waypoints_of_the_file_before_are_forgotten(void **state) {
  (void)state;
  struct rewrite_world world;
  rewrite_world_begin(&world, 45, 2, KEEP_FEW, false);
  struct cg_log_seal seal = rewrite_world_seal(&world, 0);
  const struct log_model_commit *commit = log_model_find(&world.model, seal.end_position / 2);
  struct cg_log_waypoint waypoint = {.position = commit->first_position,
                                     .offset =
                                         (commit->place & UINT32_MAX) * 8 - CG_COMMIT_HEADER_BYTES};
  cg_log_waypoints(world.log, 0, &waypoint, 1);
  rewrite_world_expect_kept(&world);
  rewrite_world_replace(&world, 0);
  rewrite_world_expect_kept(&world);
  rewrite_world_end(&world);
}

/* Renames and says that it could not. */
static int lying_rename(void *arg, const char *from, const char *to) {
  sim_fs_calls(arg)->rename(arg, from, to);
  return -EIO;
}

static void test_a_failed_rename_that_happened_counts_as_done(void **state) {
  (void)state;
  struct rewrite_world world;
  rewrite_world_begin(&world, 47, 2, KEEP_HALF, false);
  rewrite_world_leave(&world);
  struct cg_fs calls = *sim_fs_calls(world.sim);
  calls.rename = lying_rename;
  world.options.fs = &calls;
  assert_int_equal(rewrite_world_open(&world, NULL), CG_OK);
  rewrite_world_replace(&world, 0);
  rewrite_world_expect_kept(&world);
  rewrite_world_end(&world);
}

/* --- what is refused --- */

static void test_only_what_fits_is_put_in_place(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_err err;
  rewrite_world_begin(&world, 50, 2, KEEP_HALF, false);
  struct cg_log_seal seal = rewrite_world_seal(&world, 0);
  assert_int_equal(cg_log_replace(world.log, &seal, &err), CG_ENOTFOUND); /* No file. */
  assert_int_equal(rewrite_world_rewrite(&world, &seal, NULL), CG_OK);
  struct cg_log_seal wrong = seal;
  wrong.nonce++;
  assert_int_equal(cg_log_replace(world.log, &wrong, &err), CG_ENOTFOUND);
  wrong.number = 2; /* Being written. */
  assert_int_equal(cg_log_replace(world.log, &wrong, &err), CG_EINVAL);
  size_t size;
  const uint8_t *bytes = sim_fs_bytes(world.sim, "/log/segment-0000000000.log.rewritten", &size);
  struct cg_segment_header header;
  assert_int_equal(cg_segment_header_decode(bytes, size, &header, NULL), CG_OK);
  for (int field = 0; field < 6; field++) {
    uint8_t encoded[CG_SEGMENT_HEADER_BYTES];
    struct cg_segment_header other = header;
    other.number += field == 0;
    other.log_id[5] ^= field == 1;
    other.first_position += field == 2;
    other.chain += field == 3;
    other.end_position += field == 4;
    other.end_chain += field == 5;
    cg_segment_header_encode(&other, encoded);
    sim_fs_put(world.sim, "/log/segment-0000000000.log.rewritten", encoded, sizeof(encoded));
    assert_int_equal(cg_log_replace(world.log, &seal, &err), field == 0 ? CG_ECORRUPT : CG_EINVAL);
  }
  rewrite_world_expect_kept(&world);
  struct cg_log *memory;
  assert_int_equal(cg_log_open_memory(&memory, NULL, NULL), CG_OK);
  assert_int_equal(cg_log_replace(memory, &seal, &err), CG_EINVAL);
  cg_log_close(memory, NULL);
  rewrite_world_leave(&world);
  assert_int_equal(rewrite_world_open(&world, NULL), CG_OK); /* Left over. */
  assert_false(rewrite_world_has_new_file(&world, 0));
  rewrite_world_end(&world);
}

static void test_a_damaged_segment_is_not_rewritten(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_err err;
  rewrite_world_begin(&world, 60, 1, KEEP_HALF, false);
  size_t size;
  sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size)[30000] ^= 1;
  struct cg_log_seal seal = rewrite_world_seal(&world, 0), old = seal;
  assert_int_equal(rewrite_world_rewrite(&world, &seal, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000000.log: offset "));
  assert_memory_equal(&seal, &old, sizeof(seal));
  assert_false(rewrite_world_has_new_file(&world, 0));
  rewrite_world_end(&world);
}

/* Answers so many segments. */
static uint32_t skip_all(void *arg, const uint8_t log_id[16], const struct cg_log_seal *seals,
                         uint32_t count, struct cg_err *err) {
  (void)log_id, (void)err;
  ((struct rewrite_world *)arg)->seen_position = seals[count - 1].end_position;
  return count;
}

static void test_a_rewritten_segment_must_join_the_next_one(void **state) {
  (void)state;
  struct rewrite_world world;
  struct cg_err err;
  rewrite_world_begin(&world, 70, 3, KEEP_HALF, false);
  rewrite_world_replace(&world, 0);
  rewrite_world_replace(&world, 1);
  rewrite_world_leave(&world);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, "/log/segment-0000000001.log", &size), kept[4096];
  struct cg_segment_header header;
  assert_int_equal(cg_segment_header_decode(bytes, size, &header, NULL), CG_OK);
  memcpy(kept, bytes, sizeof(kept));
  for (int field = 0; field < 4; field++) {
    struct cg_segment_header other = header;
    other.end_position += field % 2 == 0;
    other.end_chain += field % 2 == 1;
    cg_segment_header_encode(&other, bytes);
    world.options.resume = field < 2 ? NULL : skip_all;
    world.options.resume_arg = &world;
    assert_int_equal(rewrite_world_open(&world, &err), CG_ECORRUPT);
    sim_fs_kill(world.sim);
  }
  memcpy(bytes, kept, sizeof(kept));
  assert_int_equal(rewrite_world_open(&world, &err), CG_OK);
  assert_null(world.fault);
  rewrite_world_leave(&world);
  world.options.resume = NULL;
  sim_fs_remove(world.sim, "/log/segment-0000000003.log");
  sim_fs_remove(world.sim, "/log/segment-0000000002.log");
  assert_int_equal(rewrite_world_open(&world, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000001.log: offset 0: a rewritten segment"));
  rewrite_world_end(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_kept_stays_as_it_was),
      cmocka_unit_test(test_what_is_kept_stays_as_it_was_when_it_is_compressed),
      cmocka_unit_test(test_a_segment_can_be_rewritten_again),
      cmocka_unit_test(test_cursors_in_a_replaced_segment_find_their_place),
      cmocka_unit_test(test_a_cursor_stops_inside_of_a_hole),
      cmocka_unit_test(test_waypoints_of_the_file_before_are_forgotten),
      cmocka_unit_test(test_a_failed_rename_that_happened_counts_as_done),
      cmocka_unit_test(test_only_what_fits_is_put_in_place),
      cmocka_unit_test(test_a_damaged_segment_is_not_rewritten),
      cmocka_unit_test(test_a_rewritten_segment_must_join_the_next_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
