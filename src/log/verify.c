/* verify.c - checks a closed log and tells of every fault, not only the first.
 *
 * Reads as recovery does, but goes on after a fault: behind bad bytes the next whole commit is
 * looked for and taken as the new point to follow on from. Nothing is written.
 * Owns: nothing after return. Thread: any, while no log has the directory open. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log/listing.h"
#include "log/lock.h"
#include "log/reader.h"
#include "log/walk.h"

#define WINDOW_BYTES ((size_t)1 << 20)
#define PROGRESS_BYTES ((uint64_t)1 << 20) /* Distance of calls of progress. */
#define LINE_BYTES 768

/* A check under way. */
struct check {
  const struct cg_fs *fs;       /* How to read. */
  const char *directory;        /* Where. */
  struct cg_log_verify *asked;  /* What to call and to count. */
  struct cg_log_counts *counts; /* Those of `asked`. */
  uint64_t done_bytes;          /* Of the files before; for progress. */
  uint64_t told_bytes;          /* When progress was told last. */
  uint64_t total_bytes;         /* Of all files; for progress. */
  struct cg_reader reader;      /* What is read through. */
  const char *name;             /* File being read. */
  uint8_t log_id[16];           /* Of the first segment read. */
  bool has_log_id;              /* It is known. */
  bool is_following;            /* position and chain are known; not after a fault. */
  uint64_t position;            /* What the next record must have. */
  uint32_t chain;               /* What the next commit must be chained to. */
  uint64_t offset;              /* Where the next commit must begin. */
};

/* Reports one line about the file being read. */
static void tell(struct check *check, bool is_fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void tell(struct check *check, bool is_fault, const char *format, ...) {
  char line[LINE_BYTES];
  int size = snprintf(line, sizeof(line), "%s: ", check->name);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + size, sizeof(line) - (size_t)size, format, arguments);
  va_end(arguments);
  if (is_fault)
    check->counts->fault_count++;
  if (check->asked->report)
    check->asked->report(check->asked->arg, is_fault, line);
}

/* Tells how far it is when there is more of it. */
static void tell_progress(struct check *check) {
  uint64_t done_bytes = check->done_bytes + check->offset;
  if (!check->asked->progress || done_bytes - check->told_bytes < PROGRESS_BYTES)
    return;
  check->told_bytes = done_bytes;
  check->asked->progress(check->asked->arg, done_bytes, check->total_bytes);
}

/* Counts a whole commit. */
static void count_commit(struct check *check, const struct cg_commit_header *header) {
  struct cg_log_counts *counts = check->counts;
  uint64_t end_position = cg_commit_end_position(header);
  if (header->record_count > 0) {
    if (counts->commit_count == 0)
      counts->first_position = header->first_position;
    counts->commit_count++;
  }
  counts->record_count += header->record_count - header->hole_count;
  counts->commit_bytes += header->size;
  if (end_position > counts->end_position)
    counts->end_position = end_position;
}

/* Whether the commit follows on; tells when it does not. */
static void check_follows(struct check *check, const struct cg_commit_header *header) {
  if (check->is_following && header->first_position != check->position)
    tell(check, true, "offset %" PRIu64 ": commit has position %" PRIu64 ", expected %" PRIu64,
         check->offset, header->first_position, check->position);
  else if (check->is_following && header->chain != check->chain)
    tell(check, true, "offset %" PRIu64 ": commit is not chained to the one before it",
         check->offset);
  if (header->durable_position > header->first_position)
    tell(check, true,
         "offset %" PRIu64 ": commit at position %" PRIu64 " states durable position %" PRIu64,
         check->offset, header->first_position, header->durable_position);
}

/* Handles what is not a commit. True: go on at check->offset; false: the segment ends here. */
static bool pass_fault(struct check *check, const struct cg_segment *segment, bool is_last,
                       enum cg_code code, const struct cg_err *fault) {
  uint64_t end, next;
  struct cg_err err;
  enum cg_code end_code = cg_reader_end(&check->reader, check->offset, &end, &err);
  if (code == CG_EIO || (end_code != CG_OK && end_code != CG_ECORRUPT)) {
    tell(check, true, "offset %" PRIu64 ": cannot be read: %s", check->offset,
         code == CG_EIO ? fault->message : err.message);
    check->is_following = false;
    return false;
  }
  if (end_code == CG_OK && end == check->offset)
    return false; /* Zeros to the end: where the commits end. */
  uint64_t position = check->is_following ? check->position : 0;
  bool is_proven = !is_last || !check->is_following ||
                   cg_reader_find(&check->reader, check->offset, position, &next, NULL) == CG_OK;
  if (!is_proven) {
    tell(check, false,
         "offset %" PRIu64 ": torn tail of %" PRIu64
         " bytes, left by a crash; opening the log will cut it",
         check->offset, end - check->offset);
    check->counts->torn_bytes = end - check->offset;
    return false;
  }
  tell(check, true, "offset %" PRIu64 ": %s", check->offset,
       code == CG_END ? "zeros in place of a commit" : fault->message);
  check->is_following = false;
  if (!cg_walk_find(&check->reader, segment, check->offset + 8, &next))
    return false;
  check->offset = next;
  return true;
}

