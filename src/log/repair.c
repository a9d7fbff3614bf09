/* repair.c - cuts a damaged log where it is damaged, after putting aside everything it touches.
 *
 * The order of run makes it safe to be killed: copies aside are durable before anything changes;
 * the shortened segment is written under a temporary name, which an open removes; later segments
 * are moved, the last one first; only then the shortened one takes its place by one rename. At any
 * point between, the log has the same damage at the same place, or no damage at all.
 * Owns: nothing after return. Thread: any, while no log has the directory open. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/copy.h"
#include "log/listing.h"
#include "log/lock.h"
#include "log/walk.h"

#define WINDOW_BYTES ((size_t)1 << 20)
#define ASIDE_COUNT_MAX 100 /* Directories with the time of the same second. */
#define README_BYTES 4096

/* A repair under way. */
struct work {
  const struct cg_fs *fs;       /* Its files. */
  const char *directory;        /* The log. */
  struct cg_log_repair *repair; /* The plan. */
  struct cg_listing files;      /* What the directory holds. */
};

static enum cg_code make_plan(struct work *work, struct cg_err *err);
static enum cg_code carry_out(struct work *work, int64_t now_ms, struct cg_err *err);

enum cg_code cg_log_repair_plan(const char *path, const struct cg_fs *fs,
                                struct cg_log_repair *repair, struct cg_err *err) {
  struct work work = {.fs = fs ? fs : cg_fs_system(), .directory = path, .repair = repair};
  *repair = (struct cg_log_repair){.proven_position = repair->proven_position};
  int lock;
  enum cg_code code = cg_lock_take(work.fs, path, false, &lock, err);
  if (code != CG_OK)
    return code;
  code = make_plan(&work, err);
  cg_listing_deinit(&work.files);
  cg_lock_drop(work.fs, lock);
  return code;
}

enum cg_code cg_log_repair_run(const char *path, const struct cg_fs *fs, int64_t now_ms,
                               struct cg_log_repair *repair, struct cg_err *err) {
  struct cg_log_repair now = {.proven_position = repair->proven_position};
  struct work work = {.fs = fs ? fs : cg_fs_system(), .directory = path, .repair = &now};
  int lock;
  enum cg_code code = cg_lock_take(work.fs, path, true, &lock, err);
  if (code != CG_OK)
    return code;
  code = make_plan(&work, err);
  if (code == CG_OK && (now.is_needed != repair->is_needed || now.segment != repair->segment ||
                        now.offset != repair->offset || now.moved_count != repair->moved_count ||
                        now.last_position != repair->last_position))
    code = cg_err_set(err, CG_ECONFLICT,
                      "the log in %s has changed since the repair was planned; begin again", path);
  work.repair = repair;
  if (code == CG_OK && repair->is_needed)
    code = carry_out(&work, now_ms, err);
  cg_listing_deinit(&work.files);
  cg_lock_drop(work.fs, lock);
  return code;
}

/* --- the plan --- */

/* Notes where the damage is; an error when the log cannot be cut before it. */
static enum cg_code note_damage(struct work *work, uint64_t number, uint64_t offset,
                                const struct cg_err *fault, struct cg_err *err) {
  struct cg_log_repair *repair = work->repair;
  if (number == 0 && offset == 0)
    return cg_err_set(
        err, CG_ECORRUPT,
        "%s; this cannot be repaired: the first segment holds the beginning, on which "
        "all that follows depends. Put its file back, or restore a backup",
        fault->message);
  repair->is_needed = true;
  repair->segment = number;
  repair->offset = offset;
  repair->is_cut = offset > 0;
  snprintf(repair->fault, sizeof(repair->fault), "%s", fault->message);
  return CG_OK;
}

/* Notes that segment `number` is missing or wrong as a whole. A rewritten one before it cannot be
 * the last of a log (it says what must come behind it), so it is written anew as well: `kept_end`
 * is where its commits end, or 0. */
static enum cg_code note_whole(struct work *work, uint64_t number, uint64_t kept_end,
                               const struct cg_err *fault, struct cg_err *err) {
  return kept_end > 0 ? note_damage(work, number - 1, kept_end, fault, err)
                      : note_damage(work, number, 0, fault, err);
}

