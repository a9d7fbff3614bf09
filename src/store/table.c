/* table.c - how a table is read: every access first makes sure that the pages it touches are
 * checked, and that numbers out of the file stay within their sections.
 *
 * Owns: see table.h. Thread: one at a time. */
#include "store/table.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/map.h"
#include "base/mem.h"

#define BUCKET_BITS_MAX 31u
#define HEADER_CRC_BYTES offsetof(struct cg_table_header, crc)

/* The layout is that of the structs: no hidden bytes. */
_Static_assert(sizeof(struct cg_table_header) == 120, "header");
_Static_assert(sizeof(struct cg_table_segment) == 64, "segment");
_Static_assert(sizeof(struct cg_table_stream) == 48, "stream");
_Static_assert(sizeof(struct cg_table_unit) == 8, "unit");
_Static_assert(sizeof(struct cg_log_waypoint) == 16, "waypoint");

static enum cg_code map_file(struct cg_table *table, const char *path, struct cg_err *err);
static enum cg_code check_header(struct cg_table *table, struct cg_err *err);
static enum cg_code check_segments(struct cg_table *table, struct cg_err *err);
static enum cg_code touch(struct cg_table *table, uint64_t offset, uint64_t size,
                          struct cg_err *err);

enum cg_code cg_table_open(struct cg_table **out, const struct cg_fs *fs, const char *path,
                           struct cg_err *err) {
  struct cg_table *table = cg_alloc(sizeof(*table));
  table->fs = fs;
  enum cg_code code = map_file(table, path, err);
  if (code == CG_OK)
    code = check_header(table, err);
  if (code == CG_OK)
    code = check_segments(table, err);
  if (code != CG_OK) {
    cg_table_free(table);
    return cg_err_prefix(err, "%s", path), code;
  }
  table->hash_seed = cg_table_seed(table->header.log_id);
  *out = table;
  return CG_OK;
}

void cg_table_free(struct cg_table *table) {
  if (table == NULL)
    return;
  if (table->bytes != NULL)
    table->fs->unmap(table->fs->arg, table->bytes, table->header.file_bytes);
  cg_free(table->checked);
  cg_free(table);
}

enum cg_code cg_table_match(const struct cg_table *table, const uint8_t log_id[16],
                            const struct cg_log_seal *seals, struct cg_err *err) {
  if (memcmp(table->header.log_id, log_id, sizeof(table->header.log_id)) != 0)
    return cg_err_set(err, CG_ECONFLICT, "the table is of another log");
  for (uint32_t index = 0; index < table->header.segment_count; index++) {
    const struct cg_table_segment *segment = &table->segments[index];
    const struct cg_log_seal *seal = &seals[index];
    if (segment->number != seal->number || segment->first_position != seal->first_position ||
        segment->end_position != seal->end_position || segment->nonce != seal->nonce ||
        segment->chain != seal->chain)
      return cg_err_set(err, CG_ECONFLICT, "the table is of another file of segment %" PRIu64,
                        seal->number);
  }
  return CG_OK;
}

uint64_t cg_table_last_segment(const struct cg_table *table) {
  return table->header.first_segment + table->header.segment_count - 1;
}

/* --- opening --- */

static enum cg_code map_file(struct cg_table *table, const char *path, struct cg_err *err) {
  const struct cg_fs *fs = table->fs;
  int handle = fs->open(fs->arg, path, CG_FS_READ);
  if (handle < 0)
    return cg_err_set(err, cg_err_from_errno(-handle), "open: %s", strerror(-handle));
  int64_t size = fs->size(fs->arg, handle);
  int status = size < 0 ? (int)size : 0;
  if (status == 0 && size >= 2 * (int64_t)CG_TABLE_PAGE_BYTES)
    status = fs->map(fs->arg, handle, (uint64_t)size, &table->bytes);
  fs->close(fs->arg, handle);
  if (status < 0)
    return cg_err_set(err, cg_err_from_errno(-status), "read: %s", strerror(-status));
  if (table->bytes == NULL)
    return cg_err_set(err, CG_ECORRUPT, "the file has only %" PRId64 " bytes", size);
  table->header.file_bytes = (uint64_t)size;
  return CG_OK;
}

