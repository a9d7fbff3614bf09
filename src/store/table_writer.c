/* table_writer.c - how a table is written: each section has a buffer and a place of its own, so all
 * grow side by side in one pass over the streams.
 *
 * Hashes are sorted afterwards, a range of them at a time, out of the streams that are in the file
 * then. The checks of the pages are last: the file is read once more for them.
 * Owns: see table_writer.h. Thread: any one. */
#include "store/table_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/io.h"
#include "base/mem.h"

#define STREAMS_AT_ONCE 1024u /* Read back together. */
#define PAGES_AT_ONCE 64u     /* Read back together. */
#define STREAMS_PER_BUCKET 4u /* About. */

static enum cg_code create(struct cg_table_writer *writer, struct cg_err *err);
static void write_at(struct cg_table_writer *writer, const void *bytes, size_t size,
                     uint64_t offset);
static void add(struct cg_table_writer *writer, struct cg_table_section *section, const void *bytes,
                size_t size);
static void flush(struct cg_table_writer *writer, struct cg_table_section *section);
static void write_hashes(struct cg_table_writer *writer);
static void write_checks(struct cg_table_writer *writer);
static void publish(struct cg_table_writer *writer);
static void deinit(struct cg_table_writer *writer);

/* The number of bits that makes buckets of about STREAMS_PER_BUCKET. */
static uint32_t bucket_bits_of(uint32_t stream_count) {
  uint32_t bits = 0;
  while (bits < 30 && (UINT64_C(1) << (bits + 1)) * STREAMS_PER_BUCKET <= stream_count)
    bits++;
  return bits;
}

enum cg_code cg_table_writer_open(struct cg_table_writer *writer,
                                  const struct cg_table_place *place,
                                  const struct cg_table_header *header, struct cg_err *err) {
  *writer = (struct cg_table_writer){.place = place,
                                     .handle = -1,
                                     .header = *header,
                                     .hash_seed = cg_table_seed(header->log_id),
                                     .sort_count_max = CG_TABLE_SORT_COUNT_MAX};
  struct cg_table_layout *layout = &writer->layout;
  writer->header.magic = CG_TABLE_MAGIC;
  writer->header.version = CG_TABLE_VERSION;
  writer->header.file_bytes = 0;
  writer->header.bucket_bits = bucket_bits_of(header->stream_count);
  if (!cg_table_lay_out(&writer->header, layout))
    return cg_err_set(err, CG_ELIMIT, "a table of so many segments or records is too large");
  writer->header.file_bytes = layout->end;
  uint64_t first = header->first_segment, last = first + header->segment_count - 1;
  writer->path = cg_table_path(place->directory, first, last, "");
  writer->temporary = cg_table_path(place->directory, first, last, place->temporary);
  writer->segments.offset = layout->segments;
  writer->waypoints.offset = layout->waypoints;
  writer->opened.offset = layout->opened;
  writer->closed.offset = layout->closed;
  writer->streams.offset = layout->streams;
  writer->buckets.offset = layout->buckets;
  writer->hashes.offset = layout->hashes;
  writer->units.offset = layout->units;
  writer->names.offset = layout->names;
  enum cg_code code = create(writer, err);
  if (code != CG_OK)
    deinit(writer);
  return code;
}

void cg_table_writer_segment(struct cg_table_writer *writer, const struct cg_table_segment *segment,
                             const struct cg_log_waypoint *waypoints) {
  struct cg_table_segment copy = *segment;
  copy.first_waypoint = writer->waypoint_count;
  writer->waypoint_count += copy.waypoint_count;
  add(writer, &writer->segments, &copy, sizeof(copy));
  for (uint64_t index = 0; index < copy.waypoint_count; index++)
    add(writer, &writer->waypoints, &waypoints[index], sizeof(waypoints[index]));
}

void cg_table_writer_stream(struct cg_table_writer *writer, const struct cg_table_stream *stream,
                            const char *name, size_t name_size) {
  struct cg_table_stream copy = *stream;
  uint32_t place = writer->stream_count++;
  copy.first_unit = writer->unit_count;
  copy.name_offset = writer->name_bytes;
  copy.name_size = (uint16_t)name_size;
  copy.hash = cg_table_hash(writer->hash_seed, name, name_size);
  writer->name_bytes += name_size;
  writer->is_sparse = (copy.flags & CG_TABLE_SPARSE) != 0;
  add(writer, &writer->streams, &copy, sizeof(copy));
  add(writer, &writer->names, name, name_size);
  if (copy.state == CG_TABLE_OPENED)
    add(writer, &writer->opened, &place, sizeof(place));
  else if (cg_table_was_before(&copy))
    add(writer, &writer->closed, &place, sizeof(place));
}

