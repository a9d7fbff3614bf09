/* store.c - how the event store works: an array of streams, a map from name to its index, and one
 * commit under construction.
 *
 * Each stream keeps the places of its records. The records of the commit being built are counted
 * already, so that versions are checked against them; they get their places when the log has told
 * where the commit's first record lies.
 * Owns: what store.h says. Thread: the loop thread. */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "store/reserve.h"

#define BUILDING_BYTES_START 4096u
#define PATH_BYTES 4096
#define ENTRIES_START 8u /* Records of a stream that fit at first: a short process has 5 to 7. */

/* Where one record is. */
struct entry {
  cg_log_place place; /* In the log. */
  uint64_t position;  /* In the order of all records. */
};

/* One stream of the index. */
struct stream {
  char *name;            /* Zero-terminated copy. */
  struct entry *entries; /* One a record, by version. */
  uint32_t name_size;    /* Bytes of name. */
  uint32_t count;        /* Records, staged ones included. */
  uint32_t capacity;     /* Room in entries. */
  bool unfinished;       /* Opened and not closed. */
};

/* One record of the commit being built. */
struct staged {
  uint32_t stream;   /* Index of the stream. */
  uint32_t version;  /* Version it gets in that stream. */
  uint32_t distance; /* Bytes from the commit's first record. */
  uint16_t flags;    /* Of the record. */
};

/* The store. */
struct cg_store {
  struct cg_log *log;        /* Owned. */
  struct cg_map *names;      /* Stream name to index. */
  struct stream *streams;    /* By index. */
  uint32_t stream_count;     /* How many. */
  uint32_t stream_capacity;  /* Room in streams. */
  uint64_t last_id;          /* Highest id seen while opening. */
  struct cg_id_source ids;   /* Makes ids. */
  struct cg_reserve reserve; /* Where ids are reserved; unused in memory. */
  struct cg_buf *building;   /* Encoded records of the commit being built. */
  struct staged *staged;     /* The same, for the index. */
  uint32_t staged_count;     /* How many. */
  uint32_t staged_capacity;  /* Room in staged. */
  size_t open_record;        /* Offset of the record between add and added. */
  bool is_building;          /* Between begin and commit or rollback. */
  bool is_record_open;       /* Between add and added. */
};

static enum cg_code make_data_directory(const struct cg_store_options *options, struct cg_err *err);
static enum cg_code open_log(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err);
static enum cg_code open_ids(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err);
static void on_replay(void *arg, const struct cg_record *record, cg_log_place place);
static struct cg_store *store_new(uint64_t seed);
static void store_free(struct cg_store *store);
static cg_store_stream make_stream(struct cg_store *store, const char *name, size_t size);
static void push_entry(struct stream *stream, struct entry entry);
static void apply_flags(struct stream *stream, uint16_t flags);
static enum cg_code check_expected(const struct stream *stream, int64_t expected,
                                   struct cg_err *err);

enum cg_code cg_store_open(struct cg_store **out, const struct cg_store_options *options,
                           struct cg_err *err) {
  struct cg_store *store = store_new(options->seed);
  enum cg_code code = open_log(store, options, err);
  if (code != CG_OK)
    goto fail_log;
  code = open_ids(store, options, err);
  if (code != CG_OK)
    goto fail_ids;
  *out = store;
  return CG_OK;

fail_ids:
  cg_log_abandon(store->log);
fail_log:
  store_free(store);
  return code;
}

enum cg_code cg_store_close(struct cg_store *store, struct cg_err *err) {
  if (store->reserve.handle >= 0 && store->ids.last_ms != 0)
    cg_reserve_store(&store->reserve, store->ids.last_ms + 1, NULL);
  enum cg_code code = cg_log_close(store->log, err);
  store_free(store);
  return code;
}

void cg_store_abandon(struct cg_store *store) {
  cg_log_abandon(store->log);
  store_free(store);
}

struct cg_log *cg_store_log(struct cg_store *store) {
  return store->log;
}