static enum cg_code check_header(struct cg_table *table, struct cg_err *err) {
  uint64_t size = table->header.file_bytes;
  struct cg_table_header header;
  memcpy(&header, table->bytes, sizeof(header));
  const char *wrong = NULL;
  if (header.magic != CG_TABLE_MAGIC)
    wrong = "offset 0: this is no table of this machine";
  else if (header.crc != cg_crc32c(0, table->bytes, HEADER_CRC_BYTES))
    wrong = "offset 0: the header has a wrong CRC";
  else if (header.version != CG_TABLE_VERSION)
    wrong = "offset 8: the table has another format version";
  else if (!cg_table_lay_out(&header, &table->layout) || header.file_bytes != size)
    wrong = "offset 0: the header does not fit the file";
  else if (header.checks_crc !=
           cg_crc32c(0, table->bytes + table->layout.checks, table->layout.check_count * 4))
    wrong = "the checks of the pages have a wrong CRC";
  if (wrong != NULL)
    return cg_err_set(err, CG_ECORRUPT, "%s", wrong);
  table->header = header;
  table->checked = cg_alloc((table->layout.check_count / 64 + 1) * sizeof(table->checked[0]));
  return CG_OK;
}

/* The segments must join, and their waypoints be there. */
static enum cg_code check_segments(struct cg_table *table, struct cg_err *err) {
  const struct cg_table_header *header = &table->header;
  enum cg_code code = touch(table, table->layout.segments,
                            (uint64_t)header->segment_count * sizeof(struct cg_table_segment), err);
  if (code != CG_OK)
    return code;
  table->segments = (const struct cg_table_segment *)(table->bytes + table->layout.segments);
  uint64_t position = header->first_position, waypoint = 0;
  for (uint32_t index = 0; index < header->segment_count; index++) {
    const struct cg_table_segment *segment = &table->segments[index];
    if (segment->number != header->first_segment + index || segment->first_position != position ||
        segment->end_position < position || segment->first_waypoint != waypoint ||
        segment->waypoint_count > header->waypoint_count - waypoint)
      return cg_err_set(err, CG_ECORRUPT, "the segments do not join");
    position = segment->end_position;
    waypoint += segment->waypoint_count;
  }
  if (position != header->end_position || waypoint != header->waypoint_count)
    return cg_err_set(err, CG_ECORRUPT, "the segments do not fit the header");
  return CG_OK;
}

/* Checks the CRC of a page. */
static enum cg_code check_page(struct cg_table *table, uint64_t page, struct cg_err *err) {
  uint32_t stated;
  memcpy(&stated, table->bytes + table->layout.checks + (page - 1) * 4, sizeof(stated));
  if (stated != cg_table_page_crc(page, table->bytes + page * CG_TABLE_PAGE_BYTES))
    return cg_err_set(err, CG_ECORRUPT,
                      "table of segment %" PRIu64 ": offset %" PRIu64 ": the page has a wrong CRC",
                      table->header.first_segment, page * CG_TABLE_PAGE_BYTES);
  table->checked[page / 64] |= UINT64_C(1) << page % 64;
  return CG_OK;
}

