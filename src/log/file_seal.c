/* file_seal.c - the log in segment files: its sealed segments.
 *
 * A segment is sealed once the writer has published the next one, and the writer never looks at it
 * again: from then on the loop thread alone has it, may close its file or put another in its place.
 * Owns: nothing. Thread: the loop thread. */
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/log_file.h"

void cg_file_seal_share(struct cg_log_file *file, struct cg_segment *segment) {
  segment->handles = &file->handles;
  segment->cache = file->cache;
}

void cg_file_seal_bound(struct cg_log_file *file) {
  uint64_t count = atomic_load_explicit(&file->writer.published_number, memory_order_acquire);
  for (; file->handled_count < count; file->handled_count++) {
    struct cg_segment *segment = file->segments[file->handled_count];
    cg_file_seal_share(file, segment);
    cg_handles_add(&file->handles, segment);
  }
}

uint32_t cg_file_seal_list(struct cg_log *log, const struct cg_log_seal **seals) {
  struct cg_log_file *file = cg_log_file_of(log);
  /* What the writer set in a header is seen with the number. */
  uint64_t count = atomic_load_explicit(&file->writer.published_number, memory_order_acquire);
  if (count > file->seal_capacity) {
    file->seal_capacity = (uint32_t)count * 2;
    file->seals = cg_realloc(file->seals, file->seal_capacity * sizeof(*file->seals));
  }
  for (; file->seal_count < count; file->seal_count++)
    file->seals[file->seal_count] =
        cg_segment_seal(file->segments[file->seal_count], file->segments[file->seal_count + 1]);
  cg_file_seal_bound(file);
  *seals = file->seals;
  return file->seal_count;
}

bool cg_file_seal_info(struct cg_log *log, uint64_t number, struct cg_log_seal_info *info) {
  struct cg_log_file *file = cg_log_file_of(log);
  if (number >= atomic_load_explicit(&file->writer.published_number, memory_order_acquire))
    return false;
  const struct cg_segment *segment = file->segments[number];
  *info = (struct cg_log_seal_info){.sealed_ms = file->segments[number + 1]->header.created_ms,
                                    .file_bytes = segment->file_bytes,
                                    .is_compressed = segment->header.is_compressed};
  return true;
}

void cg_file_seal_id(const struct cg_log *log, uint8_t log_id[16]) {
  memcpy(log_id, ((const struct cg_log_file *)log)->log_id, 16);
}

void cg_file_seal_waypoints(struct cg_log *log, uint64_t number,
                            const struct cg_log_waypoint *waypoints, uint32_t count) {
  struct cg_log_file *file = cg_log_file_of(log);
  if (number >= atomic_load_explicit(&file->writer.published_number, memory_order_acquire))
    return; /* Not sealed: its own go on growing. */
  file->segments[number]->given = waypoints;
  file->segments[number]->given_count = count;
}

/* Whether the rewritten file may stand in the place of its segment. */
static enum cg_code check_candidate(const struct cg_log_file *file,
                                    const struct cg_segment *candidate,
                                    const struct cg_log_seal *seal, struct cg_err *err) {
  const struct cg_segment_header *header = &candidate->header;
  const struct cg_segment_header *old = &file->segments[seal->number]->header;
  const struct cg_segment_header *next = &file->segments[seal->number + 1]->header;
  if (header->nonce != seal->nonce)
    return cg_err_set(err, CG_ENOTFOUND,
                      "the rewritten file of segment %" PRIu64 " has nonce %08x, not %08x",
                      seal->number, header->nonce, seal->nonce);
  if (!header->is_rewritten || memcmp(header->log_id, old->log_id, sizeof(header->log_id)) != 0 ||
      header->first_position != old->first_position || header->chain != old->chain ||
      header->end_position != next->first_position || header->end_chain != next->chain ||
      header->nonce == old->nonce)
    return cg_err_set(err, CG_EINVAL,
                      "the rewritten file of segment %" PRIu64 " does not fit in its place",
                      seal->number);
  return CG_OK;
}

/* Gives the rewritten file the segment's name. A call that fails may have done it all the same, so
 * the file that has the name afterwards decides. */
static enum cg_code rename_over(struct cg_log_file *file, const struct cg_log_seal *seal,
                                struct cg_segment *candidate, struct cg_err *err) {
  const struct cg_fs *fs = file->log.options.fs;
  char *from = cg_segment_file_path(file->directory, seal->number, CG_SEGMENT_KIND_REWRITTEN);
  char *to = cg_segment_file_path(file->directory, seal->number, CG_SEGMENT_KIND_FILE);
  int result = cg_io_rename(fs, from, to);
  enum cg_code code = CG_OK;
  if (result < 0) {
    code = cg_err_set(err, cg_err_from_errno(-result), "rename %s: %s", from, strerror(-result));
    struct cg_segment *now;
    if (cg_segment_open_to_read(&now, fs, file->directory, seal->number, NULL) == CG_OK) {
      if (now->header.nonce == candidate->header.nonce)
        code = CG_OK;
      cg_segment_free(now);
    }
  }
  cg_free(from);
  cg_free(to);
  return code;
}

enum cg_code cg_file_seal_replace(struct cg_log *log, const struct cg_log_seal *seal,
                                  struct cg_err *err) {
  struct cg_log_file *file = cg_log_file_of(log);
  const struct cg_log_seal *seals;
  if (seal->number >= cg_file_seal_list(log, &seals))
    return cg_err_set(err, CG_EINVAL, "segment %" PRIu64 " in %s is not sealed", seal->number,
                      file->directory);
  struct cg_segment *candidate;
  enum cg_code code =
      cg_segment_open_rewritten(&candidate, log->options.fs, file->directory, seal->number, err);
  if (code != CG_OK)
    return code;
  code = check_candidate(file, candidate, seal, err);
  if (code == CG_OK)
    code = rename_over(file, seal, candidate, err);
  if (code != CG_OK) {
    cg_segment_free(candidate);
    return code;
  }
  struct cg_segment *segment = file->segments[seal->number];
  cg_segment_adopt(segment, candidate);
  cg_handles_add(&file->handles, segment);
  file->seals[seal->number].nonce = segment->header.nonce;
  int result = cg_io_sync_dir(log->options.fs, file->directory);
  if (result < 0)
    return cg_err_set(err, CG_EIO,
                      "sync %s: %s; a crash may bring back segment %" PRIu64 " as it was",
                      file->directory, strerror(-result), seal->number);
  return CG_OK;
}
