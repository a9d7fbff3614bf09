/* log_world.c - how the world of a log on a simulated disk is kept.
 *
 * Opening again sees a copy of the model, so that what must come back stays known.
 * Owns: what log_world.h says. Thread: one. */
#include "support/log_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define TORTURE_SEEDS 10000u

bool log_world_is_torture(void) {
  const char *seeds = getenv("CATGA_SEEDS");
  return seeds != NULL && strtoull(seeds, NULL, 10) >= TORTURE_SEEDS;
}

static void keep_line(void *arg, enum cg_say_level level, const char *line) {
  (void)level;
  struct log_world *world = arg;
  snprintf(world->said, sizeof(world->said), "%s", line);
}

void log_world_open_seeded(struct log_world *world, uint64_t segment_bytes, uint64_t seed) {
  *world = (struct log_world){.sim = sim_fs_new(seed)};
  world->say = (struct cg_say){.fd = -1, .sink = keep_line, .sink_arg = world};
  world->options = (struct cg_log_options){
      .fs = sim_fs_calls(world->sim),
      .clock = cg_clock_of(&world->clock),
      .say = &world->say,
      .segment_bytes = segment_bytes,
      .nonce_seed = seed,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &world->model,
  };
  log_model_begin(&world->model);
  assert_int_equal(cg_log_open_file(&world->log, "/log", &world->options, NULL), CG_OK);
}

void log_world_open(struct log_world *world, uint64_t segment_bytes) {
  log_world_open_seeded(world, segment_bytes, 7);
}

void log_world_free(struct log_world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  log_model_deinit(&world->model);
  sim_fs_free(world->sim);
}

void log_world_expect_commits(struct log_world *world, size_t count) {
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

void log_world_expect_refused(struct log_world *world, const char *file, long offset) {
  struct cg_err err;
  size_t size;
  char text[64];
  const uint8_t *bytes = sim_fs_bytes(world->sim, LOG_WORLD_PATH, &size);
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
    bytes = sim_fs_bytes(world->sim, LOG_WORLD_PATH, &size);
    assert_int_equal(memcmp(before, bytes, size), 0);
    cg_free(before);
  }
  world->log = NULL;
  sim_fs_kill(world->sim);
}

void log_world_fill(struct log_world *world, uint64_t bytes, bool is_one_batch) {
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

uint64_t log_world_begin_of(const struct log_world *world, size_t commit) {
  return (world->model.commits[commit].place & UINT32_MAX) * 8 - CG_COMMIT_HEADER_BYTES;
}

uint64_t log_world_end_of(const struct log_world *world, const uint8_t *bytes, size_t commit) {
  uint32_t size;
  memcpy(&size, bytes + log_world_begin_of(world, commit) + 4, 4);
  return log_world_begin_of(world, commit) + size;
}
