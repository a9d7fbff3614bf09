/* zone.c - reads TZif files into a table of changes, and looks moments up in it.
 *
 * A file, all numbers big-endian (RFC 8536):
 *   | header 44  | block with 32-bit times  | header 44, block with 64-bit times | \n rule \n |
 *   |            | (all of a version 1 file) | versions 2 to 4 only               |            |
 * A header: "TZif", version, 15 unused bytes, then counts of 4 bytes each: isut, isstd, leap, time,
 * type, char. A block: times, a type for each (1 byte), types (offset 4, is it daylight saving
 * time 1, name 1), names, leap seconds (time + 4 bytes each), isstd, isut. */
#include "base/zone.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/zone_rule.h"

#define HEADER_BYTES 44
#define TYPE_BYTES 6
#define OFFSET_MAX 93599  /* Seconds east; RFC 8536, 3.2. */
#define OFFSET_MIN -89999 /* And west. */
#define PATH_BYTES 1024

struct cg_zone {
  uint32_t count;           /* Changes in the table. */
  int64_t *times;           /* When; ascending. */
  int32_t *offsets;         /* To which offset. */
  int32_t first;            /* Offset before the first change. */
  bool has_rule;            /* Is there a rule for times from the last change on? */
  struct cg_zone_rule rule; /* It. */
};

/* Where the parts of a block lie. */
struct block {
  uint32_t time_bytes;  /* Of a time: 4 or 8. */
  uint32_t time_count;  /* Changes. */
  uint32_t type_count;  /* Types, at least 1. */
  const uint8_t *times; /* Then the numbers of types. */
  const uint8_t *types; /* Then what is of no interest. */
  size_t size;          /* Of all of it. */
};

static uint32_t read_u32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t read_time(const uint8_t *at, uint32_t bytes) {
  if (bytes == 4)
    return (int32_t)read_u32(at);
  return (int64_t)((uint64_t)read_u32(at) << 32 | read_u32(at + 4));
}

static enum cg_code corrupt(struct cg_err *err, const char *what) {
  return cg_err_set(err, CG_ECORRUPT, "%s", what);
}

/* Finds the block whose header is at `bytes`. */
static enum cg_code find_block(struct block *block, const uint8_t *bytes, size_t size,
                               uint32_t time_bytes, struct cg_err *err) {
  if (size < HEADER_BYTES || memcmp(bytes, "TZif", 4) != 0)
    return corrupt(err, "not a TZif file");
  uint32_t counts[6];
  for (int i = 0; i < 6; i++) {
    counts[i] = read_u32(bytes + 20 + 4 * i);
    if (counts[i] > CG_ZONE_FILE_BYTES_MAX)
      return corrupt(err, "a count of the TZif header is too large");
  }
  uint32_t leap_count = counts[2], time_count = counts[3], type_count = counts[4];
  uint64_t need = HEADER_BYTES + (uint64_t)time_count * (time_bytes + 1) +
                  (uint64_t)type_count * TYPE_BYTES + counts[5] +
                  (uint64_t)leap_count * (time_bytes + 4) + counts[1] + counts[0];
  if (need > size)
    return corrupt(err, "the TZif file is too short");
  *block = (struct block){.time_bytes = time_bytes,
                          .time_count = time_count,
                          .type_count = type_count,
                          .times = bytes + HEADER_BYTES,
                          .types = bytes + HEADER_BYTES + (size_t)time_count * (time_bytes + 1),
                          .size = (size_t)need};
  /* Zones whose clock counts leap seconds ("right/...") are not that of any program. */
  return leap_count > 0 ? corrupt(err, "zones with leap seconds are not supported") : CG_OK;
}

/* The offset of a type; false: it is out of range. */
static bool offset_of(const struct block *block, uint32_t type, int32_t *offset) {
  if (type >= block->type_count)
    return false;
  *offset = (int32_t)read_u32(block->types + (size_t)type * TYPE_BYTES);
  return *offset >= OFFSET_MIN && *offset <= OFFSET_MAX;
}

static enum cg_code read_table(struct cg_zone *zone, const struct block *block,
                               struct cg_err *err) {
  if (!offset_of(block, 0, &zone->first))
    return corrupt(err, "a TZif type is wrong");
  zone->times = cg_alloc(block->time_count * sizeof(zone->times[0]));
  zone->offsets = cg_alloc(block->time_count * sizeof(zone->offsets[0]));
  const uint8_t *types = block->times + (size_t)block->time_count * block->time_bytes;
  for (uint32_t i = 0; i < block->time_count; i++) {
    int64_t time = read_time(block->times + (size_t)i * block->time_bytes, block->time_bytes);
    if (i > 0 && time <= zone->times[i - 1])
      return corrupt(err, "the times of the TZif file do not ascend");
    zone->times[i] = time;
    if (!offset_of(block, types[i], &zone->offsets[i]))
      return corrupt(err, "a TZif type is wrong");
    zone->count++;
  }
  return CG_OK;
}

/* Reads the rule between two newlines; an empty one is none. */
static enum cg_code read_rule(struct cg_zone *zone, const uint8_t *bytes, size_t size,
                              struct cg_err *err) {
  const uint8_t *end = size > 0 && bytes[0] == '\n' ? memchr(bytes + 1, '\n', size - 1) : NULL;
  if (end == NULL)
    return corrupt(err, "the TZif file does not end with a rule");
  size_t length = (size_t)(end - bytes) - 1;
  zone->has_rule = length > 0;
  if (length > 0 && !cg_zone_rule_parse(&zone->rule, (const char *)bytes + 1, length))
    return corrupt(err, "the rule at the end of the TZif file is wrong");
  return CG_OK;
}

