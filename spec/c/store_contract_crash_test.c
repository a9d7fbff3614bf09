/* store_contract_crash_test.c - the event store on any kind of log through any story of commits,
 * conflicts, crashes, bad networks and other owners.
 *
 * Each seed is a story. A model keeps all records in the order of their positions; after every
 * opening the store must hold a whole number of its commits, at least all that were acknowledged,
 * with the same versions, positions, bytes and open streams.
 * CATGA_SEEDS=n runs n stories a kind instead of 500; CATGA_SEED=n runs one of each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/store_world.h"

#define SEEDS_DEFAULT 500
#define REAL_SEEDS_SHARE 5 /* Of the stories in real files only every so manyth is played. */
#define ROUNDS 5
#define STEPS_MAX 60
#define STREAMS 9
#define RECORDS_MAX (ROUNDS * STEPS_MAX * 4 + 1)
#define TEXT_BYTES 24

/* A record that the store should hold, at the position of its place in the list, from 1. */
struct expected {
  uint32_t stream; /* Which. */
  uint32_t salt;   /* Its data comes from it. */
  uint16_t flags;  /* Whether it opens or closes the stream. */
  bool is_last;    /* Of its commit. */
};

/* What happened in all stories of a kind: none of it must be missing. */
struct tally {
  uint64_t committed;  /* Commits. */
  uint64_t conflicted; /* Commits refused for what they expected. */
  uint64_t limited;    /* Commits refused for what is pending. */
  uint64_t lost;       /* Commits that a crash took back. */
  uint64_t fenced;     /* Owners that learned it. */
};

/* One story. */
struct story {
  struct store_world world;             /* The store. */
  struct expected records[RECORDS_MAX]; /* What it should hold. */
  size_t count;                         /* How many. */
  uint32_t salts;                       /* Given out. */
  uint64_t acknowledged_position;       /* All below it must survive. */
  uint64_t counts[STREAMS];             /* Records of each stream. */
  bool is_power_lost;                   /* How this round ends when it ends badly. */
  struct tally *tally;                  /* Of all stories. */
};

static uint64_t pick(struct story *story, uint64_t bound) {
  return kind_world_random(&story->world.kind, bound);
}

static void name_of(uint32_t stream, char name[TEXT_BYTES]) {
  snprintf(name, TEXT_BYTES, "order-%u", stream);
}

static void text_of(uint32_t salt, char text[TEXT_BYTES]) {
  snprintf(text, TEXT_BYTES, "value %u", salt);
}

/* Counts the records of each stream. */
static void count_streams(struct story *story) {
  memset(story->counts, 0, sizeof(story->counts));
  for (size_t index = 0; index < story->count; index++)
    story->counts[story->records[index].stream]++;
}

/* --- comparing --- */

static const char *compare_record(struct story *story, uint64_t position, uint64_t version,
                                  struct cg_buf *buf) {
  const struct expected *expected = &story->records[position - 1];
  char name[TEXT_BYTES], text[TEXT_BYTES];
  name_of(expected->stream, name);
  text_of(expected->salt, text);
  cg_store_stream stream;
  cg_store_find(story->world.store, name, strlen(name), false, &stream, NULL);
  struct cg_record record;
  if (stream == CG_STORE_NO_STREAM ||
      cg_store_read(story->world.store, stream, version, buf, &record, NULL) != CG_OK)
    return "a record cannot be read";
  if (record.position != position || record.version != version)
    return "a record has another position or version";
  if (record.data_size != strlen(text) || memcmp(record.data, text, record.data_size) != 0 ||
      record.stream_size != strlen(name) || memcmp(record.stream, name, record.stream_size) != 0)
    return "a record has other bytes";
  return NULL;
}

/* Whether the store is as the model says; NULL when it is. */
static const char *compare(struct story *story) {
  uint64_t versions[STREAMS] = {0};
  bool is_open[STREAMS] = {false};
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  const char *fault = NULL;
  for (size_t index = 0; index < story->count && !fault; index++) {
    const struct expected *expected = &story->records[index];
    fault = compare_record(story, index + 1, versions[expected->stream]++, buf);
    if (expected->flags != 0)
      is_open[expected->stream] = expected->flags == CG_RECORD_OPENS;
  }
  cg_buf_unref(buf);
  for (uint32_t index = 0; index < STREAMS && !fault; index++) {
    char name[TEXT_BYTES];
    name_of(index, name);
    cg_store_stream stream;
    cg_store_find(story->world.store, name, strlen(name), false, &stream, NULL);
    if (store_world_count(&story->world, name) != versions[index])
      fault = "a stream has another count";
    else if (stream != CG_STORE_NO_STREAM &&
             cg_store_unfinished(story->world.store, stream) != is_open[index])
      fault = "a stream is open that should not be, or the other way round";
  }
  return fault;
}

