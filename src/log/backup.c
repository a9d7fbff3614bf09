/* backup.c - brings a backup up to date with a log, which may be open meanwhile.
 *
 * Segment files only grow at the end of the last one, or are replaced as a whole under another
 * nonce; so a file that is open is a consistent copy of its segment, of which the last one is taken
 * up to the last whole commit below until_position. Sealed segments are durable as a whole.
 * New files are written under temporary names with the run's number; the new manifest, written when
 * all of them are durable, makes the run valid; then they are renamed, in order, so that the folder
 * `log` is a valid log at any time. A run that was killed before the manifest never was; one that
 * was killed behind it is finished by the next.
 * Owns: nothing after return. Thread: any. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/copy.h"
#include "log/listing.h"
#include "log/lock.h"
#include "log/manifest.h"
#include "log/walk.h"

#define TEMP_MARK ".backup-" /* See cg_manifest_path. */

/* A temporary file that an earlier run has left. */
struct leftover {
  uint64_t number; /* Of the segment. */
  uint64_t run;    /* That wrote it. */
};

/* A backup run. */
struct job {
  const struct cg_fs *fs;       /* Its files. */
  const char *path;             /* Of the log. */
  const char *directory;        /* Of the backup. */
  char *log_directory;          /* Its folder `log`. */
  struct cg_log_backup *backup; /* What was asked for, and the results. */
  struct cg_manifest old;       /* Of the run before; run 0: there was none. */
  struct cg_manifest now;       /* Of this run. */
  struct cg_listing source;     /* Segments of the log. */
  struct cg_listing target;     /* Segments in the backup. */
  struct leftover *leftovers;   /* Temporary files in the backup. */
  size_t leftover_count;        /* How many. */
  struct cg_log_walk asked;     /* For the walk. */
  struct cg_walk walk;          /* Over the log. */
};

static enum cg_code prepare(struct job *job, struct cg_err *err);
static enum cg_code copy_segments(struct job *job, struct cg_err *err);
static enum cg_code put_in_place(struct job *job, struct cg_err *err);
static enum cg_code list_leftovers(struct job *job, struct cg_err *err);
static enum cg_code settle_leftovers(struct job *job, uint64_t kept_run, struct cg_err *err);
static enum cg_code make_directories(const struct job *job, struct cg_err *err);

enum cg_code cg_log_backup(const char *path, const char *directory, const struct cg_fs *fs,
                           struct cg_log_backup *backup, struct cg_err *err) {
  struct job job = {.fs = fs ? fs : cg_fs_system(),
                    .path = path,
                    .directory = directory,
                    .log_directory = cg_segment_path(directory, "log"),
                    .backup = backup};
  job.asked = (struct cg_log_walk){.progress = backup->progress, .arg = backup->arg};
  cg_walk_init(&job.walk, job.fs, path, &job.asked);
  backup->segment_count = backup->copied_count = 0;
  backup->copied_bytes = backup->bytes = 0;
  int target_lock = -1, source_lock = -1;
  enum cg_code code = make_directories(&job, err);
  if (code == CG_OK)
    code = cg_lock_take(job.fs, job.log_directory, true, &target_lock, err);
  if (code == CG_OK)
    code = prepare(&job, err);
  if (code == CG_OK && backup->until_position == 0)
    code = cg_lock_take(job.fs, path, false, &source_lock, err);
  if (code == CG_OK)
    code = copy_segments(&job, err);
  if (code == CG_OK)
    code = put_in_place(&job, err);
  else if (job.now.run > 0 && list_leftovers(&job, NULL) == CG_OK)
    settle_leftovers(&job, job.old.run, NULL); /* Failing that, the next run tries. */

  cg_lock_drop(job.fs, source_lock);
  cg_lock_drop(job.fs, target_lock);
  cg_walk_deinit(&job.walk);
  cg_listing_deinit(&job.source);
  cg_listing_deinit(&job.target);
  cg_manifest_deinit(&job.old);
  cg_manifest_deinit(&job.now);
  cg_free(job.leftovers);
  cg_free(job.log_directory);
  return code;
}

/* --- what is there --- */

