/* append_bench.c - the event log against what the disk can do, in one run.
 *
 * Measures: what an append costs the loop thread; commits a second made durable by the writer
 * thread, beside raw writes and fdatasync of the same bytes; one writer that waits for each commit,
 * beside raw pwrite and fdatasync; reading with a cursor. Every pair alternates in small rounds, as
 * the speed of a shared machine drifts.
 * Files go to a directory of their own in $TMPDIR, or /var/tmp, and are removed.
 * Owns: its directory. Thread: the log's two. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "log/log.h"

#define ROUNDS 5
#define BURST_COMMITS 200000   /* Appended at one go; below the bound of pending bytes. */
#define STREAM_COMMITS 1000000 /* Appended a round, as fast as they become durable. */
#define WAIT_COMMITS 2000      /* Waited for one by one a round. */
#define RAW_WRITE_BYTES (1u << 20)
#define RAW_FILE_BYTES (256u << 20)
#define EVENT_DATA_BYTES 200
#define WARM_BYTES (UINT64_C(2) << 30) /* Page cache touched before anything is measured. */

/* What the benchmarks share. */
struct bench {
  char directory[256];       /* Temporary. */
  char path[300];            /* Of the log. */
  struct cg_log *log;        /* The log. */
  struct cg_buf *record;     /* One encoded record. */
  int raw;                   /* A file written in full before. */
  pthread_mutex_t mutex;     /* For waiting. */
  pthread_cond_t progressed; /* The writer made progress. */
};

static void fail(const char *what) {
  fprintf(stderr, "append_bench: %s\n", what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct cg_clock clock = cg_clock_system();
  return cg_clock_mono_ns(&clock);
}

static void on_progress(void *arg) {
  struct bench *bench = arg;
  pthread_mutex_lock(&bench->mutex);
  pthread_cond_signal(&bench->progressed);
  pthread_mutex_unlock(&bench->mutex);
}

/* Waits until all below `position` is durable. */
static void wait_durable(struct bench *bench, uint64_t position) {
  pthread_mutex_lock(&bench->mutex);
  while (cg_log_durable_position(bench->log) < position) {
    if (cg_log_failed(bench->log, NULL) != CG_OK)
      fail("the log failed");
    pthread_cond_wait(&bench->progressed, &bench->mutex);
  }
  pthread_mutex_unlock(&bench->mutex);
}

/* Makes the one record that is appended, with `data_size` bytes of data. */
static void set_record(struct bench *bench, uint32_t data_size) {
  uint8_t *data = cg_alloc(data_size);
  struct cg_record record = {.stream = "Order-12345678",
                             .stream_size = 14,
                             .type = "OrderCreated",
                             .type_size = 12,
                             .data = data,
                             .data_size = data_size};
  bench->record->size = 0;
  cg_record_append(bench->record, &record);
  cg_free(data);
}

/* Appends one commit; when too much is pending, waits until some of it is durable. */
static void append(struct bench *bench) {
  struct cg_err err;
  cg_log_place place;
  for (;;) {
    uint64_t durable = cg_log_durable_position(bench->log);
    enum cg_code code = cg_log_append(bench->log, bench->record->data, bench->record->size, 1,
                                      cg_log_next_position(bench->log), &place, &err);
    if (code == CG_OK)
      return;
    if (code != CG_ELIMIT)
      fail(err.message);
    wait_durable(bench, durable + 1);
  }
}

/* --- the directory --- */

static void open_log(struct bench *bench) {
  struct cg_err err;
  struct cg_log_options options = {.progress = on_progress, .progress_arg = bench};
  uint64_t begin_ns = now_ns();
  if (cg_log_open_file(&bench->log, bench->path, &options, &err) != CG_OK)
    fail(err.message);
  printf("log open, empty: %.2f ms\n", (double)(now_ns() - begin_ns) / 1e6);
}

/* Makes the raw file: reserved and written in full, as the log's own segments are. */
static void make_raw_file(struct bench *bench) {
  char path[300];
  snprintf(path, sizeof(path), "%s/raw", bench->directory);
  bench->raw = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (bench->raw < 0)
    fail("cannot make the raw file");
  uint8_t *zeros = cg_alloc(RAW_WRITE_BYTES);
  for (uint64_t offset = 0; offset < RAW_FILE_BYTES; offset += RAW_WRITE_BYTES)
    if (pwrite(bench->raw, zeros, RAW_WRITE_BYTES, (off_t)offset) != RAW_WRITE_BYTES)
      fail("cannot write the raw file");
  fsync(bench->raw);
  cg_free(zeros);
}

/* Writes a large file and removes it. In a virtual machine the first touch of memory costs several
 * times its use, and whoever comes first would pay for it. */
static void warm_memory(struct bench *bench) {
  char path[300];
  snprintf(path, sizeof(path), "%s/warm", bench->directory);
  int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  uint8_t *zeros = cg_alloc(RAW_WRITE_BYTES);
  for (uint64_t offset = 0; offset < WARM_BYTES; offset += RAW_WRITE_BYTES)
    if (pwrite(file, zeros, RAW_WRITE_BYTES, (off_t)offset) != RAW_WRITE_BYTES)
      fail("cannot write the warming file");
  cg_free(zeros);
  close(file);
  unlink(path);
}

static void remove_directory(const char *path) {
  DIR *entries = opendir(path);
  const struct dirent *entry;
  char name[600];
  while (entries && (entry = readdir(entries))) {
    snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
    unlink(name);
  }
  if (entries)
    closedir(entries);
  rmdir(path);
}

/* --- the measurements --- */

static void bench_burst(struct bench *bench) {
  double best_ns = 1e9, sum_ns = 0;
  set_record(bench, 70);
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t begin_ns = now_ns();
    for (int count = 0; count < BURST_COMMITS; count++)
      append(bench);
    double each_ns = (double)(now_ns() - begin_ns) / BURST_COMMITS;
    wait_durable(bench, cg_log_next_position(bench->log));
    best_ns = each_ns < best_ns ? each_ns : best_ns;
    sum_ns += each_ns;
  }
  printf("log append, loop thread: %.1f ns\n", sum_ns / ROUNDS);
  printf("log append, loop thread, best round: %.1f ns\n", best_ns);
}

