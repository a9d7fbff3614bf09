/* store_model.c - an event store on a simulated disk, and a model of it: commits and restarts. What
 * compares the two is in store_model_check.c.
 *
 * Owns: see store_model.h. Thread: one. */
#include "support/store_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/store_model_bytes.h"

#define START_MS INT64_C(1767225600000)
#define HOT_STREAMS 40 /* That most records go to. */
#define CACHED_MAX 60  /* Streams in memory, at most of the most. */

struct store_model *store_model_new(uint64_t seed) {
  struct store_model *model = cg_alloc(sizeof(*model));
  memset(model, 0, sizeof(*model));
  model->sim = sim_fs_new(seed);
  model->clock = (struct cg_clock_virtual){.wall_ms = START_MS};
  model->options = (struct cg_store_options){.path = "/data", .seed = seed, .replayed_max = 2};
  model->options.log.fs = sim_fs_calls(model->sim);
  model->options.log.clock = cg_clock_of(&model->clock);
  model->options.log.segment_bytes = 64 << 10;
  model->options.log.handles_max = 2 + store_model_random(model, 6);
  model->options.log.nonce_seed = seed;
  model->options.log.manual = true;
  store_model_open(model);
  return model;
}

void store_model_free(struct store_model *model) {
  if (model->store != NULL)
    cg_store_abandon(model->store);
  for (uint32_t stream = 0; stream < STORE_MODEL_STREAMS; stream++)
    cg_free(model->streams[stream].positions);
  sim_fs_free(model->sim);
  cg_free(model);
}

uint32_t store_model_random(struct store_model *model, uint32_t bound) {
  return (uint32_t)sim_fs_random(model->sim, bound);
}

uint32_t store_model_any_stream(struct store_model *model) {
  bool is_hot = store_model_random(model, 10) < 7;
  return store_model_random(model, is_hot ? HOT_STREAMS : STORE_MODEL_STREAMS);
}

size_t store_model_name(uint32_t stream, char name[STORE_MODEL_NAME_BYTES]) {
  static const char *const categories[] = {"Order", "Process", "$outcome", "a\xff", "Order-1"};
  size_t size = (size_t)snprintf(name, STORE_MODEL_NAME_BYTES, "%s-%u", categories[stream % 5],
                                 stream * 7919 % 10007);
  if (stream % 17 == 0) { /* A long one. */
    memset(name + size, 'n', STORE_MODEL_NAME_BYTES - 1 - size);
    size = STORE_MODEL_NAME_BYTES - 1;
    name[size] = 0;
  }
  return size;
}

cg_store_stream store_model_find(struct store_model *model, uint32_t stream, bool make) {
  char name[STORE_MODEL_NAME_BYTES];
  cg_store_stream number;
  struct cg_err err;
  enum cg_code code =
      cg_store_find(model->store, name, store_model_name(stream, name), make, &number, &err);
  if (code != CG_OK && code != CG_ENOTFOUND)
    fail_msg("find %s: %s", name, err.message);
  assert_int_equal(code == CG_OK, number != CG_STORE_NO_STREAM);
  if (code == CG_OK)
    model->streams[stream].number = number;
  return number;
}

/* --- commits --- */

bool store_model_add(struct store_model *model, struct store_model_record *record, uint32_t count,
                     int64_t expected, bool is_right) {
  static const uint16_t flags[8] = {CG_RECORD_OPENS, CG_RECORD_CLOSES, CG_RECORD_INTERNAL,
                                    CG_RECORD_JOURNAL};
  record->version = count;
  record->salt = store_model_random(model, UINT32_MAX);
  record->flags = flags[store_model_random(model, 8)];
  record->time_ms = model->clock.wall_ms;
  struct cg_err err;
  assert_int_equal(cg_store_new_id(model->store, &record->id, &err), CG_OK);
  assert_true(record->id > model->last_id);
  model->last_id = record->id;
  struct store_model_bytes bytes;
  store_model_bytes_make(&bytes, record);
  struct cg_store_event event = {.stream = store_model_find(model, record->stream, true),
                                 .expected = expected,
                                 .type = bytes.type,
                                 .type_size = strlen(bytes.type),
                                 .metadata = bytes.metadata,
                                 .metadata_size = bytes.metadata_size,
                                 .flags = record->flags,
                                 .id = record->id,
                                 .time_ms = record->time_ms};
  struct cg_buf *data = NULL;
  enum cg_code code = cg_store_add(model->store, &event, &data, &err);
  assert_int_equal(code, is_right ? CG_OK : CG_ECONFLICT);
  if (is_right) {
    cg_buf_append(data, bytes.data, bytes.data_size);
    assert_int_equal(cg_store_added(model->store), count);
  }
  assert_int_equal(cg_store_count(model->store, event.stream), count + is_right);
  return is_right;
}

/* Whether the last record that opens or closes a stream opens it. */
static bool find_unfinished(const struct store_model *model, uint32_t stream) {
  const struct store_model_stream *of = &model->streams[stream];
  for (uint32_t version = of->count; version > 0; version--) {
    uint16_t flags = model->records[of->positions[version - 1] - 1].flags;
    if ((flags & (CG_RECORD_OPENS | CG_RECORD_CLOSES)) != 0)
      return (flags & CG_RECORD_OPENS) != 0;
  }
  return false;
}