/* Makes sure that the pages of these bytes, which lie between header and checks, are checked. */
static enum cg_code touch(struct cg_table *table, uint64_t offset, uint64_t size,
                          struct cg_err *err) {
  uint64_t last = (offset + size - (size > 0)) / CG_TABLE_PAGE_BYTES;
  for (uint64_t page = offset / CG_TABLE_PAGE_BYTES; page <= last && size > 0; page++) {
    if ((table->checked[page / 64] >> page % 64 & 1) != 0)
      continue;
    enum cg_code code = check_page(table, page, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* A number in a page that is checked makes no sense: the program that wrote it had an error. */
static enum cg_code senseless(const struct cg_table *table, const char *what, struct cg_err *err) {
  return cg_err_set(err, CG_ECORRUPT, "table of segment %" PRIu64 ": %s",
                    table->header.first_segment, what);
}

/* --- streams --- */

enum cg_code cg_table_stream(struct cg_table *table, uint32_t place, struct cg_table_stream *stream,
                             const char **name, struct cg_err *err) {
  assert(place < table->header.stream_count);
  uint64_t offset = table->layout.streams + (uint64_t)place * sizeof(*stream);
  enum cg_code code = touch(table, offset, sizeof(*stream), err);
  if (code != CG_OK)
    return code;
  memcpy(stream, table->bytes + offset, sizeof(*stream));
  uint64_t units = (uint64_t)stream->entry_count * (stream->flags & CG_TABLE_SPARSE ? 2 : 1);
  bool has_gaps = stream->first_version + stream->entry_count != stream->last_version + 1;
  if (stream->name_offset > table->header.name_bytes || stream->name_size == 0 ||
      stream->name_size > table->header.name_bytes - stream->name_offset ||
      stream->first_unit > table->header.unit_count ||
      units > table->header.unit_count - stream->first_unit || stream->state > CG_TABLE_CLOSED ||
      (stream->flags & ~CG_TABLE_SPARSE) != 0 || stream->last_version >= UINT64_MAX / 2 ||
      stream->first_version > stream->last_version + 1 ||
      (has_gaps && (stream->flags & CG_TABLE_SPARSE) == 0))
    return senseless(table, "a stream makes no sense", err);
  if (name == NULL)
    return CG_OK;
  *name = (const char *)table->bytes + table->layout.names + stream->name_offset;
  return touch(table, table->layout.names + stream->name_offset, stream->name_size, err);
}

enum cg_code cg_table_find(struct cg_table *table, uint32_t hash, const char *name, size_t size,
                           uint32_t *place, struct cg_err *err) {
  uint64_t bucket = (uint64_t)hash >> (32 - table->header.bucket_bits);
  uint64_t offset = table->layout.buckets + bucket * 4;
  enum cg_code code = touch(table, offset, 8, err);
  if (code != CG_OK)
    return code;
  uint32_t range[2];
  memcpy(range, table->bytes + offset, sizeof(range));
  if (range[0] > range[1] || range[1] > table->header.stream_count)
    return senseless(table, "a bucket makes no sense", err);
  offset = table->layout.hashes + (uint64_t)range[0] * 8;
  code = touch(table, offset, (uint64_t)(range[1] - range[0]) * 8, err);
  for (; code == CG_OK && range[0] < range[1]; range[0]++, offset += 8) {
    uint64_t item;
    memcpy(&item, table->bytes + offset, sizeof(item));
    if (item >> 32 != hash)
      continue;
    if ((uint32_t)item >= table->header.stream_count)
      return senseless(table, "a hash makes no sense", err);
    struct cg_table_stream stream;
    const char *found;
    code = cg_table_stream(table, (uint32_t)item, &stream, &found, err);
    if (code == CG_OK && stream.name_size == size && memcmp(found, name, size) == 0) {
      *place = (uint32_t)item;
      return CG_OK;
    }
  }
  return code == CG_OK ? CG_ENOTFOUND : code;
}

enum cg_code cg_table_seek(struct cg_table *table, const char *name, size_t size, uint32_t *place,
                           struct cg_err *err) {
  uint32_t low = 0, high = table->header.stream_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    struct cg_table_stream stream;
    const char *found;
    enum cg_code code = cg_table_stream(table, middle, &stream, &found, err);
    if (code != CG_OK)
      return code;
    if (cg_table_compare(found, stream.name_size, name, size) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  *place = low;
  return CG_OK;
}

/* --- entries --- */

/* The segment that holds a position; NULL when there is none. */
static const struct cg_table_segment *segment_of(const struct cg_table *table, uint64_t position) {
  uint32_t low = 0, high = table->header.segment_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (table->segments[middle].end_position <= position)
      low = middle + 1;
    else
      high = middle;
  }
  return low < table->header.segment_count ? &table->segments[low] : NULL;
}

enum cg_code cg_table_entry(struct cg_table *table, const struct cg_table_stream *stream,
                            uint32_t index, struct cg_table_entry *entry, struct cg_err *err) {
  assert(index < stream->entry_count);
  bool is_sparse = (stream->flags & CG_TABLE_SPARSE) != 0;
  uint64_t step = is_sparse ? 16 : 8;
  uint64_t offset = table->layout.units + stream->first_unit * 8 + index * step;
  enum cg_code code = touch(table, offset, step, err);
  if (code != CG_OK)
    return code;
  struct cg_table_unit unit;
  memcpy(&unit, table->bytes + offset, sizeof(unit));
  entry->version = stream->first_version + index;
  if (is_sparse)
    memcpy(&entry->version, table->bytes + offset + 8, sizeof(entry->version));
  entry->position = table->header.first_position + unit.distance;
  const struct cg_table_segment *segment = segment_of(table, entry->position);
  if (segment == NULL)
    return senseless(table, "an entry lies behind the last segment", err);
  entry->place = segment->number << 32 | unit.offset;
  return CG_OK;
}

enum cg_code cg_table_seek_version(struct cg_table *table, const struct cg_table_stream *stream,
                                   uint64_t version, uint32_t *index, struct cg_err *err) {
  if (version <= stream->first_version) {
    *index = 0;
    return CG_OK;
  }
  if ((stream->flags & CG_TABLE_SPARSE) == 0) {
    uint64_t distance = version - stream->first_version;
    *index = distance < stream->entry_count ? (uint32_t)distance : stream->entry_count;
    return CG_OK;
  }
  uint32_t low = 0, high = stream->entry_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    struct cg_table_entry entry;
    enum cg_code code = cg_table_entry(table, stream, middle, &entry, err);
    if (code != CG_OK)
      return code;
    if (entry.version < version)
      low = middle + 1;
    else
      high = middle;
  }
  *index = low;
  return CG_OK;
}

/* --- lists --- */

/* Checks a section of places of streams. */
static enum cg_code list_of(struct cg_table *table, uint64_t offset, uint32_t count,
                            const uint32_t **places, struct cg_err *err) {
  enum cg_code code = touch(table, offset, (uint64_t)count * 4, err);
  *places = (const uint32_t *)(table->bytes + offset);
  for (uint32_t index = 0; code == CG_OK && index < count; index++)
    if ((*places)[index] >= table->header.stream_count)
      code = senseless(table, "a list of streams makes no sense", err);
  return code;
}

enum cg_code cg_table_opened(struct cg_table *table, const uint32_t **places, struct cg_err *err) {
  return list_of(table, table->layout.opened, table->header.opened_count, places, err);
}

enum cg_code cg_table_closed(struct cg_table *table, const uint32_t **places, struct cg_err *err) {
  return list_of(table, table->layout.closed, table->header.closed_count, places, err);
}

enum cg_code cg_table_waypoints(struct cg_table *table, const struct cg_table_segment *segment,
                                const struct cg_log_waypoint **waypoints, struct cg_err *err) {
  uint64_t offset =
      table->layout.waypoints + segment->first_waypoint * sizeof(struct cg_log_waypoint);
  *waypoints = (const struct cg_log_waypoint *)(table->bytes + offset);
  return touch(table, offset, segment->waypoint_count * sizeof(struct cg_log_waypoint), err);
}

/* --- what writer and reader share --- */

uint64_t cg_table_seed(const uint8_t log_id[16]) {
  uint64_t seed;
  memcpy(&seed, log_id, sizeof(seed));
  return seed;
}

uint32_t cg_table_hash(uint64_t seed, const char *name, size_t size) {
  return cg_map_hash(seed, name, size);
}

/* Puts a section behind the ones before; false: the numbers are too large. */
static bool place_section(uint64_t *end, uint64_t *offset, uint64_t count, uint64_t item_bytes) {
  if (count > (UINT64_C(1) << 56) / item_bytes)
    return false;
  *offset = *end;
  *end = (*end + count * item_bytes + 7) & ~UINT64_C(7);
  return *end < UINT64_C(1) << 60;
}

bool cg_table_lay_out(const struct cg_table_header *header, struct cg_table_layout *layout) {
  uint64_t end = CG_TABLE_PAGE_BYTES;
  if (header->segment_count == 0 || header->segment_count > CG_TABLE_SEGMENTS_MAX ||
      header->bucket_bits > BUCKET_BITS_MAX || header->end_position < header->first_position ||
      header->end_position - header->first_position > UINT32_MAX)
    return false;
  uint64_t bucket_count = (UINT64_C(1) << header->bucket_bits) + 1;
  if (!place_section(&end, &layout->segments, header->segment_count,
                     sizeof(struct cg_table_segment)) ||
      !place_section(&end, &layout->waypoints, header->waypoint_count,
                     sizeof(struct cg_log_waypoint)) ||
      !place_section(&end, &layout->opened, header->opened_count, 4) ||
      !place_section(&end, &layout->closed, header->closed_count, 4) ||
      !place_section(&end, &layout->streams, header->stream_count,
                     sizeof(struct cg_table_stream)) ||
      !place_section(&end, &layout->buckets, bucket_count, 4) ||
      !place_section(&end, &layout->hashes, header->stream_count, 8) ||
      !place_section(&end, &layout->units, header->unit_count, sizeof(struct cg_table_unit)) ||
      !place_section(&end, &layout->names, header->name_bytes, 1))
    return false;
  layout->checks = (end + CG_TABLE_PAGE_BYTES - 1) / CG_TABLE_PAGE_BYTES * CG_TABLE_PAGE_BYTES;
  layout->check_count = layout->checks / CG_TABLE_PAGE_BYTES - 1;
  layout->end = layout->checks + layout->check_count * 4;
  return header->file_bytes == 0 || header->file_bytes == layout->end;
}

uint32_t cg_table_page_crc(uint64_t page, const uint8_t *bytes) {
  return cg_crc32c((uint32_t)page, bytes, CG_TABLE_PAGE_BYTES);
}

int cg_table_compare(const char *a, size_t a_size, const char *b, size_t b_size) {
  size_t size = a_size < b_size ? a_size : b_size;
  int order = size == 0 ? 0 : memcmp(a, b, size);
  return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

void cg_table_name(char name[CG_TABLE_NAME_BYTES], uint64_t first_segment, uint64_t last_segment) {
  snprintf(name, CG_TABLE_NAME_BYTES, "table-%010" PRIu64 "-%010" PRIu64 ".idx", first_segment,
           last_segment);
}

char *cg_table_path(const char *directory, uint64_t first_segment, uint64_t last_segment,
                    const char *ending) {
  char name[CG_TABLE_NAME_BYTES];
  cg_table_name(name, first_segment, last_segment);
  size_t size = strlen(directory) + strlen(name) + strlen(ending) + 2;
  char *path = cg_alloc(size);
  snprintf(path, size, "%s/%s%s", directory, name, ending);
  return path;
}
