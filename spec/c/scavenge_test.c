/* scavenge_test.c - what goes of a segment: against a model of every record, and in the file that
 * is written by the decisions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/scavenge.h"
#include "support/sim_fs.h"

#define STREAM_COUNT 40u
#define RECORDS_MAX 4000u

/* One record of the log. */
struct known {
  uint32_t stream;  /* Which. */
  uint64_t version; /* In it. */
  int64_t time_ms;  /* Of it. */
  uint64_t size;    /* Bytes as they are counted. */
};

/* A log and what is in it. */
struct world {
  struct sim_fs *sim;                     /* The disk. */
  struct cg_log *log;                     /* On it. */
  struct known known[RECORDS_MAX];        /* By position - 1. */
  uint64_t count;                         /* How many. */
  uint64_t versions[STREAM_COUNT];        /* Next version of each stream. */
  struct cg_retention kept[STREAM_COUNT]; /* What was decided. */
  uint64_t next_position;                 /* The next one that a scan may give. */
};

static void name_of(uint32_t stream, char name[16]) {
  snprintf(name, 16, "S-%u", stream);
}

static void append(struct world *world, uint32_t stream, int64_t time_ms) {
  char name[16], data[400] = {0};
  name_of(stream, name);
  struct cg_record record = {.version = world->versions[stream]++,
                             .time_ms = time_ms,
                             .id = world->count + 1,
                             .stream = name,
                             .stream_size = (uint16_t)strlen(name),
                             .type = "T",
                             .type_size = 1,
                             .data = (const uint8_t *)data,
                             .data_size = (uint32_t)sim_fs_random(world->sim, sizeof(data))};
  struct cg_buf *buf = cg_buf_take(NULL, 1024);
  cg_record_append(buf, &record);
  cg_log_place place;
  struct cg_err err;
  if (cg_log_append(world->log, buf->data, buf->size, 1, cg_log_next_position(world->log), &place,
                    &err) != CG_OK)
    fail_msg("%s", err.message);
  assert_true(world->count < RECORDS_MAX);
  world->known[world->count++] = (struct known){
      .stream = stream, .version = record.version, .time_ms = time_ms, .size = buf->size};
  cg_buf_unref(buf);
}

static uint32_t seal_count(struct world *world) {
  const struct cg_log_seal *seals;
  return cg_log_seals(world->log, &seals);
}

static void begin(struct world *world, uint64_t seed) {
  *world = (struct world){.sim = sim_fs_new(seed)};
  struct cg_log_options options = {.fs = sim_fs_calls(world->sim),
                                   .segment_bytes = 64 << 10,
                                   .nonce_seed = seed + 1,
                                   .manual = true};
  assert_int_equal(cg_log_open_file(&world->log, "/log", &options, NULL), CG_OK);
  for (int64_t time_ms = 1000; seal_count(world) < 3; time_ms += 10) {
    append(world, (uint32_t)sim_fs_random(world->sim, STREAM_COUNT), time_ms);
    cg_log_turn(world->log);
  }
}

static void end(struct world *world) {
  cg_log_abandon(world->log);
  sim_fs_free(world->sim);
}

static struct cg_log_seal seal_of(struct world *world, uint32_t number) {
  const struct cg_log_seal *seals;
  assert_true(number < cg_log_seals(world->log, &seals));
  return seals[number];
}

static struct cg_scavenge *survey(struct world *world, const struct cg_log_seal *seal,
                                  uint32_t step) {
  struct cg_scavenge *scavenge = cg_scavenge_new(world->log, seal);
  bool is_done = false;
  while (!is_done)
    assert_int_equal(cg_scavenge_survey(scavenge, step, &is_done, NULL), CG_OK);
  return scavenge;
}

static struct cg_scavenge_weight weigh(struct cg_scavenge *scavenge, uint32_t step) {
  bool is_done = false;
  while (!is_done)
    assert_int_equal(cg_scavenge_weigh(scavenge, step, &is_done, NULL), CG_OK);
  struct cg_scavenge_weight weight;
  cg_scavenge_weight(scavenge, &weight);
  return weight;
}

/* Whether the model keeps a record, in other words than the code under test. */
static bool keeps(const struct world *world, const struct known *known) {
  const struct cg_retention *kept = &world->kept[known->stream];
  bool is_old = known->time_ms < kept->since_ms, is_low = known->version < kept->first_version;
  if (!is_old && !is_low)
    return true;
  return known->version == kept->kept_version || (kept->keeps_first && known->version == 0);
}

static struct cg_scavenge_weight expected(const struct world *world,
                                          const struct cg_log_seal *seal) {
  struct cg_scavenge_weight weight = {0};
  for (uint64_t position = seal->first_position; position < seal->end_position; position++) {
    const struct known *known = &world->known[position - 1];
    weight.record_count++;
    weight.record_bytes += known->size;
    weight.dropped_count += !keeps(world, known);
    weight.dropped_bytes += keeps(world, known) ? 0 : known->size;
  }
  return weight;
}

static void decide_all(struct world *world, struct cg_scavenge *scavenge) {
  for (uint32_t place = 0; place < cg_scavenge_stream_count(scavenge); place++) {
    size_t size;
    const char *name = cg_scavenge_name(scavenge, place, &size);
    char text[16];
    snprintf(text, sizeof(text), "%.*s", (int)size, name);
    cg_scavenge_decide(scavenge, place, &world->kept[strtoul(text + 2, NULL, 10)]);
  }
}

