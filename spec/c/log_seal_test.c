/* log_seal_test.c - sealed segments: when they are, what an open skips of them, what it refuses all
 * the same, and that a scan of one gives every record and finds every damage. */
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
#include "support/spy_fs.h"

#define SEALS_MAX 64
#define BIT_STEP 97 /* Every so manyth bit is flipped; CATGA_BITS=1 flips all. */

/* A log and how it is opened. */
struct world {
  struct sim_fs *sim;                  /* The disk. */
  struct spy_fs *spy;                  /* Around it. */
  struct log_model model;              /* What was appended. */
  struct cg_clock_virtual clock;       /* The time. */
  struct cg_log_options options;       /* How to open. */
  struct cg_log *log;                  /* NULL: not open. */
  unsigned progress_count;             /* Calls of progress. */
  struct cg_log_seal seals[SEALS_MAX]; /* As resume, or remember, got them. */
  uint32_t seal_count;                 /* How many. */
  uint8_t log_id[16];                  /* As resume got it. */
  uint32_t skip_count;                 /* What resume answers. */
  bool is_refused;                     /* Resume fails. */
};

static void count_progress(void *arg) {
  ((struct world *)arg)->progress_count++;
}

/* Lets the model expect the records behind those that are skipped. */
static uint32_t resume(void *arg, const uint8_t log_id[16], const struct cg_log_seal *seals,
                       uint32_t count, struct cg_err *err) {
  struct world *world = arg;
  assert_in_range(count, 1, SEALS_MAX);
  memcpy(world->log_id, log_id, 16);
  memcpy(world->seals, seals, count * sizeof(*seals));
  world->seal_count = count;
  uint32_t skipped = world->skip_count < count ? world->skip_count : count;
  while (skipped > 0 && world->model.seen_commit < world->model.count &&
         world->model.commits[world->model.seen_commit].first_position <
             seals[skipped - 1].end_position)
    world->model.seen_commit++;
  if (skipped > 0)
    world->model.seen_position = seals[skipped - 1].end_position;
  if (world->is_refused)
    cg_err_set(err, CG_EPERM, "no resuming today");
  return world->skip_count;
}

static enum cg_code open_log(struct world *world, struct cg_err *err) {
  log_model_begin(&world->model);
  spy_fs_reset(world->spy);
  enum cg_code code = cg_log_open_file(&world->log, "/log", &world->options, err);
  if (code != CG_OK)
    world->log = NULL;
  return code;
}

static void leave_log(struct world *world) {
  cg_log_abandon(world->log);
  world->log = NULL;
  sim_fs_kill(world->sim);
}

static void begin_world(struct world *world, uint64_t segment_bytes) {
  *world = (struct world){.sim = sim_fs_new(11)};
  world->spy = spy_fs_new(sim_fs_calls(world->sim));
  world->options = (struct cg_log_options){
      .fs = spy_fs_calls(world->spy),
      .clock = cg_clock_of(&world->clock),
      .segment_bytes = segment_bytes,
      .nonce_seed = 1,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &world->model,
      .resume = resume,
      .resume_arg = world,
      .progress = count_progress,
      .progress_arg = world,
  };
  assert_int_equal(open_log(world, NULL), CG_OK);
}

static void end_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  spy_fs_free(world->spy);
  sim_fs_free(world->sim);
}

static void append(struct world *world, uint32_t record_count, uint32_t data_max) {
  assert_int_equal(log_model_append(&world->model, world->log, record_count, data_max, NULL),
                   CG_OK);
}

/* Keeps the seals of the open log. */
static void remember_seals(struct world *world) {
  const struct cg_log_seal *seals;
  world->seal_count = cg_log_seals(world->log, &seals);
  assert_in_range(world->seal_count, 0, SEALS_MAX);
  if (world->seal_count > 0)
    memcpy(world->seals, seals, world->seal_count * sizeof(*seals));
}

/* Appends until that many segments are sealed. */
static void fill(struct world *world, uint32_t seal_count, uint32_t data_max) {
  do {
    append(world, 1 + (uint32_t)sim_fs_random(world->sim, 3), data_max);
    cg_log_turn(world->log);
    remember_seals(world);
  } while (world->seal_count < seal_count);
}

