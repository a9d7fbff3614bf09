/* table_build.c - how the table of one segment is made: its records are collected stream by stream
 * in memory, and written when the streams are sorted.
 *
 * Owns: see table_build.h. Thread: any one. */
#include "store/table_build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/table_writer.h"

#define NO_RECORD UINT32_MAX
#define RESERVED_MAX (UINT32_C(1) << 23) /* Records that room is made for ahead. */

/* One record of the segment. */
struct collected {
  uint64_t version; /* In its stream. */
  uint32_t offset;  /* In the segment, / 8. */
  uint32_t index;   /* Position, from the segment's first. */
  uint32_t next;    /* The next one of the stream; NO_RECORD: none. */
};

/* One stream of the segment. */
struct gathered {
  struct cg_table_stream stream; /* As it will be written. */
  uint64_t name_at;              /* Offset of its name in names. */
  uint32_t first;                /* Its first record. */
  uint32_t last;                 /* Its last record. */
};

/* A table under construction. */
struct build {
  const struct cg_table_place *place; /* Where. */
  struct cg_map *map;                 /* Name to index of the stream. */
  struct cg_buf *names;               /* The names, one behind the other. */
  struct gathered *streams;           /* In order of appearance. */
  struct collected *records;          /* In order of position. */
  struct cg_log_waypoint *waypoints;  /* Of the segment. */
  uint32_t stream_count;              /* How many. */
  uint32_t stream_capacity;           /* Room in streams. */
  uint32_t record_count;              /* How many. */
  uint32_t record_capacity;           /* Room in records. */
  uint32_t waypoint_count;            /* How many. */
  uint32_t waypoint_capacity;         /* Room in waypoints. */
  struct cg_table_segment segment;    /* As it will be written. */
  struct cg_table_header header;      /* As it will be written. */
  enum cg_code code;                  /* Why the scan was ended by us. */
};

static bool on_record(void *arg, const struct cg_record *record, cg_log_place place);
static void on_waypoint(void *arg, const struct cg_log_waypoint *waypoint);
static void reserve(struct build *build, uint64_t record_count);
static enum cg_code write_table(struct build *build, struct cg_err *err);

enum cg_code cg_table_build(const struct cg_table_place *place, const struct cg_log_seal *seal,
                            struct cg_err *err) {
  struct build build = {.place = place,
                        .map = cg_map_new(cg_table_seed(place->log_id)),
                        .names = cg_buf_take(NULL, 0),
                        .segment = {.number = seal->number,
                                    .first_position = seal->first_position,
                                    .end_position = seal->end_position,
                                    .nonce = seal->nonce,
                                    .chain = seal->chain},
                        .header = {.segment_count = 1,
                                   .first_segment = seal->number,
                                   .first_position = seal->first_position,
                                   .end_position = seal->end_position}};
  memcpy(build.header.log_id, place->log_id, sizeof(build.header.log_id));
  reserve(&build, seal->end_position - seal->first_position);
  struct cg_log_scan scan = {.record = on_record, .waypoint = on_waypoint, .arg = &build};
  enum cg_code code = cg_log_scan(place->log_path, place->fs, seal, &scan, err);
  if (code == CG_ECANCELLED && build.code == CG_ECORRUPT)
    code = cg_err_set(err, CG_ECORRUPT, "segment %" PRIu64 ": the versions of a stream do not grow",
                      seal->number);
  if (code == CG_OK)
    code = write_table(&build, err);
  cg_map_free(build.map);
  cg_buf_unref(build.names);
  cg_free(build.streams);
  cg_free(build.records);
  cg_free(build.waypoints);
  return code;
}

/* --- collecting --- */

/* Makes room for what a segment can hold, so that nothing is moved under way. What is not used in
 * the end costs no memory. */
static void reserve(struct build *build, uint64_t record_count) {
  if (record_count == 0 || record_count > RESERVED_MAX)
    return; /* A scavenged one stands for more positions than it has records. */
  cg_map_reserve(build->map, record_count);
  build->record_capacity = (uint32_t)record_count;
  build->records = cg_alloc(record_count * sizeof(build->records[0]));
}

/* The stream of a record, which is made when it is new. */
static struct gathered *stream_of(struct build *build, const struct cg_record *record) {
  bool is_new;
  uint64_t *index = cg_map_put(build->map, record->stream, record->stream_size, &is_new);
  if (!is_new)
    return &build->streams[*index];
  if (build->stream_count == build->stream_capacity) {
    build->stream_capacity = build->stream_capacity == 0 ? 64 : build->stream_capacity * 2;
    build->streams = cg_realloc(build->streams, build->stream_capacity * sizeof(build->streams[0]));
  }
  *index = build->stream_count;
  struct gathered *stream = &build->streams[build->stream_count++];
  *stream = (struct gathered){
      .stream = {.first_version = record->version, .name_size = record->stream_size},
      .name_at = build->names->size,
      .first = NO_RECORD};
  cg_buf_append(build->names, record->stream, record->stream_size);
  return stream;
}

