/* restore.c - copies a backup into an empty data directory.
 *
 * All files are copied under temporary names first, each checked against the manifest; then they
 * get their names, the first segment last: a log without its first segment does not open, so what a
 * killed restore leaves is never taken for a log.
 * Owns: nothing after return. Thread: any. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/copy.h"
#include "log/listing.h"
#include "log/lock.h"
#include "log/manifest.h"
#include "log/segment.h"

#define TEMP_ENDING ".restoring"

/* A restore under way. */
struct job {
  const struct cg_fs *fs;       /* Its files. */
  const char *directory;        /* Of the backup. */
  const char *data;             /* The data directory. */
  char *log_directory;          /* Its folder `log`. */
  struct cg_log_backup *backup; /* What was asked for, and the results. */
  struct cg_manifest manifest;  /* Of the backup. */
};

/* What stands in a directory that should be empty. */
struct content {
  bool is_log;        /* The directory is the folder `log`. */
  bool has_other;     /* Something that no restore has left stands there. */
  bool has_segment;   /* A segment but the first. */
  bool has_temporary; /* The first segment under its temporary name. */
  char other[256];    /* Name of something else. */
};

static enum cg_code check_empty(struct job *job, struct cg_err *err);
static enum cg_code copy_segment(struct job *job, uint64_t number, struct cg_err *err);
static enum cg_code remove_surplus(struct job *job, struct cg_err *err);
static enum cg_code put_in_place(struct job *job, struct cg_err *err);

enum cg_code cg_log_restore(const char *directory, const char *data, const struct cg_fs *fs,
                            struct cg_log_backup *backup, struct cg_err *err) {
  struct job job = {.fs = fs ? fs : cg_fs_system(),
                    .directory = directory,
                    .data = data,
                    .log_directory = cg_segment_path(data, "log"),
                    .backup = backup};
  backup->copied_count = backup->copied_bytes = backup->bytes = 0;
  int lock = -1;
  enum cg_code code = cg_manifest_read(&job.manifest, job.fs, directory, err);
  for (uint64_t number = 0; number < job.manifest.segment_count; number++)
    backup->bytes += job.manifest.segments[number].size;
  if (code == CG_OK)
    code = check_empty(&job, err);
  if (code == CG_OK)
    code = cg_lock_take(job.fs, job.log_directory, true, &lock, err);
  for (uint64_t number = 0; code == CG_OK && number < job.manifest.segment_count; number++)
    code = copy_segment(&job, number, err);
  if (code == CG_OK)
    code = remove_surplus(&job, err);
  if (code == CG_OK)
    code = put_in_place(&job, err);
  backup->segment_count = job.manifest.segment_count;
  backup->end_position = job.manifest.end_position;
  cg_lock_drop(job.fs, lock);
  cg_manifest_deinit(&job.manifest);
  cg_free(job.log_directory);
  return code;
}

/* --- the place --- */

/* Is it what a restore makes in the folder `log`, but for the first segment under its own name? */
static bool is_remains(struct content *content, const char *name) {
  char start[CG_SEGMENT_NAME_BYTES + sizeof(TEMP_ENDING)];
  uint64_t number;
  if (strcmp(name, "lock") == 0)
    return true;
  if (strlen(name) >= sizeof(start))
    return false;
  strcpy(start, name);
  char *ending = strstr(start, TEMP_ENDING);
  bool is_temporary = ending != NULL && ending[sizeof(TEMP_ENDING) - 1] == 0;
  if (is_temporary)
    *ending = 0;
  if (cg_segment_parse_name(start, &number) != CG_SEGMENT_KIND_FILE)
    return false;
  content->has_temporary |= is_temporary && number == 0;
  content->has_segment |= !is_temporary;
  return is_temporary || number > 0;
}

/* Judges a name; called by the directory walk. */
static int note_name(void *arg, const char *name) {
  struct content *content = arg;
  if (content->is_log ? is_remains(content, name) : strcmp(name, "log") == 0)
    return 0;
  content->has_other = true;
  snprintf(content->other, sizeof(content->other), "%s", name);
  return 0;
}

/* Makes a directory, its name durable, and looks what is in it. */
static enum cg_code make_and_look(const struct job *job, const char *path, struct content *content,
                                  struct cg_err *err) {
  int result = cg_io_mkdir(job->fs, path);
  if (result == 0 || result == -EEXIST)
    result = cg_io_sync_parent(job->fs, path);
  unsigned interrupt_count = 0;
  if (result == 0) {
    do {
      result = job->fs->list(job->fs->arg, path, note_name, content);
    } while (result == -EINTR && ++interrupt_count < CG_IO_INTERRUPTS_MAX);
  }
  if (result < 0)
    return cg_err_set(err, cg_err_from_errno(-result), "make directory %s: %s", path,
                      strerror(-result));
  /* Segments behind a missing first one, and no copy of that: a damaged log, which is not ours. */
  if (content->has_segment && !content->has_temporary && !content->has_other) {
    content->has_other = true;
    snprintf(content->other, sizeof(content->other), "a log");
  }
  if (!content->has_other)
    return CG_OK;
  return cg_err_set(err, CG_EEXISTS,
                    "%s is not empty (there is %s); a restore needs an empty data directory",
                    job->data, content->other);
}

