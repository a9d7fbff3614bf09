/* index_world.c - a store on a simulated disk, and what it should hold.
 *
 * The bytes of a record follow from its stream, version and filler, so that any mix-up is noticed.
 * Owns: see index_world.h. Thread: one. */
#include "support/index_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#define START_MS INT64_C(1767225600000)
#define FILLER_MAX 500

struct index_world *index_world_new(uint64_t seed) {
  struct index_world *world = cg_alloc(sizeof(*world));
  world->sim = sim_fs_new(seed);
  world->fs = *sim_fs_calls(world->sim);
  world->clock = (struct cg_clock_virtual){.wall_ms = START_MS};
  world->options = (struct cg_store_options){.path = "/data", .seed = 1, .replayed_max = 2};
  world->options.log.fs = &world->fs;
  world->options.log.clock = cg_clock_of(&world->clock);
  world->options.log.segment_bytes = 64 << 10;
  world->options.log.handles_max = 4;
  world->options.log.nonce_seed = seed;
  world->options.log.manual = true;
  index_world_open(world);
  return world;
}

void index_world_free(struct index_world *world) {
  if (world->store != NULL)
    cg_store_abandon(world->store);
  sim_fs_free(world->sim);
  cg_free(world);
}

void index_world_open(struct index_world *world) {
  struct cg_err err;
  if (cg_store_open(&world->store, &world->options, &err) != CG_OK)
    fail_msg("open: %s", err.message);
  index_world_settle(world);
  if (world->is_rewriting)
    index_world_rewritten(world, NULL);
  world->is_rewriting = false;
}

void index_world_close(struct index_world *world) {
  assert_int_equal(cg_store_close(world->store, NULL), CG_OK);
  world->durable_count = world->count;
  world->store = NULL;
}

void index_world_kill(struct index_world *world) {
  cg_store_abandon(world->store);
  world->store = NULL;
  sim_fs_kill(world->sim);
}

void index_world_crash(struct index_world *world) {
  cg_store_abandon(world->store);
  world->store = NULL;
  sim_fs_crash(world->sim);
}

void index_world_settle(struct index_world *world) {
  uint64_t next = cg_log_next_position(cg_store_log(world->store));
  assert_true(next > world->durable_count && next <= (uint64_t)world->count + 1);
  world->count = world->durable_count = (uint32_t)next - 1;
}

size_t index_world_name(uint32_t stream, char name[64]) {
  static const char *const categories[] = {"Order", "Process", "$outcome", "a\xff"};
  return (size_t)snprintf(name, 64, "%s-%u", categories[stream % 4], stream * 7919 % 10007);
}

/* The data of a record. */
static void write_data(const struct index_world_record *record, struct cg_buf *buf) {
  char text[64];
  int size = snprintf(text, sizeof(text), "%u of %u;", record->version, record->stream);
  cg_buf_append(buf, text, (size_t)size);
  memset(cg_buf_room(buf, record->filler), 'a' + record->version % 26, record->filler);
  buf->size += record->filler;
}

/* How many records a stream has in the model, and whether it is unfinished. */
static uint32_t count_of(const struct index_world *world, uint32_t stream, bool *is_unfinished) {
  uint32_t count = 0;
  *is_unfinished = false;
  for (uint32_t i = 0; i < world->count; i++) {
    if (world->records[i].stream != stream)
      continue;
    count++;
    if ((world->records[i].flags & CG_RECORD_OPENS) != 0)
      *is_unfinished = true;
    if ((world->records[i].flags & CG_RECORD_CLOSES) != 0)
      *is_unfinished = false;
  }
  return count;
}

static cg_store_stream find(struct index_world *world, uint32_t stream, bool make) {
  char name[64];
  cg_store_stream number;
  struct cg_err err;
  enum cg_code code =
      cg_store_find(world->store, name, index_world_name(stream, name), make, &number, &err);
  if (code != CG_OK && code != CG_ENOTFOUND)
    fail_msg("find: %s", err.message);
  return number;
}

