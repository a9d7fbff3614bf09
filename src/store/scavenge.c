/* scavenge.c - how a segment is surveyed: by a log cursor between its two positions, twice.
 *
 * Owns: see scavenge.h. Thread: one at a time. */
#include "store/scavenge.h"

#include <assert.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"

#define STREAMS_START 64u

/* A stream that has records in the segment. */
struct stream {
  char *name;                    /* Its name. */
  size_t name_size;              /* Bytes of it. */
  uint64_t first_version;        /* Lowest version in the segment. */
  int64_t first_time_ms;         /* Earliest time in the segment. */
  struct cg_retention retention; /* What is kept of it. */
};

/* A segment being looked at. */
struct cg_scavenge {
  struct cg_log *log;               /* Where it is. */
  struct cg_log_seal seal;          /* Which one. */
  struct cg_log_cursor *cursor;     /* Of the survey or weighing under way, or NULL. */
  struct cg_map *names;             /* Name to place. */
  struct stream *streams;           /* By place. */
  uint32_t stream_count;            /* How many. */
  uint32_t stream_capacity;         /* Room in streams. */
  struct cg_scavenge_weight weight; /* Of what was weighed so far. */
  bool is_surveyed;                 /* All streams are known. */
};

/* Sees one record. */
typedef void (*record_fn)(struct cg_scavenge *scavenge, const struct cg_record *record);

static enum cg_code walk(struct cg_scavenge *scavenge, uint32_t record_count_max, record_fn see,
                         bool *is_done, struct cg_err *err);
static void see_stream(struct cg_scavenge *scavenge, const struct cg_record *record);
static void see_weight(struct cg_scavenge *scavenge, const struct cg_record *record);

struct cg_scavenge *cg_scavenge_new(struct cg_log *log, const struct cg_log_seal *seal) {
  struct cg_scavenge *scavenge = cg_alloc(sizeof(*scavenge));
  *scavenge = (struct cg_scavenge){.log = log, .seal = *seal};
  scavenge->names = cg_map_new(seal->nonce ^ (uintptr_t)scavenge);
  return scavenge;
}

void cg_scavenge_stop(struct cg_scavenge *scavenge) {
  cg_log_cursor_free(scavenge->cursor);
  scavenge->cursor = NULL;
}

void cg_scavenge_free(struct cg_scavenge *scavenge) {
  if (scavenge == NULL)
    return;
  cg_log_cursor_free(scavenge->cursor);
  cg_map_free(scavenge->names);
  for (uint32_t place = 0; place < scavenge->stream_count; place++)
    cg_free(scavenge->streams[place].name);
  cg_free(scavenge->streams);
  cg_free(scavenge);
}

enum cg_code cg_scavenge_survey(struct cg_scavenge *scavenge, uint32_t record_count_max,
                                bool *is_done, struct cg_err *err) {
  assert(!scavenge->is_surveyed);
  enum cg_code code = walk(scavenge, record_count_max, see_stream, is_done, err);
  scavenge->is_surveyed = code == CG_OK && *is_done;
  return code;
}

uint32_t cg_scavenge_stream_count(const struct cg_scavenge *scavenge) {
  return scavenge->stream_count;
}

const char *cg_scavenge_name(const struct cg_scavenge *scavenge, uint32_t place, size_t *size) {
  assert(place < scavenge->stream_count);
  *size = scavenge->streams[place].name_size;
  return scavenge->streams[place].name;
}

void cg_scavenge_decide(struct cg_scavenge *scavenge, uint32_t place,
                        const struct cg_retention *retention) {
  assert(place < scavenge->stream_count);
  scavenge->streams[place].retention = *retention;
}

bool cg_scavenge_may_drop(const struct cg_scavenge *scavenge) {
  for (uint32_t place = 0; place < scavenge->stream_count; place++) {
    const struct stream *stream = &scavenge->streams[place];
    if (stream->first_version < stream->retention.first_version ||
        stream->first_time_ms < stream->retention.since_ms)
      return true;
  }
  return false;
}

enum cg_code cg_scavenge_weigh(struct cg_scavenge *scavenge, uint32_t record_count_max,
                               bool *is_done, struct cg_err *err) {
  assert(scavenge->is_surveyed);
  if (scavenge->cursor == NULL)
    scavenge->weight = (struct cg_scavenge_weight){.record_count = 0};
  return walk(scavenge, record_count_max, see_weight, is_done, err);
}

void cg_scavenge_weight(const struct cg_scavenge *scavenge, struct cg_scavenge_weight *weight) {
  *weight = scavenge->weight;
}

bool cg_scavenge_keeps(void *arg, const struct cg_record *record) {
  struct cg_scavenge *scavenge = arg;
  const uint64_t *place = cg_map_find(scavenge->names, record->stream, record->stream_size);
  return place == NULL ||
         cg_retention_keeps(&scavenge->streams[*place].retention, record->version, record->time_ms);
}

/* Goes on through the segment's records. */
static enum cg_code walk(struct cg_scavenge *scavenge, uint32_t record_count_max, record_fn see,
                         bool *is_done, struct cg_err *err) {
  *is_done = false;
  if (scavenge->cursor == NULL)
    scavenge->cursor = cg_log_cursor_new(scavenge->log, scavenge->seal.first_position - 1);
  for (uint32_t seen = 0; seen < record_count_max; seen++) {
    struct cg_record record;
    enum cg_code code =
        cg_log_cursor_next(scavenge->cursor, scavenge->seal.end_position, &record, err);
    if (code == CG_OK) {
      see(scavenge, &record);
      continue;
    }
    cg_log_cursor_free(scavenge->cursor);
    scavenge->cursor = NULL;
    *is_done = code == CG_END;
    return code == CG_END ? CG_OK : code;
  }
  return CG_OK;
}

static struct stream *add_stream(struct cg_scavenge *scavenge, const struct cg_record *record) {
  if (scavenge->stream_count == scavenge->stream_capacity) {
    scavenge->stream_capacity =
        scavenge->stream_capacity == 0 ? STREAMS_START : scavenge->stream_capacity * 2;
    scavenge->streams =
        cg_realloc(scavenge->streams, scavenge->stream_capacity * sizeof(scavenge->streams[0]));
  }
  struct stream *stream = &scavenge->streams[scavenge->stream_count++];
  *stream = (struct stream){.name = cg_alloc(record->stream_size + 1u),
                            .name_size = record->stream_size,
                            .first_version = record->version,
                            .first_time_ms = record->time_ms,
                            .retention.kept_version = CG_RETENTION_NO_VERSION};
  memcpy(stream->name, record->stream, record->stream_size);
  return stream;
}

static void see_stream(struct cg_scavenge *scavenge, const struct cg_record *record) {
  bool is_new;
  uint64_t *place = cg_map_put(scavenge->names, record->stream, record->stream_size, &is_new);
  if (is_new) {
    *place = scavenge->stream_count;
    add_stream(scavenge, record);
    return;
  }
  struct stream *stream = &scavenge->streams[*place];
  if (record->time_ms < stream->first_time_ms)
    stream->first_time_ms = record->time_ms;
}

static void see_weight(struct cg_scavenge *scavenge, const struct cg_record *record) {
  uint64_t size = cg_record_size(record->stream_size, record->type_size, record->metadata_size,
                                 record->data_size);
  struct cg_scavenge_weight *weight = &scavenge->weight;
  weight->record_count++;
  weight->record_bytes += size;
  if (cg_scavenge_keeps(scavenge, record))
    return;
  weight->dropped_count++;
  weight->dropped_bytes += size;
}