cg_store_stream cg_store_find(struct cg_store *store, const char *name, size_t size, bool make) {
  if (size == 0 || size > CG_RECORD_STREAM_BYTES_MAX)
    return CG_STORE_NO_STREAM;
  uint64_t *value = cg_map_find(store->names, name, size);
  if (value != NULL)
    return (cg_store_stream)*value;
  return make ? make_stream(store, name, size) : CG_STORE_NO_STREAM;
}

const char *cg_store_name(const struct cg_store *store, cg_store_stream stream, size_t *size) {
  assert(stream < store->stream_count);
  if (size != NULL)
    *size = store->streams[stream].name_size;
  return store->streams[stream].name;
}

uint64_t cg_store_count(const struct cg_store *store, cg_store_stream stream) {
  assert(stream < store->stream_count);
  return store->streams[stream].count;
}

bool cg_store_unfinished(const struct cg_store *store, cg_store_stream stream) {
  assert(stream < store->stream_count);
  return store->streams[stream].unfinished;
}

uint32_t cg_store_stream_count(const struct cg_store *store) {
  return store->stream_count;
}

enum cg_code cg_store_new_id(struct cg_store *store, uint64_t *id, struct cg_err *err) {
  return cg_id_next(&store->ids, id, err);
}

enum cg_code cg_store_new_id_at(struct cg_store *store, int64_t now_ms, uint64_t *id,
                                struct cg_err *err) {
  return cg_id_next_at(&store->ids, now_ms, id, err);
}

void cg_store_begin(struct cg_store *store) {
  if (store->is_building) /* A script that ran out of memory may have left one behind. */
    cg_store_rollback(store);
  store->is_building = true;
  store->building->size = 0;
  store->staged_count = 0;
}

enum cg_code cg_store_add(struct cg_store *store, const struct cg_store_event *event,
                          struct cg_buf **data, struct cg_err *err) {
  assert(store->is_building && !store->is_record_open);
  assert(event->stream < store->stream_count);
  if (event->type_size == 0 || event->type_size > CG_RECORD_TYPE_BYTES_MAX)
    return cg_err_set(err, CG_EINVAL, "an event type has 1 to %d bytes, this one has %zu",
                      CG_RECORD_TYPE_BYTES_MAX, event->type_size);
  struct stream *stream = &store->streams[event->stream];
  enum cg_code code = check_expected(stream, event->expected, err);
  if (code != CG_OK)
    return code;

  struct cg_record record = {.version = stream->count,
                             .time_ms = event->time_ms,
                             .id = event->id,
                             .stream = stream->name,
                             .stream_size = (uint16_t)stream->name_size,
                             .type = event->type,
                             .type_size = (uint16_t)event->type_size,
                             .metadata = event->metadata,
                             .metadata_size = (uint32_t)event->metadata_size,
                             .flags = event->flags};
  store->open_record = cg_record_begin(store->building, &record);
  store->is_record_open = true;

  if (store->staged_count == store->staged_capacity) {
    store->staged_capacity = store->staged_capacity == 0 ? 16 : store->staged_capacity * 2;
    store->staged = cg_realloc(store->staged, store->staged_capacity * sizeof(store->staged[0]));
  }
  store->staged[store->staged_count] = (struct staged){.stream = event->stream,
                                                       .version = stream->count,
                                                       .distance = (uint32_t)store->open_record,
                                                       .flags = event->flags};
  *data = store->building;
  return CG_OK;
}

enum cg_code cg_store_expect(struct cg_store *store, const char *name, size_t size,
                             int64_t expected, struct cg_err *err) {
  assert(store->is_building && !store->is_record_open);
  if (size == 0 || size > CG_RECORD_STREAM_BYTES_MAX)
    return cg_err_set(err, CG_EINVAL, "a stream name has 1 to %d bytes, this one has %zu",
                      CG_RECORD_STREAM_BYTES_MAX, size);
  cg_store_stream index = cg_store_find(store, name, size, false);
  struct stream none = {.name = (char *)name};
  return check_expected(index == CG_STORE_NO_STREAM ? &none : &store->streams[index], expected,
                        err);
}