/* Makes names in a directory durable. */
static enum cg_code sync_directory(const struct job *job, const char *path, struct cg_err *err) {
  int result = cg_io_sync_dir(job->fs, path);
  return result < 0
             ? cg_err_set(err, cg_err_from_errno(-result), "sync %s: %s", path, strerror(-result))
             : CG_OK;
}

/* Makes the backup's directories and their names durable. */
static enum cg_code make_directories(const struct job *job, struct cg_err *err) {
  const char *const paths[] = {job->directory, job->log_directory};
  for (int index = 0; index < 2; index++) {
    int result = cg_io_mkdir(job->fs, paths[index]);
    if (result < 0 && result != -EEXIST)
      return cg_err_set(err, cg_err_from_errno(-result), "make directory %s: %s", paths[index],
                        strerror(-result));
  }
  int result = cg_io_sync_parent(job->fs, job->directory);
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "sync the directory above %s: %s",
                      job->directory, strerror(-result));
  return sync_directory(job, job->directory, err);
}

/* Notes a temporary file; called by the directory walk. */
static int note_leftover(void *arg, const char *name) {
  struct job *job = arg;
  const char *mark = strstr(name, TEMP_MARK);
  char segment_name[CG_SEGMENT_NAME_BYTES];
  struct leftover leftover;
  char *end;
  if (!mark || mark - name >= CG_SEGMENT_NAME_BYTES ||
      job->leftover_count >= CG_LISTING_LEFTOVERS_MAX)
    return 0;
  memcpy(segment_name, name, (size_t)(mark - name));
  segment_name[mark - name] = 0;
  leftover.run = strtoull(mark + sizeof(TEMP_MARK) - 1, &end, 10);
  if (cg_segment_parse_name(segment_name, &leftover.number) != CG_SEGMENT_KIND_FILE || *end != 0 ||
      leftover.run == 0)
    return 0;
  if ((job->leftover_count & (job->leftover_count - 1)) == 0) /* Grown at each power of two. */
    job->leftovers = cg_realloc(
        job->leftovers, (job->leftover_count > 0 ? job->leftover_count * 2 : 1) * sizeof(leftover));
  job->leftovers[job->leftover_count++] = leftover;
  return 0;
}

static int compare_leftovers(const void *left, const void *right) {
  const struct leftover *a = left, *b = right;
  return a->number != b->number ? (a->number < b->number ? -1 : 1)
                                : (a->run > b->run) - (a->run < b->run);
}

/* Lists the temporary files in the backup, by number. */
static enum cg_code list_leftovers(struct job *job, struct cg_err *err) {
  int result;
  unsigned interrupt_count = 0;
  do {
    job->leftover_count = 0;
    result = job->fs->list(job->fs->arg, job->log_directory, note_leftover, job);
  } while (result == -EINTR && ++interrupt_count < CG_IO_INTERRUPTS_MAX);
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "list %s: %s", job->log_directory,
                      strerror(-result));
  if (job->leftover_count > 0)
    qsort(job->leftovers, job->leftover_count, sizeof(job->leftovers[0]), compare_leftovers);
  return CG_OK;
}

/* Gives the temporary files of run `kept_run`, which is valid, their names, each durably before the
 * next; removes all others. */
static enum cg_code settle_leftovers(struct job *job, uint64_t kept_run, struct cg_err *err) {
  enum cg_code code = CG_OK;
  for (size_t index = 0; code == CG_OK && index < job->leftover_count; index++) {
    const struct leftover *leftover = &job->leftovers[index];
    char *temp = cg_manifest_path(job->directory, leftover->number, leftover->run);
    char *path = cg_manifest_path(job->directory, leftover->number, 0);
    bool is_kept = leftover->run == kept_run;
    int result = is_kept ? cg_io_rename(job->fs, temp, path) : cg_io_unlink(job->fs, temp);
    if (result < 0)
      code = cg_err_set(err, cg_err_from_errno(-result), "%s %s: %s", is_kept ? "rename" : "remove",
                        temp, strerror(-result));
    else if (is_kept)
      code = sync_directory(job, job->log_directory, err);
    cg_free(temp);
    cg_free(path);
  }
  return code;
}

