/* remote_log.c - a kind of log whose commits lie on a server far away, for tests.
 *
 * What is appended goes into a log in memory, from which everything is read, and into a queue. The
 * first of the queue are on their way; entry `stored_end` of the server is the first of the queue.
 *
 *     connecting --time--> reading the tail --tail--> open --refused--> reading the tail
 *         ^------------- no answer in time, or the connection broke -------------+
 *
 * Only the tail settles: own entries in it leave the queue, another owner's are the fence, and what
 * is then left in the queue is sent again.
 * Owns: the queue and the copy. Thread: one. */
#include "support/remote_log.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "log/kind.h"

enum link { LINK_CONNECTING, LINK_READING, LINK_OPEN };

/* A commit that is not known to be stored. */
struct pending {
  uint32_t record_count; /* Records. */
  struct cg_buf *bytes;  /* One reference. */
};

/* The log. */
struct remote_log {
  struct cg_log log;            /* The shared part. */
  struct remote_server *server; /* Where it lies. */
  struct cg_log *copy;          /* All commits, also pending ones: a log in memory. */
  uint64_t owner;               /* Given by the takeover. */
  struct pending *queue;        /* Pending commits, in order. */
  size_t queue_count;           /* How many. */
  size_t queue_capacity;        /* Room. */
  size_t sent_count;            /* Of these, sent on this connection. */
  uint64_t queue_bytes;         /* Bytes in the queue. */
  uint64_t stored_end;          /* Entries below it are known to be stored. */
  enum link link;               /* State of the connection. */
  uint64_t connection;          /* Its number. */
  uint64_t since_ms;            /* When this state began, or the last answer came. */
};

static const struct cg_log_kind remote_kind;

static struct remote_log *of(struct cg_log *log) {
  return (struct remote_log *)log; /* The shared part is the first member. */
}

/* --- the queue --- */

static void push(struct remote_log *remote, const uint8_t *records, size_t size,
                 uint32_t record_count) {
  if (remote->queue_count == remote->queue_capacity) {
    remote->queue_capacity = remote->queue_capacity > 0 ? remote->queue_capacity * 2 : 16;
    remote->queue = cg_realloc(remote->queue, remote->queue_capacity * sizeof(*remote->queue));
  }
  struct cg_buf *bytes = cg_buf_take(NULL, size);
  cg_buf_append(bytes, records, size);
  remote->queue[remote->queue_count++] = (struct pending){record_count, bytes};
  remote->queue_bytes += size;
}

/* Takes the first `count` commits out of the queue: they are stored. Returns how many records. */
static uint64_t pop(struct remote_log *remote, size_t count) {
  uint64_t records = 0;
  for (size_t index = 0; index < count; index++) {
    records += remote->queue[index].record_count;
    remote->queue_bytes -= remote->queue[index].bytes->size;
    cg_buf_unref(remote->queue[index].bytes);
  }
  remote->queue_count -= count;
  if (remote->queue_count > 0)
    memmove(remote->queue, remote->queue + count, remote->queue_count * sizeof(*remote->queue));
  remote->sent_count -= count < remote->sent_count ? count : remote->sent_count;
  remote->stored_end += count;
  return records;
}

/* Lets the first `count` commits of the queue be stored, and everybody know. */
static void acknowledge(struct remote_log *remote, size_t count) {
  if (count == 0)
    return;
  uint64_t records = pop(remote, count);
  cg_log_publish(&remote->log, cg_log_durable_position(&remote->log) + records);
}

/* --- the connection --- */

static void set_link(struct remote_log *remote, enum link link) {
  remote->link = link;
  remote->since_ms = remote_server_now(remote->server);
}

/* Gives the connection up: what was sent on it may or may not arrive. */
static void disconnect(struct remote_log *remote) {
  remote->connection = ++remote->server->connections;
  remote->sent_count = 0;
  set_link(remote, LINK_CONNECTING);
}

static void read_tail(struct remote_log *remote) {
  struct remote_message request = {
      .kind = REMOTE_READ, .connection = remote->connection, .sequence = remote->stored_end};
  remote_server_send(remote->server, &request);
  set_link(remote, LINK_READING);
}

