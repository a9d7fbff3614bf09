/* story.c - how the commits of a story are made up and compared.
 *
 * Every commit adds to some of a few long streams; every fifth begins a stream of its own, every
 * seventh a process, which the tenth commit after it ends. Data is mostly small, now and then 12
 * KB. Waiting for the disk is a condition variable that the log's thread signals. */
#include "story.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define STREAMS 40           /* Long streams. */
#define RECORDS_MAX 20       /* Of a commit. */
#define IN_FLIGHT_MAX 64     /* Commits appended and not yet durable. */
#define PROCESS_EVERY 7      /* Commits that begin a process. */
#define PROCESS_LASTS 10     /* Commits until it ends. */
#define DATA_BYTES_MAX 12400 /* Of a record. */
#define NAME_BYTES 64

/* One record of a story, before it is stored. */
struct story_record {
  char stream[NAME_BYTES]; /* Its name. */
  char type[NAME_BYTES];   /* Its type. */
  uint16_t flags;          /* enum cg_record_flags. */
  uint32_t pad;            /* Bytes of padding in its data. */
};

/* Where a story's writer waits. */
struct story_waker {
  pthread_mutex_t mutex; /* Guards `wakes`. */
  pthread_cond_t wake;   /* Signalled with it. */
  uint64_t wakes;        /* Counts progress of the log. */
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
  value = (value ^ value >> 27) * 0x94d049bb133111ebu;
  return value ^ value >> 31;
}

/* Makes up the records of a commit; how many. */
static uint32_t make_up(uint64_t commit, struct story_record records[RECORDS_MAX]) {
  uint64_t chance = mix(commit);
  uint32_t count = 0, plain = commit % 37 == 0 ? 16 : 1 + chance % 3;
  for (uint32_t i = 0; i < plain; i++) {
    uint64_t one = mix(chance + i);
    struct story_record *record = &records[count++];
    *record = (struct story_record){.pad = (uint32_t)(one >> 8) % 300};
    if (commit % 97 == 0 && i == 0)
      record->pad = 12000;
    snprintf(record->stream, NAME_BYTES, "Long-%u", (unsigned)(one % STREAMS));
    snprintf(record->type, NAME_BYTES, "Type%u", (unsigned)(one >> 40) % 5);
  }
  if (commit % 5 == 0) {
    struct story_record *record = &records[count++];
    *record = (struct story_record){.pad = 10};
    snprintf(record->stream, NAME_BYTES, "Own-%" PRIu64, commit);
    snprintf(record->type, NAME_BYTES, "Owned");
  }
  for (int end = 0; end < 2; end++) {
    uint64_t process = end ? commit - PROCESS_LASTS : commit;
    if ((end && commit <= PROCESS_LASTS) || process % PROCESS_EVERY != 0)
      continue;
    struct story_record *record = &records[count++];
    *record = (struct story_record){.flags = CG_RECORD_JOURNAL |
                                             (end ? CG_RECORD_CLOSES : CG_RECORD_OPENS)};
    snprintf(record->stream, NAME_BYTES, "Process-%" PRIu64, process);
    snprintf(record->type, NAME_BYTES, end ? "ProcessCompleted" : "ProcessStarted");
  }
  return count;
}

/* Writes the data of a record; its size. */
static size_t make_data(uint64_t commit, uint32_t index, uint32_t pad, char data[DATA_BYTES_MAX]) {
  int size = snprintf(data, DATA_BYTES_MAX, "{\"commit\":%" PRIu64 ",\"index\":%u,\"pad\":\"",
                      commit, index);
  memset(data + size, 'a' + (int)(commit % 26), pad);
  memcpy(data + size + pad, "\"}", 2);
  return (size_t)size + pad + 2;
}

/* --- opening and writing --- */

/* On the log's thread. */
static void on_progress(void *arg) {
  struct story_waker *waker = arg;
  pthread_mutex_lock(&waker->mutex);
  waker->wakes++;
  pthread_cond_signal(&waker->wake);
  pthread_mutex_unlock(&waker->mutex);
}

static void free_waker(struct story *story) {
  pthread_mutex_destroy(&story->waker->mutex);
  pthread_cond_destroy(&story->waker->wake);
  cg_free(story->waker);
}

enum cg_code story_open(struct story *story, const char *directory, const struct cg_fs *fs,
                        uint64_t segment_bytes, struct cg_err *err) {
  *story = (struct story){.waker = cg_alloc(sizeof(struct story_waker))};
  pthread_mutex_init(&story->waker->mutex, NULL);
  pthread_cond_init(&story->waker->wake, NULL);
  struct cg_store_options options = {.path = directory,
                                     .replayed_max = 2,
                                     .seed = 1,
                                     .log = {.fs = fs,
                                             .segment_bytes = segment_bytes,
                                             .progress = on_progress,
                                             .progress_arg = story->waker}};
  enum cg_code code = cg_store_open(&story->store, &options, err);
  if (code != CG_OK)
    free_waker(story);
  return code;
}