static void random_retention(struct world *world) {
  for (uint32_t stream = 0; stream < STREAM_COUNT; stream++) {
    struct cg_retention *kept = &world->kept[stream];
    uint64_t last = world->versions[stream];
    *kept = (struct cg_retention){.kept_version = CG_RETENTION_NO_VERSION};
    if (sim_fs_random(world->sim, 3) == 0)
      continue;
    kept->first_version = sim_fs_random(world->sim, last + 2);
    if (sim_fs_random(world->sim, 2) == 0)
      kept->since_ms = 1000 + (int64_t)sim_fs_random(world->sim, world->count * 10);
    if (sim_fs_random(world->sim, 4) > 0 && last > 0)
      kept->kept_version = last - 1;
    kept->keeps_first = sim_fs_random(world->sim, 3) == 0;
  }
}

static void finds_the_streams_of_a_segment(void **state) {
  (void)state;
  struct world world;
  begin(&world, 1);
  for (uint32_t number = 0; number < 3; number++) {
    struct cg_log_seal seal = seal_of(&world, number);
    bool is_there[STREAM_COUNT] = {false};
    uint32_t count = 0;
    for (uint64_t position = seal.first_position; position < seal.end_position; position++) {
      bool *mark = &is_there[world.known[position - 1].stream];
      count += !*mark;
      *mark = true;
    }
    for (uint32_t step = 1; step < 1000; step *= 7) {
      struct cg_scavenge *scavenge = survey(&world, &seal, step);
      assert_int_equal(cg_scavenge_stream_count(scavenge), count);
      assert_false(cg_scavenge_may_drop(scavenge));
      struct cg_scavenge_weight weight = weigh(scavenge, step);
      assert_int_equal(weight.record_count, seal.end_position - seal.first_position);
      assert_int_equal(weight.dropped_count, 0);
      cg_scavenge_free(scavenge);
    }
  }
  cg_scavenge_free(NULL);
  end(&world);
}

static void one_step_sees_no_more_than_it_may(void **state) {
  (void)state;
  struct world world;
  begin(&world, 2);
  struct cg_log_seal seal = seal_of(&world, 1);
  struct cg_scavenge *scavenge = cg_scavenge_new(world.log, &seal);
  bool is_done = true;
  assert_int_equal(cg_scavenge_survey(scavenge, 1, &is_done, NULL), CG_OK);
  assert_false(is_done);
  assert_int_equal(cg_scavenge_stream_count(scavenge), 1);
  cg_scavenge_free(scavenge); /* In the middle. */
  end(&world);
}

static bool see_scanned(void *arg, const struct cg_record *record, cg_log_place place) {
  struct world *world = arg;
  (void)place;
  while (!keeps(world, &world->known[world->next_position - 1]))
    world->next_position++;
  const struct known *known = &world->known[world->next_position - 1];
  if (record->position != world->next_position || record->version != known->version)
    return false;
  world->next_position++;
  return true;
}

static void drops_what_the_decisions_say(void **state) {
  (void)state;
  for (uint64_t seed = 10; seed < 60; seed++) {
    struct world world;
    begin(&world, seed);
    random_retention(&world);
    uint32_t number = (uint32_t)sim_fs_random(world.sim, 3);
    struct cg_log_seal seal = seal_of(&world, number);
    struct cg_scavenge *scavenge = survey(&world, &seal, 100);
    decide_all(&world, scavenge);
    struct cg_scavenge_weight weight = weigh(scavenge, 100), model = expected(&world, &seal);
    assert_memory_equal(&weight, &model, sizeof(weight));
    if (model.dropped_count > 0)
      assert_true(cg_scavenge_may_drop(scavenge));

    struct cg_log_rewrite rewrite = {
        .keep = cg_scavenge_keeps, .arg = scavenge, .nonce_seed = seed};
    struct cg_err err;
    if (cg_log_rewrite("/log", sim_fs_calls(world.sim), &seal, &rewrite, &err) != CG_OK ||
        cg_log_replace(world.log, &seal, &err) != CG_OK)
      fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
    cg_scavenge_free(scavenge);
    world.next_position = seal.first_position;
    struct cg_log_scan scan = {.record = see_scanned, .arg = &world};
    if (cg_log_scan("/log", sim_fs_calls(world.sim), &seal, &scan, &err) != CG_OK)
      fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
    while (world.next_position < seal.end_position)
      assert_false(keeps(&world, &world.known[world.next_position++ - 1]));

    /* Once more: nothing is left to go. */
    scavenge = survey(&world, &seal, 7);
    decide_all(&world, scavenge);
    weight = weigh(scavenge, 7);
    assert_int_equal(weight.record_count, model.record_count - model.dropped_count);
    assert_int_equal(weight.dropped_count, 0);
    cg_scavenge_free(scavenge);
    end(&world);
  }
}

static void a_damaged_segment_is_an_error(void **state) {
  (void)state;
  struct world world;
  begin(&world, 3);
  struct cg_log_seal seal = seal_of(&world, 0);
  size_t size;
  uint8_t *bytes = sim_fs_bytes(world.sim, "/log/segment-0000000000.log", &size);
  bytes[30000] ^= 1;
  struct cg_scavenge *scavenge = cg_scavenge_new(world.log, &seal);
  bool is_done = false;
  struct cg_err err;
  enum cg_code code = CG_OK;
  while (code == CG_OK && !is_done)
    code = cg_scavenge_survey(scavenge, 50, &is_done, &err);
  assert_int_equal(code, CG_ECORRUPT);
  assert_non_null(strstr(err.message, "segment-0000000000.log"));
  cg_scavenge_free(scavenge);
  end(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(finds_the_streams_of_a_segment),
      cmocka_unit_test(one_step_sees_no_more_than_it_may),
      cmocka_unit_test(drops_what_the_decisions_say),
      cmocka_unit_test(a_damaged_segment_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
