/* store_thread_test.c - the store with its threads on real files: tables are made and merged while
 * records are appended and read, and given up in the middle when the store is closed.
 *
 * Nothing here sleeps: waiting is on a condition that `progress` signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"

#define WAIT_SECONDS_MAX 60 /* A wait that takes longer is a failure. */
#define STREAMS 300u
#define COMMITS 6000u
#define ROUNDS 6

/* A store in a temporary directory. */
struct world {
  char directory[64];              /* Temporary. */
  struct cg_store_options options; /* How to open. */
  struct cg_store *store;          /* The store. */
  pthread_mutex_t mutex;           /* Guards the next fields. */
  pthread_cond_t progressed;       /* Signalled with it. */
  bool has_progressed;             /* Since it was looked at. */
  uint32_t counts[STREAMS];        /* Records of each stream. */
};

static struct world world;
static struct cg_err err;

static void on_progress(void *arg) {
  (void)arg;
  pthread_mutex_lock(&world.mutex);
  world.has_progressed = true;
  pthread_cond_signal(&world.progressed);
  pthread_mutex_unlock(&world.mutex);
}

/* Waits for progress. */
static void wait(void) {
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += WAIT_SECONDS_MAX;
  int error = 0;
  pthread_mutex_lock(&world.mutex);
  while (!world.has_progressed && error == 0)
    error = pthread_cond_timedwait(&world.progressed, &world.mutex, &limit);
  world.has_progressed = false;
  pthread_mutex_unlock(&world.mutex);
  assert_int_equal(error, 0);
}

static void open_store(void) {
  if (cg_store_open(&world.store, &world.options, &err) != CG_OK)
    fail_msg("%s", err.message);
}

static int setup(void **state) {
  (void)state;
  world = (struct world){.directory = "/tmp/catga-store-test-XXXXXX"};
  pthread_mutex_init(&world.mutex, NULL);
  pthread_cond_init(&world.progressed, NULL);
  if (mkdtemp(world.directory) == NULL)
    return -1;
  world.options = (struct cg_store_options){
      .path = world.directory, .streams_cached_max = 50, .replayed_max = 2};
  world.options.log.segment_bytes = 64 << 10;
  world.options.log.durability = CG_DURABILITY_OS;
  world.options.log.progress = on_progress;
  open_store();
  return 0;
}

/* How many files there are in the index. */
static uint32_t count_tables(void) {
  char path[100];
  uint32_t count = 0;
  snprintf(path, sizeof(path), "%s/index", world.directory);
  DIR *entries = opendir(path);
  const struct dirent *entry;
  while (entries != NULL && (entry = readdir(entries)) != NULL)
    count += strncmp(entry->d_name, "table-", 6) == 0;
  if (entries != NULL)
    closedir(entries);
  return count;
}

/* Removes a directory of files and of directories of files. */
static void remove_directory(const char *path) {
  DIR *entries = opendir(path);
  const struct dirent *entry;
  char name[400];
  while (entries != NULL && (entry = readdir(entries)) != NULL) {
    if (entry->d_name[0] == '.')
      continue;
    snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
    if (unlink(name) != 0)
      remove_directory(name);
  }
  if (entries != NULL)
    closedir(entries);
  rmdir(path);
}

static int teardown(void **state) {
  (void)state;
  if (world.store != NULL)
    cg_store_abandon(world.store);
  remove_directory(world.directory);
  pthread_cond_destroy(&world.progressed);
  pthread_mutex_destroy(&world.mutex);
  return 0;
}

static cg_store_stream find(uint32_t stream) {
  char name[32];
  int size = snprintf(name, sizeof(name), "Stream-%u", stream);
  cg_store_stream number;
  if (cg_store_find(world.store, name, (size_t)size, true, &number, &err) != CG_OK)
    fail_msg("%s", err.message);
  return number;
}

static void append(uint32_t stream) {
  static const char filler[400];
  struct cg_store_event event = {
      .stream = find(stream), .expected = CG_STORE_ANY, .type = "Happened", .type_size = 8};
  struct cg_buf *data;
  uint64_t first;
  cg_store_begin(world.store);
  assert_int_equal(cg_store_new_id(world.store, &event.id, &err), CG_OK);
  assert_int_equal(cg_store_add(world.store, &event, &data, &err), CG_OK);
  cg_buf_append(data, &stream, sizeof(stream));
  cg_buf_append(data, &world.counts[stream], sizeof(world.counts[stream]));
  cg_buf_append(data, filler, sizeof(filler));
  assert_int_equal(cg_store_added(world.store), world.counts[stream]);
  if (cg_store_commit(world.store, &first, &err) != CG_OK)
    fail_msg("%s", err.message);
  world.counts[stream]++;
}

/* Reads a record of a stream, the version-th. */
static void check(uint32_t stream, uint32_t version) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_record record;
  uint32_t stated[2];
  cg_store_stream number = find(stream);
  assert_int_equal(cg_store_count(world.store, number), world.counts[stream]);
  if (cg_store_read(world.store, number, version, buf, &record, &err) != CG_OK)
    fail_msg("%s", err.message);
  memcpy(stated, record.data, sizeof(stated));
  assert_int_equal(stated[0], stream);
  assert_int_equal(stated[1], version);
  cg_buf_unref(buf);
}

static void check_all(void) {
  for (uint32_t stream = 0; stream < STREAMS; stream++)
    for (uint32_t version = 0; version < world.counts[stream]; version++)
      check(stream, version);
}

static void tables_are_made_while_records_come_and_go(void **state) {
  (void)state;
  for (uint32_t stream = 0; stream < STREAMS; stream++)
    append(stream);
  for (int round = 0; round < ROUNDS; round++) {
    for (uint32_t i = 0; i < COMMITS / ROUNDS; i++) {
      append(i * 7 % STREAMS);
      check(i * 5 % STREAMS, world.counts[i * 5 % STREAMS] - 1);
      cg_store_turn(world.store);
      if (i % 100 == 99)
        wait();
    }
    check_all();
    /* The worker is in the middle of something, most likely. */
    assert_int_equal(cg_store_close(world.store, &err), CG_OK);
    open_store();
    check_all();
  }
  const struct cg_log_seal *seals;
  uint32_t seal_count = cg_log_seals(cg_store_log(world.store), &seals);
  assert_true(seal_count > 20);
  /* Those that were waited for are merged: fewer than one a segment. */
  assert_in_range(count_tables(), 1, seal_count - 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(tables_are_made_while_records_come_and_go, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