/* Checks the commits of a segment. */
static void check_commits(struct check *check, const struct cg_segment *segment, bool is_last) {
  check->offset = CG_SEGMENT_HEADER_BYTES;
  for (;;) {
    struct cg_reader_commit commit;
    struct cg_err fault;
    enum cg_code code = cg_reader_commit(&check->reader, check->offset, &commit, &fault);
    if (code != CG_OK) {
      if (!pass_fault(check, segment, is_last, code, &fault))
        return;
      continue;
    }
    check_follows(check, &commit.header);
    count_commit(check, &commit.header);
    check->position = cg_commit_end_position(&commit.header);
    check->chain = commit.check;
    check->offset += commit.header.size;
    check->is_following = true;
    tell_progress(check);
  }
}

/* Checks that a segment's header follows on from the segment before. */
static void check_header(struct check *check, const struct cg_segment_header *header) {
  if (check->has_log_id && memcmp(check->log_id, header->log_id, sizeof(check->log_id)) != 0)
    tell(check, true, "offset 0: the segment belongs to another log");
  else if (check->is_following &&
           (header->first_position != check->position || header->chain != check->chain))
    tell(check, true, "offset 0: the segment does not follow on the one before it");
  if (!check->has_log_id)
    memcpy(check->log_id, header->log_id, sizeof(check->log_id));
  check->has_log_id = true;
  check->position = header->first_position;
  check->chain = header->chain;
  check->is_following = true;
}

/* Checks the end of a rewritten segment; the next one follows on what its header says. */
static void check_rewritten(struct check *check, const struct cg_segment_header *header,
                            bool is_last) {
  if (check->is_following && check->position != header->end_position)
    tell(check, true,
         "offset %" PRIu64 ": the segment ends before position %" PRIu64
         ", its header says before %" PRIu64,
         check->offset, check->position, header->end_position);
  if (is_last)
    tell(check, true, "offset 0: a rewritten segment is the last: later ones are missing");
  check->position = header->end_position;
  check->chain = header->end_chain;
  check->is_following = true;
}

/* Checks one segment file. */
static void check_segment(struct check *check, uint64_t number, bool is_last) {
  struct cg_segment *segment;
  struct cg_err err;
  if (cg_segment_open_to_read(&segment, check->fs, check->directory, number, &err) != CG_OK) {
    /* The message begins with the path, the line with the name. */
    const char *what = strstr(err.message, check->name);
    tell(check, true, "%s", what ? what + strlen(check->name) + 2 : err.message);
    check->is_following = false;
    return;
  }
  check->counts->segment_count++;
  check->counts->bytes += segment->file_bytes;
  check_header(check, &segment->header);
  cg_reader_turn(&check->reader, segment, cg_segment_limit(segment));
  check_commits(check, segment, is_last && !segment->header.is_rewritten);
  if (segment->header.is_rewritten)
    check_rewritten(check, &segment->header, is_last);
  check->done_bytes += segment->file_bytes;
  cg_segment_free(segment);
}

/* Checks all segments of a listing. */
static void check_segments(struct check *check, const struct cg_listing_numbers *segments) {
  for (size_t index = 0; index < segments->count; index++) {
    uint64_t number = segments->items[index];
    uint64_t expected = index == 0 ? 0 : segments->items[index - 1] + 1;
    char name[CG_SEGMENT_NAME_BYTES];
    check->name = name;
    if (number != expected) {
      cg_segment_name(name, expected);
      tell(check, true, "the file is missing, but later segments are there");
      check->is_following = false;
    }
    cg_segment_name(name, number);
    check_segment(check, number, index + 1 == segments->count);
  }
}

enum cg_code cg_log_verify(const char *path, const struct cg_fs *fs, struct cg_log_verify *verify,
                           struct cg_err *err) {
  struct check check = {.fs = fs ? fs : cg_fs_system(),
                        .directory = path,
                        .asked = verify,
                        .counts = &verify->counts,
                        .is_following = true,
                        .position = 1};
  verify->counts = (struct cg_log_counts){.first_position = 1, .end_position = 1};
  int lock;
  enum cg_code code = cg_lock_take(check.fs, path, false, &lock, err);
  if (code != CG_OK)
    return code;
  struct cg_listing listing;
  code = cg_listing_read(&listing, check.fs, path, err);
  if (code == CG_OK) {
    if (verify->progress)
      check.total_bytes =
          cg_walk_total_bytes(check.fs, path, listing.segments.items, listing.segments.count);
    cg_reader_init(&check.reader, WINDOW_BYTES);
    check_segments(&check, &listing.segments);
    cg_reader_deinit(&check.reader);
    cg_listing_deinit(&listing);
    if (verify->counts.fault_count > 0)
      code = cg_err_set(err, CG_ECORRUPT, "%" PRIu64 " %s in the log in %s",
                        verify->counts.fault_count,
                        verify->counts.fault_count == 1 ? "fault" : "faults", path);
  }
  cg_lock_drop(check.fs, lock);
  return code;
}
