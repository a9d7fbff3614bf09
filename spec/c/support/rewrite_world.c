/* rewrite_world.c - a log on a simulated disk, the sealed segments of which are rewritten, and what
 * must be left of it.
 *
 * Owns: see rewrite_world.h. Thread: one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/rewrite_world.h"

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
uint64_t rewrite_world_next(const struct rewrite_world *world, uint64_t position) {
  while (position < world->rewritten_position && !keeps(world->keeping, position))
    position++;
  return position;
}

static bool on_keep(void *arg, const struct cg_record *record) {
  struct rewrite_world *world = arg;
  world->asked_count++;
  if (!log_model_matches(log_model_find(&world->model, record->position), record))
    world->fault = "keep was asked about another record";
  return keeps(world->keeping, record->position);
}

/* Sees a record of a replay or scan. */
static void see(void *arg, const struct cg_record *record, cg_log_place place) {
  struct rewrite_world *world = arg;
  (void)place;
  const struct log_model_commit *commit = log_model_find(&world->model, record->position);
  if (record->position != rewrite_world_next(world, world->seen_position))
    world->fault = "a record is out of order, missing or not dropped";
  else if (!commit || !log_model_matches(commit, record))
    world->fault = "a record differs";
  world->seen_position = record->position + 1;
  world->seen_count++;
}

bool rewrite_world_see_scanned(void *arg, const struct cg_record *record, cg_log_place place) {
  see(arg, record, place);
  return true;
}

void rewrite_world_begin_seeing(struct rewrite_world *world, uint64_t position) {
  world->seen_position = position;
  world->seen_count = 0;
  world->fault = NULL;
}

enum cg_code rewrite_world_open(struct rewrite_world *world, struct cg_err *err) {
  rewrite_world_begin_seeing(world, 1);
  enum cg_code code = cg_log_open_file(&world->log, "/log", &world->options, err);
  if (code != CG_OK)
    world->log = NULL;
  return code;
}

void rewrite_world_leave(struct rewrite_world *world) {
  cg_log_abandon(world->log);
  world->log = NULL;
  sim_fs_kill(world->sim);
}

static uint32_t seal_count(struct rewrite_world *world) {
  const struct cg_log_seal *seals;
  return cg_log_seals(world->log, &seals);
}

struct cg_log_seal rewrite_world_seal(struct rewrite_world *world, uint32_t number) {
  const struct cg_log_seal *seals;
  assert_true(number < cg_log_seals(world->log, &seals));
  return seals[number];
}

/* Makes a log with so many sealed segments; those are rewritten by `keeping` later. */
void rewrite_world_begin(struct rewrite_world *world, uint64_t seed, uint32_t count,
                         enum keeping keeping, bool is_compressing) {
  *world = (struct rewrite_world){
      .sim = sim_fs_new(seed), .keeping = keeping, .is_compressing = is_compressing};
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
  assert_int_equal(rewrite_world_open(world, NULL), CG_OK);
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

void rewrite_world_end(struct rewrite_world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

enum cg_code rewrite_world_rewrite(struct rewrite_world *world, struct cg_log_seal *seal,
                                   struct cg_err *err) {
  struct cg_log_rewrite asked = {.keep = on_keep,
                                 .arg = world,
                                 .compress = world->is_compressing,
                                 .nonce_seed = 1 + seal->nonce};
  return cg_log_rewrite("/log", sim_fs_calls(world->sim), seal, &asked, err);
}

/* Rewrites a segment and puts it in place. */
void rewrite_world_replace(struct rewrite_world *world, uint32_t number) {
  struct cg_err err;
  struct cg_log_seal seal = rewrite_world_seal(world, number), old = seal;
  if (rewrite_world_rewrite(world, &seal, &err) != CG_OK ||
      cg_log_replace(world->log, &seal, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_null(world->fault);
  assert_int_not_equal(seal.nonce, old.nonce);
  struct cg_log_seal now = rewrite_world_seal(world, number);
  assert_memory_equal(&now, &seal, sizeof(seal));
  old.nonce = seal.nonce;
  assert_memory_equal(&now, &old, sizeof(seal)); /* Nothing but the nonce is new. */
  world->rewritten_position = seal.end_position;
}

/* Reads by a cursor from each of some positions on and expects exactly what is kept. */
void rewrite_world_expect_kept(struct rewrite_world *world) {
  struct cg_record record;
  uint64_t tail = cg_log_next_position(world->log);
  for (uint64_t after = 0; after < tail; after += 1 + after / 7) {
    struct cg_log_cursor *cursor = cg_log_cursor_new(world->log, after);
    uint64_t position = rewrite_world_next(world, after + 1);
    for (int count = 0; count < (after == 0 ? 1 << 20 : 30) && position < tail; count++) {
      struct cg_err err;
      if (cg_log_cursor_next(cursor, UINT64_MAX, &record, &err) != CG_OK)
        fail_msg("%s", err.message);
      assert_int_equal(record.position, position);
      assert_true(log_model_matches(log_model_find(&world->model, position), &record));
      position = rewrite_world_next(world, position + 1);
    }
    if (position >= tail)
      assert_int_equal(cg_log_cursor_next(cursor, UINT64_MAX, &record, NULL), CG_END);
    cg_log_cursor_free(cursor);
  }
}

/* Scans one segment and expects exactly what is kept; every place read gives the same record. */
void rewrite_world_expect_scanned(struct rewrite_world *world, const struct cg_log_seal *seal) {
  struct cg_log_scan face = {.record = rewrite_world_see_scanned, .arg = world};
  struct cg_err err;
  rewrite_world_begin_seeing(world, seal->first_position);
  if (cg_log_scan("/log", sim_fs_calls(world->sim), seal, &face, &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_null(world->fault);
  assert_true(rewrite_world_next(world, world->seen_position) >= seal->end_position);
}

/* Reads each record of a scan by its place, from the open log. */
static bool read_by_place(void *arg, const struct cg_record *record, cg_log_place place) {
  struct rewrite_world *world = arg;
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

void rewrite_world_expect_places(struct rewrite_world *world, const struct cg_log_seal *seal) {
  struct cg_log_scan face = {.record = read_by_place, .arg = world};
  assert_int_equal(cg_log_scan("/log", sim_fs_calls(world->sim), seal, &face, NULL), CG_OK);
}

size_t rewrite_world_file_size(struct rewrite_world *world, uint32_t number) {
  char path[64];
  size_t size;
  snprintf(path, sizeof(path), "/log/segment-%010u.log", number);
  assert_non_null(sim_fs_bytes(world->sim, path, &size));
  return size;
}

bool rewrite_world_has_new_file(struct rewrite_world *world, uint32_t number) {
  char path[64];
  size_t size;
  snprintf(path, sizeof(path), "/log/segment-%010u.log.rewritten", number);
  return sim_fs_bytes(world->sim, path, &size) != NULL;
}