/* Finds the first damage and notes it. CG_OK also when there is none. */
static enum cg_code find_damage(struct work *work, struct cg_walk *walk, struct cg_err *err) {
  const struct cg_listing_numbers *segments = &work->files.segments;
  uint64_t kept_end = 0; /* Of the segment before when it is a rewritten one. */
  for (size_t index = 0; index < segments->count; index++) {
    struct cg_err fault;
    if (segments->items[index] != index) {
      cg_walk_corrupt(walk, index, 0, &fault, "the file is missing, but later segments are there");
      return note_whole(work, index, kept_end, &fault, err);
    }
    struct cg_segment *segment;
    enum cg_code code = cg_segment_open_to_read(&segment, work->fs, work->directory, index, &fault);
    uint64_t offset = 0, next_end = 0;
    if (code == CG_OK) {
      code = cg_walk_segment(walk, segment, index + 1 == segments->count, &fault);
      offset = walk->offset;
      next_end = segment->header.is_rewritten ? offset : 0;
      cg_segment_free(segment);
    }
    if (code == CG_ECORRUPT)
      return offset > 0 ? note_damage(work, index, offset, &fault, err)
                        : note_whole(work, index, kept_end, &fault, err);
    if (code != CG_OK)
      return cg_err_set(err, code,
                        "%s; this cannot be repaired here: if the disk is failing, copy "
                        "its files to another one first",
                        fault.message);
    kept_end = next_end;
  }
  return CG_OK;
}

/* Counts the whole commits of a segment behind `offset` that will be lost. */
static void count_lost(struct work *work, struct cg_reader *reader, uint64_t number,
                       uint64_t offset) {
  struct cg_segment *segment;
  if (cg_segment_open_to_read(&segment, work->fs, work->directory, number, NULL) != CG_OK)
    return;
  cg_reader_turn(reader, segment, cg_segment_limit(segment));
  struct cg_reader_commit commit;
  while (cg_walk_find(reader, segment, offset, &offset) &&
         cg_reader_commit(reader, offset, &commit, NULL) == CG_OK) {
    uint64_t end_position = cg_commit_end_position(&commit.header);
    if (commit.header.first_position >= work->repair->first_position) {
      work->repair->readable_count += commit.header.record_count - commit.header.hole_count;
      if (end_position - 1 > work->repair->last_position)
        work->repair->last_position = end_position - 1;
    }
    offset += commit.header.size;
  }
  cg_segment_free(segment);
}

/* Is the segment moved aside as a whole? */
static bool is_moved(const struct cg_log_repair *repair, uint64_t number) {
  return number > repair->segment || (number == repair->segment && repair->offset == 0);
}

/* Notes that a log without damage has lost its end. There is nothing to cut, but what is derived
 * must go: it knows of records that the log will give the positions of to others. */
static void note_lost_end(struct work *work, uint64_t end_position) {
  struct cg_log_repair *repair = work->repair;
  repair->is_needed = true;
  repair->segment = work->files.segments.count;
  snprintf(repair->fault, sizeof(repair->fault),
           "the log in %s ends before position %" PRIu64 ", but its index or read models know all "
           "below %" PRIu64 ": files at its end are missing",
           work->directory, end_position, repair->proven_position);
}

/* Finds out what a repair would do and lose. */
static enum cg_code make_plan(struct work *work, struct cg_err *err) {
  struct cg_log_walk asked = {0};
  struct cg_walk walk;
  enum cg_code code = cg_listing_read(&work->files, work->fs, work->directory, err);
  if (code != CG_OK)
    return code;
  cg_walk_init(&walk, work->fs, work->directory, &asked);
  code = find_damage(work, &walk, err);
  struct cg_log_repair *repair = work->repair;
  if (code == CG_OK && !repair->is_needed && repair->proven_position > walk.position)
    note_lost_end(work, walk.position);
  repair->first_position = walk.position;
  repair->last_position = walk.position - 1;
  if (repair->is_needed && repair->proven_position > walk.position)
    repair->last_position = repair->proven_position - 1;
  cg_walk_deinit(&walk);
  if (code != CG_OK || !repair->is_needed)
    return code;

  struct cg_reader reader;
  cg_reader_init(&reader, WINDOW_BYTES);
  for (size_t index = 0; index < work->files.segments.count; index++) {
    uint64_t number = work->files.segments.items[index];
    repair->moved_count += is_moved(repair, number);
    if (is_moved(repair, number))
      count_lost(work, &reader, number, CG_SEGMENT_HEADER_BYTES);
    else if (number == repair->segment)
      count_lost(work, &reader, number, repair->offset);
  }
  cg_reader_deinit(&reader);
  return CG_OK;
}

/* --- carrying it out --- */

