/* cli_projection.c - `catga projection list|show|skipped|pause|resume|stop|start|rebuild`, in a
 * running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/document.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define POLL_NS 100000000L /* Between two looks at a rebuild. */
#define WORD_BYTES 64      /* Of a status. */
#define TEXT_BYTES 1024    /* Of an error. */
#define DATA "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define COMMON "  -o json      one document a line\n" DATA
#define ANSWERS                                                                                    \
  "Exit code: 0 done, 1 refused, 3 there is no such projection, or nothing runs there.\n"

static const char list_usage[] =
    "Usage: catga projection list [-o json] [--data D]\n"
    "Lists the projections: how far they are behind the log, in events and in time, how fast they\n"
    "go, what is being built.\n" COMMON "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga projection list\n";

static const char show_usage[] =
    "Usage: catga projection show NAME [-o json] [--data D]\n"
    "Shows one projection.\n" COMMON ANSWERS "Example: catga projection show OrderSummary\n";

static const char skipped_usage[] =
    "Usage: catga projection skipped NAME [--max N] [-o json] [--data D]\n"
    "Lists the events that it has passed over because its handler failed, the newest first.\n"
    "  --max N      at most so many, up to 10000 (default 100)\n" COMMON ANSWERS
    "Example: catga projection skipped OrderSummary\n";

static const char pause_usage[] =
    "Usage: catga projection pause NAME [--note TEXT] [-o json] [--data D]\n"
    "Handles no more events until it is resumed, also over a restart; it can still be read.\n"
    "  --note TEXT  why\n" COMMON ANSWERS
    "Example: catga projection pause OrderSummary --note repair\n";

static const char resume_usage[] =
    "Usage: catga projection resume NAME [-o json] [--data D]\n"
    "Goes on after a pause.\n" COMMON ANSWERS "Example: catga projection resume OrderSummary\n";

static const char stop_usage[] =
    "Usage: catga projection stop NAME [-o json] [--data D]\n"
    "Handles no more events until it is started, or the program is.\n" COMMON ANSWERS
    "Example: catga projection stop OrderSummary\n";

static const char start_usage[] =
    "Usage: catga projection start NAME [-o json] [--data D]\n"
    "Starts one that was stopped, or has stopped at an event that it could not handle.\n" COMMON
        ANSWERS "Example: catga projection start OrderSummary\n";

static const char rebuild_usage[] =
    "Usage: catga projection rebuild NAME [--wait] [-o json] [--data D]\n"
    "Builds it anew out of the log, beside the one that can be read; they are swapped when the "
    "new\n"
    "one has caught up.\n"
    "  --wait       return when it has, and show how far it is\n" COMMON ANSWERS
    "Example: catga projection rebuild OrderSummary --wait\n";

const char cg_cli_projection_usage[] = "Usage: catga projection VERB ... (--help after each)\n"
                                       "Example: catga projection list\n";

static const struct cg_print_column LIST_COLUMNS[] = {{"NAME", "name", false},
                                                      {"VERSION", "version", false},
                                                      {"STATUS", "status", false},
                                                      {"LIFECYCLE", "lifecycle", false},
                                                      {"LAG", "lag", false},
                                                      {"LAG MS", "lag_ms", false},
                                                      {"RATE", "rate", false},
                                                      {"SKIPPED", "skipped", false},
                                                      {"BUILDING", "building.progress", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {
    {"name", "name", false},
    {"version", "version", false},
    {"lifecycle", "lifecycle", false},
    {"status", "status", false},
    {"paused at", "paused_at", true},
    {"note", "note", false},
    {"position", "position", false},
    {"log position", "log_position", false},
    {"lag", "lag", false},
    {"lag ms", "lag_ms", false},
    {"events a second", "rate", false},
    {"skipped", "skipped", false},
    {"error", "error.message", false},
    {"error at", "error.position", false},
    {"error type", "error.type", false},
    {"building version", "building.version", false},
    {"building at", "building.position", false},
    {"building status", "building.status", false},
    {"building error", "building.error.message", false}};
static const struct cg_print_column SKIPPED_COLUMNS[] = {
    {"NUMBER", "number", false}, {"POSITION", "position", false}, {"TYPE", "type", false},
    {"STREAM", "stream", false}, {"CODE", "code", false},         {"MESSAGE", "message", false}};

/* Options of all these verbs; those that were not given are NULL. */
struct given {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *note;                /* --note. */
  const char *max;                 /* --max. */
  bool waits;                      /* --wait. */
};

/* Reads options and `count` arguments, none or a name. -1: go on. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv,
                 const struct option *options, int count, struct given *given) {
  *given = (struct given){.note = NULL};
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'n')
      given->note = optarg;
    else if (option == 'm')
      given->max = optarg;
    else if (option == 'w')
      given->waits = true;
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != count)
    return cg_cli_wrong(verb, count == 0 ? "it takes no argument" : "name one projection");
  return count == 0 || cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Path of a projection, or of what is asked of it. */
static struct cg_buf *target_of(const char *name, const char *action) {
  struct cg_buf *target = cg_remote_target("/projections/", name);
  if (action != NULL) {
    cg_buf_append(target, "/", 1);
    cg_buf_append(target, action, strlen(action));
  }
  return target;
}

static int projection_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 0, &given);
  if (code >= 0)
    return code;
  struct cg_client *client;
  const struct cg_buf *answer;
  code = cg_remote_send(&given.remote, "GET", cg_remote_target("/projections", NULL), NULL, &client,
                        &answer);
  if (code == CG_CLI_FINE)
    cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS),
                  given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_client_close(client);
  return code;
}