/* Bytes a second of raw writes of 1 MiB, each followed by fdatasync. */
static double raw_stream(int file, uint64_t bytes) {
  uint8_t *block = cg_alloc(RAW_WRITE_BYTES);
  memset(block, 7, RAW_WRITE_BYTES);
  uint64_t begin_ns = now_ns(), done = 0;
  while (done < bytes) {
    off_t offset = (off_t)(done % RAW_FILE_BYTES);
    if (pwrite(file, block, RAW_WRITE_BYTES, offset) != RAW_WRITE_BYTES || fdatasync(file) != 0)
      fail("raw write");
    done += RAW_WRITE_BYTES;
  }
  cg_free(block);
  return (double)done / (double)(now_ns() - begin_ns) * 1e9;
}

/* The same into a new file with its space reserved, as a new segment is. */
static double raw_fresh_stream(struct bench *bench, uint64_t bytes) {
  char path[300];
  snprintf(path, sizeof(path), "%s/fresh", bench->directory);
  int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0 || fallocate(file, FALLOC_FL_KEEP_SIZE, 0, RAW_FILE_BYTES) != 0)
    fail("cannot make a fresh file");
  double rate = raw_stream(file, bytes);
  close(file);
  return rate;
}

static void bench_stream(struct bench *bench) {
  double log_sum = 0, raw_sum = 0, fresh_sum = 0;
  struct cg_log_stats before, after;
  cg_log_stats_read(bench->log, &before);
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t begin_ns = now_ns();
    for (int count = 0; count < STREAM_COMMITS; count++)
      append(bench);
    wait_durable(bench, cg_log_next_position(bench->log));
    log_sum += (double)(now_ns() - begin_ns) / 1e9;
    cg_log_stats_read(bench->log, &after);
    uint64_t bytes = (after.write_bytes - before.write_bytes) / (uint64_t)(round + 1);
    raw_sum += raw_stream(bench->raw, bytes);
    fresh_sum += raw_fresh_stream(bench, bytes);
  }
  double bytes = (double)(after.write_bytes - before.write_bytes);
  double log_rate = bytes / log_sum, raw_rate = raw_sum / ROUNDS, fresh_rate = fresh_sum / ROUNDS;
  printf("log commits: %.0f MB/s\n", log_rate / 1e6);
  printf("log commits, count: %.0f a second\n", (double)ROUNDS * STREAM_COMMITS / log_sum);
  printf("log commits, syncs: %" PRIu64 " in all\n", after.sync_count - before.sync_count);
  printf("log raw 1 MiB writes synced, fresh file: %.0f MB/s\n", fresh_rate / 1e6);
  printf("log raw 1 MiB writes synced, written before: %.0f MB/s\n", raw_rate / 1e6);
}

