/* recovery.c - brings the segment files found in a directory to a state that appends can go on
 * from.
 *
 * Commits are read in order, each checked by its CRCs, its chain and its position. At the first
 * that is bad or missing, proof is looked for that it was durable: a later segment, or a whole
 * later commit or mark that states a durable position above it. With proof it is corruption.
 * Without, a crash may have left it so, and everything from there is overwritten with zeros, whole
 * commits of the same batch too. What no proof covers is written again and synced, because the
 * system may hold it in its cache only, even after an earlier sync of it had failed.
 * Owns: nothing after return. Thread: the loop thread. */
#include "log/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/listing.h"

#define WINDOW_BYTES ((size_t)1 << 20) /* What is read at once. */

/* A recovery under way. */
struct scan {
  const char *directory;                /* Where. */
  const struct cg_log_options *options; /* How. */
  struct cg_recovery *found;            /* The result. */
  struct cg_listing files;              /* What the directory holds. */
  struct cg_reader reader;              /* What is read through. */
  uint64_t position;                    /* What the next record must have. */
  uint64_t offset;                      /* Where the next commit must begin. */
  uint32_t chain;                       /* What the next commit must be chained to. */
  uint64_t stated_position;             /* Highest durable position read. */
};

static enum cg_code corrupt(const struct scan *scan, uint32_t index, uint64_t offset,
                            const char *what, struct cg_err *err);
static enum cg_code list_files(struct scan *scan, struct cg_err *err);
static enum cg_code open_segments(struct scan *scan, struct cg_err *err);
static enum cg_code skip_segments(struct scan *scan, uint32_t *begin, struct cg_err *err);
static enum cg_code read_segment(struct scan *scan, uint32_t index, struct cg_err *err);
static enum cg_code settle_tail(struct scan *scan, struct cg_err *err);
static void remove_leftovers(struct scan *scan);

enum cg_code cg_recovery_run(struct cg_recovery *recovery, const char *directory,
                             const struct cg_log_options *options, struct cg_err *err) {
  *recovery = (struct cg_recovery){0};
  struct scan scan = {.directory = directory,
                      .options = options,
                      .found = recovery,
                      .position = 1,
                      .stated_position = 1};
  cg_reader_init(&scan.reader, WINDOW_BYTES);
  enum cg_code code = list_files(&scan, err);
  if (code == CG_OK)
    code = open_segments(&scan, err);
  uint32_t begin = 0;
  if (code == CG_OK && options->resume && recovery->segment_count > 1)
    code = skip_segments(&scan, &begin, err);
  for (uint32_t index = begin; code == CG_OK && index < recovery->segment_count; index++)
    code = read_segment(&scan, index, err);
  if (code == CG_OK && recovery->segment_count > 0)
    code = settle_tail(&scan, err);
  if (code == CG_OK)
    remove_leftovers(&scan);

  cg_reader_deinit(&scan.reader);
  cg_listing_deinit(&scan.files);
  if (code == CG_OK)
    return CG_OK;
  for (uint32_t index = 0; index < recovery->segment_count; index++)
    cg_segment_free(recovery->segments[index]);
  cg_free(recovery->segments);
  *recovery = (struct cg_recovery){0};
  return code;
}

/* --- finding the files --- */

/* Lists the directory; the segments must be numbered 0, 1, 2, ... */
static enum cg_code list_files(struct scan *scan, struct cg_err *err) {
  enum cg_code code = cg_listing_read(&scan->files, scan->options->fs, scan->directory, err);
  if (code != CG_OK)
    return code;
  for (size_t index = 0; index < scan->files.segments.count; index++)
    if (scan->files.segments.items[index] != index)
      return corrupt(scan, (uint32_t)index, 0, "the file is missing, but later segments are there",
                     err);
  return CG_OK;
}

/* Sets the error of corruption in a segment. */
static enum cg_code corrupt(const struct scan *scan, uint32_t index, uint64_t offset,
                            const char *what, struct cg_err *err) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, index);
  return cg_err_set(err, CG_ECORRUPT, "%s/%s: offset %" PRIu64 ": %s", scan->directory, name,
                    offset, what);
}