/* Sends what waits and may go; true when there was any. */
static bool send_queue(struct remote_log *remote) {
  bool is_sent = false;
  while (remote->sent_count < remote->queue_count && remote->sent_count < REMOTE_IN_FLIGHT_MAX) {
    if (remote->sent_count == 0)
      remote->since_ms = remote_server_now(remote->server);
    const struct pending *pending = &remote->queue[remote->sent_count];
    struct remote_message request = {.kind = REMOTE_APPEND,
                                     .connection = remote->connection,
                                     .owner = remote->owner,
                                     .sequence = remote->stored_end + remote->sent_count,
                                     .record_count = pending->record_count,
                                     .bytes = pending->bytes};
    remote_server_send(remote->server, &request);
    remote->sent_count++;
    is_sent = true;
  }
  return is_sent;
}

static bool is_same(const struct pending *pending, const struct remote_entry *entry) {
  return pending->record_count == entry->record_count &&
         pending->bytes->size == entry->bytes->size &&
         memcmp(pending->bytes->data, entry->bytes->data, entry->bytes->size) == 0;
}

/* Settles by what stands at the tail. */
static void settle(struct remote_log *remote, const struct remote_message *tail) {
  if (tail->sequence != remote->stored_end)
    return; /* The answer to an older question. */
  struct cg_err err = {.code = CG_OK};
  size_t count = 0;
  for (uint64_t sequence = tail->sequence; sequence < tail->end && err.code == CG_OK; sequence++) {
    const struct remote_entry *entry = &remote->server->entries[sequence];
    if (entry->owner != remote->owner)
      cg_err_set(&err, CG_EFENCED, "owner %" PRIu64 " has taken the log over at entry %" PRIu64,
                 entry->owner, sequence);
    else if (count == remote->queue_count || !is_same(&remote->queue[count], entry))
      cg_err_set(&err, CG_ECORRUPT, "entry %" PRIu64 " is not what was sent", sequence);
    else
      count++;
  }
  acknowledge(remote, count);
  if (err.code != CG_OK) {
    cg_log_fail(&remote->log, &err);
    return;
  }
  remote->sent_count = 0;
  set_link(remote, LINK_OPEN);
}

/* Takes one answer of this connection. */
static void listen(struct remote_log *remote, const struct remote_message *answer) {
  if (answer->kind == REMOTE_TAIL && remote->link == LINK_READING) {
    settle(remote, answer);
  } else if (answer->kind == REMOTE_STORED && answer->sequence >= remote->stored_end) {
    /* Everything before it is stored too: the server has seen to that. */
    remote->since_ms = remote_server_now(remote->server);
    acknowledge(remote, (size_t)(answer->sequence - remote->stored_end) + 1);
  } else if (answer->kind == REMOTE_STORED) {
#ifdef CG_PLANT_REMOTE_ACK_ORDER /* A planted bug: an old answer is told again. */
    cg_log_publish(&remote->log, remote->server->entries[answer->sequence].first_position +
                                     remote->server->entries[answer->sequence].record_count);
#endif
  } else if (answer->kind == REMOTE_REFUSED && remote->link == LINK_OPEN) {
#ifdef CG_PLANT_REMOTE_FENCE_IGNORED /* A planted bug. */
    acknowledge(remote, remote->sent_count);
#else
    read_tail(remote);
#endif
  }
}

/* --- the functions of the kind --- */

static enum cg_code remote_append(struct cg_log *log, const uint8_t *records, size_t size,
                                  uint32_t record_count, cg_log_place *place, struct cg_err *err) {
  struct remote_log *remote = of(log);
  enum cg_code code = cg_log_check_pending(log, remote->queue_bytes, size, err);
  if (code == CG_OK)
    code = cg_log_append(remote->copy, records, size, record_count, log->next_position, place, err);
  if (code == CG_OK)
    push(remote, records, size, record_count);
  return code;
}

static enum cg_code remote_read(struct cg_log *log, cg_log_place place, struct cg_buf *buf,
                                struct cg_record *record, struct cg_err *err) {
  struct cg_log *copy = of(log)->copy;
  return copy->kind->read(copy, place, buf, record, err);
}

static enum cg_code remote_fetch(struct cg_log *log, struct cg_log_cursor *cursor,
                                 struct cg_err *err) {
  struct cg_log *copy = of(log)->copy;
  return copy->kind->fetch(copy, cursor, err);
}

