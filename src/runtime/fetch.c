/* fetch.c - libcurl says which sockets and which moment it waits for; libuv watches them.
 *
 * Lua is never entered from libcurl's callbacks: they only collect bytes and tell on_change. */
#include "runtime/fetch.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "runtime/curl.h"
#include "runtime/runtime.h"

#define PENDING_BYTES_MAX ((size_t)256 << 10) /* Of a body that nobody takes, or sends on. */
#define HEAD_BYTES_MAX ((size_t)256 << 10)    /* Of the answer's head. */

/* Connections that are kept, and the transfers under way. */
struct cg_fetch_pool {
  struct cg_runtime *runtime; /* Whose loop it uses. */
  struct cg_curl curl;        /* The library. */
  CURLM *multi;               /* Drives all transfers. */
  uv_timer_t timer;           /* When libcurl wants to be called. */
  struct cg_fetch *first;     /* All fetches that are not freed. */
  uint32_t count;             /* Of these, under way. */
};

/* A socket that libcurl waits for. */
struct socket {
  uv_poll_t poll;             /* Watches it. */
  struct cg_fetch_pool *pool; /* Whose. */
  curl_socket_t fd;           /* libcurl's. */
  int events;                 /* What libcurl waits for. */
};

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg);
static int on_timeout_wanted(CURLM *multi, long timeout_ms, void *arg);
static void on_ready(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);
static void on_idle(uv_timer_t *timer);
static void act(struct cg_fetch_pool *pool, curl_socket_t fd, int events);
static void finish(struct cg_fetch *fetch, enum cg_fetch_outcome outcome);
static enum cg_fetch_outcome outcome_of(CURLcode result);

enum cg_code cg_fetch_pool_new(struct cg_fetch_pool **out, struct cg_runtime *runtime,
                               const struct cg_fetch_limits *limits, struct cg_err *err) {
  struct cg_fetch_pool *pool = cg_alloc(sizeof(*pool));
  pool->runtime = runtime;
  enum cg_code code = cg_curl_open(&pool->curl, err);
  if (code == CG_OK && (pool->multi = pool->curl.multi_init()) == NULL)
    code = cg_err_set(err, CG_ENOMEM, "libcurl has no memory");
  if (code != CG_OK) {
    cg_free(pool);
    return code;
  }
  const struct cg_curl *curl = &pool->curl;
  curl->multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl->multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
  curl->multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timeout_wanted);
  curl->multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
  curl->multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, limits->connections_max);
  curl->multi_setopt(pool->multi, CURLMOPT_MAX_HOST_CONNECTIONS, limits->host_connections_max);
  if (limits->idle_connections_max > 0)
    curl->multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, limits->idle_connections_max);
  uv_timer_init(runtime->loop, &pool->timer);
  pool->timer.data = pool;
  *out = pool;
  return CG_OK;
}

static void on_pool_closed(uv_handle_t *handle) {
  cg_free(handle->data);
}

void cg_fetch_pool_free(struct cg_fetch_pool *pool) {
  if (pool == NULL)
    return;
  while (pool->first != NULL) {
    struct cg_fetch *fetch = pool->first;
    if (fetch->easy != NULL) {
      snprintf(fetch->message, sizeof(fetch->message), "the app is stopping");
      finish(fetch, CG_FETCH_CANCELLED);
      if (!pool->runtime->is_stopping)
        fetch->on_change(fetch->arg);
    }
    pool->first = fetch->next;
    if (fetch->next != NULL)
      fetch->next->previous = NULL;
    fetch->pool = NULL;
  }
  struct cg_curl_signals signals;
  cg_curl_enter(&signals);
  pool->curl.multi_cleanup(pool->multi);
  cg_curl_leave(&signals);
  uv_close((uv_handle_t *)&pool->timer, on_pool_closed);
}

uint32_t cg_fetch_pool_count(const struct cg_fetch_pool *pool) {
  return pool->count;
}

static void changed(struct cg_fetch *fetch) {
  fetch->progress_ms = uv_now(fetch->idle_timer.loop);
  fetch->on_change(fetch->arg);
}

/* --- callbacks of one transfer --- */

