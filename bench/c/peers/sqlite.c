/* sqlite.c - an event store as one would make it on SQLite: one table, WAL, synchronous=FULL.
 *
 * Writers take turns, because SQLite has one at a time.
 * Owns: the database. Thread: one. */
#include <sqlite3.h>
#include <stdio.h>

#include "peer.h"

static struct {
  sqlite3 *db;          /* Open. */
  sqlite3_stmt *insert; /* Prepared, as all. */
  sqlite3_stmt *one;
  sqlite3_stmt *all;
} state;

static void check(int code) {
  if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW)
    peer_fail("sqlite", sqlite3_errmsg(state.db));
}

static void run(const char *sql) {
  check(sqlite3_exec(state.db, sql, NULL, NULL, NULL));
}

static void sqlite_open(const char *directory) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/sqlite.db", directory);
  check(sqlite3_open(path, &state.db));
  run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
      "CREATE TABLE IF NOT EXISTS events(position INTEGER PRIMARY KEY, stream TEXT NOT NULL,"
      " version INTEGER NOT NULL, type TEXT NOT NULL, time INTEGER NOT NULL, data TEXT NOT NULL,"
      " UNIQUE(stream, version))");
  check(sqlite3_prepare_v2(state.db,
                           "INSERT INTO events(stream, version, type, time, data) VALUES(?1,"
                           " (SELECT COALESCE(MAX(version), -1) + 1 FROM events WHERE stream = ?1),"
                           " 'OrderCreated', 1, ?2)",
                           -1, &state.insert, NULL));
  check(sqlite3_prepare_v2(state.db,
                           "SELECT version, type, time, data FROM events WHERE stream = ?1"
                           " ORDER BY version",
                           -1, &state.one, NULL));
  check(sqlite3_prepare_v2(state.db,
                           "SELECT stream, version, type, time, data FROM events ORDER BY position",
                           -1, &state.all, NULL));
}

static void sqlite_append(const uint32_t *streams, uint32_t count) {
  run("BEGIN IMMEDIATE");
  for (uint32_t i = 0; i < count; i++) {
    char name[PEER_STREAM_NAME_BYTES];
    int size = peer_stream_name(name, streams[i]);
    sqlite3_bind_text(state.insert, 1, name, size, SQLITE_TRANSIENT);
    sqlite3_bind_text(state.insert, 2, peer_data(), PEER_DATA_BYTES, SQLITE_STATIC);
    check(sqlite3_step(state.insert));
    sqlite3_reset(state.insert);
  }
  run("COMMIT");
}

static void sqlite_load(const uint32_t *streams, uint32_t count) {
  static uint32_t waiting;
  if (waiting == 0)
    run("PRAGMA synchronous=OFF; BEGIN IMMEDIATE");
  for (uint32_t i = 0; i < count; i++) {
    char name[PEER_STREAM_NAME_BYTES];
    int size = peer_stream_name(name, streams[i]);
    sqlite3_bind_text(state.insert, 1, name, size, SQLITE_TRANSIENT);
    sqlite3_bind_text(state.insert, 2, peer_data(), PEER_DATA_BYTES, SQLITE_STATIC);
    check(sqlite3_step(state.insert));
    sqlite3_reset(state.insert);
  }
  waiting += count;
  if (waiting >= 100000) {
    run("COMMIT");
    waiting = 0;
  }
}

static uint64_t read_rows(sqlite3_stmt *statement, int data_column) {
  uint64_t count = 0;
  int code;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    peer_sum += (uint64_t)sqlite3_column_text(statement, data_column)[0] +
                (uint64_t)sqlite3_column_bytes(statement, data_column);
    count++;
  }
  check(code);
  sqlite3_reset(statement);
  return count;
}

static uint64_t sqlite_read_stream(uint32_t stream) {
  char name[PEER_STREAM_NAME_BYTES];
  int size = peer_stream_name(name, stream);
  sqlite3_bind_text(state.one, 1, name, size, SQLITE_TRANSIENT);
  return read_rows(state.one, 3);
}

static uint64_t sqlite_read_all(void) {
  return read_rows(state.all, 4);
}

static void sqlite_close(void) {
  if (sqlite3_get_autocommit(state.db) == 0)
    run("COMMIT");
  sqlite3_finalize(state.insert);
  sqlite3_finalize(state.one);
  sqlite3_finalize(state.all);
  check(sqlite3_close(state.db));
}

const struct peer peer_sqlite = {.name = "sqlite",
                                 .open = sqlite_open,
                                 .append = sqlite_append,
                                 .load = sqlite_load,
                                 .read_stream = sqlite_read_stream,
                                 .read_all = sqlite_read_all,
                                 .close = sqlite_close};