static int compare_ns(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

static void print_latency(const char *name, uint64_t *samples_ns, size_t count) {
  qsort(samples_ns, count, sizeof(*samples_ns), compare_ns);
  printf("%s, p50: %.1f us\n", name, (double)samples_ns[count / 2] / 1e3);
  printf("%s, p99: %.1f us\n", name, (double)samples_ns[count / 100 * 99] / 1e3);
}

static void bench_wait(struct bench *bench) {
  size_t total = (size_t)ROUNDS * WAIT_COMMITS;
  uint64_t *log_ns = cg_alloc(total * sizeof(uint64_t));
  uint64_t *raw_ns = cg_alloc(total * sizeof(uint64_t));
  uint8_t block[4096] = {1};
  uint64_t offset = 0;
  for (int round = 0; round < ROUNDS; round++) {
    for (int count = 0; count < WAIT_COMMITS; count++) {
      uint64_t begin_ns = now_ns();
      append(bench);
      wait_durable(bench, cg_log_next_position(bench->log));
      log_ns[round * WAIT_COMMITS + count] = now_ns() - begin_ns;
    }
    for (int count = 0; count < WAIT_COMMITS; count++) {
      uint64_t begin_ns = now_ns();
      if (pwrite(bench->raw, block, sizeof(block), (off_t)offset) < 0 || fdatasync(bench->raw) != 0)
        fail("raw write");
      raw_ns[round * WAIT_COMMITS + count] = now_ns() - begin_ns;
      offset = (offset + sizeof(block)) % RAW_FILE_BYTES;
    }
  }
  print_latency("log alone", log_ns, total);
  print_latency("log raw 4 KiB and sync", raw_ns, total);
  cg_free(log_ns);
  cg_free(raw_ns);
}

static void bench_read(struct bench *bench) {
  uint64_t after = cg_log_next_position(bench->log) - 1;
  set_record(bench, EVENT_DATA_BYTES);
  for (int count = 0; count < STREAM_COMMITS; count++)
    append(bench);
  wait_durable(bench, cg_log_next_position(bench->log));
  double best = 0;
  for (int round = 0; round < ROUNDS; round++) {
    struct cg_log_cursor *cursor = cg_log_cursor_new(bench->log, after);
    struct cg_record record;
    struct cg_err err;
    uint64_t begin_ns = now_ns(), count = 0;
    enum cg_code code;
    while ((code = cg_log_cursor_next(cursor, UINT64_MAX, &record, &err)) == CG_OK)
      count++;
    if (code != CG_END || count != STREAM_COMMITS)
      fail("the cursor did not reach the end");
    double rate = (double)count / (double)(now_ns() - begin_ns) * 1e9;
    best = rate > best ? rate : best;
    cg_log_cursor_free(cursor);
  }
  printf("log cursor, %d-byte events: %.0f a second\n", EVENT_DATA_BYTES, best);
}

int main(void) {
  struct bench bench = {.record = cg_buf_take(NULL, 256)};
  pthread_mutex_init(&bench.mutex, NULL);
  pthread_cond_init(&bench.progressed, NULL);
  const char *above = getenv("TMPDIR");
  snprintf(bench.directory, sizeof(bench.directory), "%s/catga-bench-XXXXXX",
           above && *above ? above : "/var/tmp");
  if (!mkdtemp(bench.directory))
    fail("cannot make a temporary directory");
  snprintf(bench.path, sizeof(bench.path), "%s/log", bench.directory);
  warm_memory(&bench);
  make_raw_file(&bench);
  open_log(&bench);
  bench_burst(&bench);
  bench_stream(&bench);
  bench_wait(&bench);
  bench_read(&bench);
  cg_log_close(bench.log, NULL);
  close(bench.raw);
  remove_directory(bench.path);
  remove_directory(bench.directory);
  cg_buf_unref(bench.record);
  return 0;
}
