/* cli_process.h - what the verbs of processes share: the verbs themselves, one table in
 * cli_process.c.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_PROCESS_H
#define CG_CLI_PROCESS_H

#include "cli/cli.h"
#include "cli/remote.h"

/* Verbs of cli_process_control.c; the usage of each is beside it. */
extern const char cg_cli_process_history_usage[], cg_cli_process_signal_usage[],
    cg_cli_process_approve_usage[], cg_cli_process_reject_usage[], cg_cli_process_approvals_usage[],
    cg_cli_process_cancel_usage[], cg_cli_process_kill_usage[], cg_cli_process_pause_usage[],
    cg_cli_process_resume_usage[], cg_cli_process_retry_usage[], cg_cli_process_skip_usage[];
/* catga process history ID */
int cg_cli_process_history(const struct cg_cli_verb *verb, int argc, char **argv);
/* catga process signal ID NAME [JSON] */
int cg_cli_process_signal(const struct cg_cli_verb *verb, int argc, char **argv);
/* catga process approve|reject ID NAME ... */
int cg_cli_process_answer(const struct cg_cli_verb *verb, int argc, char **argv);
/* catga process approvals */
int cg_cli_process_approvals(const struct cg_cli_verb *verb, int argc, char **argv);
/* catga process cancel|kill|pause|resume|retry ID */
int cg_cli_process_control(const struct cg_cli_verb *verb, int argc, char **argv);
/* catga process skip ID OP [JSON] */
int cg_cli_process_skip(const struct cg_cli_verb *verb, int argc, char **argv);

/* Verbs of cli_process_query.c. */
int cg_cli_process_query(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_process_update(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_process_replay(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_process_fork(const struct cg_cli_verb *verb, int argc, char **argv);
/* `show ID --locals`: prints where the process stands; returns the exit code. */
int cg_cli_process_locals(const struct cg_remote_options *remote, const char *id);

/* Their usage texts. */
extern const char cg_cli_process_query_usage[];
extern const char cg_cli_process_update_usage[];
extern const char cg_cli_process_replay_usage[];
extern const char cg_cli_process_fork_usage[];

#endif
