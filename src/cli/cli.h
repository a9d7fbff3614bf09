/* cli.h - the `catga` command: one table of verbs, one file per group of them. Door of the folder.
 *
 * Exit codes: see enum cg_cli_exit. Results go to stdout, what is said about them to stderr.
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_H
#define CG_CLI_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit codes; a contract. */
enum cg_cli_exit {
  CG_CLI_FINE = 0,     /* Done. */
  CG_CLI_FAILED = 1,   /* The work could not be done; why is on stderr. */
  CG_CLI_USAGE = 2,    /* Wrong usage: unknown verb or option, missing argument. */
  CG_CLI_NOT_FOUND = 3 /* No such thing, or nothing to connect to. */
};

/* One verb of the command. */
struct cg_cli_verb {
  const char *name;    /* "run"; inside a group without the group's name. */
  const char *summary; /* One line for the list of verbs. */
  const char *usage;   /* What --help prints: usage, options, an example. */
  int (*run)(const struct cg_cli_verb *verb, int argc, char **argv); /* argv[0] is the name. */
};

/* Runs the command line; returns the exit code. */
int cg_cli_main(int argc, char **argv);

/* Runs the verb argv[0] names out of a table that ends with a NULL name; `group` is what stands
 * before it ("process") or NULL. */
int cg_cli_dispatch(const char *group, const struct cg_cli_verb *verbs, int argc, char **argv);

/* The same for a verb that is a group itself: argv[0] is its name, --help prints its usage. */
int cg_cli_group(const struct cg_cli_verb *group, const struct cg_cli_verb *verbs, int argc,
                 char **argv);

/* The next option (getopt_long without short options but -o and -h), or -1. An unknown option is
 * reported with a suggestion and gives '?'; --help prints the usage and gives 'h'. */
int cg_cli_option(const struct cg_cli_verb *verb, int argc, char **argv,
                  const struct option *options);
/* Exit code after cg_cli_option gave '?' or 'h'. */
int cg_cli_option_exit(int option);
/* Reports wrong usage of a verb (printf format); returns CG_CLI_USAGE. */
int cg_cli_wrong(const struct cg_cli_verb *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Reports a failure on stderr as "catga: ..."; returns CG_CLI_FAILED. */
int cg_cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The name most like a wrong one, or NULL when none is near; `names` ends with NULL. */
const char *cg_cli_suggest(const char *word, const char *const *names);

/* The verbs, each in a file of its group. */
int cg_cli_run(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_test(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_message(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_process(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_promise(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_stream(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_subscription(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_route(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_processor(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_schedule(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_outbox(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_dlq(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_handler(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_policy(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_projection(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_sql(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_log(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_personal(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_forget(const struct cg_cli_verb *verb, int argc, char **argv);

/* Usage texts of the verbs. */
extern const char cg_cli_run_usage[];
extern const char cg_cli_test_usage[];
extern const char cg_cli_send_usage[];
extern const char cg_cli_ask_usage[];
extern const char cg_cli_publish_usage[];
extern const char cg_cli_process_usage[];
extern const char cg_cli_promise_usage[];
extern const char cg_cli_stream_usage[];
extern const char cg_cli_subscription_usage[];
extern const char cg_cli_route_usage[];
extern const char cg_cli_processor_usage[];
extern const char cg_cli_schedule_usage[];
extern const char cg_cli_outbox_usage[];
extern const char cg_cli_dlq_usage[];
extern const char cg_cli_handler_usage[];
extern const char cg_cli_policy_usage[];
extern const char cg_cli_projection_usage[];
extern const char cg_cli_sql_usage[];
extern const char cg_cli_log_usage[];
extern const char cg_cli_personal_usage[];
extern const char cg_cli_forget_usage[];

#endif