/* Makes the directories; both must be empty but for the remains of a killed restore. */
static enum cg_code check_empty(struct job *job, struct cg_err *err) {
  struct content in_data = {0}, in_log = {.is_log = true};
  enum cg_code code = make_and_look(job, job->data, &in_data, err);
  return code == CG_OK ? make_and_look(job, job->log_directory, &in_log, err) : code;
}

/* --- copying --- */

/* Opens the backup's file of a segment: under its own name, or the one that a killed run left. */
static enum cg_code open_source(const struct job *job, uint64_t number, int *handle,
                                struct cg_err *err) {
  char *path = cg_manifest_path(job->directory, number, job->manifest.run);
  *handle = cg_io_open(job->fs, path, CG_FS_READ);
  if (*handle == -ENOENT) {
    cg_free(path);
    path = cg_manifest_path(job->directory, number, 0);
    *handle = cg_io_open(job->fs, path, CG_FS_READ);
  }
  enum cg_code code = CG_OK;
  if (*handle == -ENOENT)
    code = cg_err_set(err, CG_ECORRUPT, "the backup is incomplete: %s is missing", path);
  else if (*handle < 0)
    code = cg_err_set(err, cg_err_from_errno(-*handle), "open %s: %s", path, strerror(-*handle));
  cg_free(path);
  return code;
}

/* "<segment>.restoring" in the data directory; free with cg_free. */
static char *temporary_path(const struct job *job, uint64_t number) {
  char name[CG_SEGMENT_NAME_BYTES + sizeof(TEMP_ENDING)];
  cg_segment_name(name, number);
  strcat(name, TEMP_ENDING);
  return cg_segment_path(job->log_directory, name);
}

/* Copies a segment to its temporary name and compares it with the manifest. */
static enum cg_code copy_segment(struct job *job, uint64_t number, struct cg_err *err) {
  const struct cg_manifest_segment *line = &job->manifest.segments[number];
  int from;
  struct cg_copy copy;
  enum cg_code code = open_source(job, number, &from, err);
  if (code != CG_OK)
    return code;
  char *path = temporary_path(job, number);
  code = cg_copy_begin(&copy, job->fs, path, err);
  if (code != CG_OK)
    goto done;
  code = cg_copy_whole(&copy, from, err);
  if (code == CG_OK && (copy.size != line->size || copy.crc != line->crc))
    code = cg_err_set(err, CG_ECORRUPT,
                      "the backup is damaged: segment %" PRIu64 " in %s has %" PRIu64
                      " bytes with CRC32C %08" PRIx32 ", its manifest says %" PRIu64
                      " with %08" PRIx32,
                      number, job->directory, copy.size, copy.crc, line->size, line->crc);
  code = cg_copy_end(&copy, code, err);
  job->backup->copied_count++;
  job->backup->copied_bytes += line->size;
  if (job->backup->progress)
    job->backup->progress(job->backup->arg, job->backup->copied_bytes, job->backup->bytes);

done:
  cg_free(path);
  job->fs->close(job->fs->arg, from);
  return code;
}

/* Removes segments that a killed restore of a longer backup has left. */
static enum cg_code remove_surplus(struct job *job, struct cg_err *err) {
  struct cg_listing listing;
  enum cg_code code = cg_listing_read(&listing, job->fs, job->log_directory, err);
  if (code != CG_OK)
    return code;
  for (size_t index = 0; code == CG_OK && index < listing.segments.count; index++) {
    uint64_t number = listing.segments.items[index];
    if (number < job->manifest.segment_count)
      continue;
    char *path = cg_segment_file_path(job->log_directory, number, CG_SEGMENT_KIND_FILE);
    int result = cg_io_unlink(job->fs, path);
    if (result < 0)
      code = cg_err_set(err, cg_err_from_errno(-result), "remove %s: %s", path, strerror(-result));
    cg_free(path);
  }
  cg_listing_deinit(&listing);
  return code;
}

/* Gives a segment its name. */
static enum cg_code rename_segment(const struct job *job, uint64_t number, struct cg_err *err) {
  char *from = temporary_path(job, number);
  char *to = cg_segment_file_path(job->log_directory, number, CG_SEGMENT_KIND_FILE);
  int result = cg_io_rename(job->fs, from, to);
  enum cg_code code = CG_OK;
  if (result < 0)
    code = cg_err_set(err, cg_err_from_errno(-result), "rename %s: %s", from, strerror(-result));
  cg_free(from);
  cg_free(to);
  return code;
}

/* Gives all segments their names, the first one when all others are durable. */
static enum cg_code put_in_place(struct job *job, struct cg_err *err) {
  enum cg_code code = CG_OK;
  for (int step = 0; step < 2 && code == CG_OK; step++) {
    uint64_t begin = step == 0 ? 1 : 0, end = step == 0 ? job->manifest.segment_count : 1;
    int result = cg_io_sync_dir(job->fs, job->log_directory);
    for (uint64_t number = begin; result == 0 && code == CG_OK && number < end; number++)
      code = rename_segment(job, number, err);
    if (result == 0 && code == CG_OK)
      result = cg_io_sync_dir(job->fs, job->log_directory);
    if (result < 0)
      code = cg_err_set(err, cg_err_from_errno(-result), "sync %s: %s", job->log_directory,
                        strerror(-result));
  }
  return code;
}
