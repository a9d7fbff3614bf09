/* index_verify.c - checks the index files of a closed store against its log.
 *
 * Each record of the segments that a table covers must have an entry that says where it lies, and
 * the table must not have any other.
 * Owns: nothing after return. Thread: any. */
#include "store/index_verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/table.h"

#define PATH_BYTES 4096
#define LINE_BYTES 768
#define PROGRESS_RECORDS 65536 /* Distance of calls of progress. */
#define FAULTS_MAX 100         /* Of one table; then it is left. */

/* A check under way. */
struct check {
  const struct cg_fs *fs;        /* Its files. */
  struct cg_index_verify *asked; /* What to call and to count. */
  char log_path[PATH_BYTES];     /* Directory of the log. */
  char directory[PATH_BYTES];    /* Of the tables. */
  uint8_t log_id[16];            /* Of the log. */
  struct cg_log_seal *seals;     /* Its sealed segments. */
  uint32_t seal_count;           /* How many. */
  const char *name;              /* File being checked. */
  struct cg_table *table;        /* It, open. */
  uint64_t seed;                 /* Of hashes. */
  uint64_t found_count;          /* Records with an entry. */
  uint64_t table_fault_count;    /* Faults of this table. */
};

/* Reports one line about the file being checked. */
static void tell(struct check *check, bool is_fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void tell(struct check *check, bool is_fault, const char *format, ...) {
  char line[LINE_BYTES];
  int size = snprintf(line, sizeof(line), "index/%s: ", check->name);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + size, sizeof(line) - (size_t)size, format, arguments);
  va_end(arguments);
  check->asked->fault_count += is_fault;
  check->table_fault_count += is_fault;
  if (check->asked->report)
    check->asked->report(check->asked->arg, is_fault, line);
}

/* Looks for the entry of a record. */
static enum cg_code find_entry(struct check *check, const struct cg_record *record,
                               struct cg_table_entry *entry, struct cg_err *err) {
  struct cg_table_stream stream;
  const char *name;
  uint32_t place, index;
  uint32_t hash = cg_table_hash(check->seed, record->stream, record->stream_size);
  enum cg_code code =
      cg_table_find(check->table, hash, record->stream, record->stream_size, &place, err);
  if (code == CG_OK)
    code = cg_table_stream(check->table, place, &stream, &name, err);
  if (code == CG_OK)
    code = cg_table_seek_version(check->table, &stream, record->version, &index, err);
  if (code == CG_OK && index == stream.entry_count)
    return CG_ENOTFOUND;
  return code == CG_OK ? cg_table_entry(check->table, &stream, index, entry, err) : code;
}

/* Compares a record with its entry; called by the scan. */
static bool check_record(void *arg, const struct cg_record *record, cg_log_place place) {
  struct check *check = arg;
  struct cg_table_entry entry = {0};
  struct cg_err err;
  enum cg_code code = find_entry(check, record, &entry, &err);
  if (code == CG_OK && entry.version == record->version && entry.position == record->position &&
      entry.place == place)
    check->found_count++;
  else if (code != CG_OK && code != CG_ENOTFOUND)
    tell(check, true, "%s", err.message);
  else
    tell(check, true, "%s entry for version %" PRIu64 " of %.*s at position %" PRIu64,
         code == CG_OK ? "wrong" : "no", record->version, (int)record->stream_size, record->stream,
         record->position);
  if (++check->asked->entry_count % PROGRESS_RECORDS == 0 && check->asked->progress &&
      check->seal_count > 0)
    check->asked->progress(check->asked->arg, record->position,
                           check->seals[check->seal_count - 1].end_position);
  return check->table_fault_count < FAULTS_MAX;
}

/* Counts all entries of the table. */
static enum cg_code count_entries(struct check *check, uint64_t *count, struct cg_err *err) {
  *count = 0;
  for (uint32_t place = 0; place < check->table->header.stream_count; place++) {
    struct cg_table_stream stream;
    const char *name;
    enum cg_code code = cg_table_stream(check->table, place, &stream, &name, err);
    if (code != CG_OK)
      return code;
    *count += stream.entry_count;
  }
  return CG_OK;
}

