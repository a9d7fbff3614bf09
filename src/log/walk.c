/* walk.c - reads the segments of a log one after the other and checks that all of it follows on.
 *
 * The judgement is recovery's: a commit that is bad or missing is damage, unless it lies at the end
 * of the last segment and nothing proves that it was ever durable.
 * Owns: the reader's window. Thread: one at a time. */
#include "log/walk.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/blocks.h"
#include "log/listing.h"
#include "log/lock.h"

#define WINDOW_BYTES ((size_t)1 << 20)
#define PROGRESS_BYTES ((uint64_t)1 << 20) /* Distance of calls of progress. */
#define TEXT_BYTES 256

static enum cg_code read_commits(struct cg_walk *walk, enum cg_code *ended_by,
                                 struct cg_err *fault);
static enum cg_code check_end(struct cg_walk *walk, bool is_last, enum cg_code ended_by,
                              const struct cg_err *fault, struct cg_err *err);

void cg_walk_init(struct cg_walk *walk, const struct cg_fs *fs, const char *directory,
                  struct cg_log_walk *asked) {
  *walk = (struct cg_walk){.fs = fs, .directory = directory, .asked = asked, .position = 1};
  asked->counts = (struct cg_log_counts){.first_position = 1, .end_position = 1};
  cg_reader_init(&walk->reader, WINDOW_BYTES);
}

void cg_walk_deinit(struct cg_walk *walk) {
  cg_reader_deinit(&walk->reader);
}

uint64_t cg_walk_total_bytes(const struct cg_fs *fs, const char *directory, const uint64_t *numbers,
                             size_t count) {
  uint64_t total_bytes = 0;
  for (size_t index = 0; index < count; index++) {
    struct cg_segment *segment;
    if (cg_segment_open_to_read(&segment, fs, directory, numbers[index], NULL) != CG_OK)
      continue;
    total_bytes += segment->file_bytes;
    cg_segment_free(segment);
  }
  return total_bytes;
}

bool cg_walk_find(struct cg_reader *reader, const struct cg_segment *segment, uint64_t offset,
                  uint64_t *found) {
  enum cg_code code;
  while ((code = cg_reader_find(reader, offset, 0, found, NULL)) == CG_ECORRUPT &&
         offset < cg_segment_limit(segment))
    offset += CG_BLOCK_BYTES - (offset - CG_SEGMENT_HEADER_BYTES) % CG_BLOCK_BYTES;
  return code == CG_OK;
}

enum cg_code cg_walk_corrupt(const struct cg_walk *walk, uint64_t number, uint64_t offset,
                             struct cg_err *err, const char *format, ...) {
  char text[TEXT_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, number);
  return cg_err_set(err, CG_ECORRUPT, "%s/%s: offset %" PRIu64 ": %s", walk->directory, name,
                    offset, text);
}

enum cg_code cg_walk_header(struct cg_walk *walk, const struct cg_segment *segment,
                            struct cg_err *err) {
  const struct cg_segment_header *header = &segment->header;
  walk->number = header->number;
  walk->offset = 0;
  if (walk->has_log_id && memcmp(walk->log_id, header->log_id, sizeof(walk->log_id)) != 0)
    return cg_walk_corrupt(walk, walk->number, 0, err, "the segment belongs to another log");
  if (header->first_position != walk->position || header->chain != walk->chain)
    return cg_walk_corrupt(walk, walk->number, 0, err,
                           "the segment does not follow on the one before it");
  memcpy(walk->log_id, header->log_id, sizeof(walk->log_id));
  walk->has_log_id = true;
  return CG_OK;
}

void cg_walk_pass(struct cg_walk *walk, const struct cg_segment *segment, uint64_t position,
                  uint32_t chain) {
  walk->position = position;
  walk->chain = chain;
  walk->done_bytes += segment->file_bytes;
  walk->asked->counts.segment_count++;
  walk->asked->counts.bytes += segment->file_bytes;
  walk->asked->counts.end_position = position;
}

/* Checks the end of a rewritten segment; the next one follows on what its header says. */
static enum cg_code check_rewritten(struct cg_walk *walk, const struct cg_segment_header *header,
                                    bool is_last, struct cg_err *err) {
  if (walk->position != header->end_position)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err,
                           "the segment ends before position %" PRIu64
                           ", its header says before %" PRIu64,
                           walk->position, header->end_position);
  if (is_last)
    return cg_walk_corrupt(walk, walk->number, 0, err,
                           "a rewritten segment is the last: later ones are missing");
  walk->chain = header->end_chain;
  return CG_OK;
}

