/* cli_log.h - what the verbs of `catga log` share.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_LOG_H
#define CG_CLI_CLI_LOG_H

#include <limits.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/remote.h"

/* Finds the log of a data directory: writes its path into `path`. False, after a complaint, when
 * there is none. */
bool cg_cli_log_find(const char *data, char path[PATH_MAX]);
/* Reports a failure of a tool; returns the exit code: CG_CLI_NOT_FOUND for CG_ENOTFOUND. */
int cg_cli_log_fail(const struct cg_err *err);

/* What a running program says of its log. */
struct cg_cli_log_state {
  bool is_running;         /* One runs on the data directory; else the rest is 0. */
  uint64_t until_position; /* All below is durable and can be read from the files. */
  uint64_t commit_count;   /* Commits of its run. */
  uint64_t sync_count;     /* Syncs of its run. */
};

/* Checks the closed log in `path`, showing progress, and complains of what is wrong; returns the
 * exit code. */
int cg_cli_log_check(const char *path);

/* Asks the program that runs on the data directory, if there is one. -1: go on; else the exit
 * code, after a complaint. */
int cg_cli_log_ask(const char *data, struct cg_cli_log_state *state);

/* The verbs, each in a file of its own. */
int cg_cli_log_repair(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_log_stats(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_log_backup(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_log_restore(const struct cg_cli_verb *verb, int argc, char **argv);

/* Usage texts of the verbs. */
extern const char cg_cli_log_repair_usage[];
extern const char cg_cli_log_stats_usage[];
extern const char cg_cli_log_backup_usage[];
extern const char cg_cli_log_restore_usage[];

#endif