static void segment_path(char path[64], uint64_t number) {
  snprintf(path, 64, "/log/segment-%010llu.log", (unsigned long long)number);
}

/* --- seals --- */

static void test_a_segment_is_sealed_when_the_next_one_is_published(void **state) {
  (void)state;
  struct world world;
  begin_world(&world, 64 << 10);
  uint32_t seen_count = 0;
  while (seen_count < 5) {
    append(&world, 2, 3000);
    remember_seals(&world); /* Appended is not published. */
    assert_int_equal(world.seal_count, seen_count);
    uint64_t last = world.model.commits[world.model.count - 1].place >> 32;
    unsigned progress_count = world.progress_count;
    cg_log_turn(world.log);
    remember_seals(&world);
    assert_int_equal(world.seal_count, last);
    if (world.seal_count > seen_count)
      assert_true(world.progress_count > progress_count);
    seen_count = world.seal_count;
  }
  for (uint32_t index = 0, commit = 0; index < seen_count; index++) {
    assert_int_equal(world.seals[index].number, index);
    assert_int_equal(world.seals[index].first_position, world.model.commits[commit].first_position);
    while (world.model.commits[commit].place >> 32 == index)
      commit++;
    assert_int_equal(world.seals[index].end_position, world.model.commits[commit].first_position);
  }
  end_world(&world);
}

static void test_seals_and_id_are_the_same_after_reopening(void **state) {
  (void)state;
  struct world world;
  uint8_t before[16], after[16];
  begin_world(&world, 64 << 10);
  fill(&world, 4, 3000);
  cg_log_id(world.log, before);
  struct cg_log_seal seals[4];
  memcpy(seals, world.seals, sizeof(seals));
  leave_log(&world);
  assert_int_equal(open_log(&world, NULL), CG_OK);
  assert_int_equal(world.seal_count, 4); /* Those that resume got. */
  assert_memory_equal(seals, world.seals, sizeof(seals));
  assert_memory_equal(before, world.log_id, 16);
  remember_seals(&world);
  assert_int_equal(world.seal_count, 4);
  assert_memory_equal(seals, world.seals, sizeof(seals));
  cg_log_id(world.log, after);
  assert_memory_equal(before, after, 16);
  end_world(&world);
}

static void test_a_log_in_memory_has_no_seals_and_no_id(void **state) {
  (void)state;
  static const uint8_t none[16];
  struct cg_log *log;
  const struct cg_log_seal *seals;
  uint8_t log_id[16] = {1};
  assert_int_equal(cg_log_open_memory(&log, NULL, NULL), CG_OK);
  assert_int_equal(cg_log_seals(log, &seals), 0);
  cg_log_id(log, log_id);
  assert_memory_equal(log_id, none, 16);
  cg_log_waypoints(log, 0, NULL, 0);
  cg_log_close(log, NULL);
}

/* --- resuming --- */

static void test_an_open_reads_only_headers_of_what_it_skips(void **state) {
  (void)state;
  struct world world;
  begin_world(&world, 64 << 10);
  fill(&world, 6, 3000);
  leave_log(&world);
  for (uint32_t skip = 0; skip <= 7; skip++) { /* 7 is more than there are. */
    world.skip_count = skip;
    assert_int_equal(open_log(&world, NULL), CG_OK);
    assert_null(log_model_settle(&world.model));
    for (uint32_t number = 0; number < 7; number++) {
      char path[64];
      segment_path(path, number);
      uint64_t bytes = spy_fs_read_bytes(world.spy, path + strlen("/log/"));
      assert_int_equal(bytes > 0, number >= skip || number == 6);
    }
    assert_null(log_model_compare(&world.model, world.log));
    append(&world, 2, 100); /* And it goes on. */
    cg_log_turn(world.log);
    assert_null(log_model_compare(&world.model, world.log));
    leave_log(&world);
  }
  end_world(&world);
}