/* A line of a head. Lines of interim answers go; what comes behind the final one are trailers. */
static size_t on_head(char *bytes, size_t unit, size_t count, void *arg) {
  struct cg_fetch *fetch = arg;
  size_t size = unit * count;
  fetch->progress_ms = uv_now(fetch->idle_timer.loop);
  if (fetch->has_head)
    return size;
  if (size >= 5 && memcmp(bytes, "HTTP/", 5) == 0)
    fetch->head->size = 0;
  if (fetch->head->size + size > HEAD_BYTES_MAX) {
    fetch->outcome = CG_FETCH_TOO_LARGE;
    snprintf(fetch->message, sizeof(fetch->message), "the head of the answer is over %zu KiB",
             HEAD_BYTES_MAX >> 10);
    return 0;
  }
  cg_buf_append(fetch->head, bytes, size);
  bool is_end = (size == 2 && bytes[0] == '\r') || (size == 1 && bytes[0] == '\n');
  if (!is_end)
    return size;
  fetch->pool->curl.easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &fetch->status);
  if (fetch->status < 200)
    return size;
  fetch->has_head = true;
  changed(fetch);
  return size;
}

static size_t on_body(char *bytes, size_t unit, size_t count, void *arg) {
  struct cg_fetch *fetch = arg;
  size_t size = unit * count;
  if (fetch->body_max > 0 && fetch->body_bytes + size > fetch->body_max) {
    fetch->outcome = CG_FETCH_TOO_LARGE;
    return 0;
  }
  if (fetch->body_max == 0 && fetch->in->size > 0 && fetch->in->size + size > PENDING_BYTES_MAX) {
    fetch->is_in_paused = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  cg_buf_append(fetch->in, bytes, size);
  fetch->body_bytes += size;
  changed(fetch);
  return size;
}

/* libcurl wants more of the request's body. */
static size_t on_send(char *bytes, size_t unit, size_t count, void *arg) {
  struct cg_fetch *fetch = arg;
  size_t room = unit * count, left = fetch->out->size - fetch->out_place;
  if (left == 0 && !fetch->is_out_finished) {
    fetch->is_out_paused = true;
    return CURL_READFUNC_PAUSE;
  }
  size_t size = left < room ? left : room;
  if (size > 0)
    memcpy(bytes, fetch->out->data + fetch->out_place, size);
  fetch->out_place += size;
  if (fetch->out_place == fetch->out->size)
    fetch->out->size = fetch->out_place = 0;
  changed(fetch);
  return size;
}

/* Connected; the request will be sent. */
static int on_connected(void *arg, char *to_ip, char *from_ip, int to_port, int from_port) {
  (void)to_ip;
  (void)from_ip;
  (void)to_port;
  (void)from_port;
  struct cg_fetch *fetch = arg;
  fetch->is_connected = true;
  fetch->progress_ms = uv_now(fetch->idle_timer.loop);
  return CURL_PREREQFUNC_OK;
}

/* --- starting --- */

static void set_text(const struct cg_fetch *fetch, CURLoption option, const char *text) {
  if (text != NULL)
    fetch->pool->curl.easy_setopt(fetch->easy, option, text);
}

static void set_number(const struct cg_fetch *fetch, CURLoption option, long number) {
  fetch->pool->curl.easy_setopt(fetch->easy, option, number);
}

/* Where to, how long, whom to trust. */
static void set_connection(const struct cg_fetch *fetch, const struct cg_fetch_request *request) {
  set_text(fetch, CURLOPT_URL, request->url);
  set_text(fetch, CURLOPT_UNIX_SOCKET_PATH, request->unix_path);
  set_text(fetch, CURLOPT_PROXY, request->unix_path != NULL ? "" : request->proxy);
  set_text(fetch, CURLOPT_CAINFO, request->ca_file);
  set_text(fetch, CURLOPT_SSLCERT, request->cert_file);
  set_text(fetch, CURLOPT_SSLKEY, request->key_file);
  set_number(fetch, CURLOPT_SSL_VERIFYPEER, request->is_unverified ? 0 : 1);
  set_number(fetch, CURLOPT_SSL_VERIFYHOST, request->is_unverified ? 0 : 2);
  set_number(fetch, CURLOPT_NOSIGNAL, 1);
  set_number(fetch, CURLOPT_FOLLOWLOCATION, 0);
  set_number(fetch, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1);
  set_number(fetch, CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_ms);
  set_number(fetch, CURLOPT_TIMEOUT_MS, (long)request->total_ms);
  set_number(fetch, CURLOPT_QUICK_EXIT, 1); /* An abort must not wait for a name to be resolved. */
  set_number(fetch, CURLOPT_TCP_KEEPALIVE, 1);
  if (request->body_max > 0 && strcmp(request->method, "HEAD") != 0)
    fetch->pool->curl.easy_setopt(fetch->easy, CURLOPT_MAXFILESIZE_LARGE,
                                  (curl_off_t)request->body_max);
  set_text(fetch, CURLOPT_PROTOCOLS_STR, "http,https");
  set_text(fetch, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
}

/* The method and what is sent. */
static void set_body(struct cg_fetch *fetch, const struct cg_fetch_request *request) {
  const struct cg_curl *curl = &fetch->pool->curl;
  if (request->streams_body) {
    set_number(fetch, CURLOPT_UPLOAD, 1);
    curl->easy_setopt(fetch->easy, CURLOPT_READFUNCTION, on_send);
    curl->easy_setopt(fetch->easy, CURLOPT_READDATA, fetch);
    curl->easy_setopt(fetch->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->stream_size);
  } else if (request->body != NULL) {
    cg_buf_append(fetch->out, request->body, request->body_size);
    set_number(fetch, CURLOPT_POST, 1);
    curl->easy_setopt(fetch->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
    curl->easy_setopt(fetch->easy, CURLOPT_POSTFIELDS,
                      fetch->out->data != NULL ? (const char *)fetch->out->data : "");
  } else if (strcmp(request->method, "HEAD") == 0) {
    set_number(fetch, CURLOPT_NOBODY, 1);
  }
  set_text(fetch, CURLOPT_CUSTOMREQUEST, request->method);
  for (size_t i = 0; i < request->header_count; i++)
    fetch->headers = curl->slist_append(fetch->headers, request->headers[i]);
  curl->easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, fetch->headers);
}

static void set_callbacks(struct cg_fetch *fetch) {
  const struct cg_curl *curl = &fetch->pool->curl;
  curl->easy_setopt(fetch->easy, CURLOPT_PRIVATE, fetch);
  curl->easy_setopt(fetch->easy, CURLOPT_ERRORBUFFER, fetch->message);
  curl->easy_setopt(fetch->easy, CURLOPT_HEADERFUNCTION, on_head);
  curl->easy_setopt(fetch->easy, CURLOPT_HEADERDATA, fetch);
  curl->easy_setopt(fetch->easy, CURLOPT_WRITEFUNCTION, on_body);
  curl->easy_setopt(fetch->easy, CURLOPT_WRITEDATA, fetch);
  if (curl->easy_setopt(fetch->easy, CURLOPT_PREREQFUNCTION, on_connected) == CURLE_OK)
    curl->easy_setopt(fetch->easy, CURLOPT_PREREQDATA, fetch);
  else
    fetch->is_connected = true; /* An older library does not tell. */
}

static struct cg_fetch *new_fetch(struct cg_fetch_pool *pool,
                                  const struct cg_fetch_request *request, cg_fetch_fn on_change,
                                  void *arg) {
  struct cg_fetch *fetch = cg_alloc(sizeof(*fetch));
  fetch->pool = pool;
  fetch->on_change = on_change;
  fetch->arg = arg;
  fetch->head = cg_buf_take(pool->runtime->pool, 1024);
  fetch->in = cg_buf_take(pool->runtime->pool, 4096);
  fetch->out = cg_buf_take(pool->runtime->pool, 0);
  fetch->body_max = request->body_max;
  fetch->idle_ms = request->idle_ms;
  fetch->total_ms = request->total_ms;
  fetch->connect_ms = request->connect_ms;
  uv_timer_init(pool->runtime->loop, &fetch->idle_timer);
  fetch->idle_timer.data = fetch;
  fetch->progress_ms = uv_now(pool->runtime->loop);
  fetch->next = pool->first;
  if (pool->first != NULL)
    pool->first->previous = fetch;
  pool->first = fetch;
  return fetch;
}

enum cg_code cg_fetch_start(struct cg_fetch **out, struct cg_fetch_pool *pool,
                            const struct cg_fetch_request *request, cg_fetch_fn on_change,
                            void *arg, struct cg_err *err) {
  CURL *easy = pool->curl.easy_init();
  if (easy == NULL)
    return cg_err_set(err, CG_ENOMEM, "libcurl has no memory");
  struct cg_fetch *fetch = new_fetch(pool, request, on_change, arg);
  fetch->easy = easy;
  set_callbacks(fetch);
  set_connection(fetch, request);
  set_body(fetch, request);
  pool->count++;
  cg_task_busy(pool->runtime, 1);
  if (fetch->idle_ms > 0)
    uv_timer_start(&fetch->idle_timer, on_idle, (uint64_t)fetch->idle_ms, 0);
  struct cg_curl_signals signals;
  cg_curl_enter(&signals);
  CURLMcode added = pool->curl.multi_add_handle(pool->multi, easy);
  cg_curl_leave(&signals);
  if (added != CURLM_OK) {
    cg_fetch_free(fetch);
    return cg_err_set(err, CG_ENOMEM, "libcurl cannot start a transfer");
  }
  *out = fetch;
  return CG_OK;
}

/* --- what the owner does --- */

/* Lets libcurl go on with what is not to wait any more. */
static void go_on(struct cg_fetch *fetch) {
  int still =
      (fetch->is_in_paused ? CURLPAUSE_RECV : 0) | (fetch->is_out_paused ? CURLPAUSE_SEND : 0);
  struct cg_curl_signals signals;
  cg_curl_enter(&signals);
  fetch->pool->curl.easy_pause(fetch->easy, still);
  cg_curl_leave(&signals);
}

void cg_fetch_taken(struct cg_fetch *fetch) {
  fetch->in->size = 0;
  if (fetch->easy == NULL || !fetch->is_in_paused)
    return;
  fetch->is_in_paused = false;
  fetch->progress_ms = uv_now(fetch->idle_timer.loop);
  go_on(fetch);
}

bool cg_fetch_has_room(const struct cg_fetch *fetch) {
  return fetch->out->size - fetch->out_place < PENDING_BYTES_MAX;
}

static void out_changed(struct cg_fetch *fetch) {
  if (!fetch->is_out_paused)
    return;
  fetch->is_out_paused = false;
  fetch->progress_ms = uv_now(fetch->idle_timer.loop);
  go_on(fetch);
}

void cg_fetch_write(struct cg_fetch *fetch, const void *bytes, size_t size) {
  if (fetch->easy == NULL || fetch->is_out_finished)
    return;
  cg_buf_append(fetch->out, bytes, size);
  out_changed(fetch);
}

void cg_fetch_finish(struct cg_fetch *fetch) {
  if (fetch->easy == NULL)
    return;
  fetch->is_out_finished = true;
  out_changed(fetch);
}

void cg_fetch_abort(struct cg_fetch *fetch) {
  if (fetch->easy != NULL)
    finish(fetch, CG_FETCH_CANCELLED);
}

static void on_fetch_closed(uv_handle_t *handle) {
  struct cg_fetch *fetch = handle->data;
  cg_free(fetch);
}

void cg_fetch_free(struct cg_fetch *fetch) {
  if (fetch == NULL)
    return;
  cg_fetch_abort(fetch);
  struct cg_fetch_pool *pool = fetch->pool;
  if (pool != NULL) {
    if (fetch->previous != NULL)
      fetch->previous->next = fetch->next;
    else
      pool->first = fetch->next;
    if (fetch->next != NULL)
      fetch->next->previous = fetch->previous;
  }
  cg_buf_unref(fetch->head);
  cg_buf_unref(fetch->in);
  cg_buf_unref(fetch->out);
  cg_free(fetch->redirect);
  uv_close((uv_handle_t *)&fetch->idle_timer, on_fetch_closed);
}

/* --- ends --- */

/* Takes the transfer away from libcurl; its connection stays for others when it may. */
static void finish(struct cg_fetch *fetch, enum cg_fetch_outcome outcome) {
  struct cg_fetch_pool *pool = fetch->pool;
  fetch->outcome = outcome;
  uv_timer_stop(&fetch->idle_timer);
  struct cg_curl_signals signals;
  cg_curl_enter(&signals);
  pool->curl.multi_remove_handle(pool->multi, fetch->easy);
  pool->curl.easy_cleanup(fetch->easy);
  cg_curl_leave(&signals);
  fetch->easy = NULL;
  pool->curl.slist_free_all(fetch->headers);
  fetch->headers = NULL;
  pool->count--;
  if (!pool->runtime->is_stopping)
    cg_task_busy(pool->runtime, -1);
}

/* Which limit of time it was, in words. */
static void describe_timeout(struct cg_fetch *fetch) {
  double connect_seconds = 0;
  fetch->pool->curl.easy_getinfo(fetch->easy, CURLINFO_PRETRANSFER_TIME, &connect_seconds);
  bool is_connecting = !fetch->is_connected && connect_seconds == 0 && fetch->status == 0 &&
                       (fetch->total_ms == 0 || fetch->connect_ms < fetch->total_ms);
  if (is_connecting)
    snprintf(fetch->message, sizeof(fetch->message), "not connected within %lld ms",
             (long long)fetch->connect_ms);
  else
    snprintf(fetch->message, sizeof(fetch->message), "not done within %lld ms",
             (long long)fetch->total_ms);
}

/* libcurl says that a transfer is over. */
static void on_done(struct cg_fetch_pool *pool, CURL *easy, CURLcode result) {
  char *private = NULL;
  pool->curl.easy_getinfo(easy, CURLINFO_PRIVATE, &private);
  struct cg_fetch *fetch = (struct cg_fetch *)(void *)private;
  char *redirect = NULL;
  pool->curl.easy_getinfo(easy, CURLINFO_REDIRECT_URL, &redirect);
  if (redirect != NULL)
    fetch->redirect = cg_strndup(redirect, strlen(redirect));
  enum cg_fetch_outcome outcome = outcome_of(result);
  if (fetch->outcome != CG_FETCH_RUNNING) /* A callback has refused to go on. */
    outcome = fetch->outcome;
  else if (result == CURLE_OUT_OF_MEMORY && !fetch->has_head)
    outcome = CG_FETCH_TOO_LARGE; /* So the library says that a line of the head is too long. */
  else if (outcome == CG_FETCH_TIMEOUT)
    describe_timeout(fetch);
  if (outcome == CG_FETCH_TOO_LARGE && (fetch->has_head || result == CURLE_FILESIZE_EXCEEDED))
    snprintf(fetch->message, sizeof(fetch->message), "the body is over %zu bytes", fetch->body_max);
  if (outcome != CG_FETCH_OK && fetch->message[0] == 0)
    snprintf(fetch->message, sizeof(fetch->message), "%s", pool->curl.easy_strerror(result));
  finish(fetch, outcome);
  fetch->on_change(fetch->arg);
}

static enum cg_fetch_outcome outcome_of(CURLcode result) {
  switch (result) {
  case CURLE_OK:
    return CG_FETCH_OK;
  case CURLE_OPERATION_TIMEDOUT:
    return CG_FETCH_TIMEOUT;
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_RESOLVE_PROXY:
    return CG_FETCH_DNS;
  case CURLE_COULDNT_CONNECT:
  case CURLE_PROXY:
    return CG_FETCH_REFUSED;
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_ENGINE_INITFAILED:
  case CURLE_SSL_CRL_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
  case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
  case CURLE_SSL_INVALIDCERTSTATUS:
  case CURLE_SSL_CLIENTCERT:
  case CURLE_USE_SSL_FAILED:
    return CG_FETCH_TLS;
  case CURLE_SEND_ERROR:
  case CURLE_RECV_ERROR:
  case CURLE_GOT_NOTHING:
  case CURLE_PARTIAL_FILE:
  case CURLE_HTTP2:
  case CURLE_HTTP2_STREAM:
    return CG_FETCH_RESET;
  case CURLE_FILESIZE_EXCEEDED:
    return CG_FETCH_TOO_LARGE;
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_BAD_CONTENT_ENCODING:
  case CURLE_UNSUPPORTED_PROTOCOL: /* So it says that the answer has no proper first line. */
    return CG_FETCH_PROTOCOL;
  case CURLE_URL_MALFORMAT:
    return CG_FETCH_INVALID;
  default:
    return CG_FETCH_FAILED;
  }
}

/* No byte for too long; a transfer that waits for its owner is not idle. */
static void on_idle(uv_timer_t *timer) {
  struct cg_fetch *fetch = timer->data;
  uint64_t now_ms = uv_now(timer->loop);
  if (!fetch->is_connected || fetch->is_in_paused || fetch->is_out_paused)
    fetch->progress_ms = now_ms;
  uint64_t idle_ms = now_ms - fetch->progress_ms;
  if (idle_ms < (uint64_t)fetch->idle_ms) {
    uv_timer_start(timer, on_idle, (uint64_t)fetch->idle_ms - idle_ms, 0);
    return;
  }
  snprintf(fetch->message, sizeof(fetch->message), "nothing was sent or received for %lld ms",
           (long long)fetch->idle_ms);
  finish(fetch, CG_FETCH_TIMEOUT);
  fetch->on_change(fetch->arg);
}

/* --- between libcurl and libuv --- */

static void on_socket_closed(uv_handle_t *handle) {
  cg_free(handle->data);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
  (void)easy;
  struct cg_fetch_pool *pool = arg;
  struct socket *socket = socket_arg;
  if (what == CURL_POLL_REMOVE) {
    if (socket == NULL)
      return 0;
    pool->curl.multi_assign(pool->multi, fd, NULL);
    uv_poll_stop(&socket->poll);
    uv_close((uv_handle_t *)&socket->poll, on_socket_closed);
    return 0;
  }
  if (socket == NULL) {
    socket = cg_alloc(sizeof(*socket));
    socket->pool = pool;
    socket->fd = fd;
    if (uv_poll_init_socket(pool->runtime->loop, &socket->poll, fd) != 0) {
      cg_free(socket);
      return -1;
    }
    socket->poll.data = socket;
    pool->curl.multi_assign(pool->multi, fd, socket);
  }
  socket->events = 0;
  if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
    socket->events |= UV_READABLE;
  if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
    socket->events |= UV_WRITABLE;
  uv_poll_start(&socket->poll, socket->events, on_ready);
  return 0;
}

static int on_timeout_wanted(CURLM *multi, long timeout_ms, void *arg) {
  (void)multi;
  struct cg_fetch_pool *pool = arg;
  if (uv_is_closing((uv_handle_t *)&pool->timer))
    return 0;
  if (timeout_ms < 0) {
    uv_timer_stop(&pool->timer);
    return 0;
  }
  uv_update_time(pool->runtime->loop);
  uv_timer_start(&pool->timer, on_timer, (uint64_t)timeout_ms, 0);
  return 0;
}

static void on_ready(uv_poll_t *poll, int status, int events) {
  struct socket *socket = poll->data;
  bool is_broken = status < 0; /* libuv has stopped watching; libcurl finds out what is wrong. */
  int flags = is_broken ? CURL_CSELECT_IN | CURL_CSELECT_OUT : 0;
  if ((events & UV_READABLE) != 0)
    flags |= CURL_CSELECT_IN;
  if ((events & UV_WRITABLE) != 0)
    flags |= CURL_CSELECT_OUT;
  act(socket->pool, socket->fd, flags);
  if (is_broken && !uv_is_closing((uv_handle_t *)poll)) /* There was something to read before. */
    uv_poll_start(poll, socket->events, on_ready);
}

static void on_timer(uv_timer_t *timer) {
  act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

/* Lets libcurl work, then takes what is over. */
static void act(struct cg_fetch_pool *pool, curl_socket_t fd, int events) {
  int running = 0;
  struct cg_curl_signals signals;
  cg_curl_enter(&signals);
  pool->curl.multi_socket_action(pool->multi, fd, events, &running);
  cg_curl_leave(&signals);
  int left = 0;
  CURLMsg *message;
  while ((message = pool->curl.multi_info_read(pool->multi, &left)) != NULL)
    if (message->msg == CURLMSG_DONE)
      on_done(pool, message->easy_handle, message->data.result);
}
