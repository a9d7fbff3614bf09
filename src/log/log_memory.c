/* log_memory.c - a log that lives in memory: for specs and for programs that need no durability.
 *
 * Commits lie in chunks that are never moved or freed while the log lives, so that cursors and
 * replay may point into them:
 *
 *     chunk:   commit, commit, ...
 *     commit:  size of the records (4), record count (4), records
 *
 * The place of a record is the index of its chunk and its offset / 8 in it. Records carry no CRC.
 * Owns: the chunks. Thread: the loop thread. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "log/kind.h"

#define CHUNK_BYTES ((size_t)256 << 10) /* A larger commit gets a chunk of its own. */

/* What stands before the records of a commit. */
struct prefix {
  uint32_t size;         /* Bytes of records. */
  uint32_t record_count; /* Records. */
};

/* A run of commits. */
struct chunk {
  uint8_t *bytes;          /* The commits. */
  size_t size;             /* Bytes in use. */
  size_t capacity;         /* Bytes allocated. */
  uint64_t first_position; /* Of its first record. */
};

/* The log. */
struct memory_log {
  struct cg_log log;      /* The shared part. */
  struct chunk *chunks;   /* In order of positions. */
  size_t chunk_count;     /* How many. */
  size_t chunk_capacity;  /* Room in the table. */
  uint64_t pending_bytes; /* Appended since the last turn (manual). */
};

static const struct cg_log_kind memory_kind;

static struct memory_log *of(struct cg_log *log) {
  return (struct memory_log *)log; /* The shared part is the first member. */
}

/* --- chunks --- */

/* A chunk with room for `size` more bytes, the first record of which gets `position`. */
static struct chunk *chunk_with_room(struct memory_log *memory, size_t size, uint64_t position) {
  struct chunk *last = memory->chunk_count > 0 ? &memory->chunks[memory->chunk_count - 1] : NULL;
  if (last && last->capacity - last->size >= size)
    return last;
  if (memory->chunk_count == memory->chunk_capacity) {
    memory->chunk_capacity = memory->chunk_capacity > 0 ? memory->chunk_capacity * 2 : 8;
    memory->chunks = cg_realloc(memory->chunks, memory->chunk_capacity * sizeof(*memory->chunks));
  }
  size_t capacity = size > CHUNK_BYTES ? size : CHUNK_BYTES;
  struct chunk *chunk = &memory->chunks[memory->chunk_count++];
  *chunk =
      (struct chunk){.bytes = cg_alloc(capacity), .capacity = capacity, .first_position = position};
  return chunk;
}

/* Stores a commit; returns its place. */
static cg_log_place store(struct memory_log *memory, const uint8_t *records, size_t size,
                          uint32_t record_count, uint64_t position) {
  struct prefix prefix = {.size = (uint32_t)size, .record_count = record_count};
  struct chunk *chunk = chunk_with_room(memory, sizeof(prefix) + size, position);
  memcpy(chunk->bytes + chunk->size, &prefix, sizeof(prefix));
  memcpy(chunk->bytes + chunk->size + sizeof(prefix), records, size);
  cg_log_place place =
      (uint64_t)(chunk - memory->chunks) << 32 | (chunk->size + sizeof(prefix)) / 8;
  chunk->size += sizeof(prefix) + size;
  return place;
}

/* Index of the chunk that holds `position`, which exists. */
static size_t find_chunk(const struct memory_log *memory, uint64_t position) {
  size_t low = 0, high = memory->chunk_count;
  while (low < high) { /* Finds the first chunk behind the position. */
    size_t middle = low + (high - low) / 2;
    if (memory->chunks[middle].first_position <= position)
      low = middle + 1;
    else
      high = middle;
  }
  assert(low > 0);
  return low - 1;
}

/* --- the functions of the kind --- */

static enum cg_code memory_append(struct cg_log *log, const uint8_t *records, size_t size,
                                  uint32_t record_count, cg_log_place *place, struct cg_err *err) {
  struct memory_log *memory = of(log);
  enum cg_code code = cg_log_check_pending(log, memory->pending_bytes, size, err);
  if (code != CG_OK)
    return code;
  *place = store(memory, records, size, record_count, log->next_position);
  if (log->options.manual)
    memory->pending_bytes += size;
  else
    cg_log_publish(log, log->next_position + record_count);
  return CG_OK;
}

static enum cg_code memory_read(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                                struct cg_record *record, struct cg_err *err) {
  struct memory_log *memory = of(log);
  uint64_t number = place >> 32, offset = (place & UINT32_MAX) * 8;
  if (number >= memory->chunk_count || offset >= memory->chunks[number].size)
    return cg_err_set(err, CG_ENOTFOUND, "no record at place %llx", (unsigned long long)place);
  const struct chunk *chunk = &memory->chunks[number];
  size_t size;
  enum cg_code code =
      cg_record_decode(chunk->bytes + offset, chunk->size - offset, record, &size, err);
  if (code != CG_OK)
    return code;
  cg_buf_append(buf, chunk->bytes + offset, size);
  return cg_record_decode(buf->data, size, record, &size, err);
}