/* Adds one record to the commit under way. */
static void add(struct index_world *world, uint32_t index) {
  struct index_world_record *record = &world->records[index];
  record->is_gone = record->is_leaving = false;
  uint64_t chance = sim_fs_random(world->sim, 10);
  bool is_new = world->stream_count < 10000 && chance < 4;
  record->stream = is_new ? world->stream_count++
                          : (uint32_t)sim_fs_random(world->sim, world->stream_count + 1) %
                                (sim_fs_random(world->sim, 4) == 0 ? 10000 : INDEX_WORLD_STREAMS);
  if (record->stream >= world->stream_count)
    world->stream_count = record->stream + 1;
  cg_store_stream number = find(world, record->stream, true);
  record->version = (uint32_t)cg_store_count(world->store, number);
  record->flags = chance == 3 ? CG_RECORD_OPENS : chance == 4 || chance == 5 ? CG_RECORD_CLOSES : 0;
  record->filler = (uint16_t)sim_fs_random(world->sim, FILLER_MAX);
  struct cg_store_event event = {.stream = number,
                                 .expected = record->version == 0 ? CG_STORE_NONE
                                                                  : (int64_t)record->version - 1,
                                 .type = "Happened",
                                 .type_size = 8,
                                 .flags = record->flags,
                                 .time_ms = world->clock.wall_ms};
  struct cg_buf *data = NULL;
  struct cg_err err;
  if (cg_store_new_id(world->store, &event.id, &err) != CG_OK ||
      cg_store_add(world->store, &event, &data, &err) != CG_OK)
    fail_msg("add: %s", err.message);
  write_data(record, data);
  assert_int_equal(cg_store_added(world->store), record->version);
}

void index_world_commit(struct index_world *world) {
  uint32_t count = 1 + (uint32_t)sim_fs_random(world->sim, 3);
  assert_true(world->count + count <= INDEX_WORLD_RECORDS);
  cg_store_begin(world->store);
  for (uint32_t i = 0; i < count; i++)
    add(world, world->count + i);
  uint64_t first;
  struct cg_err err;
  if (cg_store_commit(world->store, &first, &err) != CG_OK)
    fail_msg("commit: %s", err.message);
  assert_int_equal(first, world->count + 1);
  world->count += count;
}

uint32_t index_world_seals(struct index_world *world) {
  const struct cg_log_seal *seals;
  return cg_log_seals(cg_store_log(world->store), &seals);
}

void index_world_fill(struct index_world *world, uint32_t seal_count) {
  while (index_world_seals(world) < seal_count) {
    index_world_commit(world);
    cg_log_turn(cg_store_log(world->store));
  }
  index_world_sync(world);
}

void index_world_sync(struct index_world *world) {
  while (cg_log_turn(cg_store_log(world->store)))
    ;
  if (cg_log_failed(cg_store_log(world->store), NULL) == CG_OK)
    world->durable_count = world->count;
}

void index_world_turn(struct index_world *world) {
  for (int turn = 0; cg_store_turn(world->store); turn++)
    assert_true(turn < 100000);
}

/* --- rewriting --- */

static bool on_keep(void *arg, const struct cg_record *record) {
  struct index_world *world = arg;
  return !world->records[record->position - 1].is_leaving;
}

/* Whether there is a younger record of its stream. */
static bool has_successor(const struct index_world *world, uint32_t index) {
  for (uint32_t i = index + 1; i < world->count; i++)
    if (world->records[i].stream == world->records[index].stream)
      return true;
  return false;
}

