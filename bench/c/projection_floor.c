/* projection_floor.c - what SQLite does alone: the upserts of documents that the projections of
 * bench/apps/projections make, in transactions of as many events, with the same pragmas.
 *
 * Usage: projection_floor COUNT KEYS FILE
 * put: COUNT documents with keys in no order. update: COUNT events on KEYS documents, each document
 * written once a transaction, as a projection folds the events of a batch.
 * Owns: the database. Thread: one. */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define BATCH 1000u /* Events of a transaction. */
#define STEP 7919u
#define MODULUS 1000003u

static void fail(sqlite3 *db) {
  fprintf(stderr, "projection_floor: %s\n", sqlite3_errmsg(db));
  exit(1);
}

static void run(sqlite3 *db, const char *text) {
  if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
    fail(db);
}

static uint64_t now_ns(void) {
  struct cg_clock clock = cg_clock_system();
  return cg_clock_mono_ns(&clock);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *table) {
  char text[256];
  sqlite3_stmt *statement;
  snprintf(text, sizeof(text), "CREATE TABLE %s (key TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL)",
           table);
  run(db, text);
  snprintf(text, sizeof(text),
           "INSERT INTO %s (key, doc) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET doc = "
           "excluded.doc",
           table);
  if (sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
    fail(db);
  return statement;
}

static void upsert(sqlite3 *db, sqlite3_stmt *statement, const char *key, const char *doc) {
  sqlite3_bind_text(statement, 1, key, (int)strlen(key), SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, doc, (int)strlen(doc), SQLITE_STATIC);
  if (sqlite3_step(statement) != SQLITE_DONE)
    fail(db);
  sqlite3_reset(statement);
}

static void put(sqlite3 *db, uint32_t count, uint32_t keys) {
  sqlite3_stmt *statement = prepare(db, "put");
  uint64_t begin = now_ns();
  for (uint32_t i = 1; i <= count; i++) {
    char key[32], doc[128];
    uint32_t shuffled = (uint32_t)((uint64_t)i * STEP % MODULUS);
    if (i % BATCH == 1)
      run(db, "BEGIN IMMEDIATE");
    snprintf(key, sizeof(key), "o%07u", shuffled);
    snprintf(doc, sizeof(doc), "{\"amount\":%u.5,\"customer_id\":\"c%u\",\"status\":\"created\"}",
             i % 100, shuffled % keys);
    upsert(db, statement, key, doc);
    if (i % BATCH == 0 || i == count)
      run(db, "COMMIT");
  }
  printf("SQLite alone, put: %.0f a second\n", count / ((double)(now_ns() - begin) / 1e9));
  sqlite3_finalize(statement);
}

static void update(sqlite3 *db, uint32_t count, uint32_t keys) {
  sqlite3_stmt *statement = prepare(db, "updated");
  uint32_t *last = cg_alloc(keys * sizeof(*last)); /* Batch in which a key was written last. */
  memset(last, 0, keys * sizeof(*last));
  uint64_t begin = now_ns();
  for (uint32_t first = 1, batch = 1; first <= count; first += BATCH, batch++) {
    run(db, "BEGIN IMMEDIATE");
    for (uint32_t i = first; i < first + BATCH && i <= count; i++) {
      char key[32], doc[128];
      uint32_t number = (uint32_t)((uint64_t)i * STEP % MODULUS) % keys;
      if (last[number] == batch)
        continue;
      last[number] = batch;
      snprintf(key, sizeof(key), "c%u", number);
      snprintf(doc, sizeof(doc), "{\"count\":%u,\"total\":%u.5}", batch, i);
      upsert(db, statement, key, doc);
    }
    run(db, "COMMIT");
  }
  printf("SQLite alone, update: %.0f a second\n", count / ((double)(now_ns() - begin) / 1e9));
  sqlite3_finalize(statement);
  cg_free(last);
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: projection_floor COUNT KEYS FILE\n");
    return 1;
  }
  uint32_t count = (uint32_t)strtoul(argv[1], NULL, 10);
  uint32_t keys = (uint32_t)strtoul(argv[2], NULL, 10);
  sqlite3 *db;
  if (keys == 0 || sqlite3_open(argv[3], &db) != SQLITE_OK)
    return 1;
  run(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384;"
          "PRAGMA wal_autocheckpoint = 4000");
  put(db, count, keys);
  update(db, count, keys);
  sqlite3_close(db);
  return 0;
}
