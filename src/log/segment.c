/* segment.c - one append-only file of commits: its life from reservation to reading.
 *
 * A new file is made as "segment-N.log.tmp" and gets its name by rename only after header and first
 * zeros are synced; the directory is synced after. Space is reserved for the whole segment when the
 * file is made, so that a full disk is met before any commit is placed in it.
 * Owns: the file handle and the waypoints. Thread: see segment.h. */
#include "log/segment.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "log/io.h"

#define TEMP_ENDING ".tmp"
#define NUMBER_DIGITS 10
#define WAYPOINTS_BEGIN 16 /* First size of the table; it doubles. */

static enum cg_code fail_on(const struct cg_segment *segment, struct cg_err *err, int error,
                            const char *doing);
static enum cg_code read_header(struct cg_segment *segment, uint64_t number, struct cg_err *err);
static char *path_of(const struct cg_segment *segment, bool is_temp);

enum cg_code cg_segment_reserve(struct cg_segment **segment, const struct cg_fs *fs,
                                const char *directory, const struct cg_segment_header *header,
                                struct cg_err *err) {
  struct cg_segment *made = cg_alloc(sizeof(*made));
  made->fs = fs;
  made->directory = cg_strndup(directory, strlen(directory));
  made->header = *header;
  made->stretch_bytes = CG_SEGMENT_STRETCH_MIN;
  char *path = path_of(made, true);
  enum cg_code code = CG_OK;

  made->handle = cg_io_open(fs, path, CG_FS_CREATE);
  if (made->handle == -EEXIST) { /* Left by an attempt that could not even clean up. */
    cg_io_unlink(fs, path);
    made->handle = cg_io_open(fs, path, CG_FS_CREATE);
  }
  if (made->handle < 0) {
    code = fail_on(made, err, made->handle, "create");
    goto fail;
  }
  code = cg_segment_reserve_again(made, err);
  if (code != CG_OK)
    goto fail_file;
  cg_free(path);
  *segment = made;
  return CG_OK;

fail_file:
  fs->close(fs->arg, made->handle);
  cg_io_unlink(fs, path);
fail:
  cg_free(path);
  made->handle = -1;
  cg_segment_free(made);
  return code;
}

/* Opens a segment found in the directory. */
static enum cg_code open_as(struct cg_segment **segment, const struct cg_fs *fs,
                            const char *directory, uint64_t number, enum cg_fs_mode mode,
                            struct cg_err *err) {
  struct cg_segment *found = cg_alloc(sizeof(*found));
  found->fs = fs;
  found->directory = cg_strndup(directory, strlen(directory));
  found->header.number = number;
  found->is_published = true;
  found->stretch_bytes = CG_SEGMENT_STRETCH_MIN;
  char *path = path_of(found, false);
  enum cg_code code = CG_OK;

  found->handle = cg_io_open(fs, path, mode);
  if (found->handle < 0) {
    code = fail_on(found, err, found->handle, "open");
    goto done;
  }
  int64_t size = cg_io_size(fs, found->handle);
  if (size < 0) {
    code = fail_on(found, err, (int)size, "size of");
    goto done;
  }
  found->file_bytes = (uint64_t)size;
  code = read_header(found, number, err);

done:
  cg_free(path);
  if (code != CG_OK) {
    cg_segment_free(found);
    return code;
  }
  *segment = found;
  return CG_OK;
}

enum cg_code cg_segment_open(struct cg_segment **segment, const struct cg_fs *fs,
                             const char *directory, uint64_t number, struct cg_err *err) {
  return open_as(segment, fs, directory, number, CG_FS_WRITE, err);
}

enum cg_code cg_segment_open_to_read(struct cg_segment **segment, const struct cg_fs *fs,
                                     const char *directory, uint64_t number, struct cg_err *err) {
  return open_as(segment, fs, directory, number, CG_FS_READ, err);
}

void cg_segment_free(struct cg_segment *segment) {
  if (!segment)
    return;
  if (segment->handle >= 0)
    segment->fs->close(segment->fs->arg, segment->handle);
  cg_free(segment->waypoints);
  cg_free(segment->directory);
  cg_free(segment);
}

enum cg_code cg_segment_reserve_again(struct cg_segment *segment, struct cg_err *err) {
  int result = cg_io_reserve(segment->fs, segment->handle, segment->file_bytes,
                             segment->header.segment_bytes);
  if (result < 0)
    return fail_on(segment, err, result, "reserve space for");
  int64_t size = cg_io_size(segment->fs, segment->handle);
  if (size < 0)
    return fail_on(segment, err, (int)size, "size of");
  segment->file_bytes = (uint64_t)size;
  atomic_store_explicit(&segment->is_reserved, true, memory_order_release);
  return CG_OK;
}

