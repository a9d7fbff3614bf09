/* log_rewrite_test.c - sealed segments written anew: what is kept stays as it was, what is dropped
 * is invisible, a crash or an error leaves the old segment or the new one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/mem.h"
#include "log/log.h"
#include "log/tools.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define BIT_STEP 499 /* Every so manyth bit is flipped; CATGA_BITS=1 flips all. */

/* Which records a rewriting keeps. */
enum keeping { KEEP_ALL, KEEP_NONE, KEEP_HALF, KEEP_RUNS, KEEP_FEW, KEEPINGS };

/* A log. */
struct world {
  struct sim_fs *sim;            /* The disk. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_log_options options; /* How to open. */
  struct cg_log *log;            /* NULL: not open. */
  enum keeping keeping;          /* What rewriting keeps. */
  uint64_t rewritten_position;   /* All below it have been rewritten so. */
  bool is_compressing;           /* Rewriting compresses. */
  uint64_t asked_count;          /* Calls of keep. */
  uint64_t seen_position;        /* Next record that may come in a replay or scan. */
  uint64_t seen_count;           /* Records that came. */
  const char *fault;             /* What was wrong with one. */
};

/* Whether a rewriting keeps the record at a position. */
static bool keeps(enum keeping keeping, uint64_t position) {
  uint64_t mixed = position * UINT64_C(0x9e3779b97f4a7c15) >> 40;
  switch (keeping) {
  case KEEP_ALL:
    return true;
  case KEEP_NONE:
    return false;
  case KEEP_HALF:
    return mixed % 2 == 0;
  case KEEP_RUNS:
    return position / 9 % 2 == 0;
  default:
    return mixed % 20 == 0;
  }
}

/* The next position from `position` on that is still there. */
static uint64_t next_kept(const struct world *world, uint64_t position) {
  while (position < world->rewritten_position && !keeps(world->keeping, position))
    position++;
  return position;
}

static bool on_keep(void *arg, const struct cg_record *record) {
  struct world *world = arg;
  world->asked_count++;
  if (!log_model_matches(log_model_find(&world->model, record->position), record))
    world->fault = "keep was asked about another record";
  return keeps(world->keeping, record->position);
}

/* Sees a record of a replay or scan. */
static void see(void *arg, const struct cg_record *record, cg_log_place place) {
  struct world *world = arg;
  (void)place;
  const struct log_model_commit *commit = log_model_find(&world->model, record->position);
  if (record->position != next_kept(world, world->seen_position))
    world->fault = "a record is out of order, missing or not dropped";
  else if (!commit || !log_model_matches(commit, record))
    world->fault = "a record differs";
  world->seen_position = record->position + 1;
  world->seen_count++;
}

static bool see_scanned(void *arg, const struct cg_record *record, cg_log_place place) {
  see(arg, record, place);
  return true;
}

static void begin_seeing(struct world *world, uint64_t position) {
  world->seen_position = position;
  world->seen_count = 0;
  world->fault = NULL;
}