enum cg_code cg_walk_segment(struct cg_walk *walk, struct cg_segment *segment, bool is_last,
                             struct cg_err *err) {
  enum cg_code code = cg_walk_header(walk, segment, err);
  if (code != CG_OK)
    return code;
  walk->offset = CG_SEGMENT_HEADER_BYTES;
  cg_reader_turn(&walk->reader, segment, cg_segment_limit(segment));
  struct cg_err fault;
  enum cg_code ended_by;
  code = read_commits(walk, &ended_by, &fault);
  if (code == CG_OK && !walk->is_ended)
    code = check_end(walk, is_last && !segment->header.is_rewritten, ended_by, &fault, err);
  else if (code != CG_OK && err)
    *err = fault;
  if (code == CG_EIO) {
    char name[CG_SEGMENT_NAME_BYTES];
    cg_segment_name(name, walk->number);
    cg_err_prefix(err, "%s/%s", walk->directory, name);
  }
  if (code == CG_OK && segment->header.is_rewritten && !walk->is_ended)
    code = check_rewritten(walk, &segment->header, is_last, err);
  if (code == CG_OK)
    cg_walk_pass(walk, segment, walk->position, walk->chain);
  return code;
}

/* Tells progress when there is more of it. */
static void tell_progress(struct cg_walk *walk) {
  uint64_t done_bytes = walk->done_bytes + walk->offset;
  if (!walk->asked->progress || done_bytes - walk->told_bytes < PROGRESS_BYTES)
    return;
  walk->told_bytes = done_bytes;
  walk->asked->progress(walk->asked->arg, done_bytes, walk->total_bytes);
}

/* Checks that a whole commit follows on; no crash can leave one that does not. */
static enum cg_code check_follows(const struct cg_walk *walk, const struct cg_commit_header *header,
                                  struct cg_err *err) {
  if (header->first_position != walk->position)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err,
                           "commit has position %" PRIu64 ", expected %" PRIu64,
                           header->first_position, walk->position);
  if (header->chain != walk->chain)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err,
                           "commit is not chained to the one before it");
  if (header->durable_position > header->first_position)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err,
                           "commit at position %" PRIu64 " states durable position %" PRIu64,
                           header->first_position, header->durable_position);
  return CG_OK;
}

/* Reads commits as long as they are good. CG_OK: until_position was reached, or what stands at the
 * offset is no commit, for the reason in *ended_by and *fault. CG_ECORRUPT, CG_EIO in *fault. */
static enum cg_code read_commits(struct cg_walk *walk, enum cg_code *ended_by,
                                 struct cg_err *fault) {
  struct cg_log_counts *counts = &walk->asked->counts;
  uint64_t until = walk->asked->until_position;
  for (;;) {
    if (until > 0 && walk->position >= until) {
      walk->is_ended = true;
      return CG_OK;
    }
    struct cg_reader_commit commit;
    *ended_by = cg_reader_commit(&walk->reader, walk->offset, &commit, fault);
    if (*ended_by == CG_EIO)
      return CG_EIO;
    if (*ended_by != CG_OK)
      return CG_OK;
    const struct cg_commit_header *header = &commit.header;
    enum cg_code code = check_follows(walk, header, fault);
    if (code != CG_OK)
      return code;
    if (until > 0 && cg_commit_end_position(header) > until) {
      walk->is_ended = true;
      return CG_OK;
    }
    if (walk->asked->commit)
      walk->asked->commit(walk->asked->arg, header, commit.records, commit.records_size);
    counts->commit_count += header->record_count > 0;
    counts->record_count += header->record_count - header->hole_count;
    counts->commit_bytes += header->size;
    walk->position = cg_commit_end_position(header);
    walk->offset += header->size;
    walk->chain = commit.check;
    counts->end_position = walk->position;
    tell_progress(walk);
  }
}