enum cg_code cg_segment_publish(struct cg_segment *segment, uint32_t chain, struct cg_err *err) {
  assert(!segment->is_published);
  const struct cg_fs *fs = segment->fs;
  segment->header.chain = chain;
  uint8_t bytes[CG_SEGMENT_HEADER_BYTES];
  cg_segment_header_encode(&segment->header, bytes);

  int result = cg_io_write(fs, segment->handle, bytes, sizeof(bytes), 0);
  if (result < 0)
    return fail_on(segment, err, result, "write header of");
  if (segment->file_bytes < sizeof(bytes))
    segment->file_bytes = sizeof(bytes);
  /* The first zeros are synced together with the header. */
  uint64_t zeros_end = CG_SEGMENT_STRETCH_MIN;
  if (zeros_end > segment->header.segment_bytes)
    zeros_end = segment->header.segment_bytes;
  if (segment->file_bytes < zeros_end) {
    result = cg_io_zero(fs, segment->handle, segment->file_bytes, zeros_end - segment->file_bytes);
    if (result < 0)
      return fail_on(segment, err, result, "write zeros of");
    segment->file_bytes = zeros_end;
  }
  enum cg_code code = cg_segment_sync(segment, err);
  if (code != CG_OK)
    return code;

  char *from = path_of(segment, true);
  char *to = path_of(segment, false);
  result = cg_io_rename(fs, from, to);
  if (result < 0)
    code = fail_on(segment, err, result, "rename to");
  cg_free(from);
  cg_free(to);
  if (code != CG_OK)
    return code;
  result = cg_io_sync_dir(fs, segment->directory);
  if (result < 0)
    return fail_on(segment, err, result, "sync the directory of");
  segment->is_published = true;
  return CG_OK;
}

enum cg_code cg_segment_write(struct cg_segment *segment, const uint8_t *bytes, size_t size,
                              uint64_t offset, struct cg_err *err) {
  assert(offset + size <= segment->header.segment_bytes);
  int result = cg_io_write(segment->fs, segment->handle, bytes, size, offset);
  if (result < 0)
    return fail_on(segment, err, result, "write");
  if (offset + size > segment->file_bytes)
    segment->file_bytes = offset + size;
  return CG_OK;
}

enum cg_code cg_segment_sync(struct cg_segment *segment, struct cg_err *err) {
  int result = cg_io_sync(segment->fs, segment->handle);
  return result < 0 ? fail_on(segment, err, result, "sync") : CG_OK;
}

bool cg_segment_needs_growth(const struct cg_segment *segment, uint64_t end_offset) {
  if (segment->file_bytes >= segment->header.segment_bytes)
    return false;
  return segment->file_bytes < segment->growth_bytes ||
         segment->file_bytes < end_offset + segment->stretch_bytes / 2;
}

enum cg_code cg_segment_grow(struct cg_segment *segment, struct cg_err *err) {
  if (segment->growth_bytes <= segment->file_bytes) {
    segment->growth_bytes = segment->file_bytes + segment->stretch_bytes;
    if (segment->growth_bytes > segment->header.segment_bytes)
      segment->growth_bytes = segment->header.segment_bytes;
    if (segment->stretch_bytes < CG_SEGMENT_STRETCH_MAX)
      segment->stretch_bytes *= 2;
  }
  uint64_t size = segment->growth_bytes - segment->file_bytes;
  if (size > CG_SEGMENT_SLICE_BYTES)
    size = CG_SEGMENT_SLICE_BYTES;
  int result = cg_io_zero(segment->fs, segment->handle, segment->file_bytes, size);
  if (result < 0)
    return fail_on(segment, err, result, "grow");
  segment->file_bytes += size;
  if (segment->file_bytes < segment->growth_bytes)
    return CG_OK;
  enum cg_code code = cg_segment_sync(segment, err);
  /* Also a sync without space is final. */
  return code == CG_EFULL ? cg_err_set(err, CG_EIO, "%s", "sync of zeros: no space") : code;
}

void cg_segment_pass(struct cg_segment *segment, uint64_t position, uint64_t offset) {
  uint32_t count = segment->waypoint_count;
  if (count > 0 && offset - segment->waypoints[count - 1].offset < CG_SEGMENT_WAYPOINT_BYTES)
    return;
  /* Grown at each power of two from WAYPOINTS_BEGIN on. */
  if (count == 0)
    segment->waypoints = cg_alloc(WAYPOINTS_BEGIN * sizeof(*segment->waypoints));
  else if (count >= WAYPOINTS_BEGIN && (count & (count - 1)) == 0)
    segment->waypoints =
        cg_realloc(segment->waypoints, (size_t)count * 2 * sizeof(*segment->waypoints));
  segment->waypoints[segment->waypoint_count++] =
      (struct cg_log_waypoint){.position = position, .offset = offset};
}

