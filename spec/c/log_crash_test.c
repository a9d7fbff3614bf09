/* log_crash_test.c - the log on a disk that loses power at any call.
 *
 * Each seed is a story: open, append, let the writer work, lose power at a chosen call, open again,
 * several times over; also while recovering. After every opening a prefix of the commits must be
 * there, with equal bytes, and at least all that were acknowledged.
 * CATGA_SEEDS=n runs n stories instead of 2,000; CATGA_SEED=n runs one and tells it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log/log.h"
#include "support/log_model.h"
#include "support/sim_fs.h"

#define SEEDS_DEFAULT 2000
#define ROUNDS 4      /* Power losses of a story. */
#define STEPS_MAX 60  /* Things done between two of them. */
#define CALLS_MAX 120 /* The loss comes within so many calls. */
#define OPENS_MAX 20  /* Losses while opening. */

/* One story. */
struct story {
  struct sim_fs *sim;            /* The disk; also the source of chance. */
  struct log_model model;        /* What was appended. */
  struct cg_clock_virtual clock; /* The time. */
  struct cg_log_options options; /* Of the log. */
  struct cg_log *log;            /* NULL: not open. */
  bool is_told;                  /* Prints what happens. */
};

/* Opens the log, losing power on the way now and then. */
static const char *open_log(struct story *story) {
  for (int attempt = 0; attempt < OPENS_MAX; attempt++) {
    struct cg_err err;
    bool is_struck = attempt + 1 < OPENS_MAX && sim_fs_random(story->sim, 3) == 0;
    if (is_struck)
      sim_fs_fault(story->sim, SIM_FAULT_CRASH, 0, 1 + sim_fs_random(story->sim, 25), false);
    log_model_begin(&story->model);
    enum cg_code code = cg_log_open_file(&story->log, "/log", &story->options, &err);
    if (story->is_told)
      printf("open: %s\n", code == CG_OK ? "done" : err.message);
    bool has_lost = is_struck && sim_fs_has_faulted(story->sim);
    if (code == CG_OK && !has_lost) {
      sim_fs_fault(story->sim, SIM_FAULT_NONE, 0, 0, false);
      return log_model_settle(&story->model);
    }
    if (code == CG_OK) /* It was lost in a call that may fail, removing a left-over. */
      cg_log_abandon(story->log);
    story->log = NULL;
    if (!has_lost) {
      fprintf(stderr, "open: %s\n", err.message);
      return "the log could not be opened";
    }
    sim_fs_crash(story->sim);
  }
  return "never opened";
}

/* Notes what the log says is durable. */
static void note_acknowledged(struct story *story) {
  uint64_t position = cg_log_durable_position(story->log);
  /* In the other modes a loss of power may take back what was acknowledged. */
  if (story->options.durability == CG_DURABILITY_FSYNC)
    story->model.acknowledged_position = position;
}

/* Does one thing with the open log. */
static void step(struct story *story) {
  struct sim_fs *sim = story->sim;
  struct cg_err err;
  switch (sim_fs_random(sim, 8)) {
  case 0:
  case 1:
    cg_log_turn(story->log);
    break;
  case 2:
    cg_clock_virtual_advance(&story->clock, (int64_t)sim_fs_random(sim, 150));
    break;
  case 3: /* One large commit: over several sectors, or near the end of the segment. */
    log_model_append(&story->model, story->log, 1, 20000, &err);
    break;
  default:
    log_model_append(&story->model, story->log, 1 + (uint32_t)sim_fs_random(sim, 4), 700, &err);
  }
  note_acknowledged(story);
}

/* Opens, works until the power is lost, or closes; NULL when all was well. */
static const char *play_round(struct story *story) {
  const char *fault = open_log(story);
  if (!fault && sim_fs_random(story->sim, 8) == 0)
    fault = log_model_compare(&story->model, story->log);
  if (fault)
    return fault;
  sim_fs_fault(story->sim, SIM_FAULT_CRASH, 0, 1 + sim_fs_random(story->sim, CALLS_MAX), false);
  uint64_t steps = sim_fs_random(story->sim, STEPS_MAX);
  for (uint64_t count = 0; count < steps && cg_log_failed(story->log, NULL) == CG_OK; count++)
    step(story);
  if (story->is_told)
    printf("appended up to %llu, acknowledged %llu, %s\n",
           (unsigned long long)cg_log_next_position(story->log),
           (unsigned long long)story->model.acknowledged_position,
           sim_fs_has_faulted(story->sim) ? "power lost" : "going on");

  if (!sim_fs_has_faulted(story->sim) && sim_fs_random(story->sim, 3) == 0) {
    uint64_t end = cg_log_next_position(story->log);
    if (cg_log_close(story->log, NULL) == CG_OK)
      story->model.acknowledged_position = end;
  } else {
    cg_log_abandon(story->log);
  }
  story->log = NULL;
  if (sim_fs_random(story->sim, 6) == 0 && !sim_fs_has_faulted(story->sim))
    sim_fs_kill(story->sim); /* Only the process ended. */
  else
    sim_fs_crash(story->sim);
  return NULL;
}

/* Plays the story of a seed; NULL when all was well. */
static const char *play(uint64_t seed, bool is_told) {
  struct story story = {.sim = sim_fs_new(seed), .is_told = is_told};
  story.options = (struct cg_log_options){
      .fs = sim_fs_calls(story.sim),
      .clock = cg_clock_of(&story.clock),
      .segment_bytes = 64 << 10,
      .nonce_seed = seed + 1,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &story.model,
  };
  if (sim_fs_random(story.sim, 5) == 0)
    story.options.durability = CG_DURABILITY_OS;
  if (sim_fs_random(story.sim, 10) == 0)
    sim_fs_refuse_allocate(story.sim);
  const char *fault = NULL;
  for (int round = 0; round < ROUNDS && !fault; round++)
    fault = play_round(&story);
  if (!fault)
    fault = open_log(&story);
  if (!fault)
    fault = log_model_compare(&story.model, story.log);
  if (story.log)
    cg_log_abandon(story.log);
  log_model_deinit(&story.model);
  sim_fs_free(story.sim);
  return fault;
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_a_crash_leaves_a_prefix_with_all_acknowledged_commits(void **state) {
  (void)state;
  if (getenv("CATGA_SEED")) {
    const char *fault = play(number_from("CATGA_SEED", 0), true);
    if (fault)
      fail_msg("%s", fault);
    return;
  }
  uint64_t count = number_from("CATGA_SEEDS", SEEDS_DEFAULT);
  for (uint64_t seed = 0; seed < count; seed++) {
    const char *fault = play(seed, false);
    if (fault)
      fail_msg("seed %llu: %s; again by CATGA_SEED=%llu", (unsigned long long)seed, fault,
               (unsigned long long)seed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_crash_leaves_a_prefix_with_all_acknowledged_commits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