static bool remote_turn(struct cg_log *log) {
  struct remote_log *remote = of(log);
  bool is_worked = false;
  struct remote_message answer;
  while (cg_log_failed(log, NULL) == CG_OK &&
         remote_server_receive(remote->server, remote->connection, &answer)) {
    listen(remote, &answer);
    is_worked = true;
  }
  if (cg_log_failed(log, NULL) != CG_OK)
    return is_worked;
  uint64_t waited_ms = remote_server_now(remote->server) - remote->since_ms;
  bool is_waiting = remote->link == LINK_READING || remote->sent_count > 0;
  if (remote->link != LINK_CONNECTING &&
      ((is_waiting && waited_ms >= REMOTE_ANSWER_MS) ||
       remote_server_chance(remote->server, remote->server->trouble.disconnected))) {
    disconnect(remote);
    return true;
  }
  if (remote->link == LINK_CONNECTING && waited_ms >= REMOTE_CONNECT_MS) {
    read_tail(remote);
    return true;
  }
  return (remote->link == LINK_OPEN && send_queue(remote)) || is_worked;
}

static void remote_stats(struct cg_log *log, struct cg_log_stats *stats) {
  (void)log;
  stats->segment_count = 1;
}

static void remote_abandon(struct cg_log *log) {
  struct remote_log *remote = of(log);
  pop(remote, remote->queue_count);
  cg_free(remote->queue);
  cg_log_abandon(remote->copy);
  cg_free(remote);
}

static enum cg_code remote_close(struct cg_log *log, struct cg_err *err) {
  struct remote_log *remote = of(log);
  uint64_t end_ms = remote_server_now(remote->server) + REMOTE_CLOSE_MS;
  while (remote->queue_count > 0 && cg_log_failed(log, NULL) == CG_OK &&
         remote_server_now(remote->server) < end_ms)
    if (!remote_turn(log))
      cg_clock_virtual_advance(remote->server->clock, 1);
  enum cg_code code = cg_log_failed(log, err);
  if (code == CG_OK && remote->queue_count > 0)
    code = cg_err_set(err, CG_EFAILED, "%zu commits were not acknowledged within %d ms",
                      remote->queue_count, REMOTE_CLOSE_MS);
  remote_abandon(log);
  return code;
}

static const struct cg_log_kind remote_kind = {
    .commit_bytes_max = REMOTE_COMMIT_BYTES_MAX,
    .append = remote_append,
    .read = remote_read,
    .fetch = remote_fetch,
    .turn = remote_turn,
    .stats = remote_stats,
    .close = remote_close,
    .abandon = remote_abandon,
};

/* --- opening --- */

/* Takes a commit that the server holds into the copy, and replays it. */
static enum cg_code take_in(struct remote_log *remote, const struct remote_entry *entry,
                            struct cg_err *err) {
  cg_log_place place;
  uint64_t position = remote->log.next_position;
  const uint8_t *at = entry->bytes->data;
  size_t left = entry->bytes->size;
  enum cg_code code =
      cg_log_append(remote->copy, at, left, entry->record_count, position, &place, err);
  for (; code == CG_OK && left > 0; position++) {
    struct cg_record record;
    size_t size;
    code = cg_record_decode(at, left, &record, &size, err);
    if (code != CG_OK)
      return code;
    record.position = position;
    if (remote->log.options.replay)
      remote->log.options.replay(remote->log.options.replay_arg, &record, place);
    place += size / 8;
    at += size;
    left -= size;
  }
  remote->log.next_position = position;
  return code;
}

enum cg_code remote_log_open(struct cg_log **log, struct remote_server *server,
                             const struct cg_log_options *options, struct cg_err *err) {
  assert(options->manual);
  struct remote_log *remote = cg_alloc(sizeof(*remote));
  remote->server = server;
  enum cg_code code = cg_log_open_memory(&remote->copy, NULL, err);
  if (code == CG_OK)
    code = cg_log_init(&remote->log, &remote_kind, options, err);
  if (code != CG_OK)
    goto fail;
  remote->owner = remote_server_take_over(server);
  remote->stored_end = server->entry_count;
  for (uint64_t index = 0; index < remote->stored_end && code == CG_OK; index++)
    if (server->entries[index].record_count > 0)
      code = take_in(remote, &server->entries[index], err);
  if (code != CG_OK)
    goto fail;
  atomic_store_explicit(&remote->log.durable_position, remote->log.next_position,
                        memory_order_release);
  remote->connection = ++server->connections;
  set_link(remote, LINK_OPEN);
  *log = &remote->log;
  return CG_OK;

fail:
  if (remote->copy)
    cg_log_abandon(remote->copy);
  cg_free(remote);
  return code;
}
