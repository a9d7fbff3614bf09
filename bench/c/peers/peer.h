/* peer.h - one event store among others: what the comparison asks of each.
 *
 * An event is 200 bytes of data in a numbered stream; its version follows from the stream. A peer
 * must be durable (fsync done) when append returns.
 * Owns: nothing. Thread: one, but for threads of the peer's own. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stdint.h>

#define PEER_DATA_BYTES 200
#define PEER_STREAM_NAME_BYTES 32

/* One peer's functions. Any failure ends the program by peer_fail. */
struct peer {
  const char *name; /* As given on the command line. */
  /* Opens what is in the directory, or makes it. */
  void (*open)(const char *directory);
  /* Appends `count` events, the i-th to stream streams[i], as one commit, and waits. */
  void (*append)(const uint32_t *streams, uint32_t count);
  /* 64 writers that append one event each and wait, until `count` events are there. NULL: writers
   * take turns anyway, and append is called for each. */
  void (*append_by_many)(const uint32_t *streams, uint32_t count);
  /* Like append, but need not be durable before the next sync or close. */
  void (*load)(const uint32_t *streams, uint32_t count);
  /* Reads one stream from its beginning; how many events. */
  uint64_t (*read_stream)(uint32_t stream);
  /* Reads all in the order of commits; how many events. */
  uint64_t (*read_all)(void);
  /* The process whose memory counts; NULL: this one. */
  int (*process)(void);
  /* Closes it; all is durable. */
  void (*close)(void);
};

extern const struct peer peer_catga;
extern const struct peer peer_sqlite;
extern const struct peer peer_lmdb;
extern const struct peer peer_redis;

/* Ends the program with a message. */
void peer_fail(const char *what, const char *why) __attribute__((noreturn));
/* The data of events: PEER_DATA_BYTES of JSON. */
const char *peer_data(void);
/* Writes "Order-<stream>"; its size. */
int peer_stream_name(char name[PEER_STREAM_NAME_BYTES], uint32_t stream);
/* A number that depends on what was read, so that no reading is left out by the compiler. */
extern uint64_t peer_sum;

#endif