enum cg_code index_world_rewrite(struct index_world *world, uint32_t number, uint32_t of_ten,
                                 struct cg_err *err) {
  index_world_sync(world);
  const struct cg_log_seal *seals;
  cg_log_seals(cg_store_log(world->store), &seals);
  struct cg_log_seal seal = seals[number];
  for (uint64_t position = seal.first_position; position < seal.end_position; position++) {
    struct index_world_record *record = &world->records[position - 1];
    record->is_leaving = sim_fs_random(world->sim, 10) < of_ten &&
                         (record->flags & (CG_RECORD_OPENS | CG_RECORD_CLOSES)) == 0 &&
                         has_successor(world, (uint32_t)position - 1);
  }
  struct cg_log_rewrite rewrite = {.keep = on_keep, .arg = world, .nonce_seed = seal.nonce + 1u};
  enum cg_code code = cg_store_rewrite(world->store, number, &rewrite, err);
  world->is_rewriting = code == CG_OK;
  world->old_seal = seal;
  return code;
}

enum cg_code index_world_rewritten(struct index_world *world, struct cg_err *err) {
  const struct cg_log_seal *seals;
  enum cg_code code = CG_END;
  struct cg_log_seal old = world->old_seal;
  if (cg_log_seals(cg_store_log(world->store), &seals) > old.number &&
      seals[old.number].nonce != old.nonce)
    for (uint64_t position = old.first_position; position < old.end_position; position++)
      world->records[position - 1].is_gone |= world->records[position - 1].is_leaving;
  if (cg_store_rewritten(world->store, &code, err))
    world->is_rewriting = false;
  return code;
}

/* --- comparing --- */

/* A buffer that is made again when it is asked for the first time. */
static void check_record(struct index_world *world, cg_store_stream number,
                         const struct index_world_record *record, uint64_t position) {
  struct cg_buf *buf = cg_buf_take(NULL, 0), *wanted = cg_buf_take(NULL, 0);
  struct cg_record found;
  struct cg_err err;
  enum cg_code code = cg_store_read(world->store, number, record->version, buf, &found, &err);
  if (record->is_gone) {
    assert_int_equal(code, CG_ENOTFOUND);
    cg_buf_unref(wanted);
    cg_buf_unref(buf);
    return;
  }
  if (code != CG_OK)
    fail_msg("read version %u of stream %u: %s", record->version, record->stream, err.message);
  write_data(record, wanted);
  assert_int_equal(found.position, position);
  assert_int_equal(found.version, record->version);
  assert_int_equal(found.data_size, wanted->size);
  assert_memory_equal(found.data, wanted->data, wanted->size);
  cg_buf_unref(wanted);
  cg_buf_unref(buf);
}

static void check_stream(struct index_world *world, uint32_t stream) {
  bool is_unfinished;
  uint32_t count = count_of(world, stream, &is_unfinished);
  cg_store_stream number = find(world, stream, false);
  if (count == 0) {
    assert_true(number == CG_STORE_NO_STREAM || cg_store_count(world->store, number) == 0);
    return;
  }
  assert_true(number != CG_STORE_NO_STREAM);
  assert_int_equal(cg_store_count(world->store, number), count);
  assert_int_equal(cg_store_unfinished(world->store, number), is_unfinished);
  uint64_t from = sim_fs_random(world->sim, count), version, next = count, before = count;
  for (uint32_t i = 0; i < world->count; i++) {
    const struct index_world_record *record = &world->records[i];
    if (record->stream != stream)
      continue;
    check_record(world, number, record, i + 1);
    if (!record->is_gone && record->version <= from)
      before = record->version;
    if (!record->is_gone && record->version >= from && next == count)
      next = record->version;
  }
  assert_int_equal(cg_store_seek(world->store, number, from, false, &version, NULL), CG_OK);
  assert_int_equal(version, next);
  enum cg_code code = cg_store_seek(world->store, number, from, true, &version, NULL);
  assert_int_equal(code, before == count ? CG_END : CG_OK);
  if (code == CG_OK)
    assert_int_equal(version, before);
  assert_int_equal(cg_store_seek(world->store, number, from + count, true, &version, NULL), CG_OK);
  assert_int_equal(version, count - 1);
  assert_int_equal(cg_store_seek(world->store, number, count, false, &version, NULL), CG_END);
}

