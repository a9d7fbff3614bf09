/* http_request.h - one request from its first header to its completion; inside the folder only.
 *
 * Owns: the body, the answer. Thread: the loop thread. */
#ifndef CG_HTTP_HTTP_REQUEST_H
#define CG_HTTP_HTTP_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>

#include "base/buf.h"
#include "http/http.h"

#define CG_HTTP_HEADER_BYTES_MAX 128 /* Name or value of the extra header of an answer. */

struct cg_http_request;

/* What the task's answer function holds. A Lua userdata: when it is collected before it answered,
 * the task is gone, and the request is answered with 500. */
struct cg_http_ticket {
  struct cg_http_request *request; /* NULL once answered, or given up. */
};

/* A request. */
struct cg_http_request {
  struct cg_http *http;                        /* The server. */
  struct MHD_Connection *connection;           /* Where it came in and the answer goes. */
  struct cg_buf *body;                         /* What came so far. */
  struct cg_http_ticket *ticket;               /* While a task works on it, else NULL. */
  struct cg_buf *answer;                       /* The answer's body; NULL until there is one. */
  unsigned status;                             /* Of the answer. */
  char content_type[64];                       /* Of the answer. */
  char header_name[CG_HTTP_HEADER_BYTES_MAX];  /* One more header, or "". */
  char header_value[CG_HTTP_HEADER_BYTES_MAX]; /* Its value. */
  bool is_suspended;                /* The connection sleeps until the answer is there. */
  struct cg_http_request *next;     /* In the server's list. */
  struct cg_http_request *previous; /* The same list. */
};

/* The server. */
struct cg_http {
  struct cg_runtime *runtime;       /* Runs the tasks. */
  char *path;                       /* Of the socket. */
  size_t body_bytes_max;            /* Of a request; more is answered with 413. */
  cg_ref handler;                   /* Lua function that handles a request. */
  struct MHD_Daemon *daemon;        /* NULL once stopped. */
  uv_poll_t poll;                   /* On the daemon's epoll descriptor. */
  uv_timer_t timer;                 /* What MHD_get_timeout asks for. */
  int open_handles;                 /* Until their close callbacks have run. */
  struct cg_http_request *requests; /* All that are not completed. */
  bool is_running;                  /* Inside run(): it turns again by itself. */
  bool is_resuming;                 /* A connection was resumed: the daemon must turn. */
  bool is_draining;                 /* The listening socket is closed. */
};

/* MHD's callbacks: access handler and completion. The first argument is the server. */
enum MHD_Result cg_http_request_access(void *arg, struct MHD_Connection *connection,
                                       const char *url, const char *method, const char *version,
                                       const char *upload, size_t *upload_size, void **state);
void cg_http_request_completed(void *arg, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code);
/* Has the daemon take up a connection that was resumed. */
void cg_http_resumed(struct cg_http *http);
/* Answers a request in place of its task, which is let go. */
void cg_http_request_refuse(struct cg_http_request *request, unsigned status, const char *title,
                            const char *code);

#endif
