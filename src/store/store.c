/* store.c - how the event store works: streams in memory with the places of their newest records,
 * the index of older ones in tables, and one commit under construction.
 *
 * The records of the commit being built are counted already, so that versions are checked against
 * them; they get their places when the log has told where the commit's first record lies.
 * Owns: what store.h says. Thread: the loop thread. */
#include "store/store.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "store/store_state.h"

static enum cg_code check_expected(const char *name, uint64_t count, int64_t expected,
                                   struct cg_err *err);

/* The slot of a stream whose number must not be stale. */
static struct cg_slot *slot_of(const struct cg_store *store, cg_store_stream stream) {
  struct cg_slot *slot = cg_slots_look(&store->slots, stream);
  assert(slot != NULL);
  return slot;
}

struct cg_log *cg_store_log(struct cg_store *store) {
  return store->log;
}

/* Loads a stream from the index. */
static enum cg_code load(struct cg_store *store, const char *name, size_t size, uint32_t *place,
                         struct cg_err *err) {
  uint64_t count;
  enum cg_code code =
      store->has_index ? cg_index_find(&store->index, name, size, &count, err) : CG_ENOTFOUND;
  if (code != CG_OK)
    return code;
  *place = cg_slots_make(&store->slots, name, size);
  store->slots.items[*place].base = count;
  return CG_OK;
}

enum cg_code cg_store_find(struct cg_store *store, const char *name, size_t size, bool make,
                           cg_store_stream *stream, struct cg_err *err) {
  *stream = CG_STORE_NO_STREAM;
  if (size == 0 || size > CG_RECORD_STREAM_BYTES_MAX)
    return cg_err_set(err, CG_EINVAL, "a stream name has 1 to %d bytes, this one has %zu",
                      CG_RECORD_STREAM_BYTES_MAX, size);
  uint32_t place = cg_slots_find(&store->slots, name, size);
  enum cg_code code = place != CG_SLOT_NONE ? CG_OK : load(store, name, size, &place, err);
  if (code == CG_ENOTFOUND && make) {
    place = cg_slots_make(&store->slots, name, size);
    code = CG_OK;
  }
  if (code == CG_OK)
    *stream = cg_slots_number(&store->slots, place);
  return code;
}

bool cg_store_is_stale(const struct cg_store *store, cg_store_stream stream) {
  return cg_slots_look(&store->slots, stream) == NULL;
}

uint64_t cg_store_evicted_count(const struct cg_store *store) {
  return store->slots.evicted_count;
}

const char *cg_store_name(const struct cg_store *store, cg_store_stream stream, size_t *size) {
  const struct cg_slot *slot = slot_of(store, stream);
  if (size != NULL)
    *size = slot->name_size;
  return slot->name;
}

uint64_t cg_store_count(const struct cg_store *store, cg_store_stream stream) {
  return cg_slot_count(slot_of(store, stream));
}

bool cg_store_unfinished(const struct cg_store *store, cg_store_stream stream) {
  return slot_of(store, stream)->unfinished;
}

uint32_t cg_store_place_count(const struct cg_store *store) {
  return store->slots.count;
}

cg_store_stream cg_store_at(const struct cg_store *store, uint32_t place) {
  assert(place < store->slots.count);
  bool is_free = store->slots.items[place].name == NULL;
  return is_free ? CG_STORE_NO_STREAM : cg_slots_number(&store->slots, place);
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
  if (event->type_size == 0 || event->type_size > CG_RECORD_TYPE_BYTES_MAX)
    return cg_err_set(err, CG_EINVAL, "an event type has 1 to %d bytes, this one has %zu",
                      CG_RECORD_TYPE_BYTES_MAX, event->type_size);
  struct cg_slot *slot = slot_of(store, event->stream);
  uint64_t version = cg_slot_count(slot);
  enum cg_code code = check_expected(slot->name, version, event->expected, err);
  if (code != CG_OK)
    return code;

  struct cg_record record = {.version = version,
                             .time_ms = event->time_ms,
                             .id = event->id,
                             .stream = slot->name,
                             .stream_size = slot->name_size,
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
  store->staged[store->staged_count] =
      (struct cg_store_staged){.slot = (uint32_t)event->stream,
                               .entry = slot->held,
                               .distance = (uint32_t)store->open_record,
                               .flags = event->flags};
  *data = store->building;
  return CG_OK;
}

enum cg_code cg_store_expect(struct cg_store *store, const char *name, size_t size,
                             int64_t expected, struct cg_err *err) {
  assert(store->is_building && !store->is_record_open);
  cg_store_stream stream;
  enum cg_code code = cg_store_find(store, name, size, false, &stream, err);
  if (code != CG_OK && code != CG_ENOTFOUND)
    return code;
  uint64_t count = code == CG_OK ? cg_store_count(store, stream) : 0;
  return check_expected(name, count, expected, err);
}

uint64_t cg_store_added(struct cg_store *store) {
  assert(store->is_record_open);
  cg_record_finish(store->building, store->open_record);
  store->is_record_open = false;
  struct cg_slot *slot = &store->slots.items[store->staged[store->staged_count++].slot];
  cg_slots_push(slot, (struct cg_entry){0}); /* Known at commit. */
  return cg_slot_count(slot) - 1;
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
    const struct cg_store_staged *staged = &store->staged[i];
    struct cg_slot *slot = &store->slots.items[staged->slot];
    slot->entries[staged->entry] =
        (struct cg_entry){.place = place + staged->distance / 8, .position = *first + i};
    cg_store_apply_flags(slot, staged->flags);
  }
  store->is_building = false;
  return CG_OK;
}