/* Makes names in a directory durable. */
static enum cg_code sync_directory(const struct work *work, const char *path, struct cg_err *err) {
  int result = cg_io_sync_dir(work->fs, path);
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "sync %s: %s", path, strerror(-result));
  return CG_OK;
}

/* Makes the directory for what is put aside; its name has the time. */
static enum cg_code make_aside(struct work *work, int64_t now_ms, struct cg_err *err) {
  struct cg_log_repair *repair = work->repair;
  time_t seconds = (time_t)(now_ms / 1000);
  struct tm utc;
  char text[32];
  gmtime_r(&seconds, &utc);
  strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &utc);
  int result = -EEXIST;
  for (int count = 1; result == -EEXIST && count <= ASIDE_COUNT_MAX; count++) {
    char more[16] = "";
    if (count > 1)
      snprintf(more, sizeof(more), "-%d", count);
    int size = snprintf(repair->aside, sizeof(repair->aside), "%s/aside-%s%s", work->directory,
                        text, more);
    if (size >= (int)sizeof(repair->aside))
      return cg_err_set(err, CG_EINVAL, "the path of the log is too long");
    result = cg_io_mkdir(work->fs, repair->aside);
  }
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "make %s: %s", repair->aside,
                      strerror(-result));
  return sync_directory(work, work->directory, err);
}

/* Writes what happens into the README. */
static enum cg_code write_readme(const struct work *work, struct cg_err *err) {
  const struct cg_log_repair *repair = work->repair;
  char text[README_BYTES];
  int size =
      snprintf(text, sizeof(text),
               "A repair of the event log in the directory above put these files here.\n\n"
               "Damage: %s\n"
               "The log ends before position %" PRIu64 " since then.\n"
               "Lost with it, as far as is known: positions %" PRIu64 " to %" PRIu64 " (%" PRIu64
               " records of them are whole in these files).\n\n"
               "%s segment-%010" PRIu64 ".log is %s; later segments were moved here as they were.\n"
               "What else is here was derived from the log and is built again.\n"
               "To undo it: end the program, remove the segment files with these and later numbers "
               "from the\n"
               "directory above, and move the segment files from here back.\n",
               repair->fault, repair->first_position, repair->first_position, repair->last_position,
               repair->readable_count, repair->is_cut ? "The file" : "The segment", repair->segment,
               repair->is_cut ? "a copy of the one that was cut" : "where the damage is");
  char *path = cg_segment_path(repair->aside, "README");
  struct cg_copy copy;
  enum cg_code code = cg_copy_begin(&copy, work->fs, path, err);
  if (code == CG_OK)
    code = cg_copy_end(&copy, cg_copy_bytes(&copy, text, (size_t)size, err), err);
  cg_free(path);
  return code;
}

/* Moves one file or directory aside; one that is not there is fine. */
static enum cg_code move_aside(const struct work *work, const char *path, struct cg_err *err) {
  const char *name = strrchr(path, '/');
  char *to = cg_segment_path(work->repair->aside, name ? name + 1 : path);
  int result = cg_io_rename(work->fs, path, to);
  enum cg_code code = CG_OK;
  if (result < 0 && result != -ENOENT)
    code = cg_err_set(err, cg_err_from_errno(-result), "move %s to %s: %s", path, to,
                      strerror(-result));
  cg_free(to);
  return code;
}

/* Moves aside what is derived from the log and may know of positions that are lost. */
static enum cg_code move_derived(const struct work *work, struct cg_err *err) {
  enum cg_code code = CG_OK;
  for (const char *const *path = work->repair->derived; code == CG_OK && *path; path++) {
    code = move_aside(work, *path, err);
    const char *name = strrchr(*path, '/');
    if (code != CG_OK || !name)
      continue;
    char *parent = cg_strndup(*path, name == *path ? 1 : (size_t)(name - *path));
    code = sync_directory(work, parent, err);
    cg_free(parent);
  }
  /* Before the log gets shorter: an open must never meet derived files that know more than it. */
  return code == CG_OK ? sync_directory(work, work->repair->aside, err) : code;
}