/* Opens every segment and checks that all belong to one log. */
static enum cg_code open_segments(struct scan *scan, struct cg_err *err) {
  struct cg_recovery *found = scan->found;
  found->segments = cg_alloc((scan->files.segments.count + 1) * sizeof(*found->segments));
  for (size_t index = 0; index < scan->files.segments.count; index++) {
    struct cg_segment **segment = &found->segments[index];
    bool is_last = index + 1 == scan->files.segments.count;
    enum cg_code code =
        is_last ? cg_segment_open(segment, scan->options->fs, scan->directory, index, err)
                : cg_segment_open_to_read(segment, scan->options->fs, scan->directory, index, err);
    if (code != CG_OK)
      return code;
    found->segment_count++;
    if (!is_last)
      cg_segment_rest(*segment); /* There may be more of them than files can be open. */
    const uint8_t *log_id = found->segments[0]->header.log_id;
    if (memcmp((*segment)->header.log_id, log_id, sizeof((*segment)->header.log_id)) != 0)
      return corrupt(scan, (uint32_t)index, 0, "the segment belongs to another log", err);
  }
  return CG_OK;
}

/* --- skipping --- */

/* Checks by their headers alone that the first `count` segments follow on one another. What is
 * between the headers is checked when it is read. */
static enum cg_code check_headers(const struct scan *scan, uint32_t count, struct cg_err *err) {
  struct cg_segment *const *segments = scan->found->segments;
  uint64_t position = 1;
  for (uint32_t index = 0; index < count; index++) {
    const struct cg_segment_header *header = &segments[index]->header;
    bool is_following = header->first_position >= position;
    if (index == 0)
      is_following = header->first_position == 1 && header->chain == 0;
    else if (segments[index - 1]->header.is_rewritten)
      is_following = header->first_position == segments[index - 1]->header.end_position &&
                     header->chain == segments[index - 1]->header.end_chain;
    if (!is_following)
      return corrupt(scan, index, 0, "the segment does not follow on the one before it", err);
    position = header->first_position;
  }
  return CG_OK;
}

/* Asks which sealed segments need not be read; *begin gets the first that is. Its header, which was
 * durable before anything behind it, then states position and chain. */
static enum cg_code skip_segments(struct scan *scan, uint32_t *begin, struct cg_err *err) {
  struct cg_segment **segments = scan->found->segments;
  uint32_t count = scan->found->segment_count - 1;
  enum cg_code code = check_headers(scan, count + 1, err);
  if (code != CG_OK)
    return code;
  struct cg_log_seal *seals = cg_alloc(count * sizeof(*seals));
  for (uint32_t index = 0; index < count; index++)
    seals[index] = cg_segment_seal(segments[index], segments[index + 1]);
  struct cg_err failure = {.code = CG_OK};
  *begin = scan->options->resume(scan->options->resume_arg, segments[0]->header.log_id, seals,
                                 count, &failure);
  cg_free(seals);
  if (failure.code != CG_OK)
    return cg_err_set(err, failure.code, "%s", failure.message);
  if (*begin > count)
    *begin = count;
  scan->position = segments[*begin]->header.first_position;
  scan->chain = segments[*begin]->header.chain;
  return CG_OK;
}

/* --- reading --- */

/* Adds the file's name to an error of reading. */
static enum cg_code reading_failed(const struct scan *scan, uint32_t index, enum cg_code code,
                                   struct cg_err *err) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, index);
  cg_err_prefix(err, "%s/%s", scan->directory, name);
  return code;
}

/* Reads the next commit and checks that it follows on. CG_OK, CG_END, CG_ECORRUPT, CG_EIO; and
 * CG_ECONFLICT for a whole commit in the wrong place, which no crash can leave. */
static enum cg_code read_commit(struct scan *scan, struct cg_reader_commit *commit,
                                struct cg_err *err) {
  enum cg_code code = cg_reader_commit(&scan->reader, scan->offset, commit, err);
  if (code != CG_OK)
    return code;
  const struct cg_commit_header *header = &commit->header;
  if (header->first_position != scan->position)
    return cg_err_set(err, CG_ECONFLICT, "commit has position %" PRIu64 ", expected %" PRIu64,
                      header->first_position, scan->position);
  if (header->chain != scan->chain)
    return cg_err_set(err, CG_ECONFLICT, "commit is not chained to the one before it");
  if (header->durable_position > header->first_position)
    return cg_err_set(err, CG_ECONFLICT,
                      "commit at position %" PRIu64 " states durable position %" PRIu64,
                      header->first_position, header->durable_position);
  return CG_OK;
}