/* After an opening: forgets the commits that did not come back. */
static const char *settle_model(struct story *story) {
  uint64_t next = cg_log_next_position(story->world.kind.log);
  if (next < story->acknowledged_position)
    return "an acknowledged commit is lost";
  if (next - 1 > story->count)
    return "there is more than was committed";
  if (next > 1 && !story->records[next - 2].is_last)
    return "only a part of a commit came back";
  for (size_t index = (size_t)next - 1; index < story->count; index++)
    story->tally->lost += story->records[index].is_last;
  story->count = (size_t)next - 1;
  story->acknowledged_position = next;
  count_streams(story);
  return compare(story);
}

static const char *open_store(struct story *story) {
  struct cg_err err;
  if (store_world_open(&story->world, &err) != CG_OK) {
    fprintf(stderr, "open: %s\n", err.message);
    return "the store could not be opened";
  }
  return settle_model(story);
}

/* --- doing --- */

/* What may be expected of a stream with `count` records; sets *holds. */
static int64_t pick_expected(struct story *story, uint64_t count, bool *holds) {
  switch (pick(story, 8)) {
  case 0:
    *holds = count == 0;
    return CG_STORE_NONE;
  case 1:
    *holds = count > 0;
    return CG_STORE_EXISTS;
  case 2:
    *holds = false;
    return (int64_t)count + (int64_t)pick(story, 3);
  case 3:
  case 4:
    *holds = count > 0;
    return count > 0 ? (int64_t)count - 1 : CG_STORE_EXISTS;
  default:
    *holds = true;
    return CG_STORE_ANY;
  }
}

/* Puts conditions on streams that the commit does not write (those above `written_end`). */
static bool put_conditions(struct story *story, uint32_t written_end, const char **fault) {
  for (uint64_t left = pick(story, 3); left > 0; left--) {
    uint32_t stream = written_end + (uint32_t)pick(story, STREAMS - written_end);
    char name[TEXT_BYTES];
    name_of(stream, name);
    bool holds;
    int64_t expected = pick_expected(story, story->counts[stream], &holds);
    enum cg_code code = cg_store_expect(story->world.store, name, strlen(name), expected, NULL);
    if (code != (holds ? CG_OK : CG_ECONFLICT))
      *fault = "a condition was judged wrongly";
    if (!holds || *fault)
      return false;
  }
  return true;
}

/* Adds records to streams below `written_end`, behind those of the model. */
static bool add_records(struct story *story, uint32_t written_end, uint64_t count,
                        const char **fault) {
  for (uint64_t index = 0; index < count; index++) {
    struct expected *record = &story->records[story->count + index];
    *record = (struct expected){.stream = (uint32_t)pick(story, written_end),
                                .salt = ++story->salts,
                                .is_last = index + 1 == count};
    static const uint16_t flags[] = {0, 0, 0, CG_RECORD_OPENS, CG_RECORD_CLOSES};
    record->flags = flags[pick(story, 5)];
    char name[TEXT_BYTES], text[TEXT_BYTES];
    name_of(record->stream, name);
    text_of(record->salt, text);
    bool holds;
    int64_t expected = pick_expected(story, story->counts[record->stream], &holds);
    enum cg_code code =
        store_world_add(&story->world, name, expected, text, record->flags, NULL, NULL);
    if (code != (holds ? CG_OK : CG_ECONFLICT))
      *fault = "what was expected was judged wrongly";
    if (!holds || *fault)
      return false;
    story->counts[record->stream]++;
  }
  return true;
}

/* One commit, which may be refused. */
static const char *commit(struct story *story) {
  uint32_t written_end = 1 + (uint32_t)pick(story, STREAMS - 1);
  uint64_t count = 1 + pick(story, 4), first, next = cg_log_next_position(story->world.kind.log);
  const char *fault = NULL;
  struct cg_err err;
  cg_store_begin(story->world.store);
  if (!put_conditions(story, written_end, &fault) ||
      !add_records(story, written_end, count, &fault) || pick(story, 10) == 0) {
    cg_store_rollback(story->world.store);
    count_streams(story);
    story->tally->conflicted++;
    return fault;
  }
  enum cg_code code = cg_store_commit(story->world.store, &first, &err);
  if (code == CG_OK && first == next) {
    story->count += count;
    story->tally->committed++;
    return NULL;
  }
  count_streams(story);
  if (code != CG_ELIMIT)
    return "a commit was refused that should not be, or has another position";
  story->tally->limited++;
  return NULL;
}

static const char *step(struct story *story) {
  struct store_world *world = &story->world;
  const char *fault = NULL;
  switch (pick(story, 6)) {
  case 0:
    cg_clock_virtual_advance(&world->kind.clock, 1 + (int64_t)pick(story, 30));
    break;
  case 1:
  case 2:
    cg_log_turn(world->kind.log);
    break;
  default:
    fault = commit(story);
  }
  uint64_t position = cg_log_durable_position(world->kind.log);
  if (position > 1 && !story->records[position - 2].is_last)
    return "the durable position is inside a commit";
  story->acknowledged_position = position;
  if (cg_log_failed(world->kind.log, NULL) != CG_OK)
    return "the log has failed";
  return fault ? fault : world->kind.fault;
}

