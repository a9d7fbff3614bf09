/* store_open.c - how the store is opened and closed: the index first takes what is sealed, the log
 * replays the rest into memory.
 *
 * Owns: what store.h says. Thread: the loop thread. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "store/store_state.h"

#define CLOSE_TABLES_MAX 2u /* Tables made while closing, of half a second each. */
#define BUILDING_BYTES_START 4096u

static enum cg_code open_log(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err);
static enum cg_code open_ids(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err);
static uint32_t on_resume(void *arg, const uint8_t log_id[16], const struct cg_log_seal *seals,
                          uint32_t count, struct cg_err *err);
static void on_replay(void *arg, const struct cg_record *record, cg_log_place place);
static struct cg_store *store_new(const struct cg_store_options *options);
static void store_free(struct cg_store *store);
static void start_index(struct cg_store *store, const struct cg_store_options *options);

enum cg_code cg_store_open(struct cg_store **out, const struct cg_store_options *options,
                           struct cg_err *err) {
  struct cg_store *store = store_new(options);
  enum cg_code code = open_log(store, options, err);
  if (code != CG_OK)
    goto fail_log;
  code = store->replay_fault.code;
  if (code != CG_OK && err != NULL)
    *err = store->replay_fault;
  if (code == CG_OK)
    code = open_ids(store, options, err);
  if (code != CG_OK)
    goto fail_ids;
  start_index(store, options);
  *out = store;
  return CG_OK;

fail_ids:
  cg_log_abandon(store->log);
fail_log:
  store_free(store);
  return code;
}

/* Makes the tables that the worker had no time for, so that the next open need not read so much. */
static void finish_index(struct cg_store *store) {
  const struct cg_log_seal *seals;
  struct cg_err err;
  uint32_t count = cg_log_seals(store->log, &seals);
  uint64_t covered = cg_index_segment_count(&store->index);
  for (uint32_t i = 0; i < CLOSE_TABLES_MAX && covered + i < count; i++)
    if (cg_table_build(&store->index.place, &seals[covered + i], &err) != CG_OK) {
      cg_say(store->say, CG_SAY_INFO, "index: %s", err.message);
      return; /* The next open makes it, or reads the segment. */
    }
}

enum cg_code cg_store_close(struct cg_store *store, struct cg_err *err) {
  if (store->has_index)
    cg_worker_stop(&store->worker);
  if (store->has_index && cg_log_failed(store->log, NULL) == CG_OK)
    finish_index(store);
  if (store->reserve.handle >= 0 && store->ids.last_ms != 0)
    cg_reserve_store(&store->reserve, store->ids.last_ms + 1, NULL);
  enum cg_code code = cg_log_close(store->log, err);
  store_free(store);
  return code;
}

void cg_store_abandon(struct cg_store *store) {
  if (store->has_index)
    cg_worker_stop(&store->worker);
  cg_log_abandon(store->log);
  store_free(store);
}

/* Makes the data directory when it is missing; its name is durable before anything lies in it, also
 * when the program that made it ended before it had synced the name. */
static enum cg_code make_data_directory(const struct cg_store_options *options,
                                        struct cg_err *err) {
  const struct cg_fs *fs = options->log.fs != NULL ? options->log.fs : cg_fs_system();
  int status = cg_io_mkdir(fs, options->path);
  bool was_there = status == -EEXIST;
  if (status < 0 && !was_there)
    return cg_err_set(err, cg_err_from_errno(-status), "make data directory %s: %s", options->path,
                      strerror(-status));
  status = cg_io_sync_parent(fs, options->path);
  if (was_there && (status == -EACCES || status == -EPERM)) /* It is for others to write. */
    return CG_OK;
  if (status < 0)
    return cg_err_set(err, CG_EIO, "sync the directory above %s: %s", options->path,
                      strerror(-status));
  return CG_OK;
}

/* Makes the data directory and opens the log, which calls on_resume for what is sealed and
 * on_replay for the rest. */
static enum cg_code open_log(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err) {
  struct cg_log_options log_options = options->log;
  log_options.replay = on_replay;
  log_options.replay_arg = store;
  enum cg_code code = options->path != NULL ? make_data_directory(options, err) : CG_OK;
  if (code != CG_OK)
    return code;
  if (options->open_log != NULL)
    return options->open_log(options->open_log_arg, &log_options, &store->log, err);
  if (options->path == NULL)
    return cg_log_open_memory(&store->log, &log_options, err);
  store->has_index = true;
  const struct cg_fs *fs = log_options.fs != NULL ? log_options.fs : cg_fs_system();
  cg_index_init(&store->index, options->path, fs, store->clock, log_options.say);
  store->index.replayed_max =
      options->replayed_max != 0 ? options->replayed_max : CG_STORE_REPLAYED_DEFAULT;
  log_options.resume = on_resume;
  log_options.resume_arg = store;
  /* What looks like a torn tail is not cut when a read model knows that it was durable. The tables
   * of the index tell by themselves, see cg_index_resume. */
  if (log_options.durability == CG_DURABILITY_FSYNC)
    log_options.proven_position = cg_derived_models(options->path);
  return cg_log_open_file(&store->log, store->index.place.log_path, &log_options, err);
}