static void test_an_error_of_resume_ends_the_open(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  begin_world(&world, 64 << 10);
  fill(&world, 1, 3000);
  leave_log(&world);
  world.is_refused = true;
  assert_int_equal(open_log(&world, &err), CG_EPERM);
  assert_string_equal(err.message, "no resuming today");
  assert_int_equal(spy_fs_open_count(world.spy, ""), 0);
  end_world(&world);
}

/* Expects that the log is refused with these words although all segments would be skipped. */
static void expect_refused(struct world *world, const char *words) {
  struct cg_err err;
  world->skip_count = SEALS_MAX;
  assert_int_equal(open_log(world, &err), CG_ECORRUPT);
  if (!strstr(err.message, words))
    fail_msg("'%s' is not in '%s'", words, err.message);
  sim_fs_kill(world->sim);
}

/* A copy of a file; free it with cg_free. */
static uint8_t *copy_file(struct world *world, uint64_t number, size_t *size) {
  char path[64];
  segment_path(path, number);
  const uint8_t *bytes = sim_fs_bytes(world->sim, path, size);
  uint8_t *copy = cg_alloc(*size);
  memcpy(copy, bytes, *size);
  return copy;
}

static void put_file(struct world *world, uint64_t number, const uint8_t *bytes, size_t size) {
  char path[64];
  segment_path(path, number);
  sim_fs_put(world->sim, path, bytes, size);
}

