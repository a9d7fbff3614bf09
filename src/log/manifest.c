/* manifest.c - the list of a backup's files, as text, written last and as a whole.
 *
 * Owns: the list. Thread: any. */
#include "log/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "base/mem.h"
#include "log/copy.h"
#include "log/segment.h"

#define NAME "manifest"
#define TEMP_NAME "manifest.tmp"
#define HEAD "catga backup 1\n"
#define LINE_BYTES 192
#define FILE_BYTES_MAX (CG_MANIFEST_SEGMENTS_MAX * LINE_BYTES)
#define ID_BYTES 16

/* What is left to read. */
struct text {
  const char *at;  /* Next byte; the text is zero-terminated. */
  const char *end; /* Behind the last. */
};

void cg_manifest_add(struct cg_manifest *manifest, const struct cg_manifest_segment *segment) {
  uint64_t count = manifest->segment_count;
  if ((count & (count - 1)) == 0) /* Grown at each power of two, and at 0. */
    manifest->segments =
        cg_realloc(manifest->segments, (count > 0 ? count * 2 : 1) * sizeof(*segment));
  manifest->segments[manifest->segment_count++] = *segment;
}

void cg_manifest_deinit(struct cg_manifest *manifest) {
  cg_free(manifest->segments);
  *manifest = (struct cg_manifest){0};
}

char *cg_manifest_path(const char *directory, uint64_t number, uint64_t run) {
  char name[CG_SEGMENT_NAME_BYTES], ending[32] = "";
  cg_segment_name(name, number);
  if (run > 0)
    snprintf(ending, sizeof(ending), ".backup-%" PRIu64, run);
  size_t size = strlen(directory) + sizeof("/log/") + sizeof(name) + sizeof(ending);
  char *path = cg_alloc(size);
  snprintf(path, size, "%s/log/%s%s", directory, name, ending);
  return path;
}

/* --- reading --- */

/* Reads "<word> <number>\n" with a number below 2^63; false when something else stands there. */
static bool read_field(struct text *text, const char *word, uint64_t *number) {
  size_t size = strlen(word);
  if (strncmp(text->at, word, size) != 0 || text->at[size] != ' ' || text->at[size + 1] < '0' ||
      text->at[size + 1] > '9')
    return false;
  char *end;
  *number = strtoull(text->at + size + 1, &end, 10);
  if (*end != '\n' || *number > INT64_MAX)
    return false;
  text->at = end + 1;
  return true;
}

static bool read_id(struct text *text, uint8_t id[ID_BYTES]) {
  if (strncmp(text->at, "log ", 4) != 0 || text->end - text->at < 4 + 2 * ID_BYTES + 1)
    return false;
  for (int index = 0; index < ID_BYTES; index++) {
    const char digits[3] = {text->at[4 + 2 * index], text->at[5 + 2 * index], 0};
    unsigned byte;
    if (sscanf(digits, "%2x", &byte) != 1)
      return false;
    id[index] = (uint8_t)byte;
  }
  text->at += 4 + 2 * ID_BYTES;
  return *text->at++ == '\n';
}

/* Reads one line of a segment; from a copy, as sscanf measures all of what it is given. */
static bool read_segment(struct text *text, uint64_t number, struct cg_manifest_segment *segment) {
  char line[LINE_BYTES];
  const char *end = memchr(text->at, '\n', (size_t)(text->end - text->at));
  if (!end || end - text->at >= LINE_BYTES)
    return false;
  memcpy(line, text->at, (size_t)(end - text->at));
  line[end - text->at] = 0;
  uint64_t stated;
  unsigned is_sealed;
  int size = -1;
  int count =
      sscanf(line,
             "segment %" SCNu64 " %" SCNx32 " %" SCNu64 " %" SCNx32 " %" SCNu64 " %" SCNu64
             " %" SCNx32 " %u%n",
             &stated, &segment->nonce, &segment->size, &segment->crc, &segment->first_position,
             &segment->end_position, &segment->end_chain, &is_sealed, &size);
  if (count != 8 || size < 0 || line[size] != 0 || stated != number || is_sealed > 1)
    return false;
  segment->is_sealed = is_sealed == 1;
  text->at = end + 1;
  return true;
}

/* Reads everything behind the head and before the check. */
static bool read_lines(struct cg_manifest *manifest, struct text *text) {
  uint64_t time_ms, count;
  if (!read_id(text, manifest->log_id) || !read_field(text, "run", &manifest->run) ||
      !read_field(text, "time", &time_ms) || !read_field(text, "end", &manifest->end_position) ||
      !read_field(text, "segments", &count) || count > CG_MANIFEST_SEGMENTS_MAX ||
      manifest->run == 0)
    return false;
  manifest->time_ms = (int64_t)time_ms;
  for (uint64_t number = 0; number < count; number++) {
    struct cg_manifest_segment segment = {0};
    if (!read_segment(text, number, &segment))
      return false;
    cg_manifest_add(manifest, &segment);
  }
  return true;
}

