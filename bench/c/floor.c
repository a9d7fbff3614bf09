/* floor.c - the bare floor of durable processes: what one loop thread and one writer thread can do
 * before there is a runtime. `make bench` runs it beside the runtime and states the ratio.
 *
 * Each process is a LuaJIT coroutine (bench/floor.lua) that writes five records, a start, three
 * steps and an end, and goes on only when each is durable: so many records, about as many bytes and
 * as many waits as a 3-step process of the runtime. The loop thread encodes; the writer thread
 * takes everything that waits, fills in the CRC32C of each record, makes one write and one
 * fdatasync, and tells the loop thread. The file is written in full with zeros before, and is
 * written over from its start when it is full.
 *
 * What it leaves out, and the runtime does: ids and times, envelopes, process ids looked up in an
 * index, versions checked, results copied through the journal's bytes, chained commits that
 * recovery can check, retries and time limits, a task beside the process that waits for its result.
 *
 * Usage: floor SCRIPT PROCESSES IN_FLIGHT FILE
 * Owns: the file, the coroutines. Thread: the main thread is the loop, writer_main the writer. */
#include <fcntl.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"

#define FILE_BYTES (256u << 20)
#define WRITE_BYTES (1u << 20)
#define IN_FLIGHT_MAX 1000000
#define WARM_UP_PROCESSES 2000 /* Or as many as are in flight; not measured. */
#define VALUE_DEPTH_MAX 8

/* Bytes before the strings and the value of a record: size, CRC, version, and zeros in place of
 * what the runtime's commit, record and JSON text have more. */
#define FRAME_BYTES 144

/* Records on their way to the file. */
struct batch {
  struct cg_buf *bytes; /* Records, each with its size in front. */
  uint32_t count;       /* Records. */
};

/* The floor. */
struct floor {
  lua_State *L;            /* Main state; the loop thread's. */
  int body_ref;            /* The function that bench/floor.lua returns. */
  int fd;                  /* The file. */
  struct cg_buf *scratch;  /* The record being encoded. Loop thread. */
  lua_State **waiting;     /* Ring of in_flight coroutines, in the order of their records. */
  uint32_t in_flight;      /* Coroutines. */
  uint64_t recorded_count; /* Records made: the ring's tail. Loop thread. */
  uint64_t resumed_count;  /* Of these, resumed after: the ring's head. Loop thread. */
  uint64_t taken_count;    /* Processes begun. Loop thread. */
  uint64_t wanted_count;   /* Processes to begin. Loop thread. */
  uint64_t offset;         /* Where the next write goes. Writer thread. */
  uint64_t write_bytes;    /* Written in all. Writer thread; read when it waits. */
  pthread_mutex_t mutex;   /* Guards what follows. */
  pthread_cond_t appended; /* The active batch has records, or the end has come. */
  pthread_cond_t synced;   /* durable_count has grown. */
  struct batch *active;    /* Taken by the writer next. */
  struct batch *flight;    /* Being written; the writer's own meanwhile. */
  uint64_t durable_count;  /* Records that are durable. */
  bool is_writer_waiting;  /* It waits for `appended`. */
  bool is_ended;           /* The writer is to return. */
  struct batch batches[2]; /* What `active` and `flight` point to. */
};

static void fail(const char *what) {
  fprintf(stderr, "floor: %s\n", what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct cg_clock clock = cg_clock_system();
  return cg_clock_mono_ns(&clock);
}

/* --- records --- */

static void put_string(struct cg_buf *buf, const char *text, size_t size) {
  uint16_t stated = (uint16_t)size;
  cg_buf_append(buf, &stated, sizeof(stated));
  cg_buf_append(buf, text, size);
}

/* Appends a value of numbers, strings and tables, each with a letter in front. */
static void put_value(lua_State *L, int index, struct cg_buf *buf, int depth) {
  size_t size;
  const char *text;
  lua_Number number;
  switch (lua_type(L, index)) {
  case LUA_TNUMBER:
    cg_buf_append(buf, "n", 1);
    number = lua_tonumber(L, index);
    cg_buf_append(buf, &number, sizeof(number));
    return;
  case LUA_TSTRING:
    cg_buf_append(buf, "s", 1);
    text = lua_tolstring(L, index, &size);
    put_string(buf, text, size);
    return;
  case LUA_TTABLE:
    if (depth == VALUE_DEPTH_MAX)
      fail("a value is too deep");
    luaL_checkstack(L, 4, NULL);
    cg_buf_append(buf, "{", 1);
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
      int top = lua_gettop(L);
      put_value(L, top - 1, buf, depth + 1);
      put_value(L, top, buf, depth + 1);
    }
    cg_buf_append(buf, "}", 1);
    return;
  default:
    fail("a value that has no encoding");
  }
}

static void put_argument(lua_State *L, int index, struct cg_buf *buf) {
  size_t size;
  const char *text = lua_tolstring(L, index, &size);
  put_string(buf, text, size);
}

