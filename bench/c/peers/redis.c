/* redis.c - an event store as one would make it on Redis Streams with appendfsync always: each
 * event in the stream of its own and in one of all events, in one transaction.
 *
 * The server is started on a Unix socket in the directory and ended with the connection. 64 writers
 * are 64 connections whose requests are under way at a time.
 * Owns: the server, the connections. Thread: one. */
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define WRITERS 64
#define TRIES_MAX 60000 /* Of connecting, 10 ms apart, while the server loads. */
#define PAGE 1000       /* Events of one read. */

static struct {
  redisContext *contexts[WRITERS]; /* Connections; the first serves all else. */
  pid_t server;                    /* Its process. */
} state;

static void check(redisContext *context, redisReply *reply) {
  if (reply == NULL)
    peer_fail("redis", context->errstr);
  if (reply->type == REDIS_REPLY_ERROR)
    peer_fail("redis", reply->str);
}

static void start(const char *directory, const char *path) {
  state.server = fork();
  if (state.server != 0)
    return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (freopen("/dev/null", "w", stdout) == NULL)
    _exit(1);
  execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--dir", directory,
         "--appendonly", "yes", "--appendfsync", "always", "--save", "", (char *)NULL);
  _exit(127);
}

static redisContext *join(const char *path) {
  for (int i = 0; i < TRIES_MAX; i++) {
    redisContext *context = redisConnectUnix(path);
    redisReply *reply = context && !context->err ? redisCommand(context, "PING") : NULL;
    bool is_well = reply && reply->type == REDIS_REPLY_STATUS;
    freeReplyObject(reply);
    if (is_well)
      return context;
    redisFree(context);
    usleep(10000);
  }
  peer_fail("redis", "the server does not answer");
}

static void redis_open(const char *directory) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/redis.sock", directory);
  unlink(path);
  start(directory, path);
  for (int i = 0; i < WRITERS; i++)
    state.contexts[i] = join(path);
}

/* Hands over one event; its four replies are read later. */
static void hand_over(redisContext *context, uint32_t stream) {
  char name[PEER_STREAM_NAME_BYTES];
  peer_stream_name(name, stream);
  redisAppendCommand(context, "XADD %s * type OrderCreated data %b", name, peer_data(),
                     (size_t)PEER_DATA_BYTES);
  redisAppendCommand(context, "XADD all * stream %s type OrderCreated data %b", name, peer_data(),
                     (size_t)PEER_DATA_BYTES);
}

static void take_replies(redisContext *context, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    redisReply *reply = NULL;
    if (redisGetReply(context, (void **)&reply) != REDIS_OK)
      peer_fail("redis", context->errstr);
    check(context, reply);
    freeReplyObject(reply);
  }
}

static void append(redisContext *context, const uint32_t *streams, uint32_t count) {
  redisAppendCommand(context, "MULTI");
  for (uint32_t i = 0; i < count; i++)
    hand_over(context, streams[i]);
  redisAppendCommand(context, "EXEC");
}

static void redis_append(const uint32_t *streams, uint32_t count) {
  append(state.contexts[0], streams, count);
  take_replies(state.contexts[0], 2 * count + 2);
}

static void redis_append_by_many(const uint32_t *streams, uint32_t count) {
  for (uint32_t i = 0; i < count; i += WRITERS) {
    uint32_t some = count - i < WRITERS ? count - i : WRITERS;
    for (uint32_t k = 0; k < some; k++) {
      int is_done = 0;
      append(state.contexts[k], &streams[i + k], 1);
      while (!is_done)
        if (redisBufferWrite(state.contexts[k], &is_done) != REDIS_OK)
          peer_fail("redis", state.contexts[k]->errstr);
    }
    for (uint32_t k = 0; k < some; k++)
      take_replies(state.contexts[k], 4);
  }
}

static void redis_load(const uint32_t *streams, uint32_t count) {
  redis_append(streams, count);
}

static uint64_t read_stream(const char *name) {
  char from[64] = "-";
  uint64_t count = 0;
  for (;;) {
    redisContext *context = state.contexts[0];
    redisReply *reply = redisCommand(context, "XRANGE %s %s + COUNT %d", name, from, PAGE);
    check(context, reply);
    for (size_t i = 0; i < reply->elements; i++) {
      redisReply *fields = reply->element[i]->element[1];
      peer_sum += (uint64_t)fields->element[fields->elements - 1]->str[0];
    }
    size_t some = reply->elements;
    if (some > 0)
      snprintf(from, sizeof(from), "(%s", reply->element[some - 1]->element[0]->str);
    freeReplyObject(reply);
    count += some;
    if (some < PAGE)
      return count;
  }
}

static uint64_t redis_read_stream(uint32_t stream) {
  char name[PEER_STREAM_NAME_BYTES];
  peer_stream_name(name, stream);
  return read_stream(name);
}

static uint64_t redis_read_all(void) {
  return read_stream("all");
}

static void redis_close(void) {
  for (int i = 0; i < WRITERS; i++)
    redisFree(state.contexts[i]);
  kill(state.server, SIGTERM);
  waitpid(state.server, NULL, 0);
}

static int redis_process(void) {
  return state.server;
}

const struct peer peer_redis = {.name = "redis",
                                .open = redis_open,
                                .append = redis_append,
                                .append_by_many = redis_append_by_many,
                                .load = redis_load,
                                .read_stream = redis_read_stream,
                                .read_all = redis_read_all,
                                .process = redis_process,
                                .close = redis_close};