uint64_t cg_store_added(struct cg_store *store) {
  assert(store->is_record_open);
  cg_record_finish(store->building, store->open_record);
  store->is_record_open = false;
  struct staged *staged = &store->staged[store->staged_count++];
  struct stream *stream = &store->streams[staged->stream];
  push_entry(stream, (struct entry){0}); /* Known at commit. */
  return staged->version;
}

enum cg_code cg_store_commit(struct cg_store *store, uint64_t *first, struct cg_err *err) {
  assert(store->is_building && !store->is_record_open);
  *first = cg_log_next_position(store->log);
  if (store->staged_count == 0) {
    store->is_building = false;
    return CG_OK;
  }
  cg_log_place place;
  enum cg_code code = cg_log_append(store->log, store->building->data, store->building->size,
                                    store->staged_count, *first, &place, err);
  if (code != CG_OK) {
    cg_store_rollback(store);
    return code;
  }
  for (uint32_t i = 0; i < store->staged_count; i++) {
    const struct staged *staged = &store->staged[i];
    struct stream *stream = &store->streams[staged->stream];
    stream->entries[staged->version] =
        (struct entry){.place = place + staged->distance / 8, .position = *first + i};
    apply_flags(stream, staged->flags);
  }
  store->is_building = false;
  return CG_OK;
}

void cg_store_rollback(struct cg_store *store) {
  if (!store->is_building)
    return;
  for (uint32_t i = 0; i < store->staged_count; i++)
    store->streams[store->staged[i].stream].count--;
  store->staged_count = 0;
  store->is_record_open = false;
  store->is_building = false;
}

enum cg_code cg_store_read(struct cg_store *store, cg_store_stream stream, uint64_t version,
                           struct cg_buf *buf, struct cg_record *record, struct cg_err *err) {
  assert(stream < store->stream_count);
  struct stream *entry = &store->streams[stream];
  if (version >= entry->count)
    return cg_err_set(err, CG_ENOTFOUND, "stream %s has no version %llu", entry->name,
                      (unsigned long long)version);
  enum cg_code code = cg_log_read(store->log, entry->entries[version].place, buf, record, err);
  if (code == CG_OK)
    record->position = entry->entries[version].position;
  return code;
}

/* The directory that holds the name `path`. */
static void parent_of(const char *path, char parent[PATH_BYTES]) {
  size_t size = strlen(path);
  while (size > 1 && path[size - 1] == '/')
    size--;
  while (size > 0 && path[size - 1] != '/')
    size--;
  while (size > 1 && path[size - 1] == '/')
    size--;
  snprintf(parent, PATH_BYTES, "%.*s", size > 0 ? (int)size : 1, size > 0 ? path : ".");
}

/* Makes the data directory when it is missing; its name is durable before anything lies in it, also
 * when the program that made it ended before it had synced the name. */
static enum cg_code make_data_directory(const struct cg_store_options *options,
                                        struct cg_err *err) {
  const struct cg_fs *fs = options->log.fs != NULL ? options->log.fs : cg_fs_system();
  int status = fs->mkdir(fs->arg, options->path);
  bool was_there = status == -EEXIST;
  if (status < 0 && !was_there)
    return cg_err_set(err, cg_err_from_errno(-status), "make data directory %s: %s", options->path,
                      strerror(-status));
  char parent[PATH_BYTES];
  parent_of(options->path, parent);
  status = fs->sync_dir(fs->arg, parent);
  if (was_there && (status == -EACCES || status == -EPERM)) /* It is for others to write. */
    return CG_OK;
  if (status < 0)
    return cg_err_set(err, CG_EIO, "sync the directory above %s: %s", options->path,
                      strerror(-status));
  return CG_OK;
}

/* Makes the data directory and opens the log, which calls on_replay for all that is there. */
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
  char path[PATH_BYTES];
  snprintf(path, sizeof(path), "%s/log", options->path);
  return cg_log_open_file(&store->log, path, &log_options, err);
}