/* Reads what the directory holds, and finishes the run before. */
static enum cg_code prepare(struct job *job, struct cg_err *err) {
  enum cg_code code = cg_manifest_read(&job->old, job->fs, job->directory, err);
  job->backup->is_first = code == CG_ENOTFOUND;
  if (code != CG_OK && code != CG_ENOTFOUND)
    return code;
  code = list_leftovers(job, err);
  if (code == CG_OK)
    code = settle_leftovers(job, job->old.run, err);
  if (code == CG_OK)
    code = cg_listing_read(&job->target, job->fs, job->log_directory, err);
  if (code == CG_OK && job->backup->is_first && job->target.segments.count > 0)
    return cg_err_set(err, CG_EEXISTS,
                      "%s holds a log, but no manifest of a backup; name another directory",
                      job->directory);
  return code;
}

/* --- copying --- */

/* Whether the backup has the file of a manifest's line, with its size. */
static bool is_there(const struct job *job, uint64_t number, uint64_t size) {
  char *path = cg_manifest_path(job->directory, number, 0);
  int handle = cg_io_open(job->fs, path, CG_FS_READ);
  cg_free(path);
  if (handle < 0)
    return false;
  int64_t found = cg_io_size(job->fs, handle);
  job->fs->close(job->fs->arg, handle);
  return found >= 0 && (uint64_t)found == size;
}

/* The line of a sealed segment that is in the backup already as it is now, or NULL. `next` is the
 * segment behind it. */
static const struct cg_manifest_segment *find_unchanged(const struct job *job,
                                                        const struct cg_segment *segment,
                                                        const struct cg_segment *next) {
  uint64_t number = segment->header.number;
  if (!next || number >= job->old.segment_count)
    return NULL;
  const struct cg_manifest_segment *line = &job->old.segments[number];
  bool is_same = line->is_sealed && line->nonce == segment->header.nonce &&
                 line->first_position == segment->header.first_position &&
                 line->end_position == next->header.first_position &&
                 line->end_chain == next->header.chain &&
                 (int64_t)line->size == cg_io_size(job->fs, segment->handle);
  return is_same && is_there(job, number, line->size) ? line : NULL;
}

/* Checks and copies a segment to its temporary name; fills in its line of the manifest. */
static enum cg_code copy_segment(struct job *job, struct cg_segment *segment, bool is_last,
                                 struct cg_manifest_segment *line, struct cg_err *err) {
  /* A sealed segment is durable whatever was said before it was sealed. */
  job->asked.until_position = is_last ? job->backup->until_position : 0;
  enum cg_code code = cg_walk_segment(&job->walk, segment, is_last, err);
  if (code != CG_OK)
    return code;
  char *path = cg_manifest_path(job->directory, segment->header.number, job->now.run);
  struct cg_copy copy;
  code = cg_copy_begin(&copy, job->fs, path, err);
  cg_free(path);
  if (code != CG_OK)
    return code;
  code = is_last ? cg_copy_from(&copy, segment->handle, 0, job->walk.offset, err)
                 : cg_copy_whole(&copy, segment->handle, err);
  line->crc = copy.crc;
  line->size = copy.size;
  code = cg_copy_end(&copy, code, err);
  job->backup->copied_count++;
  job->backup->copied_bytes += line->size;
  return code;
}

/* Takes one segment into the backup; `next` is the one behind it, NULL for the last. */
static enum cg_code take_segment(struct job *job, struct cg_segment *segment,
                                 const struct cg_segment *next, struct cg_err *err) {
  const struct cg_segment_header *header = &segment->header;
  struct cg_manifest_segment line = {
      .nonce = header->nonce, .first_position = header->first_position, .is_sealed = next != NULL};
  const struct cg_manifest_segment *unchanged = find_unchanged(job, segment, next);
  enum cg_code code;
  if (unchanged) {
    code = cg_walk_header(&job->walk, segment, err);
    if (code == CG_OK)
      cg_walk_pass(&job->walk, segment, unchanged->end_position, unchanged->end_chain);
    line = *unchanged;
  } else {
    code = copy_segment(job, segment, next == NULL, &line, err);
    line.end_position = job->walk.position;
    line.end_chain = next ? job->walk.chain : 0;
  }
  cg_manifest_add(&job->now, &line);
  job->backup->bytes += line.size;
  return code;
}