/* Names that the store gave, in order. */
struct names {
  char (*items)[64]; /* Zero-terminated. */
  uint32_t count;    /* How many. */
};

static bool on_name(void *arg, const char *name, size_t size) {
  struct names *names = arg;
  memcpy(names->items[names->count], name, size);
  names->items[names->count++][size] = 0;
  return true;
}

static int compare_names(const void *left, const void *right) {
  return strcmp(left, right);
}

static void check_names(struct index_world *world) {
  static const char *const prefixes[] = {"", "Order-", "Process-1", "a\xff", "b", "$"};
  const char *prefix = prefixes[sim_fs_random(world->sim, 6)];
  struct names wanted = {.items = cg_alloc(10000 * 64)}, found = {.items = cg_alloc(10000 * 64)};
  bool is_unfinished;
  for (uint32_t stream = 0; stream < world->stream_count; stream++) {
    char *name = wanted.items[wanted.count];
    index_world_name(stream, name);
    if (strncmp(name, prefix, strlen(prefix)) == 0 && count_of(world, stream, &is_unfinished) > 0)
      wanted.count++;
  }
  qsort(wanted.items, wanted.count, 64, compare_names);
  struct cg_store_page page = {.prefix = prefix,
                               .prefix_size = strlen(prefix),
                               .max = 1 + (uint32_t)sim_fs_random(world->sim, 300)};
  for (uint32_t before = 1; before != found.count;) {
    before = found.count;
    page.after = before > 0 ? found.items[before - 1] : "";
    page.after_size = strlen(page.after);
    assert_int_equal(cg_store_streams(world->store, &page, on_name, &found, NULL), CG_OK);
    assert_true(found.count - before <= page.max);
  }
  assert_int_equal(found.count, wanted.count);
  for (uint32_t i = 0; i < wanted.count; i++)
    assert_string_equal(found.items[i], wanted.items[i]);
  cg_free(wanted.items);
  cg_free(found.items);
}

/* Reads on by position from a place. */
static void check_positions(struct index_world *world) {
  struct cg_log *log = cg_store_log(world->store);
  uint64_t after = sim_fs_random(world->sim, (uint64_t)world->count + 1);
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, after);
  struct cg_record record;
  for (uint64_t position = after + 1; position <= world->count && position < after + 50;
       position++) {
    if (world->records[position - 1].is_gone)
      continue;
    struct cg_err err;
    if (cg_log_cursor_next(cursor, cg_log_next_position(log), &record, &err) != CG_OK)
      fail_msg("cursor: %s", err.message);
    assert_int_equal(record.position, position);
    assert_int_equal(record.version, world->records[position - 1].version);
  }
  cg_log_cursor_free(cursor);
}

void index_world_check_some(struct index_world *world, uint32_t stream_count) {
  for (uint32_t i = 0; i < stream_count && world->stream_count > 0; i++)
    check_stream(world, (uint32_t)sim_fs_random(world->sim, world->stream_count + 3));
  check_positions(world);
}

void index_world_check(struct index_world *world) {
  for (uint32_t stream = 0; stream < world->stream_count + 3; stream++)
    check_stream(world, stream);
  check_names(world);
  for (int i = 0; i < 5; i++)
    check_positions(world);
}

/* --- files --- */

void index_world_each_table(struct index_world *world, cg_fs_name_fn each, void *arg) {
  world->fs.list(world->fs.arg, "/data/index", each, arg);
}

static int count_one(void *arg, const char *name) {
  (void)name;
  ++*(uint32_t *)arg;
  return 0;
}

uint32_t index_world_table_count(struct index_world *world) {
  uint32_t count = 0;
  index_world_each_table(world, count_one, &count);
  return count;
}
