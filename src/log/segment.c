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

#include "base/io.h"
#include "base/mem.h"
#include "log/blocks.h"
#include "log/handles.h"

#define NUMBER_DIGITS 10
#define WAYPOINTS_BEGIN 16 /* First size of the table; it doubles. */

/* What stands behind the number in a name, by enum cg_segment_kind. */
static const char *const endings[] = {"", ".log", ".log.tmp", ".log.rewritten"};

static enum cg_code fail_on(const struct cg_segment *segment, struct cg_err *err, int error,
                            const char *doing);
static enum cg_code read_header(struct cg_segment *segment, uint64_t number, struct cg_err *err);
static char *path_of(const struct cg_segment *segment, enum cg_segment_kind kind);

enum cg_code cg_segment_reserve(struct cg_segment **segment, const struct cg_fs *fs,
                                const char *directory, const struct cg_segment_header *header,
                                struct cg_err *err) {
  struct cg_segment *made = cg_alloc(sizeof(*made));
  made->fs = fs;
  made->directory = cg_strndup(directory, strlen(directory));
  made->header = *header;
  made->stretch_bytes = CG_SEGMENT_STRETCH_MIN;
  char *path = path_of(made, CG_SEGMENT_KIND_TEMP);
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

/* Opens the file of a segment and reads its header. */
static enum cg_code open_file(struct cg_segment *segment, enum cg_segment_kind kind,
                              enum cg_fs_mode mode, struct cg_err *err) {
  char *path = path_of(segment, kind);
  segment->handle = cg_io_open(segment->fs, path, mode);
  cg_free(path);
  if (segment->handle < 0)
    return fail_on(segment, err, segment->handle, "open");
  int64_t size = cg_io_size(segment->fs, segment->handle);
  if (size < 0)
    return fail_on(segment, err, (int)size, "size of");
  segment->file_bytes = (uint64_t)size;
  return read_header(segment, segment->header.number, err);
}

/* Opens a segment found in the directory. */
static enum cg_code open_as(struct cg_segment **segment, const struct cg_fs *fs,
                            const char *directory, uint64_t number, enum cg_segment_kind kind,
                            enum cg_fs_mode mode, struct cg_err *err) {
  struct cg_segment *found = cg_alloc(sizeof(*found));
  found->fs = fs;
  found->directory = cg_strndup(directory, strlen(directory));
  found->header.number = number;
  found->is_published = true;
  found->stretch_bytes = CG_SEGMENT_STRETCH_MIN;
  enum cg_code code = open_file(found, kind, mode, err);
  if (code == CG_OK)
    *segment = found;
  else
    cg_segment_free(found);
  return code;
}

enum cg_code cg_segment_open(struct cg_segment **segment, const struct cg_fs *fs,
                             const char *directory, uint64_t number, struct cg_err *err) {
  return open_as(segment, fs, directory, number, CG_SEGMENT_KIND_FILE, CG_FS_WRITE, err);
}

enum cg_code cg_segment_open_to_read(struct cg_segment **segment, const struct cg_fs *fs,
                                     const char *directory, uint64_t number, struct cg_err *err) {
  return open_as(segment, fs, directory, number, CG_SEGMENT_KIND_FILE, CG_FS_READ, err);
}

enum cg_code cg_segment_open_rewritten(struct cg_segment **segment, const struct cg_fs *fs,
                                       const char *directory, uint64_t number, struct cg_err *err) {
  return open_as(segment, fs, directory, number, CG_SEGMENT_KIND_REWRITTEN, CG_FS_READ, err);
}

void cg_segment_rest(struct cg_segment *segment) {
  if (segment->handle >= 0)
    segment->fs->close(segment->fs->arg, segment->handle);
  segment->handle = -1;
  cg_free(segment->table);
  segment->table = NULL;
  if (segment->has_own_cache) {
    cg_block_cache_free(segment->cache);
    segment->cache = NULL;
    segment->has_own_cache = false;
  }
}

void cg_segment_adopt(struct cg_segment *segment, struct cg_segment *other) {
  cg_segment_rest(segment);
  segment->header = other->header;
  segment->handle = other->handle;
  segment->file_bytes = other->file_bytes;
  cg_free(segment->waypoints);
  segment->waypoints = NULL;
  segment->waypoint_count = 0;
  segment->given = NULL;
  segment->given_count = 0;
  other->handle = -1;
  cg_segment_free(other);
}

/* Opens the file of a sealed segment again; it must be the one it was. */
static enum cg_code open_again(struct cg_segment *segment, struct cg_err *err) {
  uint32_t nonce = segment->header.nonce;
  if (segment->handles)
    cg_handles_make_room(segment->handles);
  enum cg_code code = open_file(segment, CG_SEGMENT_KIND_FILE, CG_FS_READ, err);
  if (code == CG_OK && segment->header.nonce != nonce)
    code = cg_err_set(err, CG_ECORRUPT, "the file of segment %" PRIu64 " in %s is another one now",
                      segment->header.number, segment->directory);
  if (code != CG_OK) {
    segment->header.nonce = nonce;
    cg_segment_rest(segment);
  } else if (segment->handles) {
    cg_handles_add(segment->handles, segment);
  }
  return code;
}

/* Reads out of blocks. */
static enum cg_code read_compressed(struct cg_segment *segment, uint8_t *bytes, size_t size,
                                    uint64_t offset, size_t *count, struct cg_err *err) {
  if (!segment->table) {
    enum cg_code code = cg_block_table_load(&segment->table, segment->fs, segment->handle,
                                            &segment->header, segment->file_bytes, err);
    if (code != CG_OK)
      return code;
  }
  if (!segment->cache) {
    segment->cache = cg_block_cache_new(CG_BLOCK_CACHE_OWN);
    segment->has_own_cache = true;
  }
  struct cg_block_source source = {.fs = segment->fs,
                                   .handle = segment->handle,
                                   .header = &segment->header,
                                   .table = segment->table};
  return cg_blocks_read(segment->cache, &source, bytes, size, offset, count, err);
}

enum cg_code cg_segment_read(struct cg_segment *segment, void *bytes, size_t size, uint64_t offset,
                             size_t *count, struct cg_err *err) {
  *count = 0;
  if (segment->handle < 0) {
    enum cg_code code = open_again(segment, err);
    if (code != CG_OK)
      return code;
  }
  if (segment->handles)
    segment->used = cg_handles_tick(segment->handles);
  if (segment->header.is_compressed)
    return read_compressed(segment, bytes, size, offset, count, err);
  int64_t result = cg_io_read(segment->fs, segment->handle, bytes, size, offset);
  if (result < 0)
    return cg_err_set(err, CG_EIO, "read at offset %" PRIu64 ": %s", offset,
                      strerror((int)-result));
  *count = (size_t)result;
  return CG_OK;
}

void cg_segment_free(struct cg_segment *segment) {
  if (!segment)
    return;
  cg_segment_rest(segment);
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

  char *from = path_of(segment, CG_SEGMENT_KIND_TEMP);
  char *to = path_of(segment, CG_SEGMENT_KIND_FILE);
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
  for (int kind = CG_SEGMENT_KIND_FILE; kind <= CG_SEGMENT_KIND_REWRITTEN; kind++)
    if (strcmp(digit, endings[kind]) == 0)
      return (enum cg_segment_kind)kind;
  return CG_SEGMENT_KIND_OTHER;
}

char *cg_segment_path(const char *directory, const char *name) {
  size_t size = strlen(directory) + 1 + strlen(name) + 1;
  char *path = cg_alloc(size);
  snprintf(path, size, "%s/%s", directory, name);
  return path;
}

char *cg_segment_file_path(const char *directory, uint64_t number, enum cg_segment_kind kind) {
  assert(kind != CG_SEGMENT_KIND_OTHER && number <= UINT32_MAX);
  char name[CG_SEGMENT_NAME_BYTES];
  snprintf(name, sizeof(name), "segment-%0*" PRIu64 "%s", NUMBER_DIGITS, number, endings[kind]);
  return cg_segment_path(directory, name);
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
  else if (code == CG_OK && !segment->header.is_compressed && segment->file_bytes > segment_bytes)
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
static char *path_of(const struct cg_segment *segment, enum cg_segment_kind kind) {
  return cg_segment_file_path(segment->directory, segment->header.number, kind);
}