/* Refuses a backup that is not of this log, before anything is copied. */
static enum cg_code check_log_id(struct job *job, const struct cg_segment *first,
                                 struct cg_err *err) {
  memcpy(job->now.log_id, first->header.log_id, sizeof(job->now.log_id));
  if (job->old.run == 0 || memcmp(job->old.log_id, job->now.log_id, sizeof(job->now.log_id)) == 0)
    return CG_OK;
  return cg_err_set(err, CG_ECONFLICT,
                    "%s holds the backup of another log than that in %s; name another directory",
                    job->directory, job->path);
}

/* Opens the segment of a place in the listing. */
static enum cg_code open_source(const struct job *job, size_t index, struct cg_segment **segment,
                                struct cg_err *err) {
  if (job->source.segments.items[index] != index)
    return cg_walk_corrupt(&job->walk, index, 0, err,
                           "the file is missing, but later segments are there");
  return cg_segment_open_to_read(segment, job->fs, job->path, index, err);
}

static enum cg_code copy_segments(struct job *job, struct cg_err *err) {
  enum cg_code code = cg_listing_read(&job->source, job->fs, job->path, err);
  size_t count = job->source.segments.count;
  struct cg_segment *segment = NULL, *next = NULL;
  if (code == CG_OK && count == 0)
    code = cg_err_set(err, CG_ENOTFOUND, "there is no log in %s", job->path);
  if (code == CG_OK)
    code = open_source(job, 0, &segment, err);
  if (code == CG_OK)
    code = check_log_id(job, segment, err);
  if (code == CG_OK && job->asked.progress)
    job->walk.total_bytes =
        cg_walk_total_bytes(job->fs, job->path, job->source.segments.items, count);
  job->now.run = job->old.run + 1;
  for (size_t index = 0; code == CG_OK && index < count; index++) {
    if (index + 1 < count)
      code = open_source(job, index + 1, &next, err);
    if (code == CG_OK)
      code = take_segment(job, segment, next, err);
    cg_segment_free(segment);
    segment = next;
    next = NULL;
  }
  cg_segment_free(segment);
  job->now.end_position = job->walk.position;
  if (code == CG_OK && job->now.end_position < job->old.end_position)
    code =
        cg_err_set(err, CG_ECONFLICT,
                   "the backup in %s goes up to position %" PRIu64 ", but the log in %s ends "
                   "at %" PRIu64 ": it has lost records since; name another directory",
                   job->directory, job->old.end_position - 1, job->path, job->now.end_position - 1);
  return code;
}

/* --- making it valid --- */

/* Removes segments behind the last one, the last first: a program was run on the backup. */
static enum cg_code remove_surplus(struct job *job, struct cg_err *err) {
  const struct cg_listing_numbers *segments = &job->target.segments;
  for (size_t index = segments->count; index > 0; index--) {
    if (segments->items[index - 1] < job->now.segment_count)
      break;
    char *path = cg_manifest_path(job->directory, segments->items[index - 1], 0);
    int result = cg_io_unlink(job->fs, path);
    enum cg_code code = CG_OK;
    if (result < 0)
      code = cg_err_set(err, cg_err_from_errno(-result), "remove %s: %s", path, strerror(-result));
    cg_free(path);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

static enum cg_code put_in_place(struct job *job, struct cg_err *err) {
  job->now.time_ms = job->backup->now_ms;
  enum cg_code code = sync_directory(job, job->log_directory, err);
  if (code == CG_OK)
    code = cg_manifest_write(&job->now, job->fs, job->directory, err);
  if (code == CG_OK)
    code = list_leftovers(job, err);
  if (code == CG_OK)
    code = settle_leftovers(job, job->now.run, err);
  if (code == CG_OK)
    code = remove_surplus(job, err);
  if (code == CG_OK)
    code = sync_directory(job, job->log_directory, err);
  job->backup->segment_count = job->now.segment_count;
  job->backup->end_position = job->now.end_position;
  return code;
}
