/* main.c - the same work for every event store: appends, reads, opening a large one.
 *
 * Usage: peer_bench PEER DIR          appends and reads
 *        peer_bench PEER DIR COUNT STREAMS   loads COUNT events into STREAMS streams, closes, and
 *                                     measures, each in a process of its own, how long opening
 *                                     takes until one stream is read, and the memory then
 * PEER is catga, sqlite, lmdb or redis. DIR must exist. Prints lines "what: number unit".
 * Owns: nothing. Thread: one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

#define STREAMS 1000u
#define ALONE_COUNT 1000u   /* Events of one writer that waits for each. */
#define MANY_COUNT 20000u   /* Events of 64 writers. */
#define TURNS_COUNT 2000u   /* The same where writers take turns. */
#define BATCH_COUNT 100000u /* Events in batches. */
#define BATCH_EVENTS 100u   /* Events of a batch. */
#define LOAD_EVENTS 1000u   /* Of a commit while loading. */

uint64_t peer_sum;

void peer_fail(const char *what, const char *why) {
  fprintf(stderr, "peer_bench: %s: %s\n", what, why);
  exit(1);
}

const char *peer_data(void) {
  static char data[PEER_DATA_BYTES + 1];
  if (data[0] == 0) {
    int size = snprintf(data, sizeof(data), "{\"order\":\"S000017\",\"amount\":148.75,\"note\":\"");
    memset(data + size, 'n', sizeof(data) - 3 - (size_t)size);
    memcpy(data + sizeof(data) - 3, "\"}", 3);
  }
  return data;
}

int peer_stream_name(char name[PEER_STREAM_NAME_BYTES], uint32_t stream) {
  return snprintf(name, PEER_STREAM_NAME_BYTES, "Order-%u", stream);
}

static double now_s(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void tell(const struct peer *peer, const char *what, uint64_t count, double begin_s) {
  printf("%s %s: %.0f a second\n", peer->name, what, (double)count / (now_s() - begin_s));
}

/* Fills the table with streams in a random order that is the same each time. */
static void choose(uint32_t *streams, uint32_t count, uint32_t bound) {
  static uint64_t state = 1;
  for (uint32_t i = 0; i < count; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    streams[i] = (uint32_t)(state >> 33) % bound;
  }
}

static void appends_and_reads(const struct peer *peer, const char *directory) {
  static uint32_t streams[MANY_COUNT];
  peer->open(directory);
  choose(streams, MANY_COUNT, STREAMS);
  uint64_t total = 0;
  double begin_s = now_s();
  for (uint32_t i = 0; i < ALONE_COUNT; i++)
    peer->append(&streams[i], 1);
  tell(peer, "appends of one writer", ALONE_COUNT, begin_s);

  uint32_t many = peer->append_by_many ? MANY_COUNT : TURNS_COUNT;
  begin_s = now_s();
  if (peer->append_by_many)
    peer->append_by_many(streams, many);
  for (uint32_t i = 0; !peer->append_by_many && i < many; i++)
    peer->append(&streams[i], 1);
  tell(peer, "appends of 64 writers", many, begin_s);

  begin_s = now_s();
  for (uint32_t i = 0; i < BATCH_COUNT; i += BATCH_EVENTS) {
    choose(streams, BATCH_EVENTS, STREAMS);
    peer->append(streams, BATCH_EVENTS);
  }
  tell(peer, "events in batches of 100", BATCH_COUNT, begin_s);
  total = ALONE_COUNT + many + BATCH_COUNT;

  begin_s = now_s();
  uint64_t found = 0;
  for (uint32_t stream = 0; stream < STREAMS; stream++)
    found += peer->read_stream(stream);
  tell(peer, "events read by stream", found, begin_s);
  if (found != total)
    peer_fail(peer->name, "reading streams gives another number of events");
  begin_s = now_s();
  found = peer->read_all();
  tell(peer, "events read over all", found, begin_s);
  if (found != total)
    peer_fail(peer->name, "reading all gives another number of events");
  peer->close();
}

/* Resident memory of the peer's process, MiB. */
static double resident_mib(const struct peer *peer) {
  long pages = 0;
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/statm", peer->process ? peer->process() : (int)getpid());
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1)
    peer_fail("memory", "cannot be read");
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

/* Runs `work` in a process of its own. */
static void apart(void (*work)(const struct peer *, const char *, uint32_t, uint32_t),
                  const struct peer *peer, const char *directory, uint32_t count,
                  uint32_t streams) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    work(peer, directory, count, streams);
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  if (status != 0)
    peer_fail(peer->name, "a part of the run failed");
}

static void load(const struct peer *peer, const char *directory, uint32_t count, uint32_t streams) {
  uint32_t chosen[LOAD_EVENTS];
  peer->open(directory);
  double begin_s = now_s();
  for (uint32_t i = 0; i < count; i += LOAD_EVENTS) {
    for (uint32_t k = 0; k < LOAD_EVENTS; k++)
      chosen[k] = (i + k) % streams;
    peer->load(chosen, LOAD_EVENTS);
  }
  peer->close();
  tell(peer, "events loaded", count, begin_s);
}

static void open_large(const struct peer *peer, const char *directory, uint32_t count,
                       uint32_t streams) {
  double begin_s = now_s();
  peer->open(directory);
  uint64_t found = peer->read_stream(streams / 2);
  printf("%s open with %u events: %.1f ms\n", peer->name, count, (now_s() - begin_s) * 1000);
  printf("%s memory with %u events: %.1f MiB\n", peer->name, count, resident_mib(peer));
  if (found != count / streams)
    peer_fail(peer->name, "reading a stream gives another number of events");
  peer->close();
}

int main(int argc, char **argv) {
  static const struct peer *const peers[] = {&peer_catga, &peer_sqlite, &peer_lmdb, &peer_redis};
  const struct peer *peer = NULL;
  for (size_t i = 0; argc > 2 && i < sizeof(peers) / sizeof(peers[0]); i++)
    if (strcmp(peers[i]->name, argv[1]) == 0)
      peer = peers[i];
  if (peer == NULL)
    peer_fail("usage", "peer_bench catga|sqlite|lmdb|redis DIR [COUNT STREAMS]");
  if (argc < 5) {
    appends_and_reads(peer, argv[2]);
    return 0;
  }
  uint32_t count = (uint32_t)strtoul(argv[3], NULL, 10);
  uint32_t streams = (uint32_t)strtoul(argv[4], NULL, 10);
  apart(load, peer, argv[2], count, streams);
  apart(open_large, peer, argv[2], count, streams);
  return 0;
}
