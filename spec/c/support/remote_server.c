/* remote_server.c - a server far away that keeps a log, and the bad network before it, in memory.
 *
 * Every message gets its time of arrival when it is sent; whoever looks next takes those whose time
 * has come, the earliest first.
 * Owns: entries and messages. Thread: one. */
#include "support/remote_server.h"

#include <assert.h>

#include "base/mem.h"
#include "support/sim_file.h"

#define STALE_MS 1000 /* An answer that nobody took for so long is for a connection given up. */

struct remote_server *remote_server_new(uint64_t seed, struct cg_clock_virtual *clock) {
  struct remote_server *server = cg_alloc(sizeof(*server));
  server->clock = clock;
  server->random = seed;
  return server;
}

void remote_server_free(struct remote_server *server) {
  if (!server)
    return;
  for (size_t index = 0; index < server->entry_count; index++)
    cg_buf_unref(server->entries[index].bytes);
  for (size_t index = 0; index < server->mail_count; index++)
    cg_buf_unref(server->mail[index].bytes);
  cg_free(server->entries);
  cg_free(server->mail);
  cg_free(server);
}

bool remote_server_chance(struct remote_server *server, unsigned percent) {
  return sim_file_random(&server->random, 100) < percent;
}

uint64_t remote_server_now(const struct remote_server *server) {
  return server->clock->mono_ns / 1000000;
}

/* --- what is stored --- */

static void store(struct remote_server *server, uint64_t owner, uint32_t record_count,
                  struct cg_buf *bytes) {
  if (server->entry_count == server->entry_capacity) {
    server->entry_capacity = server->entry_capacity > 0 ? server->entry_capacity * 2 : 64;
    server->entries =
        cg_realloc(server->entries, server->entry_capacity * sizeof(*server->entries));
  }
  uint64_t position = 1;
  if (server->entry_count > 0) {
    const struct remote_entry *last = &server->entries[server->entry_count - 1];
    position = last->first_position + last->record_count;
  }
  server->entries[server->entry_count++] =
      (struct remote_entry){.owner = owner,
                            .first_position = position,
                            .record_count = record_count,
                            .bytes = bytes ? cg_buf_ref(bytes) : NULL};
}

uint64_t remote_server_take_over(struct remote_server *server) {
  uint64_t owner = ++server->owners;
  store(server, owner, 0, NULL);
  return owner;
}

/* Whether an append fits what is there. */
static bool fits(const struct remote_server *server, const struct remote_message *append) {
#ifdef CG_PLANT_REMOTE_NO_TAIL_CHECK /* A planted bug: proves that the tests would notice. */
  (void)server, (void)append;
  return true;
#elif defined(CG_PLANT_REMOTE_NUMBER_ONLY) /* A planted bug. */
  return append->sequence == server->entry_count;
#else
  return append->sequence == server->entry_count && append->sequence > 0 &&
         server->entries[append->sequence - 1].owner == append->owner &&
         append->bytes->size <= REMOTE_COMMIT_BYTES_MAX;
#endif
}

/* --- the network --- */

static void post(struct remote_server *server, const struct remote_message *message) {
  if (server->mail_count == server->mail_capacity) {
    server->mail_capacity = server->mail_capacity > 0 ? server->mail_capacity * 2 : 64;
    server->mail = cg_realloc(server->mail, server->mail_capacity * sizeof(*server->mail));
  }
  uint64_t delay_ms = 1;
  if (remote_server_chance(server, server->trouble.late))
    delay_ms += sim_file_random(&server->random, server->trouble.late_ms);
  struct remote_message *mail = &server->mail[server->mail_count++];
  *mail = *message;
  mail->due_ms = remote_server_now(server) + delay_ms;
  if (mail->bytes)
    cg_buf_ref(mail->bytes);
}

void remote_server_send(struct remote_server *server, const struct remote_message *message) {
  if (remote_server_chance(server, server->trouble.lost)) {
    server->lost_count++;
    return;
  }
  post(server, message);
  if (remote_server_chance(server, server->trouble.doubled)) {
    server->doubled_count++;
    post(server, message);
  }
}

/* Takes the earliest message that is due: a request, or an answer on the connection. */
static bool take(struct remote_server *server, bool is_request, uint64_t connection,
                 struct remote_message *taken) {
  uint64_t now_ms = remote_server_now(server);
  size_t best = server->mail_count;
  for (size_t index = 0; index < server->mail_count; index++) {
    const struct remote_message *mail = &server->mail[index];
    bool is_wanted = is_request ? mail->kind <= REMOTE_READ
                                : mail->kind > REMOTE_READ && mail->connection == connection;
    if (is_wanted && mail->due_ms <= now_ms &&
        (best == server->mail_count || mail->due_ms < server->mail[best].due_ms))
      best = index;
  }
  if (best == server->mail_count)
    return false;
  *taken = server->mail[best];
  server->mail[best] = server->mail[--server->mail_count];
  return true;
}

static void drop_stale(struct remote_server *server) {
  for (size_t index = server->mail_count; index > 0; index--) {
    const struct remote_message *mail = &server->mail[index - 1];
    if (mail->kind > REMOTE_READ && mail->due_ms + STALE_MS < remote_server_now(server))
      server->mail[index - 1] = server->mail[--server->mail_count];
  }
}

static void handle(struct remote_server *server, const struct remote_message *request) {
  struct remote_message answer = {.connection = request->connection, .sequence = request->sequence};
  if (request->kind == REMOTE_READ) {
    answer.kind = REMOTE_TAIL;
    answer.end = server->entry_count;
  } else if (fits(server, request)) {
    store(server, request->owner, request->record_count, request->bytes);
    answer.kind = REMOTE_STORED;
  } else {
    server->refused_count++;
    answer.kind = REMOTE_REFUSED;
  }
  remote_server_send(server, &answer);
}

bool remote_server_receive(struct remote_server *server, uint64_t connection,
                           struct remote_message *answer) {
  struct remote_message request;
  drop_stale(server);
  while (take(server, true, 0, &request)) {
    handle(server, &request);
    cg_buf_unref(request.bytes);
  }
  return take(server, false, connection, answer);
}
