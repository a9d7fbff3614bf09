/* table_merge.c - how tables are merged: the parts are walked side by side in the order of names,
 * twice, first to count and then to write. Nothing of a table but what a stream needs is in memory.
 *
 * Owns: nothing after return. Thread: any one. */
#include <string.h>

#include "base/mem.h"
#include "store/table_build.h"
#include "store/table_writer.h"

/* A part, and how far it has been walked. */
struct walk {
  struct cg_table *table;        /* What is walked. */
  uint64_t first_position;       /* Of the segments that are taken. */
  uint64_t end_position;         /* Behind them. */
  uint32_t next;                 /* Place of the stream under it. */
  struct cg_table_stream stream; /* That stream; only when `next` is within the table. */
  const char *name;              /* Its name. */
  uint32_t begin;                /* Index of its first entry that is taken. */
  uint32_t end;                  /* Behind the last. */
  bool is_here;                  /* It is the stream that is being merged. */
};

/* A merge under way. */
struct merge {
  const struct cg_table_place *place;    /* Where. */
  struct walk walks[CG_TABLE_PARTS_MAX]; /* The parts. */
  uint32_t count;                        /* How many. */
  uint32_t corrupt;                      /* The one that is damaged. */
  struct cg_table_header header;         /* As it will be written. */
  struct cg_table_stream stream;         /* The one being merged. */
  const char *name;                      /* Its name; NULL: there are no more. */
};

/* Reads the stream under a walk. */
static enum cg_code load(struct merge *merge, uint32_t index, struct cg_err *err) {
  struct walk *walk = &merge->walks[index];
  if (walk->next == walk->table->header.stream_count)
    return CG_OK;
  merge->corrupt = index;
  return cg_table_stream(walk->table, walk->next, &walk->stream, &walk->name, err);
}

/* The index of the stream's first entry at or behind a position. */
static enum cg_code seek_position(struct walk *walk, uint64_t position, uint32_t *index,
                                  struct cg_err *err) {
  uint32_t low = 0, high = walk->stream.entry_count;
  if (position <= walk->table->header.first_position)
    high = 0;
  else if (position >= walk->table->header.end_position)
    low = high;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    struct cg_table_entry entry;
    enum cg_code code = cg_table_entry(walk->table, &walk->stream, middle, &entry, err);
    if (code != CG_OK)
      return code;
    if (entry.position < position)
      low = middle + 1;
    else
      high = middle;
  }
  *index = low;
  return CG_OK;
}

/* Adds what a part has of the stream being merged. */
static enum cg_code take(struct merge *merge, uint32_t index, struct cg_err *err) {
  struct walk *walk = &merge->walks[index];
  struct cg_table_stream *stream = &merge->stream;
  merge->corrupt = index;
  enum cg_code code = seek_position(walk, walk->first_position, &walk->begin, err);
  if (code == CG_OK)
    code = seek_position(walk, walk->end_position, &walk->end, err);
  if (code != CG_OK)
    return code;
  if (walk->stream.last_version >= stream->last_version)
    stream->last_version = walk->stream.last_version;
  if (walk->stream.state != CG_TABLE_UNCHANGED)
    stream->state = walk->stream.state;
  if (walk->begin >= walk->end)
    return CG_OK;
  struct cg_table_entry first;
  code = cg_table_entry(walk->table, &walk->stream, walk->begin, &first, err);
  if (code == CG_OK && stream->entry_count == 0)
    stream->first_version = first.version;
  stream->entry_count += walk->end - walk->begin;
  return code;
}

/* Goes to the next stream by name and puts together what the parts have of it. */
static enum cg_code step(struct merge *merge, struct cg_err *err) {
  merge->name = NULL;
  for (uint32_t index = 0; index < merge->count; index++) {
    const struct walk *walk = &merge->walks[index];
    if (walk->next < walk->table->header.stream_count &&
        (merge->name == NULL || cg_table_compare(walk->name, walk->stream.name_size, merge->name,
                                                 merge->stream.name_size) < 0)) {
      merge->name = walk->name;
      merge->stream = (struct cg_table_stream){.name_size = walk->stream.name_size};
    }
  }
  const atomic_bool *is_cancelled = merge->place->is_cancelled;
  if (is_cancelled != NULL && atomic_load_explicit(is_cancelled, memory_order_relaxed))
    return cg_err_set(err, CG_ECANCELLED, "the store is being closed");
  struct cg_table_stream *stream = &merge->stream;
  for (uint32_t index = 0; merge->name != NULL && index < merge->count; index++) {
    struct walk *walk = &merge->walks[index];
    walk->is_here =
        walk->next < walk->table->header.stream_count &&
        cg_table_compare(walk->name, walk->stream.name_size, merge->name, stream->name_size) == 0;
    enum cg_code code = walk->is_here ? take(merge, index, err) : CG_OK;
    if (code != CG_OK)
      return code;
  }
  if (stream->entry_count == 0)
    stream->first_version = stream->last_version + 1;
  if (stream->first_version + stream->entry_count != stream->last_version + 1)
    stream->flags = CG_TABLE_SPARSE;
  return CG_OK;
}