void cg_store_rollback(struct cg_store *store) {
  if (!store->is_building)
    return;
  for (uint32_t i = 0; i < store->staged_count; i++)
    store->slots.items[store->staged[i].slot].held--;
  store->staged_count = 0;
  store->is_record_open = false;
  store->is_building = false;
}

/* The entry of a version that is below the stream's count. */
static enum cg_code entry_of(struct cg_store *store, struct cg_slot *slot, uint64_t version,
                             struct cg_entry *entry, struct cg_err *err) {
  enum cg_code code = CG_OK;
  if (version >= slot->base)
    *entry = slot->entries[version - slot->base];
  else
    code =
        store->has_index ? cg_index_entry(&store->index, slot, version, entry, err) : CG_ENOTFOUND;
  if (code == CG_ENOTFOUND || (code == CG_OK && entry->place == CG_ENTRY_GONE))
    return cg_err_set(err, CG_ENOTFOUND, "version %llu of stream %s was scavenged",
                      (unsigned long long)version, slot->name);
  return code;
}

enum cg_code cg_store_read(struct cg_store *store, cg_store_stream stream, uint64_t version,
                           struct cg_buf *buf, struct cg_record *record, struct cg_err *err) {
  struct cg_slot *slot = slot_of(store, stream);
  if (version >= cg_slot_count(slot))
    return cg_err_set(err, CG_ENOTFOUND, "stream %s has no version %llu", slot->name,
                      (unsigned long long)version);
  struct cg_entry entry;
  enum cg_code code = entry_of(store, slot, version, &entry, err);
  if (code != CG_OK)
    return code;
  code = cg_log_read(store->log, entry.place, buf, record, err);
  if (code == CG_OK)
    record->position = entry.position;
  if (code == CG_ENOTFOUND) { /* It should be there: readers take "not found" for scavenged. */
    code = CG_ECORRUPT;
    if (err != NULL)
      err->code = code;
  }
  return code;
}

/* The version nearest to `version` whose entry is in memory and not gone; false: there is none. */
static bool seek_held(const struct cg_slot *slot, uint64_t version, bool is_backward,
                      uint64_t *found) {
  uint64_t count = cg_slot_count(slot);
  if (is_backward && version >= count)
    version = count - 1; /* Wraps for an empty stream, whose base is 0 then. */
  if (!is_backward && version < slot->base)
    version = slot->base;
  for (; version >= slot->base && version < count; version += is_backward ? UINT64_MAX : 1) {
    if (slot->entries[version - slot->base].place == CG_ENTRY_GONE)
      continue;
    *found = version;
    return true;
  }
  return false;
}

enum cg_code cg_store_seek(struct cg_store *store, cg_store_stream stream, uint64_t version,
                           bool is_backward, uint64_t *found, struct cg_err *err) {
  const struct cg_slot *slot = slot_of(store, stream);
  bool is_here = is_backward || version >= slot->base;
  if (is_here && seek_held(slot, version, is_backward, found))
    return CG_OK;
  enum cg_code code = CG_ENOTFOUND;
  if (store->has_index && slot->base > 0 && (is_backward || version < slot->base)) {
    uint64_t from = version < slot->base ? version : slot->base - 1;
    code = cg_index_seek(&store->index, slot, from, is_backward, found, err);
    if (code == CG_OK && *found >= slot->base) /* It is in a table and in memory still. */
      code = CG_ENOTFOUND;
  }
  if (code == CG_ENOTFOUND && !is_here && seek_held(slot, version, is_backward, found))
    return CG_OK;
  if (code == CG_ENOTFOUND)
    return cg_err_set(err, CG_END, "stream %s has no record there", slot->name);
  return code;
}

/* Checks what a record must follow: a stream with `count` records. */
static enum cg_code check_expected(const char *name, uint64_t count, int64_t expected,
                                   struct cg_err *err) {
  int64_t last = (int64_t)count - 1;
  if (expected == CG_STORE_ANY || (expected >= 0 && expected == last) ||
      (expected == CG_STORE_NONE && last < 0) || (expected == CG_STORE_EXISTS && last >= 0))
    return CG_OK;
  if (expected == CG_STORE_NONE)
    return cg_err_set(err, CG_ECONFLICT, "stream %s exists already, its version is %lld", name,
                      (long long)last);
  if (expected == CG_STORE_EXISTS)
    return cg_err_set(err, CG_ECONFLICT, "stream %s has no event yet", name);
  return cg_err_set(err, CG_ECONFLICT,
                    "stream %s: expected version %lld, the actual version is %lld", name,
                    (long long)expected, (long long)last);
}