static int projection_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 1, &given);
  if (code >= 0)
    return code;
  struct cg_client *client;
  const struct cg_buf *answer;
  code =
      cg_remote_send(&given.remote, "GET", target_of(argv[optind], NULL), NULL, &client, &answer);
  if (code == CG_CLI_FINE)
    cg_print_document(answer, SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), given.remote.as_json);
  cg_client_close(client);
  return code;
}

static int projection_skipped(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"max", required_argument, NULL, 'm'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 1, &given);
  if (code >= 0)
    return code;
  struct cg_buf *target = target_of(argv[optind], "skipped");
  cg_remote_query(target, "max", given.max);
  struct cg_client *client;
  const struct cg_buf *answer;
  code = cg_remote_send(&given.remote, "GET", target, NULL, &client, &answer);
  if (code == CG_CLI_FINE)
    cg_print_list(answer, SKIPPED_COLUMNS, COUNT_OF(SKIPPED_COLUMNS),
                  given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_client_close(client);
  return code;
}

/* Posts what is to be done and prints what came of it. */
static int act(const struct given *given, const char *name, const char *action) {
  struct cg_buf *data = cg_buf_take(NULL, 64);
  cg_document_begin(data);
  if (given->note != NULL)
    cg_document_text(data, "note", given->note, strlen(given->note));
  cg_document_end(data);
  struct cg_client *client;
  const struct cg_buf *answer;
  int code =
      cg_remote_send(&given->remote, "POST", target_of(name, action), data, &client, &answer);
  if (code == CG_CLI_FINE && !given->waits)
    cg_print_document(answer, SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), given->remote.as_json);
  cg_client_close(client);
  cg_buf_unref(data);
  return code;
}

/* pause, resume, stop and start. */
static int projection_act(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option note_options[] = {{"note", required_argument, NULL, 'n'},
                                               {"data", required_argument, NULL, 'd'},
                                               {"help", no_argument, NULL, 'h'},
                                               {NULL, 0, NULL, 0}};
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  bool is_pause = strcmp(verb->name, "pause") == 0;
  struct given given;
  int code = parse(verb, argc, argv, is_pause ? note_options : options, 1, &given);
  return code >= 0 ? code : act(&given, argv[optind], verb->name);
}

/* Looks at a rebuild until it is over. Sets *code when it is. */
static bool look(const struct cg_buf *answer, struct cg_progress *progress, int *code) {
  char status[WORD_BYTES], message[TEXT_BYTES];
  cg_print_field(answer, "building", status, sizeof(status));
  *code = CG_CLI_FINE;
  if (status[0] == 0)
    return true;
  cg_print_field(answer, "building.status", status, sizeof(status));
  cg_progress_part(progress, cg_print_count(answer, "building.position"),
                   cg_print_count(answer, "log_position"));
  if (strcmp(status, "running") == 0)
    return false;
  cg_progress_end(progress);
  cg_print_field(answer, "building.error.message", message, sizeof(message));
  *code = cg_cli_fail("the rebuild has stopped (%s): %s", status, message);
  return true;
}

static int wait_for_build(const struct given *given, const char *name) {
  struct cg_progress progress;
  cg_progress_init(&progress, "rebuild");
  int code;
  for (bool is_over = false; !is_over;) {
    const struct timespec pause = {.tv_nsec = POLL_NS};
    struct cg_client *client;
    const struct cg_buf *answer;
    code = cg_remote_send(&given->remote, "GET", target_of(name, NULL), NULL, &client, &answer);
    is_over = code != CG_CLI_FINE || look(answer, &progress, &code);
    if (is_over && code == CG_CLI_FINE) {
      cg_progress_end(&progress);
      cg_print_document(answer, SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), given->remote.as_json);
    }
    cg_client_close(client);
    if (!is_over)
      nanosleep(&pause, NULL);
  }
  cg_progress_end(&progress);
  return code;
}

static int projection_rebuild(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"wait", no_argument, NULL, 'w'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 1, &given);
  if (code >= 0)
    return code;
  code = act(&given, argv[optind], "rebuild");
  return code == CG_CLI_FINE && given.waits ? wait_for_build(&given, argv[optind]) : code;
}

int cg_cli_projection(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list the projections", list_usage, projection_list},
      {"show", "show one projection", show_usage, projection_show},
      {"skipped", "list the events it has passed over", skipped_usage, projection_skipped},
      {"pause", "handle no more events for now", pause_usage, projection_act},
      {"resume", "go on after a pause", resume_usage, projection_act},
      {"stop", "handle no more events until the next start", stop_usage, projection_act},
      {"start", "start one that has stopped", start_usage, projection_act},
      {"rebuild", "build it anew beside itself, then swap", rebuild_usage, projection_rebuild},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