uint64_t cg_segment_seek(const struct cg_segment *segment, uint64_t position) {
  const struct cg_log_waypoint *waypoints = segment->waypoints;
  uint32_t low = 0, high = segment->waypoint_count;
  if (segment->given_count > 0) {
    waypoints = segment->given;
    high = segment->given_count;
  }
  while (low < high) { /* Finds the first waypoint behind the position. */
    uint32_t middle = low + (high - low) / 2;
    if (waypoints[middle].position <= position)
      low = middle + 1;
    else
      high = middle;
  }
  return low == 0 ? CG_SEGMENT_HEADER_BYTES : waypoints[low - 1].offset;
}

struct cg_log_seal cg_segment_seal(const struct cg_segment *segment,
                                   const struct cg_segment *next) {
  return (struct cg_log_seal){
      .number = segment->header.number,
      .first_position = segment->header.first_position,
      .end_position = next->header.first_position,
      .nonce = segment->header.nonce,
      .chain = next->header.chain,
  };
}

void cg_segment_name(char name[CG_SEGMENT_NAME_BYTES], uint64_t number) {
  assert(number <= UINT32_MAX);
  snprintf(name, CG_SEGMENT_NAME_BYTES, "segment-%0*" PRIu64 ".log", NUMBER_DIGITS, number);
}

enum cg_segment_kind cg_segment_parse_name(const char *name, uint64_t *number) {
  static const char prefix[] = "segment-";
  if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
    return CG_SEGMENT_KIND_OTHER;
  const char *digit = name + sizeof(prefix) - 1;
  uint64_t value = 0;
  for (int index = 0; index < NUMBER_DIGITS; index++, digit++) {
    if (*digit < '0' || *digit > '9')
      return CG_SEGMENT_KIND_OTHER;
    value = value * 10 + (uint64_t)(*digit - '0');
  }
  if (value > UINT32_MAX)
    return CG_SEGMENT_KIND_OTHER;
  *number = value;
  if (strcmp(digit, ".log") == 0)
    return CG_SEGMENT_KIND_FILE;
  return strcmp(digit, ".log" TEMP_ENDING) == 0 ? CG_SEGMENT_KIND_TEMP : CG_SEGMENT_KIND_OTHER;
}

char *cg_segment_path(const char *directory, const char *name) {
  size_t size = strlen(directory) + 1 + strlen(name) + 1;
  char *path = cg_alloc(size);
  snprintf(path, size, "%s/%s", directory, name);
  return path;
}

/* --- inner functions --- */

/* Sets the error of a failed file call. */
static enum cg_code fail_on(const struct cg_segment *segment, struct cg_err *err, int error,
                            const char *doing) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, segment->header.number);
  return cg_err_set(err, cg_err_from_errno(-error), "%s %s/%s: %s", doing, segment->directory, name,
                    strerror(-error));
}

/* Reads and checks the header of an opened file. */
static enum cg_code read_header(struct cg_segment *segment, uint64_t number, struct cg_err *err) {
  uint8_t bytes[CG_SEGMENT_HEADER_BYTES];
  int64_t size = cg_io_read(segment->fs, segment->handle, bytes, sizeof(bytes), 0);
  if (size < 0)
    return fail_on(segment, err, (int)size, "read header of");
  enum cg_code code = cg_segment_header_decode(bytes, (size_t)size, &segment->header, err);
  uint64_t segment_bytes = segment->header.segment_bytes;
  if (code == CG_OK && segment->header.number != number)
    code = cg_err_set(err, CG_ECORRUPT, "segment header: it says it is segment %" PRIu64,
                      segment->header.number);
  else if (code == CG_OK && (segment_bytes < CG_SEGMENT_BYTES_MIN ||
                             segment_bytes > CG_SEGMENT_BYTES_MAX || segment_bytes % 4096 != 0))
    code = cg_err_set(err, CG_ECORRUPT, "segment header: impossible size of %" PRIu64 " bytes",
                      segment_bytes);
  else if (code == CG_OK && segment->file_bytes > segment_bytes)
    code = cg_err_set(err, CG_ECORRUPT,
                      "the file has %" PRIu64 " bytes, more than its header's %" PRIu64,
                      segment->file_bytes, segment_bytes);
  if (code == CG_OK)
    return CG_OK;
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, number);
  return cg_err_prefix(err, "%s/%s: offset 0", segment->directory, name), code;
}

/* The path of the segment's file; free with cg_free. */
static char *path_of(const struct cg_segment *segment, bool is_temp) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, segment->header.number);
  if (is_temp)
    strncat(name, TEMP_ENDING, sizeof(name) - strlen(name) - 1);
  return cg_segment_path(segment->directory, name);
}