enum cg_code story_close(struct story *story, struct cg_err *err) {
  enum cg_code code = cg_store_close(story->store, err);
  free_waker(story);
  return code;
}

static enum cg_code add(struct story *story, uint64_t commit, uint32_t index,
                        const struct story_record *record, struct cg_err *err) {
  struct cg_store *store = story->store;
  cg_store_stream stream;
  enum cg_code code =
      cg_store_find(store, record->stream, strlen(record->stream), true, &stream, err);
  if (code != CG_OK)
    return code;
  struct cg_store_event event = {.stream = stream,
                                 .expected = CG_STORE_ANY,
                                 .type = record->type,
                                 .type_size = strlen(record->type),
                                 .flags = record->flags,
                                 .time_ms = (int64_t)(1700000000000 + commit)};
  code = cg_store_new_id(store, &event.id, err);
  struct cg_buf *buf;
  if (code == CG_OK)
    code = cg_store_add(store, &event, &buf, err);
  if (code != CG_OK)
    return code;
  char data[DATA_BYTES_MAX];
  cg_buf_append(buf, data, make_data(commit, index, record->pad, data));
  cg_store_added(store);
  return CG_OK;
}

static enum cg_code append(struct story *story, uint64_t commit, uint64_t *end,
                           struct cg_err *err) {
  struct story_record records[RECORDS_MAX];
  uint32_t count = make_up(commit, records);
  enum cg_code code = CG_OK;
  cg_store_begin(story->store);
  for (uint32_t i = 0; i < count && code == CG_OK; i++)
    code = add(story, commit, i, &records[i], err);
  if (code != CG_OK) {
    cg_store_rollback(story->store);
    return code;
  }
  code = cg_store_commit(story->store, end, err);
  *end += count;
  return code;
}

/* Waits until the log tells of progress after `seen`. */
static void wait_progress(struct story *story, uint64_t *seen) {
  pthread_mutex_lock(&story->waker->mutex);
  while (story->waker->wakes == *seen)
    pthread_cond_wait(&story->waker->wake, &story->waker->mutex);
  *seen = story->waker->wakes;
  pthread_mutex_unlock(&story->waker->mutex);
}

enum cg_code story_write(struct story *story, uint64_t count, story_acknowledge_fn acknowledge,
                         void *arg, struct cg_err *err) {
  struct cg_log *log = cg_store_log(story->store);
  uint64_t ends[IN_FLIGHT_MAX]; /* Position behind each commit under way. */
  uint64_t last = story->commit + count, seen = 0;
  story->acknowledged = story->commit;
  while (story->acknowledged < last) {
    enum cg_code code = cg_log_failed(log, err);
    while (code == CG_OK && story->commit < last &&
           story->commit - story->acknowledged < IN_FLIGHT_MAX) {
      code = append(story, story->commit + 1, &ends[(story->commit + 1) % IN_FLIGHT_MAX], err);
      if (code == CG_OK)
        story->commit++;
    }
    uint64_t durable = cg_log_durable_position(log), before = story->acknowledged;
    while (story->acknowledged < story->commit &&
           ends[(story->acknowledged + 1) % IN_FLIGHT_MAX] <= durable)
      story->acknowledged++;
    if (story->acknowledged > before && acknowledge != NULL)
      acknowledge(arg, story->acknowledged);
    if (code != CG_OK && (code != CG_EFULL || story->acknowledged == story->commit))
      return code;
    bool has_more = cg_store_turn(story->store);
    if (story->acknowledged == before && story->acknowledged < last && !has_more)
      wait_progress(story, &seen);
  }
  return CG_OK;
}

/* --- comparing --- */

/* What the streams must look like after the commits that were read. */
struct expected {
  uint64_t counts[STREAMS];  /* Records of each long stream. */
  uint64_t commits[STREAMS]; /* Commit of its last record. */
  uint64_t position;         /* Of the last record read. */
};

static bool is_same(const struct cg_record *record, uint64_t commit, uint32_t index,
                    const struct story_record *wanted) {
  char data[DATA_BYTES_MAX];
  size_t size = make_data(commit, index, wanted->pad, data);
  return record->stream_size == strlen(wanted->stream) &&
         memcmp(record->stream, wanted->stream, record->stream_size) == 0 &&
         record->type_size == strlen(wanted->type) &&
         memcmp(record->type, wanted->type, record->type_size) == 0 &&
         record->flags == wanted->flags && record->data_size == size &&
         memcmp(record->data, data, size) == 0;
}