void cg_table_writer_entry(struct cg_table_writer *writer, const struct cg_table_entry *entry) {
  struct cg_table_unit unit = {.offset = (uint32_t)entry->place,
                               .distance =
                                   (uint32_t)(entry->position - writer->header.first_position)};
  add(writer, &writer->units, &unit, sizeof(unit));
  writer->unit_count++;
  if (!writer->is_sparse)
    return;
  add(writer, &writer->units, &entry->version, sizeof(entry->version));
  writer->unit_count++;
}

enum cg_code cg_table_writer_finish(struct cg_table_writer *writer, struct cg_err *err) {
  assert(writer->stream_count == writer->header.stream_count);
  assert(writer->unit_count == writer->header.unit_count);
  assert(writer->name_bytes == writer->header.name_bytes);
  assert(writer->waypoint_count == writer->header.waypoint_count);
  struct cg_table_section *const sections[] = {
      &writer->segments, &writer->waypoints, &writer->opened, &writer->closed,
      &writer->streams,  &writer->units,     &writer->names};
  for (size_t index = 0; index < sizeof(sections) / sizeof(sections[0]); index++)
    flush(writer, sections[index]);
  write_hashes(writer);
  write_checks(writer);
  publish(writer);
  enum cg_code code = writer->failure.code;
  if (code != CG_OK && err != NULL)
    *err = writer->failure;
  deinit(writer);
  return code;
}

void cg_table_writer_abandon(struct cg_table_writer *writer) {
  cg_err_set(&writer->failure, CG_ECANCELLED, "given up");
  deinit(writer);
}

/* --- files --- */

/* Keeps the first error. That a file is not there which was a moment ago is no lasting one. */
static void fail(struct cg_table_writer *writer, const char *what, int status) {
  enum cg_code code = status == -ENOENT ? CG_EBUSY : cg_err_from_errno(-status);
  if (writer->failure.code == CG_OK)
    cg_err_set(&writer->failure, code, "%s %s: %s", what, writer->temporary, strerror(-status));
}

/* Whether the work goes on. */
static bool goes_on(struct cg_table_writer *writer) {
  if (writer->failure.code == CG_OK && writer->place->is_cancelled != NULL &&
      atomic_load_explicit(writer->place->is_cancelled, memory_order_relaxed))
    cg_err_set(&writer->failure, CG_ECANCELLED, "the store is being closed");
  return writer->failure.code == CG_OK;
}

static enum cg_code create(struct cg_table_writer *writer, struct cg_err *err) {
  const struct cg_fs *fs = writer->place->fs;
  writer->handle = cg_io_open(fs, writer->temporary, CG_FS_OPEN_ALWAYS);
  int status = writer->handle < 0 ? writer->handle : fs->truncate(fs->arg, writer->handle, 0);
  if (status == 0)
    return CG_OK;
  fail(writer, "make", status);
  if (err != NULL)
    *err = writer->failure;
  return writer->failure.code;
}

static void write_at(struct cg_table_writer *writer, const void *bytes, size_t size,
                     uint64_t offset) {
  if (!goes_on(writer))
    return;
  int status = cg_io_write(writer->place->fs, writer->handle, bytes, size, offset);
  if (status < 0)
    fail(writer, "write", status);
}

/* Reads what has been written; what was not is zero. */
static void read_back(struct cg_table_writer *writer, void *bytes, size_t size, uint64_t offset) {
  memset(bytes, 0, size);
  if (!goes_on(writer))
    return;
  int64_t count = cg_io_read(writer->place->fs, writer->handle, bytes, size, offset);
  if (count < 0)
    fail(writer, "read", (int)count);
}

static void flush(struct cg_table_writer *writer, struct cg_table_section *section) {
  write_at(writer, section->bytes, section->size, section->offset);
  section->offset += section->size;
  section->size = 0;
}

static void add(struct cg_table_writer *writer, struct cg_table_section *section, const void *bytes,
                size_t size) {
  if (section->bytes == NULL)
    section->bytes = cg_alloc(CG_TABLE_BUFFER_BYTES);
  if (section->size + size > CG_TABLE_BUFFER_BYTES)
    flush(writer, section);
  memcpy(section->bytes + section->size, bytes, size);
  section->size += size;
}

static void deinit(struct cg_table_writer *writer) {
  struct cg_table_section *const sections[] = {
      &writer->segments, &writer->waypoints, &writer->opened, &writer->closed, &writer->streams,
      &writer->buckets,  &writer->hashes,    &writer->units,  &writer->names};
  for (size_t index = 0; index < sizeof(sections) / sizeof(sections[0]); index++)
    cg_free(sections[index]->bytes);
  if (writer->handle >= 0)
    writer->place->fs->close(writer->place->fs->arg, writer->handle);
  if (writer->failure.code != CG_OK && writer->temporary != NULL)
    writer->place->fs->unlink(writer->place->fs->arg, writer->temporary);
  cg_free(writer->path);
  cg_free(writer->temporary);
}

