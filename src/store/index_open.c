/* index_open.c - how an index is opened: of the files that are there those are taken that are valid
 * and cover most, and what is missing is built.
 *
 * Owns: see index.h. Thread: the loop thread. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/index_set.h"
#include "store/table_writer.h"

#define PROGRESS_NS UINT64_C(1000000000)
#define FILES_MAX 1000000u /* Names looked at in the directory. */

/* A file of the directory. */
struct file {
  char name[CG_TABLE_NAME_BYTES]; /* Its name. */
  uint64_t first;                 /* Its first segment, as the name says. */
  uint64_t last;                  /* Its last segment. */
  bool is_used;                   /* It is a table of the index now. */
};

/* An opening under way. */
struct opening {
  struct cg_index *index;          /* What is opened. */
  const struct cg_log_seal *seals; /* Of the log. */
  uint32_t seal_count;             /* How many. */
  struct file *files;              /* By first segment, widest first. */
  size_t file_count;               /* How many. */
  size_t file_capacity;            /* Room. */
  uint64_t told_ns;                /* When progress was told last. */
  uint32_t built_count;            /* Tables built. */
};

/* Reads the name of a table: two numbers. */
static bool parse(const char *name, struct file *file) {
  char again[CG_TABLE_NAME_BYTES];
  char *end;
  size_t size = strlen(name);
  if (size >= sizeof(file->name) || strncmp(name, "table-", 6) != 0)
    return false;
  file->first = strtoull(name + 6, &end, 10);
  file->last = *end == '-' ? strtoull(end + 1, &end, 10) : 0;
  if (file->last > UINT32_MAX || file->last < file->first)
    return false;
  cg_table_name(again, file->first, file->last);
  memcpy(file->name, name, size + 1);
  return strcmp(again, name) == 0;
}

static int on_name(void *arg, const char *name) {
  struct opening *opening = arg;
  struct file file = {.is_used = false};
  size_t size = strlen(name), ending = strlen(CG_TABLE_TEMPORARY);
  bool is_temporary = size > ending && size < sizeof(file.name) &&
                      strncmp(name, "table-", 6) == 0 &&
                      strcmp(name + size - ending, CG_TABLE_TEMPORARY) == 0;
  if (is_temporary) { /* Left by a crash; sorted behind all segments, it is removed in the end. */
    memcpy(file.name, name, size + 1);
    file.first = file.last = UINT64_MAX;
  } else if (!parse(name, &file)) {
    return 0;
  }
  if (opening->file_count == opening->file_capacity) {
    opening->file_capacity = opening->file_capacity == 0 ? 64 : opening->file_capacity * 2;
    opening->files = cg_realloc(opening->files, opening->file_capacity * sizeof(opening->files[0]));
  }
  opening->files[opening->file_count++] = file;
  return opening->file_count == FILES_MAX;
}

static int compare_files(const void *left, const void *right) {
  const struct file *a = left, *b = right;
  if (a->first != b->first)
    return a->first < b->first ? -1 : 1;
  return (a->last < b->last) - (a->last > b->last);
}

/* Whether a table of this log covers a segment that is not sealed, or not there: the log has lost
 * its end. */
static enum cg_code check_beyond(const struct opening *opening, const struct cg_table *table,
                                 struct cg_err *err) {
  const struct cg_table_header *header = &table->header;
  uint64_t first = header->first_segment, count = opening->seal_count;
  uint64_t common = first < count ? count - first : 0;
  if (common == 0 &&
      (first > count || header->first_position != opening->seals[count - 1].end_position))
    return CG_OK;
  for (uint64_t at = 0; at < common; at++) {
    const struct cg_log_seal *seal = &opening->seals[first + at];
    if (table->segments[at].first_position != seal->first_position ||
        table->segments[at].chain != seal->chain)
      return CG_OK; /* It tells of another history. */
  }
  return cg_err_set(err, CG_ECORRUPT,
                    "the index in %s proves that the log was durable up to position %" PRIu64
                    " in segment %" PRIu64 ", but it ends in segment %" PRIu32
                    "; put the missing segments back, or remove that directory if an older log "
                    "was put back on purpose",
                    opening->index->place.directory, header->end_position,
                    cg_table_last_segment(table), opening->seal_count);
}

/* Opens a file that begins with the next segment; *table stays NULL when it is no use. CG_ECORRUPT:
 * segments of the log are missing. */
static enum cg_code try_file(const struct opening *opening, const struct file *file,
                             struct cg_table **table, struct cg_err *err) {
  struct cg_index *index = opening->index;
  struct cg_err why;
  enum cg_code code = cg_index_set_open(index, file->first, file->last, table, &why);
  if (code == CG_OK && file->last >= opening->seal_count &&
      memcmp((*table)->header.log_id, index->place.log_id, 16) == 0) {
    code = check_beyond(opening, *table, err);
    cg_table_free(*table);
    *table = NULL;
    return code;
  }
  if (code == CG_OK && file->last < opening->seal_count)
    code = cg_table_match(*table, index->place.log_id, opening->seals + file->first, &why);
  else if (code == CG_OK)
    code = cg_err_set(&why, CG_ECONFLICT, "the table is of another log");
  if (code == CG_OK)
    return CG_OK;
  cg_table_free(*table);
  *table = NULL;
  cg_say(index->say, CG_SAY_INFO, "index: %s is not used: %s", file->name, why.message);
  return CG_OK;
}