static enum cg_code read_zone(struct cg_zone *zone, const uint8_t *bytes, size_t size,
                              struct cg_err *err) {
  if (size > CG_ZONE_FILE_BYTES_MAX)
    return corrupt(err, "the TZif file is too large");
  struct block block;
  enum cg_code code = find_block(&block, bytes, size, 4, err);
  if (code != CG_OK)
    return code;
  if (bytes[4] == 0)
    return read_table(zone, &block, err);
  bytes += block.size;
  size -= block.size;
  code = find_block(&block, bytes, size, 8, err);
  if (code == CG_OK)
    code = read_table(zone, &block, err);
  if (code == CG_OK)
    code = read_rule(zone, bytes + block.size, size - block.size, err);
  return code;
}

enum cg_code cg_zone_parse(struct cg_zone **zone, const uint8_t *bytes, size_t size,
                           struct cg_err *err) {
  struct cg_zone *made = cg_alloc(sizeof(*made));
  enum cg_code code = read_zone(made, bytes, size, err);
  if (code != CG_OK) {
    cg_zone_free(made);
    return code;
  }
  *zone = made;
  return CG_OK;
}

bool cg_zone_is_name(const char *name, size_t size) {
  if (size == 0 || size > CG_ZONE_NAME_BYTES_MAX)
    return false;
  bool begins_part = true;
  for (size_t i = 0; i < size; i++) {
    char byte = name[i];
    bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    bool is_inner = (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '+';
    if (byte == '/' ? begins_part : begins_part ? !is_letter : !is_letter && !is_inner)
      return false;
    begins_part = byte == '/';
  }
  return !begins_part;
}

/* Reads at most one byte more than a file may have. */
static enum cg_code read_file(struct cg_buf *buf, const struct cg_fs *fs, const char *path,
                              struct cg_err *err) {
  int handle = cg_io_open(fs, path, CG_FS_READ);
  if (handle == -ENOENT || handle == -ENOTDIR)
    return cg_err_set(err, CG_ENOTFOUND, "there is no time zone file %s", path);
  if (handle < 0)
    return cg_err_set(err, cg_err_from_errno(-handle), "open %s: %s", path, strerror(-handle));
  int64_t size = cg_io_read(fs, handle, buf->data, CG_ZONE_FILE_BYTES_MAX + 1, 0);
  fs->close(fs->arg, handle);
  if (size == -EISDIR)
    return cg_err_set(err, CG_ENOTFOUND, "%s is a directory of time zones, not one", path);
  if (size < 0)
    return cg_err_set(err, cg_err_from_errno((int)-size), "read %s: %s", path,
                      strerror((int)-size));
  buf->size = (size_t)size;
  return CG_OK;
}

enum cg_code cg_zone_load(struct cg_zone **zone, const struct cg_fs *fs, const char *directory,
                          const char *name, struct cg_err *err) {
  if (!cg_zone_is_name(name, strlen(name)))
    return cg_err_set(err, CG_EINVAL,
                      "\"%.64s\" is not the name of a time zone, such as \"Europe/Berlin\"", name);
  char path[PATH_BYTES];
  int length = snprintf(path, sizeof(path), "%s/%s", directory, name);
  if (length < 0 || (size_t)length >= sizeof(path))
    return cg_err_set(err, CG_EINVAL, "the path of the time zones is too long");
  struct cg_buf *buf = cg_buf_take(NULL, CG_ZONE_FILE_BYTES_MAX + 1);
  enum cg_code code = read_file(buf, fs, path, err);
  if (code == CG_OK) {
    code = cg_zone_parse(zone, buf->data, buf->size, err);
    if (code != CG_OK)
      cg_err_prefix(err, "%s", path);
  }
  cg_buf_unref(buf);
  return code;
}

/* How many changes there are up to `time`. */
static uint32_t changes_until(const struct cg_zone *zone, int64_t time) {
  uint32_t low = 0, high = zone->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (zone->times[middle] <= time)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static int32_t offset_after(const struct cg_zone *zone, uint32_t changes) {
  return changes > 0 ? zone->offsets[changes - 1] : zone->first;
}

void cg_zone_span(const struct cg_zone *zone, int64_t time, struct cg_zone_span *span) {
  if (time < CG_ZONE_TIME_MIN)
    time = CG_ZONE_TIME_MIN;
  if (time > CG_ZONE_TIME_MAX)
    time = CG_ZONE_TIME_MAX;
  uint32_t at = changes_until(zone, time);
  int64_t begin = at > 0 ? zone->times[at - 1] : CG_ZONE_TIME_MIN;
  *span = (struct cg_zone_span){.begin = begin > CG_ZONE_TIME_MIN ? begin : CG_ZONE_TIME_MIN,
                                .end = at < zone->count && zone->times[at] <= CG_ZONE_TIME_MAX
                                           ? zone->times[at]
                                           : CG_ZONE_TIME_MAX + 1,
                                .offset = offset_after(zone, at),
                                .before = offset_after(zone, at > 0 ? at - 1 : 0)};
  if (at < zone->count || !zone->has_rule)
    return;
  struct cg_zone_span ruled;
  cg_zone_rule_span(&zone->rule, time, &ruled);
  span->offset = ruled.offset;
  span->end = ruled.end;
  if (ruled.begin > span->begin || at == 0) {
    span->begin = ruled.begin;
    span->before = ruled.before;
  }
}

void cg_zone_free(struct cg_zone *zone) {
  if (zone == NULL)
    return;
  cg_free(zone->times);
  cg_free(zone->offsets);
  cg_free(zone);
}
