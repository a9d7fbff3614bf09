/* client.h - talks to a running instance: HTTP over the Unix socket in its data directory.
 *
 * libcurl is opened when the first verb needs it, so that the program starts without it.
 * How to use: cg_client_open, cg_client_call as often as wanted, cg_client_close.
 * Owns: the connection, the answer. Thread: one. */
#ifndef CG_CLI_CLIENT_H
#define CG_CLI_CLIENT_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_client;

/* One request. */
struct cg_client_request {
  const char *method; /* "GET", "POST", "PUT" or "DELETE". */
  const char *target; /* Path and query, encoded: see cg_client_escape. */
  const char *body;   /* Of a POST or PUT; may be NULL. */
  size_t body_size;   /* Bytes of it. */
  const char *key;    /* Idempotency-Key, or NULL. */
};

/* Prepares to talk to the instance whose data directory is `data`. Errors: CG_ENOTFOUND nothing
 * runs there, or libcurl is missing. */
enum cg_code cg_client_open(struct cg_client **client, const char *data, struct cg_err *err);
/* NULL is fine. */
void cg_client_close(struct cg_client *client);

/* Asks and waits for the answer, however long that takes. *status gets the HTTP status, *answer the
 * body, zero-terminated, valid until the next call. Errors: CG_ENOTFOUND cannot connect, CG_EIO the
 * connection broke. */
enum cg_code cg_client_call(struct cg_client *client, const struct cg_client_request *request,
                            long *status, const struct cg_buf **answer, struct cg_err *err);

/* The header Catga-Next of the last answer, where the next page begins; "" when it had none. Valid
 * until the next call. */
const char *cg_client_next(const struct cg_client *client);

/* Appends `text` to `target`, percent-encoded. */
void cg_client_escape(struct cg_buf *target, const char *text);

#endif
