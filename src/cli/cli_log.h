/* cli_log.h - what the verbs of `catga log` share.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_LOG_H
#define CG_CLI_CLI_LOG_H

#include <limits.h>

#include "base/err.h"
#include "cli/remote.h"

/* Finds the log of a data directory: writes its path into `path`. False, after a complaint, when
 * there is none. */
bool cg_cli_log_find(const char *data, char path[PATH_MAX]);
/* Reports a failure of a tool; returns the exit code: CG_CLI_NOT_FOUND for CG_ENOTFOUND. */
int cg_cli_log_fail(const struct cg_err *err);
/* The verbs, each in a file of its own. */
int cg_cli_log_repair(const struct cg_cli_verb *verb, int argc, char **argv);

/* Usage texts of the verbs. */
extern const char cg_cli_log_repair_usage[];

#endif