/* Judges what stands behind the last good commit of a segment. */
static enum cg_code check_end(struct cg_walk *walk, bool is_last, enum cg_code ended_by,
                              const struct cg_err *fault, struct cg_err *err) {
  uint64_t end, proof;
  struct cg_err trouble;
  enum cg_code code = cg_reader_end(&walk->reader, walk->offset, &end, &trouble);
  if (code == CG_ECORRUPT) /* A block that is damaged. */
    return cg_walk_corrupt(walk, walk->number, walk->offset, err, "%s", trouble.message);
  if (code != CG_OK)
    return cg_err_set(err, CG_EIO, "%s", trouble.message);
  if (is_last && walk->asked->until_position > walk->position)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err,
                           "the log ends here at position %" PRIu64 ", but all below %" PRIu64
                           " is said to be durable",
                           walk->position, walk->asked->until_position);
  if (end == walk->offset)
    return CG_OK;
  if (!is_last)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err, "%s",
                           ended_by == CG_END ? "bytes after the last commit are not zero"
                                              : fault->message);
  code = cg_reader_find(&walk->reader, walk->offset, walk->position, &proof, err);
  if (code == CG_EIO)
    return code;
  if (code == CG_OK)
    return cg_walk_corrupt(walk, walk->number, walk->offset, err,
                           "damaged commit at position %" PRIu64 "; the commit at offset %" PRIu64
                           " proves that it was durable",
                           walk->position, proof);
  walk->asked->counts.torn_bytes = end - walk->offset;
  return CG_OK;
}

/* --- over a whole log --- */

/* Walks over the segments of a listing. */
static enum cg_code walk_all(struct cg_walk *walk, const struct cg_listing_numbers *segments,
                             struct cg_err *err) {
  enum cg_code code = CG_OK;
  for (size_t index = 0; code == CG_OK && index < segments->count && !walk->is_ended; index++) {
    if (segments->items[index] != index)
      return cg_walk_corrupt(walk, index, 0, err,
                             "the file is missing, but later segments are there");
    struct cg_segment *segment;
    code = cg_segment_open_to_read(&segment, walk->fs, walk->directory, index, err);
    if (code != CG_OK)
      return code;
    code = cg_walk_segment(walk, segment, index + 1 == segments->count, err);
    cg_segment_free(segment);
  }
  return code;
}

enum cg_code cg_log_walk(const char *path, const struct cg_fs *fs, struct cg_log_walk *asked,
                         struct cg_err *err) {
  struct cg_walk walk;
  struct cg_listing listing;
  fs = fs ? fs : cg_fs_system();
  int lock = -1;
  enum cg_code code = CG_OK;
  if (asked->until_position == 0)
    code = cg_lock_take(fs, path, false, &lock, err);
  if (code != CG_OK)
    return code;
  code = cg_listing_read(&listing, fs, path, err);
  if (code == CG_OK) {
    cg_walk_init(&walk, fs, path, asked);
    if (asked->progress)
      walk.total_bytes =
          cg_walk_total_bytes(fs, path, listing.segments.items, listing.segments.count);
    code = walk_all(&walk, &listing.segments, err);
    cg_walk_deinit(&walk);
    cg_listing_deinit(&listing);
  }
  cg_lock_drop(fs, lock);
  return code;
}

enum cg_code cg_log_read_seals(const char *path, const struct cg_fs *fs, uint8_t log_id[16],
                               struct cg_log_seal **seals, uint32_t *count, struct cg_err *err) {
  struct cg_listing listing;
  struct cg_segment *last = NULL;
  fs = fs ? fs : cg_fs_system();
  *seals = NULL;
  *count = 0;
  memset(log_id, 0, 16);
  enum cg_code code = cg_listing_read(&listing, fs, path, err);
  if (code != CG_OK)
    return code;
  if (listing.segments.count > 1)
    *seals = cg_alloc((listing.segments.count - 1) * sizeof(**seals));
  for (size_t index = 0; code == CG_OK && index < listing.segments.count; index++) {
    struct cg_segment *segment;
    code = cg_segment_open_to_read(&segment, fs, path, listing.segments.items[index], err);
    if (code != CG_OK)
      break;
    memcpy(log_id, segment->header.log_id, sizeof(segment->header.log_id));
    if (last)
      (*seals)[(*count)++] = cg_segment_seal(last, segment);
    cg_segment_free(last);
    last = segment;
  }
  cg_segment_free(last);
  cg_listing_deinit(&listing);
  if (code == CG_OK)
    return CG_OK;
  cg_free(*seals);
  *seals = NULL;
  *count = 0;
  return code;
}
