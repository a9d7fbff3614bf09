/* http.c - the daemon on the loop: its epoll descriptor is watched, its timeouts are a timer. */
#include "http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/http_request.h"
#include "http/http_socket.h"

#define CONNECTIONS_MAX 1024u /* More wait in the backlog. */
#define BACKLOG 1024          /* Connections the system keeps until they are taken. */
#define IDLE_SECONDS_MAX 300u /* A connection that says nothing is closed. */
#define TURNS_MAX 4           /* Of the daemon in one turn of the loop. */
#define FLUSH_RUNS_MAX 16     /* Turns given to the last answers at the stop. */

static enum cg_code listen_on(const char *path, int *out, struct cg_err *err);
static enum cg_code start_daemon(struct cg_http *http, int socket_fd, struct cg_err *err);
static void run(struct cg_http *http);
static void on_poll(uv_poll_t *handle, int status, int events);
static void on_timer(uv_timer_t *handle);
static void on_closed(uv_handle_t *handle);
static void say_fault(void *arg, const char *format, va_list args);

enum cg_code cg_http_start(struct cg_http **out, const struct cg_http_options *options,
                           struct cg_err *err) {
  int socket_fd;
  enum cg_code code = listen_on(options->path, &socket_fd, err);
  if (code != CG_OK)
    return code;
  struct cg_http *http = cg_alloc(sizeof(*http));
  http->runtime = options->runtime;
  http->path = cg_strndup(options->path, strlen(options->path));
  http->body_bytes_max = options->body_bytes_max;
  http->handler = options->handler;
  code = start_daemon(http, socket_fd, err);
  if (code != CG_OK)
    goto fail;
  *out = http;
  return CG_OK;

fail:
  unlink(options->path);
  close(socket_fd);
  cg_free(http->path);
  cg_free(http);
  return code;
}

void cg_http_drain(struct cg_http *http) {
  if (http == NULL || http->is_draining)
    return;
  http->is_draining = true;
  unlink(http->path);
  int socket_fd = MHD_quiesce_daemon(http->daemon);
  if (socket_fd >= 0)
    close(socket_fd);
}

void cg_http_stop(struct cg_http *http) {
  if (http == NULL || http->daemon == NULL)
    return;
  cg_http_drain(http);
  for (struct cg_http_request *request = http->requests; request != NULL; request = request->next)
    if (request->ticket != NULL)
      cg_http_request_refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "the program is stopping",
                             "closed");
  for (int i = 0; i < FLUSH_RUNS_MAX && http->requests != NULL; i++)
    MHD_run(http->daemon);
  uv_poll_stop(&http->poll);
  MHD_stop_daemon(http->daemon);
  http->daemon = NULL;
  uv_close((uv_handle_t *)&http->poll, on_closed);
  uv_close((uv_handle_t *)&http->timer, on_closed);
}

void cg_http_resumed(struct cg_http *http) {
  http->is_resuming = true;
  if (!http->is_running)
    uv_timer_start(&http->timer, on_timer, 0, 0);
}

/* A listening socket that only its owner may use. The mode is set before the name exists. */
static enum cg_code listen_on(const char *path, int *out, struct cg_err *err) {
  struct cg_http_socket_name name;
  enum cg_code code = cg_http_socket_name(&name, path, err);
  if (code != CG_OK)
    return code;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, name.text, strlen(name.text));
  unlink(path);
  if (fd < 0 || fchmod(fd, 0600) != 0 ||
      bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, BACKLOG) != 0) {
    code = cg_err_set(err, cg_err_from_errno(errno), "socket %s: %s", path, strerror(errno));
    if (fd >= 0)
      close(fd);
  }
  cg_http_socket_name_end(&name);
  *out = fd;
  return code;
}

static enum cg_code start_daemon(struct cg_http *http, int socket_fd, struct cg_err *err) {
  http->daemon = MHD_start_daemon(
      MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
      cg_http_request_access, http, MHD_OPTION_EXTERNAL_LOGGER, say_fault, http,
      MHD_OPTION_LISTEN_SOCKET, socket_fd, MHD_OPTION_NOTIFY_COMPLETED, cg_http_request_completed,
      http, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
      IDLE_SECONDS_MAX, MHD_OPTION_END);
  if (http->daemon == NULL)
    return cg_err_set(err, CG_EIO, "the HTTP server on %s does not start", http->path);
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  uv_loop_t *loop = http->runtime->loop;
  int status = info == NULL ? UV_EINVAL : uv_poll_init(loop, &http->poll, info->epoll_fd);
  if (status != 0) {
    MHD_stop_daemon(http->daemon);
    return cg_err_set(err, CG_EIO, "the HTTP server on %s: %s", http->path, uv_strerror(status));
  }
  http->poll.data = http;
  uv_poll_start(&http->poll, UV_READABLE, on_poll);
  uv_timer_init(loop, &http->timer);
  http->timer.data = http;
  http->open_handles = 2;
  return CG_OK;
}

/* Lets the daemon work, then the tasks of the requests it took, then sends what they answered at
 * once; last asks when it wants to go on. */
static void run(struct cg_http *http) {
  http->is_running = true;
  for (int i = 0; i < TURNS_MAX; i++) {
    http->is_resuming = false;
    MHD_run(http->daemon);
    cg_tasks_turn(http->runtime);
    if (!http->is_resuming)
      break;
  }
  http->is_running = false;
  MHD_UNSIGNED_LONG_LONG timeout_ms;
  if (http->is_resuming)
    uv_timer_start(&http->timer, on_timer, 0, 0);
  else if (MHD_get_timeout(http->daemon, &timeout_ms) == MHD_YES)
    uv_timer_start(&http->timer, on_timer, timeout_ms, 0);
  else
    uv_timer_stop(&http->timer);
}

static void on_poll(uv_poll_t *handle, int status, int events) {
  (void)status;
  (void)events;
  run(handle->data);
}

static void on_timer(uv_timer_t *handle) {
  run(handle->data);
}

static void on_closed(uv_handle_t *handle) {
  struct cg_http *http = handle->data;
  if (--http->open_handles > 0)
    return;
  cg_free(http->path);
  cg_free(http);
}

/* What MHD complains about is about one connection. */
static void say_fault(void *arg, const char *format, va_list args) {
  struct cg_http *http = arg;
  char text[256];
  vsnprintf(text, sizeof(text), format, args);
  cg_say(http->runtime->say, CG_SAY_DEBUG, "http: %s", text);
}