/* Hands the record in scratch to the writer. */
static void append(struct floor *floor) {
  pthread_mutex_lock(&floor->mutex);
  cg_buf_append(floor->active->bytes, floor->scratch->data, floor->scratch->size);
  floor->active->count++;
  bool is_waking = floor->is_writer_waiting;
  floor->is_writer_waiting = false;
  pthread_mutex_unlock(&floor->mutex);
  if (is_waking)
    pthread_cond_signal(&floor->appended);
}

/* record(id, version, type, name, value): yields until it is durable. */
static int floor_record(lua_State *L) {
  struct floor *floor = lua_touserdata(L, lua_upvalueindex(1));
  struct cg_buf *buf = floor->scratch;
  buf->size = 0;
  memset(cg_buf_room(buf, FRAME_BYTES), 0, FRAME_BYTES);
  buf->size = FRAME_BYTES;
  put_argument(L, 1, buf);
  put_argument(L, 3, buf);
  put_argument(L, 4, buf);
  put_value(L, 5, buf, 0);
  static const uint8_t zeros[8];
  cg_buf_append(buf, zeros, -buf->size & 7);
  uint32_t size = (uint32_t)buf->size;
  lua_Number version = lua_tonumber(L, 2);
  memcpy(buf->data, &size, sizeof(size));
  memcpy(buf->data + 8, &version, sizeof(version));
  append(floor);
  floor->waiting[floor->recorded_count++ % floor->in_flight] = L;
  return lua_yield(L, 0);
}

/* take() -> number of the next process, or nil */
static int floor_take(lua_State *L) {
  struct floor *floor = lua_touserdata(L, lua_upvalueindex(1));
  if (floor->taken_count == floor->wanted_count)
    return 0;
  lua_pushnumber(L, (lua_Number)floor->taken_count++);
  return 1;
}

/* --- the writer thread --- */

static void seal(struct batch *batch) {
  uint8_t *bytes = batch->bytes->data;
  for (uint32_t i = 0; i < batch->count; i++) {
    uint32_t size;
    memcpy(&size, bytes, sizeof(size));
    uint32_t crc = cg_crc32c(0, bytes + 8, size - 8);
    memcpy(bytes + 4, &crc, sizeof(crc));
    bytes += size;
  }
}

static void write_batch(struct floor *floor, const struct batch *batch) {
  size_t size = batch->bytes->size, done = 0;
  if (size > FILE_BYTES)
    fail("a batch is larger than the file");
  if (floor->offset + size > FILE_BYTES)
    floor->offset = 0;
  while (done < size) {
    ssize_t count =
        pwrite(floor->fd, batch->bytes->data + done, size - done, (off_t)(floor->offset + done));
    if (count < 0)
      fail("write");
    done += (size_t)count;
  }
  if (fdatasync(floor->fd) != 0)
    fail("fdatasync");
  floor->offset += size;
  floor->write_bytes += size;
}

static void *writer_main(void *arg) {
  struct floor *floor = arg;
  pthread_mutex_lock(&floor->mutex);
  for (;;) {
    while (floor->active->count == 0 && !floor->is_ended) {
      floor->is_writer_waiting = true;
      pthread_cond_wait(&floor->appended, &floor->mutex);
    }
    if (floor->active->count == 0)
      break;
    struct batch *batch = floor->active;
    floor->active = floor->flight;
    floor->flight = batch;
    pthread_mutex_unlock(&floor->mutex);

    seal(batch);
    write_batch(floor, batch);

    pthread_mutex_lock(&floor->mutex);
    floor->durable_count += batch->count;
    batch->bytes->size = 0;
    batch->count = 0;
    pthread_cond_signal(&floor->synced);
  }
  pthread_mutex_unlock(&floor->mutex);
  return NULL;
}

/* --- the loop thread --- */

/* Opens the file and writes it in full, unless an earlier run has. */
static int open_file(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0)
    fail("cannot open the file");
  if (info.st_size == (off_t)FILE_BYTES)
    return fd;
  uint8_t *zeros = cg_alloc(WRITE_BYTES);
  for (uint64_t offset = 0; offset < FILE_BYTES; offset += WRITE_BYTES)
    if (pwrite(fd, zeros, WRITE_BYTES, (off_t)offset) != WRITE_BYTES)
      fail("cannot fill the file");
  if (fsync(fd) != 0)
    fail("cannot sync the file");
  cg_free(zeros);
  return fd;
}

