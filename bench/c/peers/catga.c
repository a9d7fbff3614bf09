/* catga.c - our own event store as a peer.
 *
 * One thread appends and waits, as the loop thread of a program does.
 * Owns: the store. Thread: one, and the log's own. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "peer.h"
#include "store/store.h"

#define WRITERS 64u

static struct {
  struct cg_store *store; /* Open. */
  struct cg_buf *buf;     /* What is read. */
  pthread_mutex_t mutex;  /* For waiting. */
  pthread_cond_t wake;    /* The log made progress. */
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void on_progress(void *arg) {
  (void)arg;
  pthread_mutex_lock(&state.mutex);
  pthread_cond_signal(&state.wake);
  pthread_mutex_unlock(&state.mutex);
}

static void catga_open(const char *directory) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/catga", directory);
  struct cg_store_options options = {
      .path = path, .seed = 1, .log = {.flush_bytes = 64 << 10, .progress = on_progress}};
  struct cg_err err;
  if (cg_store_open(&state.store, &options, &err) != CG_OK)
    peer_fail("catga", err.message);
  state.buf = cg_buf_take(NULL, 1024);
}

static void wait_below(uint64_t position) {
  struct cg_log *log = cg_store_log(state.store);
  cg_log_flush(log);
  pthread_mutex_lock(&state.mutex);
  while (cg_log_durable_position(log) <= position)
    pthread_cond_wait(&state.wake, &state.mutex);
  pthread_mutex_unlock(&state.mutex);
}

/* Commits events; the last one's position. CG_ELIMIT waits for room. */
static uint64_t commit(const uint32_t *streams, uint32_t count) {
  struct cg_err err;
  uint64_t first;
  for (;;) {
    cg_store_begin(state.store);
    for (uint32_t i = 0; i < count; i++) {
      char name[PEER_STREAM_NAME_BYTES];
      int size = peer_stream_name(name, streams[i]);
      cg_store_stream stream;
      if (cg_store_find(state.store, name, (size_t)size, true, &stream, &err) != CG_OK)
        peer_fail("catga", err.message);
      struct cg_store_event event = {.stream = stream,
                                     .expected = CG_STORE_ANY,
                                     .type = "OrderCreated",
                                     .type_size = 12,
                                     .time_ms = 1};
      struct cg_buf *data;
      if (cg_store_new_id(state.store, &event.id, &err) != CG_OK ||
          cg_store_add(state.store, &event, &data, &err) != CG_OK)
        peer_fail("catga", err.message);
      cg_buf_append(data, peer_data(), PEER_DATA_BYTES);
      cg_store_added(state.store);
    }
    enum cg_code code = cg_store_commit(state.store, &first, &err);
    cg_store_turn(state.store);
    if (code == CG_OK)
      return first + count - 1;
    if (code != CG_ELIMIT)
      peer_fail("catga", err.message);
    wait_below(cg_log_durable_position(cg_store_log(state.store)));
  }
}

static void catga_append(const uint32_t *streams, uint32_t count) {
  wait_below(commit(streams, count));
}

static void catga_append_by_many(const uint32_t *streams, uint32_t count) {
  uint64_t positions[WRITERS] = {0};
  for (uint32_t i = 0; i < count; i++) {
    uint64_t *mine = &positions[i % WRITERS];
    if (*mine != 0)
      wait_below(*mine);
    *mine = commit(&streams[i], 1);
  }
  wait_below(positions[(count - 1) % WRITERS]);
}

static void catga_load(const uint32_t *streams, uint32_t count) {
  commit(streams, count);
}

static uint64_t catga_read_stream(uint32_t stream) {
  char name[PEER_STREAM_NAME_BYTES];
  int size = peer_stream_name(name, stream);
  cg_store_stream number;
  if (cg_store_find(state.store, name, (size_t)size, false, &number, NULL) != CG_OK)
    return 0;
  uint64_t count = cg_store_count(state.store, number);
  for (uint64_t version = 0; version < count; version++) {
    struct cg_record record;
    struct cg_err err;
    if (cg_store_read(state.store, number, version, state.buf, &record, &err) != CG_OK)
      peer_fail("catga", err.message);
    peer_sum += record.data[0] + record.data_size;
  }
  return count;
}

static uint64_t catga_read_all(void) {
  struct cg_log *log = cg_store_log(state.store);
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, 0);
  uint64_t until = cg_log_durable_position(log), count = 0;
  struct cg_record record;
  struct cg_err err;
  enum cg_code code;
  while ((code = cg_log_cursor_next(cursor, until, &record, &err)) == CG_OK) {
    peer_sum += record.data[0] + record.data_size;
    count++;
  }
  if (code != CG_END)
    peer_fail("catga", err.message);
  cg_log_cursor_free(cursor);
  return count;
}

static void catga_close(void) {
  struct cg_err err;
  if (cg_store_close(state.store, &err) != CG_OK)
    peer_fail("catga", err.message);
  cg_buf_unref(state.buf);
}

const struct peer peer_catga = {.name = "catga",
                                .open = catga_open,
                                .append = catga_append,
                                .append_by_many = catga_append_by_many,
                                .load = catga_load,
                                .read_stream = catga_read_stream,
                                .read_all = catga_read_all,
                                .close = catga_close};
