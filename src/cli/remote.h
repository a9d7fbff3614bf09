/* remote.h - what the verbs that talk to a running instance share.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_REMOTE_H
#define CG_CLI_REMOTE_H

#include "cli/cli.h"
#include "cli/client.h"

/* Options that these verbs have in common. */
struct cg_remote_options {
  const char *data; /* Data directory of the instance. */
  bool as_json;     /* -o json. */
};

/* The defaults: the data directory is $CATGA_DATA, else .catga. */
void cg_remote_init(struct cg_remote_options *options);
/* Takes an option that was found: 'd' (--data) or 'o' (-o json). False, after a complaint, when it
 * is neither or its value is wrong. */
bool cg_remote_option(const struct cg_cli_verb *verb, struct cg_remote_options *options,
                      int option);
/* Reads a command line that has the common options only. -1: go on; else the exit code. */
int cg_remote_parse(const struct cg_cli_verb *verb, int argc, char **argv,
                    struct cg_remote_options *options);
/* Is it the name of anything? False, after a complaint, when it is empty. */
bool cg_remote_name(const struct cg_cli_verb *verb, const char *name);
/* Opens the client, or complains and returns the exit code in *code. */
struct cg_client *cg_remote_open(const struct cg_remote_options *options, int *code);
/* Calls; a failure or an error document is reported. CG_CLI_FINE: *answer is the document. */
int cg_remote_call(struct cg_client *client, const struct cg_client_request *request,
                   const struct cg_buf **answer);
/* Path of a request: `path`, and `name` (NULL: none) encoded behind it. Not zero-terminated;
 * release it by cg_buf_unref. */
struct cg_buf *cg_remote_target(const char *path, const char *name);
/* Adds name=value to the query of a path; a value that is NULL adds nothing. */
void cg_remote_query(struct cg_buf *target, const char *name, const char *value);
/* Opens a client in *client, calls `method` on the target, which is released, with `data` (may be
 * NULL) as the body. CG_CLI_FINE: *answer is the document. The client is closed by the caller, also
 * after a failure; NULL is fine. */
int cg_remote_send(const struct cg_remote_options *options, const char *method,
                   struct cg_buf *target, const struct cg_buf *data, struct cg_client **client,
                   const struct cg_buf **answer);
/* The text of an argument: itself, or, when it is "-", what stdin gives. Release it by
 * cg_buf_unref. NULL, after a complaint, when stdin is too large. */
struct cg_buf *cg_remote_data(const char *argument);
/* Is it JSON? Complains when not: inside of a larger document its place could not be named. */
bool cg_remote_is_json(const struct cg_buf *data);

#endif