static void load_script(struct floor *floor, const char *path) {
  lua_State *L = floor->L;
  if (luaL_loadfile(L, path) != 0)
    fail(lua_tostring(L, -1));
  lua_pushlightuserdata(L, floor);
  lua_pushcclosure(L, floor_record, 1);
  lua_pushlightuserdata(L, floor);
  lua_pushcclosure(L, floor_take, 1);
  if (lua_pcall(L, 2, 1, 0) != 0)
    fail(lua_tostring(L, -1));
  floor->body_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void resume(lua_State *co) {
  if (lua_resume(co, 0) > LUA_YIELD)
    fail(lua_tostring(co, -1));
}

/* Resumes the coroutines whose records are durable, until none waits any more. */
static void turn(struct floor *floor) {
  while (floor->resumed_count < floor->recorded_count) {
    pthread_mutex_lock(&floor->mutex);
    while (floor->durable_count == floor->resumed_count)
      pthread_cond_wait(&floor->synced, &floor->mutex);
    uint64_t durable_count = floor->durable_count;
    pthread_mutex_unlock(&floor->mutex);
    while (floor->resumed_count < durable_count)
      resume(floor->waiting[floor->resumed_count++ % floor->in_flight]);
  }
}

/* Runs `count` processes; bytes of the Lua heap a process while all are in flight, or 0. */
static double run(struct floor *floor, uint64_t count, bool is_weighing) {
  lua_State *L = floor->L;
  floor->wanted_count += count;
  int before_kib = 0, after_kib = 0;
  if (is_weighing) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    before_kib = lua_gc(L, LUA_GCCOUNT, 0);
  }
  lua_createtable(L, (int)floor->in_flight, 0); /* Holds the coroutines. */
  for (uint32_t i = 0; i < floor->in_flight; i++) {
    lua_State *co = lua_newthread(L);
    lua_rawseti(L, -2, (int)i + 1);
    lua_rawgeti(co, LUA_REGISTRYINDEX, floor->body_ref);
    resume(co);
  }
  if (is_weighing) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    after_kib = lua_gc(L, LUA_GCCOUNT, 0);
  }
  turn(floor);
  lua_pop(L, 1);
  return (after_kib - before_kib) * 1024.0 / floor->in_flight;
}

static void init(struct floor *floor, const char *script, uint32_t in_flight, const char *path) {
  floor->fd = open_file(path);
  floor->in_flight = in_flight;
  floor->waiting = cg_alloc(in_flight * sizeof(floor->waiting[0]));
  floor->scratch = cg_buf_take(NULL, 0);
  for (int i = 0; i < 2; i++)
    floor->batches[i].bytes = cg_buf_take(NULL, 0);
  floor->active = &floor->batches[0];
  floor->flight = &floor->batches[1];
  pthread_mutex_init(&floor->mutex, NULL);
  pthread_cond_init(&floor->appended, NULL);
  pthread_cond_init(&floor->synced, NULL);
  floor->L = luaL_newstate();
  luaL_openlibs(floor->L);
  load_script(floor, script);
}

static void deinit(struct floor *floor) {
  lua_close(floor->L);
  cg_buf_unref(floor->scratch);
  for (int i = 0; i < 2; i++)
    cg_buf_unref(floor->batches[i].bytes);
  cg_free(floor->waiting);
  close(floor->fd);
}

int main(int argc, char **argv) {
  if (argc != 5)
    fail("usage: floor SCRIPT PROCESSES IN_FLIGHT FILE");
  uint64_t count = strtoull(argv[2], NULL, 10);
  uint64_t in_flight = strtoull(argv[3], NULL, 10);
  if (count == 0 || in_flight == 0 || in_flight > IN_FLIGHT_MAX)
    fail("PROCESSES and IN_FLIGHT are numbers from 1, IN_FLIGHT to 1,000,000");

  struct floor floor = {.taken_count = 0};
  init(&floor, argv[1], (uint32_t)in_flight, argv[4]);
  pthread_t writer;
  if (pthread_create(&writer, NULL, writer_main, &floor) != 0)
    fail("cannot start the writer thread");
  uint64_t warm_up = in_flight > WARM_UP_PROCESSES ? in_flight : WARM_UP_PROCESSES;
  double process_bytes = run(&floor, warm_up, true);
  uint64_t begin_ns = now_ns();
  clock_t cpu_begin = clock();
  run(&floor, count, false);
  double cpu_us = (double)(clock() - cpu_begin) / CLOCKS_PER_SEC * 1e6;
  double seconds = (double)(now_ns() - begin_ns) / 1e9;

  pthread_mutex_lock(&floor.mutex);
  floor.is_ended = true;
  pthread_cond_signal(&floor.appended);
  pthread_mutex_unlock(&floor.mutex);
  pthread_join(writer, NULL);
  printf("floor %" PRIu64 " in flight: %.0f a second\n", in_flight, (double)count / seconds);
  printf("floor %" PRIu64 " in flight, CPU: %.2f us\n", in_flight, cpu_us / (double)count);
  printf("floor process in memory: %.0f bytes\n", process_bytes);
  printf("floor journal: %.0f bytes a process\n",
         (double)floor.write_bytes / (double)(warm_up + count));
  deinit(&floor);
  return 0;
}
