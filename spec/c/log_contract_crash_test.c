/* log_contract_crash_test.c - any kind of log through any story of crashes, bad networks and other
 * owners.
 *
 * Each seed is a story: open, append, let the log work, end it in some way, open again, several
 * times over. A log on a server is also taken over while its first owner lives on as a ghost, which
 * must not acknowledge anything more than the new owner has found. After every opening a prefix of
 * the commits must be there, in order, none twice, and at least all that were acknowledged; and in
 * the end, on a good network, everything becomes durable.
 * Power lost in the middle of a file call is in log_crash_test.c.
 * CATGA_SEEDS=n runs n stories a kind instead of 500; CATGA_SEED=n plays and tells one of each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/kind_world.h"

#define SEEDS_DEFAULT 500
#define REAL_SEEDS_SHARE 5 /* Of the stories in real files only every so manyth is played. */
#define ROUNDS 5
#define STEPS_MAX 80
#define GHOST_SALTS (UINT64_C(1) << 40) /* A ghost's commits differ from all others. */

/* What happened in all stories of a kind: none of it must be missing. */
struct tally {
  uint64_t lost;    /* Messages. */
  uint64_t doubled; /* Messages. */
  uint64_t refused; /* Appends. */
  uint64_t fenced;  /* Ghosts that learned it. */
  uint64_t limited; /* Appends that met the bound of what is pending. */
};

/* One story. */
struct story {
  struct kind_world world;      /* The log. */
  struct log_model ghost_model; /* What the ghost has appended. */
  struct cg_log *ghost;         /* The owner before, or NULL. */
  uint64_t ghost_position;      /* More than below this it must not acknowledge. */
  bool is_power_lost;           /* How this round ends when it ends badly. */
  bool is_told;                 /* Prints what happens. */
  struct tally *tally;          /* Of all stories. */
};

/* Notes what must survive the end of this round. */
static void note_acknowledged(struct story *story) {
  enum cg_durability durability = story->world.options.durability;
  bool is_file = story->world.kind <= KIND_WORLD_FILE_REAL;
  if (!is_file || durability == CG_DURABILITY_FSYNC ||
      (durability == CG_DURABILITY_OS && !story->is_power_lost))
    story->world.model.acknowledged_position = cg_log_durable_position(story->world.log);
}

static const char *open_log(struct story *story) {
  struct cg_err err;
  enum cg_code code = kind_world_open(&story->world, &err);
  if (code != CG_OK) {
    fprintf(stderr, "open: %s\n", err.message);
    return "the log could not be opened";
  }
  if (story->is_told)
    printf("open: %llu acknowledged, tail %llu\n",
           (unsigned long long)story->world.model.acknowledged_position,
           (unsigned long long)cg_log_next_position(story->world.log));
  return log_model_settle(&story->world.model);
}

/* Another owner takes the log over; the one before does not know it. */
static const char *take_over(struct story *story) {
  story->ghost = story->world.log;
  story->world.log = NULL;
  const char *fault = open_log(story);
  if (!fault)
    story->ghost_position = cg_log_next_position(story->world.log);
  if (story->is_told)
    printf("taken over at %llu\n", (unsigned long long)story->ghost_position);
  return fault;
}

static const char *step_ghost(struct story *story) {
  struct cg_err err;
  if (kind_world_random(&story->world, 3) == 0)
    log_model_append(&story->ghost_model, story->ghost, 2, 300, &err);
  cg_log_turn(story->ghost);
  if (cg_log_durable_position(story->ghost) > story->ghost_position)
    return "a fenced owner has acknowledged something";
  return NULL;
}

/* The end of a ghost: it learns that it is fenced, if it still wants anything. */
static const char *lay_ghost(struct story *story) {
  const char *fault = NULL;
  struct cg_err err;
  if (!kind_world_settle(&story->world, story->ghost))
    fault = "a fenced owner has never learned it";
  else if (cg_log_durable_position(story->ghost) > story->ghost_position)
    fault = "a fenced owner has acknowledged something";
  else if (cg_log_failed(story->ghost, &err) == CG_EFENCED)
    story->tally->fenced++;
  else if (cg_log_failed(story->ghost, &err) != CG_OK)
    fault = "a fenced owner has failed for another reason";
  cg_log_abandon(story->ghost);
  story->ghost = NULL;
  return fault;
}

static void append(struct story *story, uint32_t record_count, uint32_t data_max) {
  struct cg_err err;
  struct kind_world *world = &story->world;
  if (log_model_append(&world->model, world->log, record_count, data_max, &err) == CG_ELIMIT)
    story->tally->limited++;
}

/* Does one thing with the open log. */
static const char *step(struct story *story) {
  struct kind_world *world = &story->world;
  switch (kind_world_random(world, 9)) {
  case 0:
  case 1:
  case 2:
    cg_log_turn(world->log);
    break;
  case 3:
  case 4:
    cg_clock_virtual_advance(&world->clock, 1 + (int64_t)kind_world_random(world, 30));
    break;
  case 5: /* One large commit: over several sectors, or near the end of the segment. */
    append(story, 1, 20000);
    break;
  default:
    append(story, 1 + (uint32_t)kind_world_random(world, 4), 700);
  }
  const char *fault = kind_world_check(world);
  if (!fault && cg_log_failed(world->log, NULL) != CG_OK)
    fault = "the log has failed";
  if (!fault && story->ghost)
    fault = step_ghost(story);
  note_acknowledged(story);
  return fault;
}

