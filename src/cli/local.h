/* local.h - a data directory that nobody has open, or scripts that nobody runs, opened in this
 * process: it answers the requests that a running instance would, without running its scripts.
 *
 * How to use: cg_local_open, cg_local_call as often as wanted, cg_local_close.
 * Owns: a runtime with its loop, the store. Thread: one. */
#ifndef CG_CLI_LOCAL_H
#define CG_CLI_LOCAL_H

#include "base/buf.h"
#include "base/err.h"
#include "cli/client.h"

struct cg_local;

/* Opens the data directory. Errors: those of the store; CG_EBUSY a program has it open. */
enum cg_code cg_local_open(struct cg_local **local, const char *data, struct cg_err *err);
/* Loads the scripts of a directory, without data; nothing of them runs. Errors: what is wrong with
 * them. */
enum cg_code cg_local_open_scripts(struct cg_local **local, const char *dir, struct cg_err *err);
/* Writes what is pending and frees it. NULL is fine. The error of the store. */
enum cg_code cg_local_close(struct cg_local *local, struct cg_err *err);
/* As cg_client_call; `key` of the request is not used. */
enum cg_code cg_local_call(struct cg_local *local, const struct cg_client_request *request,
                           long *status, const struct cg_buf **answer, struct cg_err *err);
/* As cg_client_next. */
const char *cg_local_next(const struct cg_local *local);

#endif