static enum cg_code open_ids(struct cg_store *store, const struct cg_store_options *options,
                             struct cg_err *err) {
  struct cg_clock clock =
      options->log.clock.wall_ms != NULL ? options->log.clock : cg_clock_system();
  int64_t not_before_ms = store->last_id == 0 ? 0 : cg_id_decode(store->last_id).time_ms + 1;
  if (options->path == NULL)
    return cg_id_source_init(&store->ids, clock, options->node, not_before_ms, NULL, NULL, err);

  const struct cg_fs *fs = options->log.fs != NULL ? options->log.fs : cg_fs_system();
  int64_t reserved_ms;
  enum cg_code code = cg_reserve_open(&store->reserve, fs, options->path, &reserved_ms, err);
  if (code != CG_OK)
    return code;
  if (reserved_ms > not_before_ms)
    not_before_ms = reserved_ms;
  return cg_id_source_init(&store->ids, clock, options->node, not_before_ms, cg_reserve_store,
                           &store->reserve, err);
}

static void on_replay(void *arg, const struct cg_record *record, cg_log_place place) {
  struct cg_store *store = arg;
  cg_store_stream index = cg_store_find(store, record->stream, record->stream_size, true);
  assert(index != CG_STORE_NO_STREAM);
  push_entry(&store->streams[index], (struct entry){.place = place, .position = record->position});
  apply_flags(&store->streams[index], record->flags);
  if (record->id > store->last_id)
    store->last_id = record->id;
}

static struct cg_store *store_new(uint64_t seed) {
  struct cg_store *store = cg_alloc(sizeof(*store));
  store->names = cg_map_new(seed);
  store->building = cg_buf_take(NULL, BUILDING_BYTES_START);
  store->reserve.handle = -1;
  return store;
}

static void store_free(struct cg_store *store) {
  for (uint32_t i = 0; i < store->stream_count; i++) {
    cg_free(store->streams[i].name);
    cg_free(store->streams[i].entries);
  }
  cg_free(store->streams);
  cg_free(store->staged);
  cg_reserve_close(&store->reserve);
  cg_buf_unref(store->building);
  cg_map_free(store->names);
  cg_free(store);
}

static cg_store_stream make_stream(struct cg_store *store, const char *name, size_t size) {
  if (store->stream_count == store->stream_capacity) {
    store->stream_capacity = store->stream_capacity == 0 ? 64 : store->stream_capacity * 2;
    store->streams = cg_realloc(store->streams, store->stream_capacity * sizeof(store->streams[0]));
  }
  cg_store_stream index = store->stream_count++;
  store->streams[index] =
      (struct stream){.name = cg_strndup(name, size), .name_size = (uint32_t)size};
  *cg_map_put(store->names, name, size, NULL) = index;
  return index;
}

static void push_entry(struct stream *stream, struct entry entry) {
  if (stream->count == stream->capacity) {
    stream->capacity = stream->capacity == 0 ? ENTRIES_START : stream->capacity * 2;
    stream->entries = cg_realloc(stream->entries, stream->capacity * sizeof(stream->entries[0]));
  }
  stream->entries[stream->count++] = entry;
}

static void apply_flags(struct stream *stream, uint16_t flags) {
  if (flags & CG_RECORD_OPENS)
    stream->unfinished = true;
  if (flags & CG_RECORD_CLOSES)
    stream->unfinished = false;
}

static enum cg_code check_expected(const struct stream *stream, int64_t expected,
                                   struct cg_err *err) {
  int64_t last = (int64_t)stream->count - 1;
  if (expected == CG_STORE_ANY || (expected >= 0 && expected == last) ||
      (expected == CG_STORE_NONE && last < 0) || (expected == CG_STORE_EXISTS && last >= 0))
    return CG_OK;
  if (expected == CG_STORE_NONE)
    return cg_err_set(err, CG_ECONFLICT, "stream %s exists already, its version is %lld",
                      stream->name, (long long)last);
  if (expected == CG_STORE_EXISTS)
    return cg_err_set(err, CG_ECONFLICT, "stream %s has no event yet", stream->name);
  return cg_err_set(err, CG_ECONFLICT,
                    "stream %s: expected version %lld, the actual version is %lld", stream->name,
                    (long long)expected, (long long)last);
}