/* --- hashes --- */

/* Hashes of one range, with the places of their streams. */
struct range {
  uint64_t *items;   /* Hash << 32 | place. */
  uint32_t count;    /* How many. */
  uint32_t capacity; /* Room. */
};

static int compare_items(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

/* Collects the streams whose hash is from `begin` to below `end`. */
static void collect(struct cg_table_writer *writer, struct range *range, uint64_t begin,
                    uint64_t end) {
  struct cg_table_stream *streams = cg_alloc(STREAMS_AT_ONCE * sizeof(streams[0]));
  range->count = 0;
  for (uint32_t place = 0; place < writer->header.stream_count && goes_on(writer);) {
    uint32_t count = writer->header.stream_count - place;
    if (count > STREAMS_AT_ONCE)
      count = STREAMS_AT_ONCE;
    read_back(writer, streams, count * sizeof(streams[0]),
              writer->layout.streams + (uint64_t)place * sizeof(streams[0]));
    for (uint32_t index = 0; index < count; index++, place++) {
      if (streams[index].hash < begin || streams[index].hash >= end)
        continue;
      if (range->count == range->capacity) {
        range->capacity = range->capacity == 0 ? 1024 : range->capacity * 2;
        range->items = cg_realloc(range->items, range->capacity * sizeof(range->items[0]));
      }
      range->items[range->count++] = (uint64_t)streams[index].hash << 32 | place;
    }
  }
  cg_free(streams);
  if (range->count > 0)
    qsort(range->items, range->count, sizeof(range->items[0]), compare_items);
}

/* Writes hashes and buckets, one range of hashes after the other. */
static void write_hashes(struct cg_table_writer *writer) {
  uint32_t bits = writer->header.bucket_bits, range_bits = 0, written = 0;
  while (range_bits < bits && writer->header.stream_count >> range_bits > writer->sort_count_max)
    range_bits++;
  struct range range = {0};
  for (uint64_t number = 0; number < UINT64_C(1) << range_bits && goes_on(writer); number++) {
    collect(writer, &range, number << (32 - range_bits), (number + 1) << (32 - range_bits));
    uint64_t bucket = number << (bits - range_bits);
    uint64_t bucket_end = (number + 1) << (bits - range_bits);
    uint32_t index = 0;
    for (; bucket < bucket_end; bucket++) {
      while (bits > 0 && index < range.count && range.items[index] >> (64 - bits) < bucket)
        index++;
      uint32_t start = written + index;
      add(writer, &writer->buckets, &start, sizeof(start));
    }
    for (index = 0; index < range.count; index++)
      add(writer, &writer->hashes, &range.items[index], sizeof(range.items[index]));
    written += range.count;
  }
  add(writer, &writer->buckets, &written, sizeof(written));
  flush(writer, &writer->buckets);
  flush(writer, &writer->hashes);
  cg_free(range.items);
}

/* --- the end --- */

static void write_checks(struct cg_table_writer *writer) {
  uint8_t *pages = cg_alloc((size_t)PAGES_AT_ONCE * CG_TABLE_PAGE_BYTES);
  struct cg_table_section checks = {.offset = writer->layout.checks};
  uint64_t end = writer->layout.check_count + 1;
  for (uint64_t page = 1; page < end && goes_on(writer);) {
    uint64_t count = end - page < PAGES_AT_ONCE ? end - page : PAGES_AT_ONCE;
    read_back(writer, pages, count * CG_TABLE_PAGE_BYTES, page * CG_TABLE_PAGE_BYTES);
    for (uint64_t index = 0; index < count; index++, page++) {
      uint32_t crc = cg_table_page_crc(page, pages + index * CG_TABLE_PAGE_BYTES);
      writer->header.checks_crc = cg_crc32c(writer->header.checks_crc, &crc, sizeof(crc));
      add(writer, &checks, &crc, sizeof(crc));
    }
  }
  flush(writer, &checks);
  cg_free(checks.bytes);
  cg_free(pages);
}

/* Writes the header, syncs, renames, syncs the directory. */
static void publish(struct cg_table_writer *writer) {
  const struct cg_fs *fs = writer->place->fs;
  writer->header.crc = cg_crc32c(0, &writer->header, offsetof(struct cg_table_header, crc));
  write_at(writer, &writer->header, sizeof(writer->header), 0);
  if (!goes_on(writer))
    return;
  int status = cg_io_sync(fs, writer->handle);
  if (status < 0)
    return fail(writer, "sync", status);
  status = cg_io_rename(fs, writer->temporary, writer->path);
  if (status < 0)
    return fail(writer, "rename", status);
  status = cg_io_sync_dir(fs, writer->place->directory);
  if (status < 0)
    fail(writer, "sync the directory of", status);
}
