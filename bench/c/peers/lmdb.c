/* lmdb.c - an event store as one would make it on LMDB: events by position, positions by stream and
 * version.
 *
 * Writers take turns, because LMDB has one at a time.
 * Owns: the environment. Thread: one. */
#include <arpa/inet.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "peer.h"

#define MAP_BYTES ((size_t)16 << 30)

/* Key of an event in its stream, in byte order. */
struct key {
  uint32_t stream; /* Big-endian, as the version. */
  uint32_t version;
};

static struct {
  MDB_env *env;   /* Open. */
  MDB_dbi events; /* Position, big-endian, to event. */
  MDB_dbi index;  /* struct key to position. */
} state;

static void check(int code) {
  if (code != MDB_SUCCESS)
    peer_fail("lmdb", mdb_strerror(code));
}

static void lmdb_open(const char *directory) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/lmdb", directory);
  mkdir(path, 0700);
  check(mdb_env_create(&state.env));
  check(mdb_env_set_maxdbs(state.env, 2));
  check(mdb_env_set_mapsize(state.env, MAP_BYTES));
  check(mdb_env_open(state.env, path, 0, 0600));
  MDB_txn *txn;
  check(mdb_txn_begin(state.env, NULL, 0, &txn));
  check(mdb_dbi_open(txn, "events", MDB_CREATE, &state.events));
  check(mdb_dbi_open(txn, "index", MDB_CREATE, &state.index));
  check(mdb_txn_commit(txn));
}

/* The version that the stream's next event gets. */
static uint32_t next_version(MDB_cursor *cursor, uint32_t stream) {
  struct key last = {.stream = htonl(stream), .version = UINT32_MAX};
  MDB_val key = {.mv_size = sizeof(last), .mv_data = &last}, value;
  int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
  code = mdb_cursor_get(cursor, &key, &value, code == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
  if (code != MDB_SUCCESS)
    return 0;
  memcpy(&last, key.mv_data, sizeof(last));
  return ntohl(last.stream) == stream ? ntohl(last.version) + 1 : 0;
}

static uint64_t last_position(MDB_txn *txn) {
  MDB_cursor *cursor;
  MDB_val key, value;
  uint64_t position = 0;
  check(mdb_cursor_open(txn, state.events, &cursor));
  if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == MDB_SUCCESS)
    memcpy(&position, key.mv_data, sizeof(position));
  mdb_cursor_close(cursor);
  return __builtin_bswap64(position);
}

static void append(const uint32_t *streams, uint32_t count) {
  MDB_txn *txn;
  MDB_cursor *cursor;
  check(mdb_txn_begin(state.env, NULL, 0, &txn));
  check(mdb_cursor_open(txn, state.index, &cursor));
  uint64_t position = last_position(txn);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t place = __builtin_bswap64(++position);
    struct key mine = {.stream = htonl(streams[i]),
                       .version = htonl(next_version(cursor, streams[i]))};
    MDB_val key = {.mv_size = sizeof(mine), .mv_data = &mine};
    MDB_val value = {.mv_size = sizeof(place), .mv_data = &place};
    check(mdb_put(txn, state.index, &key, &value, MDB_NOOVERWRITE));
    char event[64 + PEER_DATA_BYTES] = "OrderCreated";
    memcpy(event + 16, &mine, sizeof(mine));
    memcpy(event + 64, peer_data(), PEER_DATA_BYTES);
    key = (MDB_val){.mv_size = sizeof(place), .mv_data = &place};
    value = (MDB_val){.mv_size = sizeof(event), .mv_data = event};
    check(mdb_put(txn, state.events, &key, &value, MDB_APPEND));
  }
  mdb_cursor_close(cursor);
  check(mdb_txn_commit(txn));
}

static void lmdb_append(const uint32_t *streams, uint32_t count) {
  append(streams, count);
}

static void lmdb_load(const uint32_t *streams, uint32_t count) {
  mdb_env_set_flags(state.env, MDB_NOSYNC, 1);
  append(streams, count);
}

static uint64_t lmdb_read_stream(uint32_t stream) {
  MDB_txn *txn;
  MDB_cursor *cursor;
  uint64_t count = 0;
  struct key first = {.stream = htonl(stream)};
  MDB_val key = {.mv_size = sizeof(first), .mv_data = &first}, value;
  check(mdb_txn_begin(state.env, NULL, MDB_RDONLY, &txn));
  check(mdb_cursor_open(txn, state.index, &cursor));
  for (int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
       code == MDB_SUCCESS && memcmp(key.mv_data, &first.stream, sizeof(first.stream)) == 0;
       code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
    MDB_val event;
    check(mdb_get(txn, state.events, &value, &event));
    peer_sum += ((const uint8_t *)event.mv_data)[64] + event.mv_size;
    count++;
  }
  mdb_cursor_close(cursor);
  mdb_txn_abort(txn);
  return count;
}

static uint64_t lmdb_read_all(void) {
  MDB_txn *txn;
  MDB_cursor *cursor;
  MDB_val key, event;
  uint64_t count = 0;
  check(mdb_txn_begin(state.env, NULL, MDB_RDONLY, &txn));
  check(mdb_cursor_open(txn, state.events, &cursor));
  while (mdb_cursor_get(cursor, &key, &event, MDB_NEXT) == MDB_SUCCESS) {
    peer_sum += ((const uint8_t *)event.mv_data)[64] + event.mv_size;
    count++;
  }
  mdb_cursor_close(cursor);
  mdb_txn_abort(txn);
  return count;
}

static void lmdb_close(void) {
  check(mdb_env_sync(state.env, 1));
  mdb_env_close(state.env);
}

const struct peer peer_lmdb = {.name = "lmdb",
                               .open = lmdb_open,
                               .append = lmdb_append,
                               .load = lmdb_load,
                               .read_stream = lmdb_read_stream,
                               .read_all = lmdb_read_all,
                               .close = lmdb_close};