static void test_wrong_segments_are_refused_although_they_are_skipped(void **state) {
  (void)state;
  struct world world;
  begin_world(&world, 64 << 10);
  fill(&world, 5, 3000);
  leave_log(&world);
  size_t sizes[3];
  uint8_t *files[3];
  for (int index = 0; index < 3; index++)
    files[index] = copy_file(&world, (uint64_t)index, &sizes[index]);

  sim_fs_remove(world.sim, "/log/segment-0000000002.log"); /* Missing. */
  expect_refused(&world, "segment-0000000002.log: offset 0: the file is missing");
  put_file(&world, 2, files[1], sizes[1]); /* Doubled, and in the wrong place. */
  expect_refused(&world, "segment-0000000002.log: offset 0");
  put_file(&world, 1, files[2], sizes[2]); /* Swapped. */
  expect_refused(&world, "segment-0000000001.log: offset 0");
  put_file(&world, 1, files[1], sizes[1]);
  put_file(&world, 2, files[2], 4000); /* Cut in the header. */
  expect_refused(&world, "segment-0000000002.log: offset 0");

  uint8_t header[CG_SEGMENT_HEADER_BYTES];
  struct cg_segment_header decoded;
  assert_int_equal(cg_segment_header_decode(files[2], sizes[2], &decoded, NULL), CG_OK);
  struct cg_segment_header wrong = decoded;
  wrong.log_id[3] ^= 1; /* Of another log. */
  cg_segment_header_encode(&wrong, header);
  put_file(&world, 2, header, sizeof(header));
  expect_refused(&world, "belongs to another log");
  wrong = decoded;
  wrong.first_position = 2; /* Stale: of a life of the log that was shorter. */
  cg_segment_header_encode(&wrong, header);
  put_file(&world, 2, header, sizeof(header));
  expect_refused(&world, "segment-0000000002.log: offset 0: the segment does not follow");
  put_file(&world, 2, files[2], sizes[2]);

  for (size_t bit = 0; bit < CG_SEGMENT_HEADER_BYTES * 8; bit += 101) {
    char path[64];
    size_t size;
    segment_path(path, 1);
    sim_fs_bytes(world.sim, path, &size)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    expect_refused(&world, "segment-0000000001.log: offset 0");
    sim_fs_bytes(world.sim, path, &size)[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_int_equal(open_log(&world, NULL), CG_OK);
  for (int index = 0; index < 3; index++)
    cg_free(files[index]);
  end_world(&world);
}

static void test_a_tail_below_what_other_files_prove_is_refused(void **state) {
  (void)state;
  struct world world;
  begin_world(&world, 64 << 10);
  fill(&world, 2, 3000);
  append(&world, 1, 100); /* The last batch; damaged, it looks torn. */
  cg_log_turn(world.log);
  uint64_t tail = cg_log_next_position(world.log);
  leave_log(&world);
  char path[64], words[100];
  size_t size;
  cg_log_place place = world.model.commits[world.model.count - 1].place;
  segment_path(path, place >> 32);
  uint8_t *bytes = sim_fs_bytes(world.sim, path, &size);
  uint8_t *before = cg_alloc(size);
  bytes[(place & UINT32_MAX) * 8] ^= 1;
  memcpy(before, bytes, size);
  world.options.proven_position = tail;
  snprintf(words, sizeof(words), "before position %llu, but files derived from it prove",
           (unsigned long long)tail - 1);
  expect_refused(&world, words);
  assert_memory_equal(bytes, before, size); /* It was not cut. */
  world.options.proven_position = tail - 1;
  world.skip_count = 0;
  assert_int_equal(open_log(&world, NULL), CG_OK);
  assert_int_equal(cg_log_next_position(world.log), tail - 1);
  cg_free(before);
  end_world(&world);
}

/* --- scanning --- */

/* What a scan has given. */
struct seen {
  struct world *world;                  /* Whose records. */
  uint64_t position;                    /* What must come next. */
  uint64_t left_count;                  /* Records until the scan is ended. */
  struct cg_log_waypoint waypoints[32]; /* All that came. */
  uint32_t waypoint_count;              /* How many. */
  bool is_wrong;                        /* Something else came. */
};

static bool see_record(void *arg, const struct cg_record *record, cg_log_place place) {
  struct seen *seen = arg;
  const struct log_model_commit *commit = log_model_find(&seen->world->model, record->position);
  if (record->position != seen->position++ || !commit || !log_model_matches(commit, record) ||
      (record->position == commit->first_position && place != commit->place))
    seen->is_wrong = true;
  return seen->left_count-- > 1;
}

static void see_waypoint(void *arg, const struct cg_log_waypoint *waypoint) {
  struct seen *seen = arg;
  assert_true(seen->waypoint_count < 32);
  seen->waypoints[seen->waypoint_count++] = *waypoint;
}

/* Scans segment `number`; `seen` gets what came. */
static enum cg_code scan_segment(struct world *world, const struct cg_log_seal *seal,
                                 struct seen *seen, struct cg_err *err) {
  *seen = (struct seen){.world = world, .position = seal->first_position, .left_count = UINT64_MAX};
  struct cg_log_scan face = {.record = see_record, .waypoint = see_waypoint, .arg = seen};
  return cg_log_scan("/log", spy_fs_calls(world->spy), seal, &face, err);
}

static void test_a_scan_gives_every_record_and_place(void **state) {
  (void)state;
  struct world world;
  struct seen seen;
  begin_world(&world, 64 << 10);
  fill(&world, 4, 3000);
  for (uint32_t index = 0; index < world.seal_count; index++) { /* While the log is open. */
    assert_int_equal(scan_segment(&world, &world.seals[index], &seen, NULL), CG_OK);
    assert_false(seen.is_wrong);
    assert_int_equal(seen.position, world.seals[index].end_position);
    assert_int_equal(seen.waypoint_count, 1);
    assert_int_equal(seen.waypoints[0].position, world.seals[index].first_position);
    assert_int_equal(seen.waypoints[0].offset, CG_SEGMENT_HEADER_BYTES);
  }
  seen = (struct seen){.world = &world, .position = 1, .left_count = 3};
  struct cg_log_scan face = {.record = see_record, .arg = &seen};
  assert_int_equal(cg_log_scan("/log", spy_fs_calls(world.spy), &world.seals[0], &face, NULL),
                   CG_ECANCELLED);
  assert_int_equal(seen.position, 4);
  leave_log(&world);
  assert_int_equal(spy_fs_open_count(world.spy, ""), 0);
  end_world(&world);
}

static void test_a_scan_compares_with_the_seal(void **state) {
  (void)state;
  struct world world;
  struct seen seen;
  struct cg_err err;
  begin_world(&world, 64 << 10);
  fill(&world, 2, 3000);
  struct cg_log_seal wrong = world.seals[1];
  wrong.nonce++;
  assert_int_equal(scan_segment(&world, &wrong, &seen, &err), CG_ENOTFOUND);
  wrong = world.seals[1];
  wrong.first_position++;
  assert_int_equal(scan_segment(&world, &wrong, &seen, &err), CG_ECORRUPT);
  wrong = world.seals[1];
  wrong.end_position++;
  assert_int_equal(scan_segment(&world, &wrong, &seen, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000001.log: offset "));
  wrong = world.seals[1];
  wrong.chain++;
  assert_int_equal(scan_segment(&world, &wrong, &seen, &err), CG_ECORRUPT);
  wrong.number = 9;
  assert_int_equal(scan_segment(&world, &wrong, &seen, &err), CG_ENOTFOUND);
  end_world(&world);
}

static void test_a_scan_finds_every_flipped_bit(void **state) {
  (void)state;
  struct world world;
  struct seen seen;
  struct cg_err err;
  begin_world(&world, 64 << 10);
  fill(&world, 1, 3000);
  char path[64];
  size_t size;
  segment_path(path, 0);
  uint8_t *bytes = sim_fs_bytes(world.sim, path, &size);
  const char *step = getenv("CATGA_BITS");
  for (size_t bit = 0; bit < size * 8; bit += step ? strtoul(step, NULL, 10) : BIT_STEP) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (scan_segment(&world, &world.seals[0], &seen, &err) != CG_ECORRUPT)
      fail_msg("bit %zu was not noticed", bit);
    if (!strstr(err.message, "segment-0000000000.log: offset "))
      fail_msg("'%s' names no place", err.message);
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_int_equal(scan_segment(&world, &world.seals[0], &seen, &err), CG_OK);
  end_world(&world);
}

/* --- waypoints --- */

static void test_given_waypoints_make_seeking_short(void **state) {
  (void)state;
  struct world world;
  struct seen seen;
  struct cg_record record;
  begin_world(&world, 4 << 20);
  fill(&world, 1, 30000);
  const struct cg_log_seal seal = world.seals[0];
  assert_int_equal(scan_segment(&world, &seal, &seen, NULL), CG_OK);
  assert_in_range(seen.waypoint_count, 3, 4);
  leave_log(&world);
  world.skip_count = 1;
  assert_int_equal(open_log(&world, NULL), CG_OK);
  for (int is_given = 0; is_given < 3; is_given++) { /* Without, with, and taken away again. */
    cg_log_waypoints(world.log, 0, seen.waypoints, is_given == 1 ? seen.waypoint_count : 0);
    spy_fs_reset(world.spy);
    struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, seal.end_position - 4);
    assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_OK);
    assert_int_equal(record.position, seal.end_position - 3);
    assert_true(log_model_matches(log_model_find(&world.model, record.position), &record));
    uint64_t read_bytes = spy_fs_read_bytes(world.spy, "segment-0000000000");
    assert_int_equal(read_bytes < 3 << 19, is_given == 1);
    cg_log_cursor_free(cursor);
  }
  cg_log_waypoints(world.log, 1, seen.waypoints, 1); /* Not sealed, not there: no effect. */
  cg_log_waypoints(world.log, 7, seen.waypoints, 1);
  assert_null(log_model_compare(&world.model, world.log));
  end_world(&world);
}

/* --- open files --- */

/* Reads on by cursors that stand all over the log, and by place, at random. */
static void read_all_over(struct world *world) {
  struct cg_log_cursor *cursors[12];
  uint64_t positions[12];
  struct cg_record record;
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  uint64_t tail = cg_log_next_position(world->log);
  for (int index = 0; index < 12; index++) {
    positions[index] = tail * (uint64_t)index / 12;
    cursors[index] = cg_log_cursor_new(world->log, positions[index]);
  }
  for (int count = 0; count < 3000; count++) {
    uint64_t index = sim_fs_random(world->sim, 12);
    enum cg_code code = cg_log_cursor_next(cursors[index], UINT64_MAX, &record, NULL);
    assert_int_equal(code, positions[index] + 1 < tail ? CG_OK : CG_END);
    if (code == CG_OK) {
      assert_int_equal(record.position, ++positions[index]);
      assert_true(log_model_matches(log_model_find(&world->model, record.position), &record));
    }
    const struct log_model_commit *commit =
        &world->model.commits[sim_fs_random(world->sim, world->model.count)];
    assert_int_equal(cg_log_read(world->log, commit->place, buf, &record, NULL), CG_OK);
    record.position = commit->first_position;
    assert_true(log_model_matches(commit, &record));
  }
  for (int index = 0; index < 12; index++)
    cg_log_cursor_free(cursors[index]);
  cg_buf_unref(buf);
}

static void test_no_more_files_are_open_than_allowed(void **state) {
  (void)state;
  struct world world;
  begin_world(&world, 64 << 10);
  leave_log(&world);
  world.options.handles_max = 2;
  for (uint32_t skip = 0; skip <= 50; skip += 25) { /* The first time the log is made. */
    world.skip_count = skip;
    assert_int_equal(open_log(&world, NULL), CG_OK);
    assert_true(spy_fs_open_max(world.spy) <= 3);
    fill(&world, 50 + skip / 25, 6000);
    read_all_over(&world);
    /* Two sealed ones, the last, and the next one while it is made. */
    assert_in_range(spy_fs_open_max(world.spy), 3, 4);
    leave_log(&world);
    assert_int_equal(spy_fs_open_count(world.spy, ""), 0);
  }
  world.options.handles_max = 1;
  assert_int_equal(open_log(&world, NULL), CG_EINVAL);
  end_world(&world);
}

static void test_a_file_that_became_another_one_is_noticed(void **state) {
  (void)state;
  struct world world;
  struct cg_record record;
  struct cg_err err;
  begin_world(&world, 64 << 10);
  leave_log(&world);
  world.options.handles_max = 2;
  assert_int_equal(open_log(&world, NULL), CG_OK);
  fill(&world, 5, 3000);
  size_t size;
  uint8_t *bytes = copy_file(&world, 0, &size);
  struct cg_segment_header header;
  assert_int_equal(cg_segment_header_decode(bytes, size, &header, NULL), CG_OK);
  header.nonce++;
  cg_segment_header_encode(&header, bytes);
  put_file(&world, 0, bytes, size);
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  for (int count = 0; count < 2; count++)
    assert_int_equal(cg_log_read(world.log, world.model.commits[0].place, buf, &record, &err),
                     CG_ECORRUPT);
  assert_non_null(strstr(err.message, "another one now"));
  sim_fs_remove(world.sim, "/log/segment-0000000000.log");
  assert_int_equal(cg_log_read(world.log, world.model.commits[0].place, buf, &record, &err),
                   CG_ENOTFOUND);
  cg_buf_unref(buf);
  cg_free(bytes);
  end_world(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_segment_is_sealed_when_the_next_one_is_published),
      cmocka_unit_test(test_seals_and_id_are_the_same_after_reopening),
      cmocka_unit_test(test_a_log_in_memory_has_no_seals_and_no_id),
      cmocka_unit_test(test_an_open_reads_only_headers_of_what_it_skips),
      cmocka_unit_test(test_an_error_of_resume_ends_the_open),
      cmocka_unit_test(test_wrong_segments_are_refused_although_they_are_skipped),
      cmocka_unit_test(test_a_tail_below_what_other_files_prove_is_refused),
      cmocka_unit_test(test_a_scan_gives_every_record_and_place),
      cmocka_unit_test(test_a_scan_compares_with_the_seal),
      cmocka_unit_test(test_a_scan_finds_every_flipped_bit),
      cmocka_unit_test(test_given_waypoints_make_seeking_short),
      cmocka_unit_test(test_no_more_files_are_open_than_allowed),
      cmocka_unit_test(test_a_file_that_became_another_one_is_noticed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
