/* fetch.h - HTTP requests on the loop: libcurl's multi interface driven by libuv.
 *
 * How to use: make a pool, which keeps connections for reuse; start a fetch; `on_change` tells when
 * something of it has changed: its head has come, there are bytes of the body, there is room for
 * more of the body that is sent, it is over. Redirects are not followed: the answer says where to.
 * What is not taken is not read: a body that nobody takes stops at PENDING_BYTES_MAX of fetch.c.
 * Owns: connections, transfers, their timers. Thread: the loop thread; libcurl resolves names on
 * threads of its own. */
#ifndef CG_RUNTIME_FETCH_H
#define CG_RUNTIME_FETCH_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_runtime;
struct cg_fetch_pool;

/* Bounds of a pool; 0: none. */
struct cg_fetch_limits {
  long connections_max;      /* Open at the same time; further transfers wait for one. */
  long host_connections_max; /* The same, of one host. */
  long idle_connections_max; /* Kept for reuse. */
};

/* What to do. All text is copied. */
struct cg_fetch_request {
  const char *method;         /* "GET". */
  const char *url;            /* http or https. */
  const char *unix_path;      /* Socket to connect to instead of the host of the url, or NULL. */
  const char *proxy;          /* Url of a proxy; "": none; NULL: as the environment says. */
  const char *ca_file;        /* Certificates to trust instead of the system's, or NULL. */
  const char *cert_file;      /* Own certificate and key (PEM), or NULL. */
  const char *key_file;       /* The key when it is not in cert_file, or NULL. */
  const char *const *headers; /* Lines "Name: value". */
  size_t header_count;        /* How many. */
  const void *body;           /* Body to be sent, or NULL. */
  size_t body_size;           /* Its bytes. */
  bool streams_body;          /* The body comes by cg_fetch_write. */
  int64_t stream_size;        /* Its bytes, or -1: not known. */
  int64_t connect_ms;         /* To be connected in; at least 1. */
  int64_t total_ms;           /* For everything; 0: no limit. */
  int64_t idle_ms;            /* Without a byte in either direction; 0: no limit. */
  size_t body_max;    /* Most bytes of the answer's body; 0: no bound, it waits to be taken. */
  bool is_unverified; /* Do not check who answers by TLS. */
};

/* How a fetch ended. */
enum cg_fetch_outcome {
  CG_FETCH_RUNNING,
  CG_FETCH_OK,
  CG_FETCH_TIMEOUT,   /* One of the three limits of time. */
  CG_FETCH_DNS,       /* The name of the host, or of the proxy, is not known. */
  CG_FETCH_REFUSED,   /* Nobody answers there. */
  CG_FETCH_TLS,       /* No trusted connection. */
  CG_FETCH_RESET,     /* The connection broke. */
  CG_FETCH_TOO_LARGE, /* The body is larger than body_max, or the head than its bound. */
  CG_FETCH_PROTOCOL,  /* What came is no proper HTTP. */
  CG_FETCH_INVALID,   /* The request cannot be made. */
  CG_FETCH_CANCELLED, /* By cg_fetch_abort, or the pool was freed. */
  CG_FETCH_FAILED,    /* Anything else. */
};

/* Tells that something has changed. Must not call back into this file. */
typedef void (*cg_fetch_fn)(void *arg);

/* One request and its answer. Read-only for others. */
struct cg_fetch {
  struct cg_fetch_pool *pool;        /* NULL once it was freed. */
  CURL *easy;                        /* NULL once it is over. */
  struct curl_slist *headers;        /* Of the request; libcurl reads them. */
  struct cg_buf *head;               /* Lines of the answer's head, as they came. */
  struct cg_buf *in;                 /* Bytes of its body that were not taken. */
  struct cg_buf *out;                /* Bytes of the request's body, from out_place on. */
  size_t out_place;                  /* What was sent of `out`. */
  size_t body_bytes;                 /* Of the answer's body, so far. */
  size_t body_max;                   /* As in the request. */
  cg_fetch_fn on_change;             /* Told of changes. */
  void *arg;                         /* Passed to it. */
  long status;                       /* Of the answer; 0 before has_head. */
  enum cg_fetch_outcome outcome;     /* How it ended. */
  char message[CURL_ERROR_SIZE + 1]; /* Why, when it failed; without secrets. */
  char *redirect;                    /* Absolute place that the answer sends to, or NULL. */
  uv_timer_t idle_timer;             /* Watches idle_ms. */
  int64_t idle_ms;                   /* As in the request. */
  int64_t total_ms;                  /* As in the request, for the message. */
  int64_t connect_ms;                /* The same. */
  uint64_t progress_ms;              /* Loop time of the last byte. */
  bool has_head;                     /* The final head is whole. */
  bool is_connected;                 /* The request was begun to be sent. */
  bool is_out_finished;              /* No more is written to `out`. */
  bool is_in_paused;                 /* libcurl was told to wait: `in` is full. */
  bool is_out_paused;                /* The same: `out` is empty. */
  bool is_freed;                     /* By its owner. */
  struct cg_fetch *next;             /* In the pool's list. */
  struct cg_fetch *previous;         /* The one before. */
};

/* Makes a pool. CG_ENOTFOUND: libcurl is missing. */
enum cg_code cg_fetch_pool_new(struct cg_fetch_pool **pool, struct cg_runtime *runtime,
                               const struct cg_fetch_limits *limits, struct cg_err *err);
/* Aborts what is under way and closes the connections. The fetches remain their owners'. */
void cg_fetch_pool_free(struct cg_fetch_pool *pool);
/* Transfers under way. */
uint32_t cg_fetch_pool_count(const struct cg_fetch_pool *pool);

/* Starts a request; counts as outside work until it is over. */
enum cg_code cg_fetch_start(struct cg_fetch **fetch, struct cg_fetch_pool *pool,
                            const struct cg_fetch_request *request, cg_fetch_fn on_change,
                            void *arg, struct cg_err *err);
/* Forgets the bytes of `in`, so that more may come. */
void cg_fetch_taken(struct cg_fetch *fetch);
/* Is there room for more of the body that is sent? */
bool cg_fetch_has_room(const struct cg_fetch *fetch);
/* Sends more of the body; then finish, once. Nothing when the fetch is over. */
void cg_fetch_write(struct cg_fetch *fetch, const void *bytes, size_t size);
void cg_fetch_finish(struct cg_fetch *fetch);
/* Ends it where it stands, without a call of on_change; harmless when it is over. */
void cg_fetch_abort(struct cg_fetch *fetch);
/* Aborts and lets go of it. */
void cg_fetch_free(struct cg_fetch *fetch);

#endif