/* Checks the last line and reads the others. */
static bool parse(struct cg_manifest *manifest, const char *bytes, size_t size) {
  char last[LINE_BYTES];
  const size_t last_size = sizeof("check 00000000\n") - 1, head_size = sizeof(HEAD) - 1;
  if (size < head_size + last_size || strlen(bytes) != size || strncmp(bytes, HEAD, head_size) != 0)
    return false;
  size_t checked_size = size - last_size;
  snprintf(last, sizeof(last), "check %08" PRIx32 "\n", cg_crc32c(0, bytes, checked_size));
  if (strcmp(bytes + checked_size, last) != 0)
    return false;
  struct text text = {.at = bytes + head_size, .end = bytes + checked_size};
  return read_lines(manifest, &text) && text.at == text.end;
}

enum cg_code cg_manifest_read(struct cg_manifest *manifest, const struct cg_fs *fs,
                              const char *directory, struct cg_err *err) {
  *manifest = (struct cg_manifest){0};
  char *path = cg_segment_path(directory, NAME), *bytes = NULL;
  enum cg_code code = CG_OK;
  int handle = cg_io_open(fs, path, CG_FS_READ);
  if (handle < 0) {
    code =
        handle == -ENOENT || handle == -ENOTDIR
            ? cg_err_set(err, CG_ENOTFOUND, "there is no backup in %s (no %s)", directory, path)
            : cg_err_set(err, cg_err_from_errno(-handle), "open %s: %s", path, strerror(-handle));
    goto done;
  }
  int64_t size = cg_io_size(fs, handle);
  if (size >= 0 && (uint64_t)size <= FILE_BYTES_MAX) {
    bytes = cg_alloc((size_t)size + 1);
    size = cg_io_read(fs, handle, bytes, (size_t)size, 0);
  }
  fs->close(fs->arg, handle);
  if (size < 0)
    code = cg_err_set(err, CG_EIO, "read %s: %s", path, strerror((int)-size));
  else if (!bytes || !parse(manifest, bytes, (size_t)size))
    code = cg_err_set(err, CG_ECORRUPT,
                      "%s is damaged; take another backup, or begin a new one in another directory",
                      path);
  if (code != CG_OK)
    cg_manifest_deinit(manifest);

done:
  cg_free(bytes);
  cg_free(path);
  return code;
}

/* --- writing --- */

/* Appends a line, printf format. */
static void add_line(struct cg_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_line(struct cg_buf *buf, const char *format, ...) {
  char *room = (char *)cg_buf_room(buf, LINE_BYTES);
  va_list arguments;
  va_start(arguments, format);
  buf->size += (size_t)vsnprintf(room, LINE_BYTES, format, arguments);
  va_end(arguments);
}

static void write_lines(const struct cg_manifest *manifest, struct cg_buf *buf) {
  add_line(buf, HEAD "log ");
  for (int index = 0; index < ID_BYTES; index++)
    add_line(buf, "%02x", manifest->log_id[index]);
  add_line(buf, "\nrun %" PRIu64 "\ntime %" PRId64 "\nend %" PRIu64 "\nsegments %" PRIu64 "\n",
           manifest->run, manifest->time_ms, manifest->end_position, manifest->segment_count);
  for (uint64_t number = 0; number < manifest->segment_count; number++) {
    const struct cg_manifest_segment *segment = &manifest->segments[number];
    add_line(buf,
             "segment %" PRIu64 " %08" PRIx32 " %" PRIu64 " %08" PRIx32 " %" PRIu64 " %" PRIu64
             " %08" PRIx32 " %d\n",
             number, segment->nonce, segment->size, segment->crc, segment->first_position,
             segment->end_position, segment->end_chain, segment->is_sealed);
  }
  add_line(buf, "check %08" PRIx32 "\n", cg_crc32c(0, buf->data, buf->size));
}

enum cg_code cg_manifest_write(const struct cg_manifest *manifest, const struct cg_fs *fs,
                               const char *directory, struct cg_err *err) {
  char *temp = cg_segment_path(directory, TEMP_NAME), *path = cg_segment_path(directory, NAME);
  struct cg_buf *buf = cg_buf_take(NULL, 4096);
  write_lines(manifest, buf);
  struct cg_copy copy;
  enum cg_code code = cg_copy_begin(&copy, fs, temp, err);
  if (code == CG_OK)
    code = cg_copy_end(&copy, cg_copy_bytes(&copy, buf->data, buf->size, err), err);
  int result = code == CG_OK ? cg_io_rename(fs, temp, path) : 0;
  if (code == CG_OK && result == 0)
    result = cg_io_sync_dir(fs, directory);
  if (result < 0)
    code =
        cg_err_set(err, cg_err_from_errno(-result), "put %s in place: %s", path, strerror(-result));
  cg_buf_unref(buf);
  cg_free(path);
  cg_free(temp);
  return code;
}