void store_model_committed(struct store_model *model, const struct store_model_record *records,
                           uint32_t count) {
  assert_true(model->count + count <= STORE_MODEL_RECORDS_MAX);
  for (uint32_t index = 0; index < count; index++) {
    model->records[model->count] = records[index];
    model->records[model->count++].ends = index + 1 == count;
    struct store_model_stream *stream = &model->streams[records[index].stream];
    assert_int_equal(stream->count, records[index].version);
    if (stream->count == stream->capacity) {
      stream->capacity = stream->capacity > 0 ? stream->capacity * 2 : 4;
      stream->positions =
          cg_realloc(stream->positions, stream->capacity * sizeof(*stream->positions));
    }
    stream->positions[stream->count++] = model->count;
    stream->is_unfinished = find_unfinished(model, records[index].stream);
  }
}

/* Forgets all records behind the first `count`. */
static void cut(struct store_model *model, uint32_t count) {
  while (model->count > count) {
    uint32_t stream = model->records[--model->count].stream;
    model->streams[stream].count--;
    model->streams[stream].is_unfinished = find_unfinished(model, stream);
  }
}

/* --- restarts --- */

void store_model_sync(struct store_model *model) {
  struct cg_log *log = cg_store_log(model->store);
  while (cg_log_turn(log))
    ;
  assert_int_equal(cg_log_durable_position(log), model->count + 1);
}

void store_model_close(struct store_model *model) {
  struct cg_err err;
  if (cg_store_close(model->store, &err) != CG_OK)
    fail_msg("close: %s", err.message);
  model->store = NULL;
  model->durable_count = model->count;
  sim_fs_crash(model->sim); /* What was closed needs nothing that was not synced. */
}

void store_model_kill(struct store_model *model) {
  uint64_t durable = cg_log_durable_position(cg_store_log(model->store));
  cg_store_abandon(model->store);
  model->store = NULL;
  sim_fs_kill(model->sim);
  model->durable_count = (uint32_t)durable - 1;
}

void store_model_crash(struct store_model *model) {
  store_model_kill(model);
  sim_fs_crash(model->sim);
}

void store_model_open(struct store_model *model) {
  model->options.streams_cached_max = 1 + store_model_random(model, CACHED_MAX);
  struct cg_err err;
  if (cg_store_open(&model->store, &model->options, &err) != CG_OK)
    fail_msg("open: %s", err.message);
  uint64_t next = cg_log_next_position(cg_store_log(model->store));
  if (next <= model->durable_count || next > (uint64_t)model->count + 1)
    fail_msg("the log ends before %llu; %u records were acknowledged, %u committed",
             (unsigned long long)next, model->durable_count, model->count);
  cut(model, (uint32_t)next - 1);
  assert_true(model->count == 0 || model->records[model->count - 1].ends);
  for (uint32_t stream = 0; stream < STORE_MODEL_STREAMS; stream++)
    model->streams[stream].number = CG_STORE_NO_STREAM;
  store_model_see_rewritten(model);
  model->is_rewriting = false;
}

/* --- rewriting --- */

static bool on_keep(void *arg, const struct cg_record *record) {
  struct store_model *model = arg;
  return !model->records[record->position - 1].is_leaving;
}

void store_model_rewrite(struct store_model *model) {
  const struct cg_log_seal *seals;
  uint32_t count = cg_log_seals(cg_store_log(model->store), &seals);
  if (count == 0 || model->is_rewriting)
    return;
  store_model_sync(model);
  count = cg_log_seals(cg_store_log(model->store), &seals);
  struct cg_log_seal seal = seals[store_model_random(model, count)];
  uint32_t of_ten = store_model_random(model, 11);
  for (uint64_t position = seal.first_position; position < seal.end_position; position++) {
    struct store_model_record *record = &model->records[position - 1];
    record->is_leaving = store_model_random(model, 10) < of_ten &&
                         (record->flags & (CG_RECORD_OPENS | CG_RECORD_CLOSES)) == 0 &&
                         record->version + 1 < model->streams[record->stream].count;
  }
  struct cg_log_rewrite rewrite = {.keep = on_keep,
                                   .arg = model,
                                   .compress = store_model_random(model, 2) == 0,
                                   .level = 1,
                                   .nonce_seed = seal.nonce + 1u};
  struct cg_err err;
  enum cg_code code = cg_store_rewrite(model->store, seal.number, &rewrite, &err);
  if (code != CG_OK && code != CG_EBUSY)
    fail_msg("rewrite segment %llu: %s", (unsigned long long)seal.number, err.message);
  model->is_rewriting = code == CG_OK;
  model->old_seal = seal;
}

void store_model_see_rewritten(struct store_model *model) {
  if (!model->is_rewriting)
    return;
  const struct cg_log_seal *seals;
  struct cg_log_seal old = model->old_seal;
  if (cg_log_seals(cg_store_log(model->store), &seals) > old.number &&
      seals[old.number].nonce != old.nonce)
    for (uint64_t position = old.first_position; position < old.end_position; position++)
      model->records[position - 1].is_gone |= model->records[position - 1].is_leaving;
  struct cg_err err;
  enum cg_code code;
  if (!cg_store_rewritten(model->store, &code, &err))
    return;
  model->is_rewriting = false;
  if (code != CG_OK)
    fail_msg("rewriting segment %llu: %s", (unsigned long long)old.number, err.message);
}