/* Looks at tables that begin behind the sealed segments. */
static enum cg_code check_rest(const struct opening *opening, struct cg_err *err) {
  for (size_t i = 0; i < opening->file_count; i++) {
    struct cg_table *table;
    if (opening->files[i].first < opening->seal_count || opening->files[i].first == UINT64_MAX)
      continue;
    enum cg_code code = try_file(opening, &opening->files[i], &table, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* Tells how far building has come, once a second. */
static void tell_progress(struct opening *opening, uint64_t segment) {
  uint64_t now_ns = cg_clock_mono_ns(&opening->index->clock);
  if (opening->built_count++ > 0 && now_ns - opening->told_ns < PROGRESS_NS)
    return;
  opening->told_ns = now_ns;
  cg_say(opening->index->say, CG_SAY_INFO, "index: reading segment %" PRIu64 " of %" PRIu32,
         segment, opening->seal_count);
}

/* Takes or builds the table that begins with a segment. CG_END: it and all after it are left to the
 * replay. */
static enum cg_code cover(struct opening *opening, uint64_t segment, struct cg_table **table,
                          struct cg_err *err) {
  for (size_t i = 0; i < opening->file_count; i++) {
    struct file *file = &opening->files[i];
    if (file->first != segment)
      continue;
    enum cg_code code = try_file(opening, file, table, err);
    if (code != CG_OK || *table != NULL) {
      file->is_used = true; /* Also one that proves a loss: it is left where it is. */
      return code;
    }
  }
  /* A stop under load leaves segments without a table: replaying them is four times as quick as
   * building tables now, and the worker will. */
  if (opening->seal_count - segment <= opening->index->replayed_max)
    return CG_END;
  tell_progress(opening, segment);
  struct cg_err why;
  enum cg_code code = cg_index_set_build(opening->index, &opening->seals[segment], table, &why);
  if (code == CG_OK)
    return CG_OK;
  cg_say(opening->index->say, CG_SAY_WARN,
         "index: %s; the log is read into memory from segment %" PRIu64 " on", why.message,
         segment);
  return CG_END;
}

/* Removes the files that are not tables of the index. */
static void remove_unused(const struct opening *opening) {
  const struct cg_index *index = opening->index;
  for (size_t i = 0; i < opening->file_count; i++) {
    const struct file *file = &opening->files[i];
    bool is_table = false; /* One that was built now may have the name of one that was no use. */
    for (uint32_t at = 0; at < index->table_count; at++)
      is_table = is_table || (index->tables[at]->header.first_segment == file->first &&
                              cg_table_last_segment(index->tables[at]) == file->last);
    if (file->is_used || is_table)
      continue;
    char *path = cg_alloc(strlen(index->place.directory) + sizeof(file->name) + 2);
    strcat(strcat(strcpy(path, index->place.directory), "/"), file->name);
    index->place.fs->unlink(index->place.fs->arg, path); /* Failing that, the next open tries. */
    cg_free(path);
  }
}

enum cg_code cg_index_resume(struct cg_index *index, const uint8_t log_id[16],
                             const struct cg_log_seal *seals, uint32_t count, uint32_t *covered,
                             struct cg_err *err) {
  struct opening opening = {.index = index, .seals = seals, .seal_count = count};
  const struct cg_fs *fs = index->place.fs;
  memcpy(index->place.log_id, log_id, sizeof(index->place.log_id));
  index->hash_seed = cg_table_seed(log_id);
  int status = fs->list(fs->arg, index->place.directory, on_name, &opening);
  if (status < 0 && status != -ENOENT)
    cg_say(index->say, CG_SAY_WARN, "index: list %s: %s", index->place.directory,
           strerror(-status));
  if (opening.file_count > 0)
    qsort(opening.files, opening.file_count, sizeof(opening.files[0]), compare_files);
  enum cg_code code = check_rest(&opening, err);
  uint64_t segment = 0;
  while (code == CG_OK && segment < count) {
    struct cg_table *table;
    code = cover(&opening, segment, &table, err);
    if (code != CG_OK)
      break;
    cg_index_set_replace(index, index->table_count, 0, &table, 1);
    segment = cg_table_last_segment(table) + 1;
  }
  code = code == CG_END ? CG_OK : code; /* It goes on without tables for the rest. */
  if (code == CG_OK)
    remove_unused(&opening);
  cg_free(opening.files);
  *covered = (uint32_t)segment;
  return code;
}