/* Compares a table that is of this log with its segments. */
static enum cg_code check_entries(struct check *check, struct cg_err *err) {
  const struct cg_table_header *header = &check->table->header;
  struct cg_log_scan scan = {.record = check_record, .arg = check};
  uint64_t entry_count;
  check->found_count = 0;
  for (uint32_t index = 0; index < header->segment_count; index++) {
    enum cg_code code = cg_log_scan(check->log_path, check->fs,
                                    &check->seals[header->first_segment + index], &scan, err);
    if (code == CG_ECANCELLED) {
      tell(check, false, "it has more faults; this is enough");
      return CG_OK;
    }
    if (code != CG_OK)
      return code;
  }
  enum cg_code code = count_entries(check, &entry_count, err);
  if (code != CG_OK)
    tell(check, true, "%s", err->message);
  else if (entry_count > check->found_count)
    tell(check, true, "it has %" PRIu64 " entries without a record",
         entry_count - check->found_count);
  return CG_OK;
}

/* Checks the file check->name. */
static enum cg_code check_table(struct check *check, struct cg_err *err) {
  char path[PATH_BYTES + CG_TABLE_NAME_BYTES];
  struct cg_err fault;
  snprintf(path, sizeof(path), "%s/%s", check->directory, check->name);
  check->table_fault_count = 0;
  enum cg_code code = cg_table_open(&check->table, check->fs, path, &fault);
  if (code == CG_ECORRUPT) {
    tell(check, true, "%s", fault.message);
    return CG_OK;
  }
  if (code != CG_OK)
    return cg_err_set(err, code, "%s", fault.message);
  check->asked->table_count++;
  const struct cg_table_header *header = &check->table->header;
  if (header->first_segment + header->segment_count > check->seal_count)
    tell(check, true, "it covers segments that are not there, or not sealed");
  else if (cg_table_match(check->table, check->log_id, &check->seals[header->first_segment],
                          &fault) != CG_OK)
    tell(check, false, "it is not of this log as it is now, and is built again: %s", fault.message);
  else
    code = check_entries(check, err);
  cg_table_free(check->table);
  return code;
}

/* Checks one name; called by the directory walk. */
static int on_name(void *arg, const char *name) {
  struct check *check = arg;
  char expected[CG_TABLE_NAME_BYTES];
  uint64_t first, last;
  if (sscanf(name, "table-%" SCNu64 "-%" SCNu64 ".idx", &first, &last) != 2)
    return 0;
  cg_table_name(expected, first, last);
  if (strcmp(name, expected) != 0)
    return 0;
  check->name = name;
  struct cg_err err;
  if (check_table(check, &err) != CG_OK)
    tell(check, true, "it cannot be checked: %s", err.message);
  return 0;
}

enum cg_code cg_index_verify(const char *data, const struct cg_fs *fs,
                             struct cg_index_verify *verify, struct cg_err *err) {
  struct check check = {.fs = fs ? fs : cg_fs_system(), .asked = verify};
  verify->table_count = verify->entry_count = verify->fault_count = 0;
  if (snprintf(check.log_path, PATH_BYTES, "%s/log", data) >= PATH_BYTES ||
      snprintf(check.directory, PATH_BYTES, "%s/index", data) >= PATH_BYTES)
    return cg_err_set(err, CG_EINVAL, "the path of the data directory is too long");
  enum cg_code code = cg_log_read_seals(check.log_path, check.fs, check.log_id, &check.seals,
                                        &check.seal_count, err);
  if (code != CG_OK)
    return code;
  check.seed = cg_table_seed(check.log_id);
  int status = check.fs->list(check.fs->arg, check.directory, on_name, &check);
  cg_free(check.seals);
  if (status < 0 && status != -ENOENT)
    return cg_err_set(err, cg_err_from_errno(-status), "list %s: %s", check.directory,
                      strerror(-status));
  if (verify->fault_count == 0)
    return CG_OK;
  return cg_err_set(err, CG_ECORRUPT,
                    "%" PRIu64 " %s in %s; the index is derived: remove that directory, and the "
                    "program builds it again",
                    verify->fault_count, verify->fault_count == 1 ? "fault" : "faults",
                    check.directory);
}