/* Goes on behind the stream that was merged. */
static enum cg_code advance(struct merge *merge, struct cg_err *err) {
  for (uint32_t index = 0; index < merge->count; index++) {
    if (!merge->walks[index].is_here)
      continue;
    merge->walks[index].next++;
    enum cg_code code = load(merge, index, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* Back to the first stream. */
static enum cg_code rewind_all(struct merge *merge, struct cg_err *err) {
  for (uint32_t index = 0; index < merge->count; index++) {
    merge->walks[index].next = 0;
    enum cg_code code = load(merge, index, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* Copies the entries of the stream that was merged. */
static enum cg_code copy_entries(struct merge *merge, struct cg_table_writer *writer,
                                 struct cg_err *err) {
  for (uint32_t index = 0; index < merge->count; index++) {
    struct walk *walk = &merge->walks[index];
    merge->corrupt = index;
    for (uint32_t at = walk->begin; walk->is_here && at < walk->end; at++) {
      struct cg_table_entry entry;
      enum cg_code code = cg_table_entry(walk->table, &walk->stream, at, &entry, err);
      if (code != CG_OK)
        return code;
      cg_table_writer_entry(writer, &entry);
    }
  }
  return CG_OK;
}

/* Walks over all streams; counts them when there is no writer. */
static enum cg_code walk_all(struct merge *merge, struct cg_table_writer *writer,
                             struct cg_err *err) {
  enum cg_code code = rewind_all(merge, err);
  while (code == CG_OK && (code = step(merge, err)) == CG_OK && merge->name != NULL) {
    if (writer == NULL) {
      merge->header.stream_count++;
      merge->header.name_bytes += merge->stream.name_size;
      cg_table_count(&merge->header, &merge->stream);
    } else {
      cg_table_writer_stream(writer, &merge->stream, merge->name, merge->stream.name_size);
      code = copy_entries(merge, writer, err);
    }
    if (code == CG_OK)
      code = advance(merge, err);
  }
  return code;
}

/* Writes the segments that are taken. */
static enum cg_code write_segments(struct merge *merge, const struct cg_table_part *parts,
                                   struct cg_table_writer *writer, struct cg_err *err) {
  for (uint32_t index = 0; index < merge->count; index++) {
    struct cg_table *table = parts[index].table;
    merge->corrupt = index;
    for (uint32_t at = 0; at < parts[index].segment_count; at++) {
      const struct cg_table_segment *segment = &table->segments[parts[index].first_segment + at];
      const struct cg_log_waypoint *waypoints;
      enum cg_code code = cg_table_waypoints(table, segment, &waypoints, err);
      if (code != CG_OK)
        return code;
      cg_table_writer_segment(writer, segment, waypoints);
    }
  }
  return CG_OK;
}

/* Puts the parts into the merge and its header. */
static void begin(struct merge *merge, const struct cg_table_part *parts) {
  struct cg_table_header *header = &merge->header;
  memcpy(header->log_id, merge->place->log_id, sizeof(header->log_id));
  for (uint32_t index = 0; index < merge->count; index++) {
    const struct cg_table_part *part = &parts[index];
    struct walk *walk = &merge->walks[index];
    walk->table = part->table;
    if (part->table->header.last_id > header->last_id)
      header->last_id = part->table->header.last_id;
    const struct cg_table_segment *segments = part->table->segments + part->first_segment;
    for (uint32_t at = 0; at < part->segment_count; at++) {
      if (header->segment_count++ == 0) {
        header->first_segment = segments[at].number;
        header->first_position = segments[at].first_position;
      }
      header->waypoint_count += segments[at].waypoint_count;
      header->end_position = walk->end_position = segments[at].end_position;
    }
    if (part->segment_count > 0)
      walk->first_position = segments[0].first_position;
  }
}

enum cg_code cg_table_merge(const struct cg_table_place *place, const struct cg_table_part *parts,
                            uint32_t part_count, uint32_t *corrupt, struct cg_err *err) {
  struct merge merge = {.place = place, .count = part_count};
  begin(&merge, parts);
  enum cg_code code = walk_all(&merge, NULL, err);
  struct cg_table_writer writer;
  if (code == CG_OK)
    code = cg_table_writer_open(&writer, place, &merge.header, err);
  if (code == CG_OK) {
    code = write_segments(&merge, parts, &writer, err);
    if (code == CG_OK)
      code = walk_all(&merge, &writer, err);
    if (code == CG_OK)
      code = cg_table_writer_finish(&writer, err);
    else
      cg_table_writer_abandon(&writer);
  }
  if (corrupt != NULL)
    *corrupt = merge.corrupt;
  return code;
}