/* Reads the log in order of positions against the story. */
static bool check_order(struct story *story, struct expected *expected) {
  struct cg_log *log = cg_store_log(story->store);
  struct cg_log_cursor *cursor = cg_log_cursor_new(log, 0);
  uint64_t until = cg_log_next_position(log), commit = 0, last_id = 0;
  struct story_record wanted[RECORDS_MAX];
  uint32_t count = 0, index = 0;
  bool is_well = true;
  struct cg_record record;
  struct cg_err err;
  enum cg_code code;
  while (is_well && (code = cg_log_cursor_next(cursor, until, &record, &err)) == CG_OK) {
    if (index == count) {
      count = make_up(++commit, wanted);
      index = 0;
    }
    is_well = record.position == ++expected->position && record.id > last_id &&
              is_same(&record, commit, index, &wanted[index]);
    last_id = record.id;
    if (is_well && strncmp(wanted[index].stream, "Long-", 5) == 0) {
      long number = strtol(wanted[index].stream + 5, NULL, 10);
      is_well = record.version == expected->counts[number]++;
      expected->commits[number] = commit;
    }
    if (!is_well)
      snprintf(story->fault, sizeof(story->fault),
               "position %" PRIu64 " is not record %u of commit %" PRIu64, record.position, index,
               commit);
    index++;
  }
  if (is_well && code != CG_END) {
    snprintf(story->fault, sizeof(story->fault), "read all: %s", err.message);
    is_well = false;
  }
  if (is_well && index != count) {
    snprintf(story->fault, sizeof(story->fault), "half of commit %" PRIu64 " is there", commit);
    is_well = false;
  }
  cg_log_cursor_free(cursor);
  story->commit = commit;
  return is_well;
}

/* Checks one stream: how many records, and what commit the last one is of. */
static bool check_stream(struct story *story, const char *name, uint64_t count, uint64_t commit) {
  cg_store_stream stream;
  cg_store_find(story->store, name, strlen(name), false, &stream, NULL);
  uint64_t found = stream == CG_STORE_NO_STREAM ? 0 : cg_store_count(story->store, stream);
  bool is_well = found == count;
  char begin[NAME_BYTES];
  int size = snprintf(begin, sizeof(begin), "{\"commit\":%" PRIu64 ",", commit);
  if (is_well && count > 0) {
    struct cg_buf *buf = cg_buf_take(NULL, 256);
    struct cg_record record;
    struct cg_err err;
    is_well = cg_store_read(story->store, stream, count - 1, buf, &record, &err) == CG_OK &&
              record.data_size > (uint32_t)size && memcmp(record.data, begin, (size_t)size) == 0;
    cg_buf_unref(buf);
  }
  if (!is_well)
    snprintf(story->fault, sizeof(story->fault),
             "stream %s has %" PRIu64 " records, should have %" PRIu64
             ", the last of commit %" PRIu64,
             name, found, count, commit);
  return is_well;
}

static bool check_streams(struct story *story, const struct expected *expected) {
  char name[NAME_BYTES];
  for (unsigned i = 0; i < STREAMS; i++) {
    snprintf(name, sizeof(name), "Long-%u", i);
    if (!check_stream(story, name, expected->counts[i], expected->commits[i]))
      return false;
  }
  for (uint64_t commit = 5; commit <= story->commit; commit += 5) {
    snprintf(name, sizeof(name), "Own-%" PRIu64, commit);
    if (!check_stream(story, name, 1, commit))
      return false;
  }
  for (uint64_t commit = PROCESS_EVERY; commit <= story->commit; commit += PROCESS_EVERY) {
    bool has_ended = commit + PROCESS_LASTS <= story->commit;
    snprintf(name, sizeof(name), "Process-%" PRIu64, commit);
    if (!check_stream(story, name, has_ended ? 2 : 1, has_ended ? commit + PROCESS_LASTS : commit))
      return false;
    cg_store_stream stream;
    cg_store_find(story->store, name, strlen(name), false, &stream, NULL);
    if (cg_store_unfinished(story->store, stream) == has_ended) {
      snprintf(story->fault, sizeof(story->fault), "%s: wrongly %s", name,
               has_ended ? "unfinished" : "finished");
      return false;
    }
  }
  return true;
}

bool story_check(struct story *story, uint64_t acknowledged) {
  struct expected expected = {.position = 0};
  if (!check_order(story, &expected))
    return false;
  if (story->commit < acknowledged) {
    snprintf(story->fault, sizeof(story->fault),
             "commit %" PRIu64 " was acknowledged, and the log ends with %" PRIu64, acknowledged,
             story->commit);
    return false;
  }
  return check_streams(story, &expected);
}