/* Ends the round in one of the ways that the kind knows; the log may be open or not afterwards. */
static const char *end_round(struct story *story) {
  struct kind_world *world = &story->world;
  struct cg_err err;
  if (world->kind == KIND_WORLD_REMOTE && !story->ghost && kind_world_random(world, 2) == 0)
    return take_over(story);
  if (kind_world_random(world, 4) > 0) {
    kind_world_crash(world, story->is_power_lost);
    return NULL;
  }
  uint64_t end = cg_log_next_position(world->log);
  if (kind_world_close(world, &err) != CG_OK)
    return "the log could not be closed";
  world->model.acknowledged_position = end;
  return NULL;
}

static const char *play_round(struct story *story) {
  struct kind_world *world = &story->world;
  const char *fault = world->log ? NULL : open_log(story);
  if (!fault && kind_world_random(world, 8) == 0)
    fault = log_model_compare(&world->model, world->log);
  story->is_power_lost = kind_world_random(world, 2) == 0;
  uint64_t steps = kind_world_random(world, STEPS_MAX);
  for (uint64_t count = 0; count < steps && !fault; count++)
    fault = step(story);
  if (!fault && story->ghost && kind_world_random(world, 2) == 0)
    fault = lay_ghost(story);
  return fault ? fault : end_round(story);
}

/* How bad everything is in this story. */
static void set_scene(struct story *story) {
  struct kind_world *world = &story->world;
  if (kind_world_random(world, 3) == 0)
    world->options.durability = (enum cg_durability)kind_world_random(world, 3);
  if (kind_world_random(world, 3) == 0)
    world->options.pending_bytes_max = 3000;
  if (world->server && kind_world_random(world, 5) > 0)
    world->server->trouble = (struct remote_trouble){
        .lost = (unsigned)kind_world_random(world, 25),
        .doubled = (unsigned)kind_world_random(world, 25),
        .late = (unsigned)kind_world_random(world, 60),
        .late_ms = 1 + (unsigned)kind_world_random(world, 200),
        .disconnected = (unsigned)kind_world_random(world, 8),
    };
}

/* On a good network everything that was taken becomes durable. */
static const char *finish(struct story *story) {
  struct kind_world *world = &story->world;
  const char *fault = world->log ? NULL : open_log(story);
  if (fault)
    return fault;
  if (world->server)
    world->server->trouble = (struct remote_trouble){0};
  append(story, 1, 100);
  if (!kind_world_settle(world, world->log) || cg_log_failed(world->log, NULL) != CG_OK)
    return "not everything becomes durable";
  fault = kind_world_check(world);
  return fault ? fault : log_model_compare(&world->model, world->log);
}

/* Plays the story of a seed; NULL when all was well. */
static const char *play(enum kind_world_kind kind, uint64_t seed, bool is_told,
                        struct tally *tally) {
  struct story story = {.is_told = is_told, .tally = tally, .ghost_model.salts = GHOST_SALTS};
  kind_world_init(&story.world, kind, seed);
  set_scene(&story);
  const char *fault = NULL;
  for (int round = 0; round < ROUNDS && !fault; round++)
    fault = play_round(&story);
  if (!fault)
    fault = finish(&story);
  if (story.ghost && !fault)
    fault = lay_ghost(&story);
  else if (story.ghost)
    cg_log_abandon(story.ghost);
  if (story.world.server) {
    tally->lost += story.world.server->lost_count;
    tally->doubled += story.world.server->doubled_count;
    tally->refused += story.world.server->refused_count;
  }
  log_model_deinit(&story.ghost_model);
  kind_world_deinit(&story.world);
  return fault;
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_a_kind_keeps_the_contract_in_any_story(void **state) {
  enum kind_world_kind kind = *(enum kind_world_kind *)*state;
  struct tally tally = {0};
  bool is_one = getenv("CATGA_SEED") != NULL;
  uint64_t first = number_from("CATGA_SEED", 0);
  uint64_t count = is_one ? 1 : number_from("CATGA_SEEDS", SEEDS_DEFAULT);
  if (kind == KIND_WORLD_FILE_REAL && !is_one)
    count = (count + REAL_SEEDS_SHARE - 1) / REAL_SEEDS_SHARE;
  for (uint64_t seed = first; seed < first + count; seed++) {
    const char *fault = play(kind, seed, is_one, &tally);
    if (fault)
      fail_msg("%s, seed %llu: %s; again by CATGA_SEED=%llu", kind_world_name(kind),
               (unsigned long long)seed, fault, (unsigned long long)seed);
  }
  if (count < 100)
    return;
  assert_true(tally.limited > 0); /* The stories have been about something. */
  if (kind == KIND_WORLD_REMOTE)
    assert_true(tally.lost > 0 && tally.doubled > 0 && tally.refused > 0 && tally.fenced > 0);
}

int main(void) {
  static const enum kind_world_kind kinds[] = {KIND_WORLD_FILE, KIND_WORLD_FILE_REAL,
                                               KIND_WORLD_MEMORY, KIND_WORLD_REMOTE};
  const struct CMUnitTest tests[] = {
      {"test_a_kind_keeps_the_contract_in_any_story (file)",
       test_a_kind_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[0]},
      {"test_a_kind_keeps_the_contract_in_any_story (real file)",
       test_a_kind_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[1]},
      {"test_a_kind_keeps_the_contract_in_any_story (memory)",
       test_a_kind_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[2]},
      {"test_a_kind_keeps_the_contract_in_any_story (remote)",
       test_a_kind_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[3]},
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