/* The log is open: the index goes on with it. */
static void start_index(struct cg_store *store, const struct cg_store_options *options) {
  if (!store->has_index)
    return;
  cg_log_id(store->log, store->index.place.log_id);
  store->index.hash_seed = cg_table_seed(store->index.place.log_id);
  cg_index_join(&store->index, store->log);
  cg_worker_init(&store->worker, &store->index.place, options->log.manual, options->log.progress,
                 options->log.progress_arg);
}

static enum cg_code open_ids(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err) {
  int64_t not_before_ms = store->last_id == 0 ? 0 : cg_id_decode(store->last_id).time_ms + 1;
  if (options->path == NULL)
    return cg_id_source_init(&store->ids, store->clock, options->node, not_before_ms, NULL, NULL,
                             err);

  const struct cg_fs *fs = options->log.fs != NULL ? options->log.fs : cg_fs_system();
  int64_t reserved_ms;
  enum cg_code code = cg_reserve_open(&store->reserve, fs, options->path, &reserved_ms, err);
  if (code != CG_OK)
    return code;
  if (reserved_ms > not_before_ms)
    not_before_ms = reserved_ms;
  return cg_id_source_init(&store->ids, store->clock, options->node, not_before_ms,
                           cg_reserve_store, &store->reserve, err);
}

/* --- what is there already --- */

/* A stream that a table found opened or closed: the last word counts. */
static void on_state(void *arg, const char *name, size_t size, bool is_opened) {
  struct cg_store *store = arg;
  uint32_t place = cg_slots_find(&store->slots, name, size);
  if (place == CG_SLOT_NONE && is_opened)
    place = cg_slots_make(&store->slots, name, size);
  if (place != CG_SLOT_NONE)
    store->slots.items[place].unfinished = is_opened;
}

/* Gives the streams made by on_state their counts. */
static enum cg_code count_streams(struct cg_store *store, struct cg_err *err) {
  for (uint32_t place = 0; place < store->slots.count; place++) {
    struct cg_slot *slot = &store->slots.items[place];
    enum cg_code code = cg_index_find(&store->index, slot->name, slot->name_size, &slot->base, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* Takes over what the index has. */
static uint32_t on_resume(void *arg, const uint8_t log_id[16], const struct cg_log_seal *seals,
                          uint32_t count, struct cg_err *err) {
  struct cg_store *store = arg;
  uint32_t covered = 0;
  struct cg_err why; /* Also set by what was mended. */
  enum cg_code code = cg_index_resume(&store->index, log_id, seals, count, &covered, &why);
  if (code == CG_OK)
    code = cg_index_states(&store->index, on_state, store, &why);
  if (code == CG_OK)
    code = count_streams(store, &why);
  store->last_id = cg_index_last_id(&store->index);
  if (code == CG_OK)
    return covered;
  *err = why;
  return 0;
}

/* The versions from the stream's count up to the record's were scavenged. */
static void skip_to(struct cg_slot *slot, const struct cg_record *record) {
  if (slot->held == 0 && record->version > slot->base)
    slot->base = record->version;
  while (cg_slot_count(slot) < record->version)
    cg_slots_push(slot, (struct cg_entry){.place = CG_ENTRY_GONE, .position = record->position});
}

static void on_replay(void *arg, const struct cg_record *record, cg_log_place place) {
  struct cg_store *store = arg;
  assert(record->stream_size > 0 && record->stream_size <= CG_RECORD_STREAM_BYTES_MAX);
  uint32_t at = cg_slots_find(&store->slots, record->stream, record->stream_size);
  if (at == CG_SLOT_NONE)
    at = cg_slots_make(&store->slots, record->stream, record->stream_size);
  struct cg_slot *slot = &store->slots.items[at];
  if (record->version != cg_slot_count(slot))
    skip_to(slot, record);
  if (record->version < cg_slot_count(slot) && store->replay_fault.code == CG_OK)
    cg_err_set(&store->replay_fault, CG_ECORRUPT,
               "position %llu of the log has version %llu of stream %s, expected %llu",
               (unsigned long long)record->position, (unsigned long long)record->version,
               slot->name, (unsigned long long)cg_slot_count(slot));
  cg_slots_push(slot, (struct cg_entry){.place = place, .position = record->position});
  cg_store_apply_flags(slot, record->flags);
  if (record->id > store->last_id)
    store->last_id = record->id;
}

/* --- memory --- */

static struct cg_store *store_new(const struct cg_store_options *options) {
  struct cg_store *store = cg_alloc(sizeof(*store));
  cg_slots_init(&store->slots, options->seed);
  store->building = cg_buf_take(NULL, BUILDING_BYTES_START);
  store->reserve.handle = -1;
  store->clock = options->log.clock.wall_ms != NULL ? options->log.clock : cg_clock_system();
  store->say = options->log.say;
  store->streams_cached_max = options->streams_cached_max != 0 ? options->streams_cached_max
                                                               : CG_STORE_STREAMS_CACHED_DEFAULT;
  return store;
}

static void store_free(struct cg_store *store) {
  if (store->has_index)
    cg_index_deinit(&store->index);
  cg_slots_deinit(&store->slots);
  cg_free(store->staged);
  cg_reserve_close(&store->reserve);
  cg_buf_unref(store->building);
  cg_free(store);
}
