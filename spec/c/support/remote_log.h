/* remote_log.h - a kind of log whose commits lie on a server far away, for tests: what a kind on
 * Redis or JetStream has to do to keep the contract of log.h over a bad network.
 *
 * How to use: remote_log_open on a remote_server.h takes the log over and reads it; options.manual
 * must be set. In cg_log_turn the log receives, sends, waits out and connects again; turn the
 * virtual clock between turns. Closing turns the clock itself until all is stored, or gives up.
 * Owns: what is pending, a copy of the log in memory to read from. Not the server. Thread: one. */
#ifndef SPEC_REMOTE_LOG_H
#define SPEC_REMOTE_LOG_H

#include "log/log.h"
#include "support/remote_server.h"

#define REMOTE_IN_FLIGHT_MAX 8 /* Appends on their way at once. */
#define REMOTE_ANSWER_MS 50    /* Without an answer for so long the connection is given up. */
#define REMOTE_CONNECT_MS 5    /* To connect again. */
#define REMOTE_CLOSE_MS 60000  /* Close gives up then. */

/* Takes over the log on the server, as cg_log_open_file opens one; keeps the server. */
enum cg_code remote_log_open(struct cg_log **log, struct remote_server *server,
                             const struct cg_log_options *options, struct cg_err *err);

#endif