/* Writes the good part of the damaged segment into `copy`, as one that was never rewritten. */
static enum cg_code write_good_part(const struct work *work, struct cg_segment *segment,
                                    struct cg_copy *copy, struct cg_err *err) {
  struct cg_segment_header header = {.number = segment->header.number,
                                     .first_position = segment->header.first_position,
                                     .nonce = segment->header.nonce,
                                     .chain = segment->header.chain,
                                     .created_ms = segment->header.created_ms,
                                     .segment_bytes = segment->header.segment_bytes};
  memcpy(header.log_id, segment->header.log_id, sizeof(header.log_id));
  uint8_t bytes[CG_SEGMENT_HEADER_BYTES];
  cg_segment_header_encode(&header, bytes);
  enum cg_code code = cg_copy_bytes(copy, bytes, sizeof(bytes), err);

  struct cg_reader reader; /* Gives the bytes as they are without compression. */
  cg_reader_init(&reader, WINDOW_BYTES);
  cg_reader_turn(&reader, segment, work->repair->offset);
  uint64_t offset = CG_SEGMENT_HEADER_BYTES;
  while (code == CG_OK && offset < work->repair->offset) {
    const uint8_t *part;
    size_t available;
    code = cg_reader_bytes(&reader, offset, WINDOW_BYTES, &part, &available, err);
    if (code == CG_OK && available == 0)
      code = cg_err_set(err, CG_EIO, "%s: segment %" PRIu64 " became shorter", work->directory,
                        header.number);
    if (code == CG_OK)
      code = cg_copy_bytes(copy, part, available, err);
    offset += available;
  }
  cg_reader_deinit(&reader);
  return code;
}

/* Copies the damaged segment aside as it is, and its good part to its temporary name. */
static enum cg_code copy_damaged(const struct work *work, struct cg_err *err) {
  struct cg_segment *segment;
  enum cg_code code =
      cg_segment_open_to_read(&segment, work->fs, work->directory, work->repair->segment, err);
  if (code != CG_OK)
    return code;
  uint64_t number = work->repair->segment;
  char *aside = cg_segment_file_path(work->repair->aside, number, CG_SEGMENT_KIND_FILE);
  char *temp = cg_segment_file_path(work->directory, number, CG_SEGMENT_KIND_TEMP);
  for (int part = 0; code == CG_OK && part < 2; part++) {
    struct cg_copy copy;
    code = cg_copy_begin(&copy, work->fs, part == 0 ? aside : temp, err);
    if (code != CG_OK)
      break;
    code = part == 0 ? cg_copy_whole(&copy, segment->handle, err)
                     : write_good_part(work, segment, &copy, err);
    code = cg_copy_end(&copy, code, err);
  }
  cg_free(aside);
  cg_free(temp);
  cg_segment_free(segment);
  return code;
}

/* Moves the later segments aside, the last one first. */
static enum cg_code move_segments(const struct work *work, struct cg_err *err) {
  const struct cg_listing_numbers *segments = &work->files.segments;
  enum cg_code code = CG_OK;
  for (size_t index = segments->count; code == CG_OK && index > 0; index--) {
    if (!is_moved(work->repair, segments->items[index - 1]))
      break;
    char *path =
        cg_segment_file_path(work->directory, segments->items[index - 1], CG_SEGMENT_KIND_FILE);
    code = move_aside(work, path, err);
    cg_free(path);
  }
  return code;
}

/* Puts the shortened segment in the place of the damaged one. */
static enum cg_code replace_damaged(const struct work *work, struct cg_err *err) {
  uint64_t number = work->repair->segment;
  char *temp = cg_segment_file_path(work->directory, number, CG_SEGMENT_KIND_TEMP);
  char *path = cg_segment_file_path(work->directory, number, CG_SEGMENT_KIND_FILE);
  int result = cg_io_rename(work->fs, temp, path);
  enum cg_code code = CG_OK;
  if (result < 0)
    code = cg_err_set(err, cg_err_from_errno(-result), "rename %s: %s", temp, strerror(-result));
  cg_free(temp);
  cg_free(path);
  return code;
}

static enum cg_code carry_out(struct work *work, int64_t now_ms, struct cg_err *err) {
  enum cg_code code = make_aside(work, now_ms, err);
  if (code == CG_OK)
    code = write_readme(work, err);
  if (code == CG_OK && work->repair->is_cut)
    code = copy_damaged(work, err);
  if (code == CG_OK)
    code = move_derived(work, err);
  if (code == CG_OK)
    code = move_segments(work, err);
  if (code == CG_OK)
    code = sync_directory(work, work->repair->aside, err);
  if (code == CG_OK)
    code = sync_directory(work, work->directory, err);
  if (code == CG_OK && work->repair->is_cut)
    code = replace_damaged(work, err);
  if (code == CG_OK)
    code = sync_directory(work, work->directory, err);
  return code;
}