/* Calls replay for each record of a commit. */
static void replay(const struct scan *scan, uint32_t index, const struct cg_reader_commit *commit) {
  if (!scan->options->replay)
    return;
  cg_log_place place = (uint64_t)index << 32 | (scan->offset + CG_COMMIT_HEADER_BYTES) / 8;
  uint64_t position = scan->position;
  size_t at = 0;
  for (uint32_t count = 0; count < commit->header.record_count; count++) {
    struct cg_record record;
    size_t size;
    if (cg_record_decode(commit->records + at, commit->records_size - at, &record, &size, NULL) !=
        CG_OK)
      return; /* Not reached: the commit was checked as a whole. */
    record.position = position;
    position += cg_record_positions(&record);
    if (!(record.flags & CG_RECORD_HOLE))
      scan->options->replay(scan->options->replay_arg, &record, place + at / 8);
    at += size;
  }
}

/* A segment but the last must end in zeros, and the next one must take up where it ends. */
static enum cg_code check_join(struct scan *scan, uint32_t index, struct cg_err *err) {
  const struct cg_segment_header *header = &scan->found->segments[index]->header;
  const struct cg_segment_header *next = &scan->found->segments[index + 1]->header;
  uint64_t end;
  enum cg_code code = cg_reader_end(&scan->reader, scan->offset, &end, err);
  if (code != CG_OK)
    return reading_failed(scan, index, code, err);
  if (end != scan->offset)
    return corrupt(scan, index, scan->offset, "bytes after the last commit are not zero", err);
  if (header->is_rewritten && header->end_position != scan->position)
    return corrupt(scan, index, scan->offset, "it does not end where its header says", err);
  if (header->is_rewritten)
    scan->chain = header->end_chain;
  if (next->first_position > scan->position)
    return corrupt(scan, index, scan->offset, "commits are missing: the next segment begins later",
                   err);
  if (next->first_position != scan->position || next->chain != scan->chain)
    return corrupt(scan, index + 1, 0, "the segment does not follow on the one before it", err);
  return CG_OK;
}

/* Reads one segment's commits up to its end or to the first that is bad. */
static enum cg_code read_segment(struct scan *scan, uint32_t index, struct cg_err *err) {
  struct cg_segment *segment = scan->found->segments[index];
  const struct cg_segment_header *header = &segment->header;
  bool is_last = index + 1 == scan->found->segment_count;
  if (header->first_position != scan->position || header->chain != scan->chain)
    return corrupt(scan, index, 0, "the segment does not follow on the one before it", err);
  if (header->is_rewritten && is_last)
    return corrupt(scan, index, 0, "a rewritten segment is the last: later ones are missing", err);
  scan->stated_position = header->first_position;
  scan->offset = CG_SEGMENT_HEADER_BYTES;
  cg_reader_turn(&scan->reader, segment, cg_segment_limit(segment));

  for (;;) {
    struct cg_reader_commit commit;
    struct cg_err fault;
    enum cg_code code = read_commit(scan, &commit, &fault);
    if (code == CG_ECONFLICT || (code == CG_ECORRUPT && !is_last))
      return corrupt(scan, index, scan->offset, fault.message, err);
    if (code == CG_END || code == CG_ECORRUPT)
      break;
    if (code != CG_OK) {
      cg_err_set(err, code, "%s", fault.message);
      return reading_failed(scan, index, code, err);
    }
    cg_segment_pass(segment, scan->position, scan->offset);
    replay(scan, index, &commit);
    scan->position = cg_commit_end_position(&commit.header);
    scan->offset += commit.header.size;
    scan->chain = commit.check;
    if (commit.header.durable_position > scan->stated_position)
      scan->stated_position = commit.header.durable_position;
  }
  if (is_last)
    return CG_OK;
  enum cg_code code = check_join(scan, index, err);
  cg_segment_rest(segment);
  return code;
}

/* --- the tail --- */

/* Cuts what stands after the last good commit, unless it was durable once. */
static enum cg_code cut(struct scan *scan, uint32_t index, struct cg_err *err) {
  struct cg_segment *segment = scan->found->segments[index];
  uint64_t end, proof;
  enum cg_code code = cg_reader_end(&scan->reader, scan->offset, &end, err);
  if (code != CG_OK)
    return reading_failed(scan, index, code, err);
  if (end == scan->offset)
    return CG_OK;
  code = cg_reader_find(&scan->reader, scan->offset, scan->position, &proof, err);
  if (code == CG_EIO)
    return reading_failed(scan, index, code, err);
  if (code == CG_OK) {
    char what[160];
    snprintf(what, sizeof(what),
             "damaged commit at position %" PRIu64 "; the commit at offset %" PRIu64
             " proves that it was durable",
             scan->position, proof);
    return corrupt(scan, index, scan->offset, what, err);
  }