static enum cg_code open_log(struct world *world, struct cg_err *err) {
  begin_seeing(world, 1);
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

static uint32_t seal_count(struct world *world) {
  const struct cg_log_seal *seals;
  return cg_log_seals(world->log, &seals);
}

static struct cg_log_seal seal_of(struct world *world, uint32_t number) {
  const struct cg_log_seal *seals;
  assert_true(number < cg_log_seals(world->log, &seals));
  return seals[number];
}

/* Makes a log with so many sealed segments; those are rewritten by `keeping` later. */
static void begin_world(struct world *world, uint64_t seed, uint32_t count, enum keeping keeping,
                        bool is_compressing) {
  *world =
      (struct world){.sim = sim_fs_new(seed), .keeping = keeping, .is_compressing = is_compressing};
  world->options = (struct cg_log_options){
      .fs = sim_fs_calls(world->sim),
      .clock = cg_clock_of(&world->clock),
      .segment_bytes = is_compressing ? 256 << 10 : 64 << 10, /* Several blocks. */
      .nonce_seed = seed + 1,
      .handles_max = 2,
      .manual = true,
      .replay = see,
      .replay_arg = world,
  };
  assert_int_equal(open_log(world, NULL), CG_OK);
  do {
    uint32_t record_count = 1 + (uint32_t)sim_fs_random(world->sim, 7);
    assert_int_equal(log_model_append(&world->model, world->log, record_count, 900, NULL), CG_OK);
    if (sim_fs_random(world->sim, 3) == 0)
      cg_log_turn(world->log);
    if (sim_fs_random(world->sim, 20) == 0) {
      cg_log_turn(world->log);
      cg_clock_virtual_advance(&world->clock, 200);
      cg_log_turn(world->log); /* A mark. */
    }
  } while (seal_count(world) < count);
  cg_log_turn(world->log);
}

static void end_world(struct world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

static enum cg_code rewrite(struct world *world, struct cg_log_seal *seal, struct cg_err *err) {
  struct cg_log_rewrite asked = {.keep = on_keep,
                                 .arg = world,
                                 .compress = world->is_compressing,
                                 .nonce_seed = 1 + seal->nonce};
  return cg_log_rewrite("/log", sim_fs_calls(world->sim), seal, &asked, err);
}

/* Rewrites a segment and puts it in place. */
static void rewrite_and_replace(struct world *world, uint32_t number) {
  struct cg_err err;
  struct cg_log_seal seal = seal_of(world, number), old = seal;
  if (rewrite(world, &seal, &err) != CG_OK || cg_log_replace(world->log, &seal, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_null(world->fault);
  assert_int_not_equal(seal.nonce, old.nonce);
  struct cg_log_seal now = seal_of(world, number);
  assert_memory_equal(&now, &seal, sizeof(seal));
  old.nonce = seal.nonce;
  assert_memory_equal(&now, &old, sizeof(seal)); /* Nothing but the nonce is new. */
  world->rewritten_position = seal.end_position;
}

/* Reads by a cursor from each of some positions on and expects exactly what is kept. */
static void expect_kept(struct world *world) {
  struct cg_record record;
  uint64_t tail = cg_log_next_position(world->log);
  for (uint64_t after = 0; after < tail; after += 1 + after / 7) {
    struct cg_log_cursor *cursor = cg_log_cursor_new(world->log, after);
    uint64_t position = next_kept(world, after + 1);
    for (int count = 0; count < (after == 0 ? 1 << 20 : 30) && position < tail; count++) {
      struct cg_err err;
      if (cg_log_cursor_next(cursor, UINT64_MAX, &record, &err) != CG_OK)
        fail_msg("%s", err.message);
      assert_int_equal(record.position, position);
      assert_true(log_model_matches(log_model_find(&world->model, position), &record));
      position = next_kept(world, position + 1);
    }
    if (position >= tail)
      assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_END);
    cg_log_cursor_free(cursor);
  }
}

/* Scans one segment and expects exactly what is kept; every place read gives the same record. */
static void expect_scanned(struct world *world, const struct cg_log_seal *seal) {
  struct cg_log_scan face = {.record = see_scanned, .arg = world};
  struct cg_err err;
  begin_seeing(world, seal->first_position);
  if (cg_log_scan("/log", sim_fs_calls(world->sim), seal, &face, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_null(world->fault);
  assert_true(next_kept(world, world->seen_position) >= seal->end_position);
}

/* Reads each record of a scan by its place, from the open log. */
static bool read_by_place(void *arg, const struct cg_record *record, cg_log_place place) {
  struct world *world = arg;
  struct cg_buf *buf = cg_buf_take(NULL, 256);
  struct cg_record read;
  struct cg_err err;
  if (cg_log_read(world->log, place, buf, &read, &err) != CG_OK)
    fail_msg("%s", err.message);
  read.position = record->position;
  assert_true(log_model_matches(log_model_find(&world->model, record->position), &read));
  cg_buf_unref(buf);
  return true;
}

static void expect_places(struct world *world, const struct cg_log_seal *seal) {
  struct cg_log_scan face = {.record = read_by_place, .arg = world};
  assert_int_equal(cg_log_scan("/log", sim_fs_calls(world->sim), seal, &face, NULL), CG_OK);
}

static size_t file_size(struct world *world, uint32_t number) {
  char path[64];
  size_t size;
  snprintf(path, sizeof(path), "/log/segment-%010u.log", number);
  assert_non_null(sim_fs_bytes(world->sim, path, &size));
  return size;
}

static bool has_rewritten_file(struct world *world, uint32_t number) {
  char path[64];
  size_t size;
  snprintf(path, sizeof(path), "/log/segment-%010u.log.rewritten", number);
  return sim_fs_bytes(world->sim, path, &size) != NULL;
}

static void on_line(void *arg, bool is_fault, const char *line) {
  (void)arg;
  if (is_fault)
    fail_msg("%s", line);
}

/* --- what stays --- */

static void check_keeping(enum keeping keeping, bool is_compressing) {
  struct world world;
  begin_world(&world, 5 + keeping, 4, keeping, is_compressing);
  expect_kept(&world);
  uint64_t first_of_last = seal_of(&world, 3).end_position;
  for (uint32_t number = 0; number < 4; number++) {
    struct cg_log_seal seal = seal_of(&world, number), old = seal;
    assert_int_equal(rewrite(&world, &seal, NULL), CG_OK);
    expect_scanned(&world, &old); /* The old one is there, and the new one can be read. */
    world.rewritten_position = seal.end_position;
    expect_scanned(&world, &seal);
    world.rewritten_position = seal.first_position;
    world.asked_count = 0;
    rewrite_and_replace(&world, number);
    assert_int_equal(world.asked_count, seal.end_position - seal.first_position);
    assert_false(has_rewritten_file(&world, number));
    seal = seal_of(&world, number);
    expect_scanned(&world, &seal);
    expect_places(&world, &seal);
    expect_kept(&world);
    if (keeping == KEEP_FEW || is_compressing)
      assert_true(file_size(&world, number) < world.options.segment_bytes / 16 * 11);
  }
  leave_log(&world);

  struct cg_err err;
  struct cg_log_verify verify = {.report = on_line};
  assert_int_equal(cg_log_verify("/log", sim_fs_calls(world.sim), &verify, NULL), CG_OK);
  uint64_t kept_count = 0;
  for (uint64_t position = 1; position < verify.counts.end_position; position++)
    kept_count += next_kept(&world, position) == position;
  assert_int_equal(verify.counts.record_count, kept_count);
  if (open_log(&world, &err) != CG_OK) /* Replays all. */
    fail_msg("%s", err.message);
  assert_null(world.fault);
  assert_true(world.seen_position > first_of_last);
  assert_int_equal(world.seen_count, kept_count);
  expect_kept(&world);
  assert_int_equal(log_model_append(&world.model, world.log, 3, 100, NULL), CG_OK);
  cg_log_turn(world.log);
  expect_kept(&world);
  end_world(&world);
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
  struct world world;
  begin_world(&world, 20, 2, KEEP_ALL, false);
  static const enum keeping order[] = {KEEP_ALL, KEEP_HALF, KEEP_HALF};
  for (size_t index = 0; index < sizeof(order) / sizeof(*order); index++) {
    world.keeping = order[index];
    rewrite_and_replace(&world, 0);
    rewrite_and_replace(&world, 1);
    expect_kept(&world);
  }
  /* From half of them to none: the holes grow together. */
  world.keeping = KEEP_NONE;
  for (uint32_t number = 0; number < 2; number++) {
    rewrite_and_replace(&world, number);
    assert_int_equal(file_size(&world, number), CG_SEGMENT_HEADER_BYTES + 48 + 48 + 8);
  }
  expect_kept(&world);
  leave_log(&world);
  assert_int_equal(open_log(&world, NULL), CG_OK);
  assert_null(world.fault);
  end_world(&world);
}

static void test_cursors_in_a_replaced_segment_find_their_place(void **state) {
  (void)state;
  for (int keeping = 0; keeping < KEEPINGS; keeping++) {
    struct world world;
    struct cg_record record;
    struct cg_log_cursor *cursors[40];
    uint64_t positions[40];
    begin_world(&world, 30, 2, (enum keeping)keeping, false);
    uint64_t tail = cg_log_next_position(world.log);
    for (uint64_t index = 0; index < 40; index++) {
      cursors[index] = cg_log_cursor_new(world.log, index * tail / 40);
      positions[index] = index * tail / 40 + 1;
      assert_int_equal(cg_log_cursor_next(cursors[index], UINT64_MAX, &record, NULL), CG_OK);
      assert_int_equal(record.position, positions[index]++);
    }
    rewrite_and_replace(&world, 0);
    rewrite_and_replace(&world, 1);
    for (uint64_t index = 0; index < 40; index++) {
      uint64_t seen_count = 0;
      while (cg_log_cursor_next(cursors[index], UINT64_MAX, &record, NULL) == CG_OK) {
        /* What it had read already it may give; else exactly what is kept. */
        if (seen_count++ > 7)
          assert_int_equal(record.position, next_kept(&world, positions[index]));
        assert_true(record.position >= positions[index]);
        assert_true(record.position <= next_kept(&world, positions[index]));
        assert_true(log_model_matches(log_model_find(&world.model, record.position), &record));
        positions[index] = record.position + 1;
      }
      assert_int_equal(next_kept(&world, positions[index]), tail);
      cg_log_cursor_free(cursors[index]);
    }
    end_world(&world);
  }
}

static void test_a_cursor_stops_inside_of_a_hole(void **state) {
  (void)state;
  struct world world;
  struct cg_record record;
  begin_world(&world, 40, 1, KEEP_NONE, false);
  rewrite_and_replace(&world, 0);
  struct cg_log_cursor *cursor = cg_log_cursor_new(world.log, 3);
  assert_int_equal(cg_log_cursor_next(cursor, 9, &record, NULL), CG_END);
  assert_int_equal(cg_log_cursor_next(cursor, 10, &record, NULL), CG_END);
  assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_OK);
  assert_int_equal(record.position, world.rewritten_position);
  cg_log_cursor_free(cursor);
  end_world(&world);
}

/* --- what is refused --- */

static void test_only_what_fits_is_put_in_place(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  begin_world(&world, 50, 2, KEEP_HALF, false);
  struct cg_log_seal seal = seal_of(&world, 0);
  assert_int_equal(cg_log_replace(world.log, &seal, &err), CG_ENOTFOUND); /* No file. */
  assert_int_equal(rewrite(&world, &seal, NULL), CG_OK);
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
  expect_kept(&world);
  struct cg_log *memory;
  assert_int_equal(cg_log_open_memory(&memory, NULL, NULL), CG_OK);
  assert_int_equal(cg_log_replace(memory, &seal, &err), CG_EINVAL);
  cg_log_close(memory, NULL);
  leave_log(&world);
  assert_int_equal(open_log(&world, NULL), CG_OK); /* Left over. */
  assert_false(has_rewritten_file(&world, 0));
  end_world(&world);
}

static void test_a_damaged_segment_is_not_rewritten(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  begin_world(&world, 60, 1, KEEP_HALF, false);
  size_t size;
  sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size)[30000] ^= 1;
  struct cg_log_seal seal = seal_of(&world, 0), old = seal;
  assert_int_equal(rewrite(&world, &seal, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000000.log: offset "));
  assert_memory_equal(&seal, &old, sizeof(seal));
  assert_false(has_rewritten_file(&world, 0));
  end_world(&world);
}

/* Answers so many segments. */
static uint32_t skip_all(void *arg, const uint8_t log_id[16], const struct cg_log_seal *seals,
                         uint32_t count, struct cg_err *err) {
  (void)log_id, (void)err;
  ((struct world *)arg)->seen_position = seals[count - 1].end_position;
  return count;
}

static void test_a_rewritten_segment_must_join_the_next_one(void **state) {
  (void)state;
  struct world world;
  struct cg_err err;
  begin_world(&world, 70, 3, KEEP_HALF, false);
  rewrite_and_replace(&world, 0);
  rewrite_and_replace(&world, 1);
  leave_log(&world);
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
    assert_int_equal(open_log(&world, &err), CG_ECORRUPT);
    sim_fs_kill(world.sim);
  }
  memcpy(bytes, kept, sizeof(kept));
  assert_int_equal(open_log(&world, &err), CG_OK);
  assert_null(world.fault);
  leave_log(&world);
  world.options.resume = NULL;
  sim_fs_remove(world.sim, "/log/segment-0000000003.log");
  sim_fs_remove(world.sim, "/log/segment-0000000002.log");
  assert_int_equal(open_log(&world, &err), CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000001.log: offset 0: a rewritten segment"));
  end_world(&world);
}

/* Flips bits of a rewritten file, and expects that a scan and an open notice. */
static void check_bits(bool is_compressing) {
  struct world world;
  struct cg_err err;
  begin_world(&world, 80, 1, KEEP_HALF, is_compressing);
  rewrite_and_replace(&world, 0);
  struct cg_log_seal seal = seal_of(&world, 0);
  struct cg_log_scan face = {.record = see_scanned, .arg = &world};
  leave_log(&world);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size);
  const char *text = getenv("CATGA_BITS");
  size_t step = text ? strtoul(text, NULL, 10) : BIT_STEP, count = 0;
  for (size_t bit = 0; bit < size * 8; bit += step) {
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    enum cg_code code = cg_log_scan("/log", sim_fs_calls(world.sim), &seal, &face, &err);
    if (code != CG_ECORRUPT)
      fail_msg("bit %zu was not noticed by a scan: %d", bit, code);
    if (!strstr(err.message, "segment-0000000000.log: offset "))
      fail_msg("'%s' names no place", err.message);
    if (count++ % 4 == 0) {
      code = open_log(&world, &err);
      if (code != CG_ECORRUPT)
        fail_msg("bit %zu was not noticed by an open: %d", bit, code);
      sim_fs_kill(world.sim);
    }
    bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  assert_int_equal(open_log(&world, NULL), CG_OK);
  end_world(&world);
}

static void test_every_flipped_bit_of_a_rewritten_segment_is_noticed(void **state) {
  (void)state;
  check_bits(false);
}

static void test_every_flipped_bit_of_a_compressed_segment_is_noticed(void **state) {
  (void)state;
  check_bits(true);
}

/* --- crashes and errors --- */

/* Rewrites segment 1 with a fault at the `call`th call; false when it was not reached. Expects that
 * the log has the old segment or the new one, now and, after a crash, then. */
static bool strike(bool is_compressing, enum sim_fault fault, int error, uint64_t call) {
  struct world world;
  struct cg_err err;
  begin_world(&world, 90 + call, 3, KEEP_HALF, is_compressing);
  struct cg_log_seal seal = seal_of(&world, 1), old = seal;
  sim_fs_fault(world.sim, fault, error, call, false);
  enum cg_code code = rewrite(&world, &seal, &err);
  bool is_left = code != CG_OK && has_rewritten_file(&world, 1);
  if (code == CG_OK)
    code = cg_log_replace(world.log, &seal, &err);
  bool has_faulted = sim_fs_has_faulted(world.sim);
  if (fault != SIM_FAULT_CRASH) {
    sim_fs_fault(world.sim, SIM_FAULT_NONE, 0, 0, false);
    struct cg_log_seal now = seal_of(&world, 1);
    assert_true(now.nonce == old.nonce || now.nonce == seal.nonce);
    assert_false(is_left);
    if (code == CG_OK)
      assert_int_equal(now.nonce, seal.nonce);
    /* Of segment 1 alone: what is before it stays. */
    begin_seeing(&world, old.first_position);
    world.rewritten_position = now.nonce == old.nonce ? 0 : old.end_position;
    expect_scanned(&world, &now);
    expect_places(&world, &now);
  }
  cg_log_abandon(world.log);
  world.log = NULL;
  sim_fs_crash(world.sim);
  world.rewritten_position = 0;
  world.options.replay = NULL;
  if (open_log(&world, &err) != CG_OK)
    fail_msg("fault %d at call %llu: %s", fault, (unsigned long long)call, err.message);
  for (uint32_t number = 0; number < 3; number++)
    assert_false(has_rewritten_file(&world, number));
  struct cg_log_seal now = seal_of(&world, 1);
  assert_true(now.nonce == old.nonce || now.nonce == seal.nonce);
  world.rewritten_position = now.nonce == old.nonce ? 0 : old.end_position;
  expect_scanned(&world, &now);
  if (code == CG_OK)
    assert_int_equal(now.nonce, seal.nonce); /* What was reported done is there. */
  end_world(&world);
  return has_faulted;
}

static void check_strikes(bool is_compressing) {
  uint64_t calls = 0;
  while (strike(is_compressing, SIM_FAULT_CRASH, 0, calls + 1))
    calls++;
  assert_true(calls > 10);
  for (uint64_t call = 1; call <= calls; call++) {
    assert_true(strike(is_compressing, SIM_FAULT_ERROR, EIO, call));
    assert_true(strike(is_compressing, SIM_FAULT_ERROR, ENOSPC, call));
    assert_true(strike(is_compressing, SIM_FAULT_ERROR, EINTR, call));
    assert_true(strike(is_compressing, SIM_FAULT_SHORT, 0, call));
  }
}

static void test_a_fault_at_any_call_leaves_the_old_segment_or_the_new_one(void **state) {
  (void)state;
  check_strikes(false);
}

static void test_a_fault_at_any_call_leaves_one_of_them_when_it_compresses(void **state) {
  (void)state;
  check_strikes(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_is_kept_stays_as_it_was),
      cmocka_unit_test(test_what_is_kept_stays_as_it_was_when_it_is_compressed),
      cmocka_unit_test(test_a_segment_can_be_rewritten_again),
      cmocka_unit_test(test_cursors_in_a_replaced_segment_find_their_place),
      cmocka_unit_test(test_a_cursor_stops_inside_of_a_hole),
      cmocka_unit_test(test_only_what_fits_is_put_in_place),
      cmocka_unit_test(test_a_damaged_segment_is_not_rewritten),
      cmocka_unit_test(test_a_rewritten_segment_must_join_the_next_one),
      cmocka_unit_test(test_every_flipped_bit_of_a_rewritten_segment_is_noticed),
      cmocka_unit_test(test_every_flipped_bit_of_a_compressed_segment_is_noticed),
      cmocka_unit_test(test_a_fault_at_any_call_leaves_the_old_segment_or_the_new_one),
      cmocka_unit_test(test_a_fault_at_any_call_leaves_one_of_them_when_it_compresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
