/* http.h - the HTTP API on a Unix socket. Door of the folder.
 *
 * libmicrohttpd parses and limits; it runs on the libuv loop without a thread of its own. Each
 * request is handled by a Lua task (catga.http) while its connection is suspended.
 *
 * How to use: cg_http_start once the data directory is held, cg_http_stop before the runtime stops.
 * Owns: the socket and its file, the daemon, open requests. Thread: the loop thread. */
#ifndef CG_HTTP_HTTP_H
#define CG_HTTP_HTTP_H

#include <stddef.h>

#include "base/err.h"
#include "runtime/runtime.h"

struct cg_http;

/* What a server needs. */
struct cg_http_options {
  struct cg_runtime *runtime; /* Must outlive the server. */
  const char *path;           /* Of the socket; a file of that name is removed first, so the caller
                                 must hold the directory. Copied. */
  size_t body_bytes_max;      /* A larger body is refused with 413. */
  cg_ref handler;             /* Lua function(method, path, query, headers, body, answer); kept by
                                 the caller until the server has stopped. */
};

/* Binds the socket (mode 0600) and serves. Errors: CG_EINVAL the path is too long for a socket,
 * CG_EIO, CG_EPERM. */
enum cg_code cg_http_start(struct cg_http **http, const struct cg_http_options *options,
                           struct cg_err *err);
/* Takes no more connections and removes the socket's file; requests that are under way are answered
 * as long as the loop turns. NULL is fine. */
void cg_http_drain(struct cg_http *http);
/* Answers what is still open with 503 and closes everything; memory is freed once the loop has
 * turned. NULL is fine. */
void cg_http_stop(struct cg_http *http);

#endif