/* Another program takes the store over. The one before may work on for a while, and acknowledges
 * nothing that the new one has not found. */
static const char *take_over(struct story *story) {
  struct cg_store *ghost = story->world.store;
  const char *fault = open_store(story);
  if (fault)
    return fault;
  uint64_t position = cg_log_next_position(story->world.kind.log);
  struct cg_log *log = cg_store_log(ghost);
  if (!kind_world_settle(&story->world.kind, log))
    fault = "a fenced owner has never learned it";
  else if (cg_log_durable_position(log) > position)
    fault = "a fenced owner has acknowledged something";
  story->tally->fenced += cg_log_failed(log, NULL) == CG_EFENCED;
  cg_store_abandon(ghost);
  return fault;
}

static const char *play_round(struct story *story) {
  struct store_world *world = &story->world;
  const char *fault = world->store ? NULL : open_store(story);
  story->is_power_lost = pick(story, 2) == 0;
  uint64_t steps = pick(story, STEPS_MAX);
  for (uint64_t count = 0; count < steps && !fault; count++)
    fault = step(story);
  if (!fault && pick(story, 3) == 0)
    fault = compare(story);
  if (fault)
    return fault;
  if (world->kind.kind == KIND_WORLD_REMOTE && pick(story, 2) == 0)
    return take_over(story);
  if (pick(story, 4) > 0) {
    store_world_crash(world, story->is_power_lost);
    return NULL;
  }
  story->acknowledged_position = cg_log_next_position(world->kind.log);
  return store_world_close(world, NULL) == CG_OK ? NULL : "the store could not be closed";
}

static const char *play(enum kind_world_kind kind, uint64_t seed, struct tally *tally) {
  struct story *story = calloc(1, sizeof(*story));
  assert_non_null(story);
  story->tally = tally;
  story->acknowledged_position = 1;
  store_world_init(&story->world, kind, seed);
  if (pick(story, 3) == 0)
    story->world.kind.options.pending_bytes_max = 600;
  if (story->world.kind.server && pick(story, 5) > 0)
    story->world.kind.server->trouble = (struct remote_trouble){
        .lost = (unsigned)pick(story, 25),
        .doubled = (unsigned)pick(story, 25),
        .late = (unsigned)pick(story, 60),
        .late_ms = 1 + (unsigned)pick(story, 200),
        .disconnected = (unsigned)pick(story, 8),
    };
  const char *fault = NULL;
  for (int round = 0; round < ROUNDS && !fault; round++)
    fault = play_round(story);
  if (!fault && !story->world.store)
    fault = open_store(story);
  if (!fault &&
      (!store_world_settle(&story->world) || cg_log_failed(story->world.kind.log, NULL) != CG_OK))
    fault = "not everything becomes durable";
  if (!fault)
    fault = compare(story);
  store_world_deinit(&story->world);
  free(story);
  return fault;
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_a_store_keeps_the_contract_in_any_story(void **state) {
  enum kind_world_kind kind = *(enum kind_world_kind *)*state;
  struct tally tally = {0};
  bool is_one = getenv("CATGA_SEED") != NULL;
  uint64_t first = number_from("CATGA_SEED", 0);
  uint64_t count = is_one ? 1 : number_from("CATGA_SEEDS", SEEDS_DEFAULT);
  if (kind == KIND_WORLD_FILE_REAL && !is_one)
    count = (count + REAL_SEEDS_SHARE - 1) / REAL_SEEDS_SHARE;
  for (uint64_t seed = first; seed < first + count; seed++) {
    const char *fault = play(kind, seed, &tally);
    if (fault)
      fail_msg("%s, seed %llu: %s; again by CATGA_SEED=%llu", kind_world_name(kind),
               (unsigned long long)seed, fault, (unsigned long long)seed);
  }
  if (count < 100)
    return;
  assert_true(tally.committed > 0 && tally.conflicted > 0 && tally.limited > 0 && tally.lost > 0);
  if (kind == KIND_WORLD_REMOTE)
    assert_true(tally.fenced > 0);
}

int main(void) {
  static const enum kind_world_kind kinds[] = {KIND_WORLD_FILE, KIND_WORLD_FILE_REAL,
                                               KIND_WORLD_MEMORY, KIND_WORLD_REMOTE};
  const struct CMUnitTest tests[] = {
      {"test_a_store_keeps_the_contract_in_any_story (file)",
       test_a_store_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[0]},
      {"test_a_store_keeps_the_contract_in_any_story (real file)",
       test_a_store_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[1]},
      {"test_a_store_keeps_the_contract_in_any_story (memory)",
       test_a_store_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[2]},
      {"test_a_store_keeps_the_contract_in_any_story (remote)",
       test_a_store_keeps_the_contract_in_any_story, NULL, NULL, (void *)&kinds[3]},
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