static enum cg_code memory_fetch(struct cg_log *log, struct cg_log_cursor *cursor,
                                 struct cg_err *err) {
  (void)err;
  struct memory_log *memory = of(log);
  uint64_t position = cursor->at_position;
  if (!cursor->is_located) {
    cursor->number = find_chunk(memory, cursor->position);
    cursor->offset = 0;
    position = memory->chunks[cursor->number].first_position;
    cursor->is_located = true;
  }
  for (;;) {
    const struct chunk *chunk = &memory->chunks[cursor->number];
    if (cursor->offset == chunk->size) {
      cursor->number++; /* There is one: the position exists. */
      cursor->offset = 0;
      assert(cursor->number < memory->chunk_count);
      continue;
    }
    struct prefix prefix;
    memcpy(&prefix, chunk->bytes + cursor->offset, sizeof(prefix));
    cursor->at = chunk->bytes + cursor->offset + sizeof(prefix);
    cursor->offset += sizeof(prefix) + prefix.size;
    if (position + prefix.record_count > cursor->position) {
      cursor->left_size = prefix.size;
      cursor->left_count = prefix.record_count;
      cursor->at_position = position;
      return CG_OK;
    }
    position += prefix.record_count;
  }
}

static bool memory_turn(struct cg_log *log) {
  of(log)->pending_bytes = 0;
  if (cg_log_durable_position(log) == log->next_position)
    return false;
  cg_log_publish(log, log->next_position);
  return true;
}

static void memory_stats(struct cg_log *log, struct cg_log_stats *stats) {
  stats->segment_count = of(log)->chunk_count;
}

static void memory_abandon(struct cg_log *log) {
  struct memory_log *memory = of(log);
  for (size_t index = 0; index < memory->chunk_count; index++)
    cg_free(memory->chunks[index].bytes);
  cg_free(memory->chunks);
  cg_free(memory);
}

static enum cg_code memory_close(struct cg_log *log, struct cg_err *err) {
  (void)err;
  if (log->options.manual)
    memory_turn(log);
  memory_abandon(log);
  return CG_OK;
}

static const struct cg_log_kind memory_kind = {
    .append = memory_append,
    .read = memory_read,
    .fetch = memory_fetch,
    .turn = memory_turn,
    .stats = memory_stats,
    .close = memory_close,
    .abandon = memory_abandon,
};

/* --- opening --- */

/* Calls replay for each record of a commit. */
static void replay(struct memory_log *memory, const uint8_t *records, size_t size,
                   uint64_t position, cg_log_place place) {
  size_t at = 0;
  while (at < size) {
    struct cg_record record;
    size_t record_size;
    enum cg_code code = cg_record_decode(records + at, size - at, &record, &record_size, NULL);
    assert(code == CG_OK); /* It was checked when it was appended. */
    record.position = position++;
    memory->log.options.replay(memory->log.options.replay_arg, &record, place + at / 8);
    at += record_size;
  }
}

/* Copies the commits of `from` that lie wholly below `until`. */
static void copy_commits(struct memory_log *memory, const struct memory_log *from, uint64_t until) {
  uint64_t position = 1;
  for (size_t index = 0; index < from->chunk_count; index++) {
    const struct chunk *chunk = &from->chunks[index];
    for (size_t offset = 0; offset < chunk->size;) {
      struct prefix prefix;
      memcpy(&prefix, chunk->bytes + offset, sizeof(prefix));
      if (position + prefix.record_count > until)
        return;
      const uint8_t *records = chunk->bytes + offset + sizeof(prefix);
      cg_log_place place = store(memory, records, prefix.size, prefix.record_count, position);
      if (memory->log.options.replay)
        replay(memory, records, prefix.size, position, place);
      position += prefix.record_count;
      memory->log.next_position = position;
      offset += sizeof(prefix) + prefix.size;
    }
  }
}

enum cg_code cg_log_open_memory(struct cg_log **log, const struct cg_log_options *options,
                                struct cg_err *err) {
  struct memory_log *memory = cg_alloc(sizeof(*memory));
  enum cg_code code = cg_log_init(&memory->log, &memory_kind, options, err);
  if (code != CG_OK) {
    cg_free(memory);
    return code;
  }
  const struct cg_log *snapshot = memory->log.options.snapshot;
  memory->log.options.snapshot = NULL;
  if (snapshot) {
    assert(snapshot->kind == &memory_kind);
    copy_commits(memory, (const struct memory_log *)snapshot, UINT64_MAX);
    atomic_store_explicit(&memory->log.durable_position, memory->log.next_position,
                          memory_order_release);
  }
  *log = &memory->log;
  return CG_OK;
}

struct cg_log *cg_log_memory_snapshot(const struct cg_log *log, uint64_t until_position) {
  assert(log->kind == &memory_kind);
  struct memory_log *memory = cg_alloc(sizeof(*memory));
  memory->log.kind = &memory_kind;
  memory->log.options = log->options;
  memory->log.options.replay = NULL;
  memory->log.options.progress = NULL;
  memory->log.commit_bytes_max = log->commit_bytes_max;
  memory->log.next_position = 1;
  copy_commits(memory, (const struct memory_log *)log, until_position);
  atomic_store_explicit(&memory->log.durable_position, memory->log.next_position,
                        memory_order_release);
  return &memory->log;
}
