/* derived.c - what the files derived from a log prove about it.
 *
 * A table of the index is written of sealed segments only, and a read model's checkpoint moves over
 * durable events only; both may be older than the log, never newer.
 * Owns: nothing after return. Thread: any. */
#include "store/derived.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/table.h"

#define PATH_BYTES 4096

/* A look at the tables. */
struct look {
  const struct cg_fs *fs;     /* Their files. */
  char directory[PATH_BYTES]; /* Where they lie. */
  uint8_t log_id[16];         /* Of the log. */
  uint64_t position;          /* Behind the last record that one covers. */
};

/* Looks at one name; called by the directory walk. */
static int on_name(void *arg, const char *name) {
  struct look *look = arg;
  char path[PATH_BYTES + CG_TABLE_NAME_BYTES];
  struct cg_table *table;
  if (strncmp(name, "table-", 6) != 0 || strlen(name) >= CG_TABLE_NAME_BYTES)
    return 0;
  snprintf(path, sizeof(path), "%s/%s", look->directory, name);
  if (cg_table_open(&table, look->fs, path, NULL) != CG_OK)
    return 0;
  bool is_ours = memcmp(table->header.log_id, look->log_id, sizeof(look->log_id)) == 0;
  if (is_ours && table->header.end_position > look->position)
    look->position = table->header.end_position;
  cg_table_free(table);
  return 0;
}

/* The position behind the furthest checkpoint of one database; 1 when it tells nothing. */
static uint64_t position_of(const char *path) {
  uint64_t position = 1;
  sqlite3 *database = NULL;
  sqlite3_stmt *statement = NULL;
  if (access(path, F_OK) != 0)
    return position;
  if (sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
      sqlite3_prepare_v2(database, "SELECT max(position) FROM catga_checkpoints", -1, &statement,
                         NULL) == SQLITE_OK &&
      sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_int64(statement, 0) > 0)
    position = (uint64_t)sqlite3_column_int64(statement, 0) + 1;
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return position;
}

static bool is_database(const char *name) {
  static const char ENDING[] = ".sqlite";
  size_t size = strlen(name);
  return size >= sizeof(ENDING) && strcmp(name + size - (sizeof(ENDING) - 1), ENDING) == 0;
}

uint64_t cg_derived_models(const char *data) {
  char path[PATH_BYTES];
  if (snprintf(path, sizeof(path), "%s/models.sqlite", data) >= PATH_BYTES)
    return 1;
  uint64_t position = position_of(path);
  snprintf(path, sizeof(path), "%s/models", data);
  DIR *directory = opendir(path);
  if (directory == NULL)
    return position;
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    if (!is_database(entry->d_name) ||
        snprintf(path, sizeof(path), "%s/models/%s", data, entry->d_name) >= PATH_BYTES)
      continue;
    uint64_t other = position_of(path);
    position = other > position ? other : position;
  }
  closedir(directory);
  return position;
}

enum cg_code cg_derived_proven(const char *data, const struct cg_fs *fs, uint64_t *position,
                               struct cg_err *err) {
  struct look look = {.fs = fs ? fs : cg_fs_system(), .position = 1};
  char log_path[PATH_BYTES];
  struct cg_log_seal *seals;
  uint32_t count;
  if (snprintf(look.directory, PATH_BYTES, "%s/index", data) >= PATH_BYTES ||
      snprintf(log_path, PATH_BYTES, "%s/log", data) >= PATH_BYTES)
    return cg_err_set(err, CG_EINVAL, "the path of the data directory is too long");
  enum cg_code code = cg_log_read_seals(log_path, look.fs, look.log_id, &seals, &count, err);
  if (code != CG_OK)
    return code;
  cg_free(seals);
  look.fs->list(look.fs->arg, look.directory, on_name, &look); /* Missing: it tells nothing. */
  *position = cg_derived_models(data);
  if (look.position > *position)
    *position = look.position;
  return CG_OK;
}