static uint8_t state_after(uint8_t state, uint16_t flags) {
  if ((flags & CG_RECORD_OPENS) != 0)
    state = CG_TABLE_OPENED;
  return (flags & CG_RECORD_CLOSES) != 0 ? CG_TABLE_CLOSED : state;
}

static void add_record(struct build *build, struct gathered *stream, const struct cg_record *record,
                       cg_log_place place) {
  if (build->record_count == build->record_capacity) {
    build->record_capacity = build->record_capacity == 0 ? 256 : build->record_capacity * 2;
    build->records = cg_realloc(build->records, build->record_capacity * sizeof(build->records[0]));
  }
  uint32_t at = build->record_count++;
  build->records[at] =
      (struct collected){.version = record->version,
                         .offset = (uint32_t)place,
                         .index = (uint32_t)(record->position - build->header.first_position),
                         .next = NO_RECORD};
  if (stream->first == NO_RECORD)
    stream->first = at;
  else
    build->records[stream->last].next = at;
  stream->last = at;
}

static bool on_record(void *arg, const struct cg_record *record, cg_log_place place) {
  struct build *build = arg;
  const atomic_bool *is_cancelled = build->place->is_cancelled;
  if (is_cancelled != NULL && atomic_load_explicit(is_cancelled, memory_order_relaxed))
    return false;
  struct gathered *gathered = stream_of(build, record);
  struct cg_table_stream *stream = &gathered->stream;
  if (stream->entry_count > 0 && record->version <= stream->last_version) {
    build->code = CG_ECORRUPT;
    return false;
  }
  if (stream->entry_count > 0 && record->version != stream->last_version + 1)
    stream->flags |= CG_TABLE_SPARSE;
  stream->last_version = record->version;
  stream->entry_count++;
  stream->state = state_after(stream->state, record->flags);
  add_record(build, gathered, record, place);
  if (record->id > build->header.last_id)
    build->header.last_id = record->id;
  if (build->record_count == 1)
    build->segment.first_time_ms = record->time_ms;
  build->segment.last_time_ms = record->time_ms;
  return true;
}

static void on_waypoint(void *arg, const struct cg_log_waypoint *waypoint) {
  struct build *build = arg;
  if (build->waypoint_count == build->waypoint_capacity) {
    build->waypoint_capacity = build->waypoint_capacity == 0 ? 16 : build->waypoint_capacity * 2;
    build->waypoints =
        cg_realloc(build->waypoints, build->waypoint_capacity * sizeof(build->waypoints[0]));
  }
  build->waypoints[build->waypoint_count++] = *waypoint;
}

/* --- writing --- */

static int compare_streams(const void *left, const void *right, void *arg) {
  const struct build *build = arg;
  const struct gathered *a = &build->streams[*(const uint32_t *)left];
  const struct gathered *b = &build->streams[*(const uint32_t *)right];
  return cg_table_compare((const char *)build->names->data + a->name_at, a->stream.name_size,
                          (const char *)build->names->data + b->name_at, b->stream.name_size);
}

static void count_all(struct build *build) {
  struct cg_table_header *header = &build->header;
  header->stream_count = build->stream_count;
  header->name_bytes = build->names->size;
  header->waypoint_count = build->segment.waypoint_count = build->waypoint_count;
  for (uint32_t index = 0; index < build->stream_count; index++)
    cg_table_count(header, &build->streams[index].stream);
}

static void write_stream(struct build *build, struct cg_table_writer *writer,
                         const struct gathered *stream) {
  cg_table_writer_stream(writer, &stream->stream,
                         (const char *)build->names->data + stream->name_at,
                         stream->stream.name_size);
  for (uint32_t at = stream->first; at != NO_RECORD; at = build->records[at].next) {
    const struct collected *record = &build->records[at];
    struct cg_table_entry entry = {.version = record->version,
                                   .position = build->header.first_position + record->index,
                                   .place = record->offset};
    cg_table_writer_entry(writer, &entry);
  }
}

static enum cg_code make_directory(const struct cg_table_place *place, struct cg_err *err) {
  int status = cg_io_mkdir(place->fs, place->directory);
  if (status < 0 && status != -EEXIST)
    return cg_err_set(err, cg_err_from_errno(-status), "make directory %s: %s", place->directory,
                      strerror(-status));
  return CG_OK;
}

static enum cg_code write_table(struct build *build, struct cg_err *err) {
  count_all(build);
  struct cg_table_writer writer;
  enum cg_code code = make_directory(build->place, err);
  if (code == CG_OK)
    code = cg_table_writer_open(&writer, build->place, &build->header, err);
  if (code != CG_OK)
    return code;
  uint32_t *order = cg_alloc(((size_t)build->stream_count + 1) * sizeof(order[0]));
  for (uint32_t index = 0; index < build->stream_count; index++)
    order[index] = index;
  qsort_r(order, build->stream_count, sizeof(order[0]), compare_streams, build);
  cg_table_writer_segment(&writer, &build->segment, build->waypoints);
  for (uint32_t index = 0; index < build->stream_count; index++)
    write_stream(build, &writer, &build->streams[order[index]]);
  cg_free(order);
  return cg_table_writer_finish(&writer, err);
}