  uint64_t size = end - scan->offset;
  int result = cg_io_zero(segment->fs, segment->handle, scan->offset, size);
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, index);
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "cut the torn tail of %s/%s: %s",
                      scan->directory, name, strerror(-result));
  scan->found->cut_bytes = size;
  cg_say(scan->options->say, CG_SAY_WARN,
         "log: %s/%s: offset %" PRIu64 ": cut a torn tail of %" PRIu64
         " bytes, left by a crash; the log ends before position %" PRIu64,
         scan->directory, name, scan->offset, size, scan->position);
  return CG_OK;
}

/* The offset of the first commit that no durable position covers; scan->offset when there is
 * none. */
static enum cg_code find_unproven(struct scan *scan, uint32_t index, uint64_t *offset,
                                  struct cg_err *err) {
  *offset = cg_segment_seek(scan->found->segments[index], scan->stated_position);
  while (*offset < scan->offset) {
    struct cg_commit_header header;
    enum cg_code code = cg_reader_header(&scan->reader, *offset, &header, err);
    if (code != CG_OK)
      return reading_failed(scan, index, CG_EIO, err);
    if (header.first_position >= scan->stated_position)
      return CG_OK;
    *offset += header.size;
  }
  return CG_OK;
}

/* Writes again what no durable position covers. */
static enum cg_code rewrite(struct scan *scan, uint32_t index, struct cg_err *err) {
  struct cg_segment *segment = scan->found->segments[index];
  struct cg_reader *reader = &scan->reader;
  if (scan->stated_position >= scan->position)
    return CG_OK;
  /* The window may hold what the cut has overwritten. */
  cg_reader_turn(reader, segment, scan->offset);
  uint64_t offset;
  enum cg_code code = find_unproven(scan, index, &offset, err);
  while (code == CG_OK && offset < scan->offset) {
    const uint8_t *bytes;
    size_t available;
    code = cg_reader_bytes(reader, offset, reader->window_bytes, &bytes, &available, err);
    if (code != CG_OK)
      return reading_failed(scan, index, code, err);
    if (available == 0)
      return cg_err_set(err, CG_EIO, "%s: segment %u became shorter", scan->directory, index);
    code = cg_segment_write(segment, bytes, available, offset, err);
    offset += available;
  }
  return code;
}

/* What other files know to have been durable must be there. */
static enum cg_code check_proven(const struct scan *scan, uint32_t index, struct cg_err *err) {
  uint64_t proven = scan->options->proven_position;
  if (scan->position >= proven)
    return CG_OK;
  char what[256];
  snprintf(what, sizeof(what),
           "the log ends before position %" PRIu64 ", but files derived from it prove that all "
           "below position %" PRIu64 " was durable; see catga log verify, catga log repair",
           scan->position, proven);
  return corrupt(scan, index, scan->offset, what, err);
}

/* Makes the last segment's end sure and durable, and says where it is. */
static enum cg_code settle_tail(struct scan *scan, struct cg_err *err) {
  uint32_t index = scan->found->segment_count - 1;
  struct cg_segment *segment = scan->found->segments[index];
  enum cg_code code = check_proven(scan, index, err);
  if (code == CG_OK)
    code = cut(scan, index, err);
  if (code == CG_OK)
    code = rewrite(scan, index, err);
  if (code == CG_OK)
    code = cg_segment_sync(segment, err);
  if (code != CG_OK)
    return code;
  int result = cg_io_sync_dir(scan->options->fs, scan->directory);
  if (result < 0)
    return cg_err_set(err, CG_EIO, "sync %s: %s", scan->directory, strerror(-result));

  /* Without space the log can still be read; appends try to reserve it again. */
  code = cg_segment_reserve_again(segment, err);
  if (code != CG_OK && code != CG_EFULL)
    return code;
  scan->found->tail = (struct cg_writer_tail){
      .segment = segment,
      .offset = scan->offset,
      .chain = scan->chain,
      .next_position = scan->position,
      .marked_position = scan->stated_position,
  };
  return CG_OK;
}

/* Removes the files of one kind. */
static void remove_files(struct scan *scan, const struct cg_listing_numbers *numbers,
                         enum cg_segment_kind kind) {
  for (size_t index = 0; index < numbers->count; index++) {
    char *path = cg_segment_file_path(scan->directory, numbers->items[index], kind);
    cg_io_unlink(scan->options->fs, path); /* Failing that, making the next one tries. */
    cg_free(path);
  }
}

/* Removes the files of segments that were never published, and rewritten ones never used. */
static void remove_leftovers(struct scan *scan) {
  remove_files(scan, &scan->files.leftovers, CG_SEGMENT_KIND_TEMP);
  remove_files(scan, &scan->files.rewritten, CG_SEGMENT_KIND_REWRITTEN);
}
