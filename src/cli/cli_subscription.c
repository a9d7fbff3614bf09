/* cli_subscription.c - `catga subscription list|show|pause|resume|reset|parked|replay|drop`, in a
 * running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/document.h"
#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define DATA "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define COMMON "  -o json      one document a line\n" DATA
#define ANSWERS                                                                                    \
  "Exit code: 0 done, 1 refused, 3 there is no such subscription, or nothing runs there.\n"

static const char list_usage[] =
    "Usage: catga subscription list [-o json] [--data D]\n"
    "Lists the subscriptions with a name: how far they are, and what they have parked.\n" COMMON
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga subscription list\n";

static const char show_usage[] =
    "Usage: catga subscription show NAME [-o json] [--data D]\n"
    "Shows one subscription.\n" COMMON ANSWERS "Example: catga subscription show mailer\n";

static const char pause_usage[] =
    "Usage: catga subscription pause NAME [--data D]\n"
    "Stops its deliveries until it is resumed, also over a restart; what runs may end.\n" DATA
        ANSWERS "Example: catga subscription pause mailer\n";

static const char resume_usage[] =
    "Usage: catga subscription resume NAME [--data D]\n"
    "Goes on after a pause, or after a failure that has stopped it.\n" DATA ANSWERS
    "Example: catga subscription resume mailer\n";

static const char reset_usage[] =
    "Usage: catga subscription reset NAME POSITION|start|end [--data D]\n"
    "Begins again behind a position of the log: what was handled after it is handled again.\n"
    "Parked events stay parked.\n" DATA ANSWERS "Example: catga subscription reset mailer start\n";

static const char parked_usage[] =
    "Usage: catga subscription parked NAME [--after POSITION] [--max N] [-o json] [--data D]\n"
    "Lists the events that have failed in the end, in order of their positions.\n"
    "  --after P    those behind that position\n"
    "  --max N      at most so many, up to 10000 (default 100)\n" COMMON ANSWERS
    "Example: catga subscription parked mailer\n";

static const char replay_usage[] =
    "Usage: catga subscription replay NAME POSITION|all [-o json] [--data D]\n"
    "Delivers a parked event, or all of them, again.\n" COMMON ANSWERS
    "Example: catga subscription replay mailer all\n";

static const char drop_usage[] =
    "Usage: catga subscription drop NAME POSITION|all [-o json] [--data D]\n"
    "Forgets a parked event, or all of them: they will not be handled.\n" COMMON ANSWERS
    "Example: catga subscription drop mailer 1042\n";

const char cg_cli_subscription_usage[] = "Usage: catga subscription VERB ... (--help after each)\n"
                                         "Example: catga subscription list\n";

static const struct cg_print_column LIST_COLUMNS[] = {
    {"NAME", "name", false},  {"STATUS", "status", false}, {"POSITION", "position", false},
    {"LAG", "lag", false},    {"RATE", "rate", false},     {"PARKED", "parked", false},
    {"ERROR", "error", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {{"name", "name", false},
                                                      {"status", "status", false},
                                                      {"position", "position", false},
                                                      {"lag", "lag", false},
                                                      {"events a second", "rate", false},
                                                      {"handled", "handled", false},
                                                      {"in flight", "in_flight", false},
                                                      {"parked", "parked", false},
                                                      {"error", "error", false},
                                                      {"last error", "last_error", false}};
static const struct cg_print_column PARKED_COLUMNS[] = {
    {"POSITION", "position", false}, {"STREAM", "stream", false}, {"VERSION", "version", false},
    {"TYPE", "type", false},         {"PARKED", "time", true},    {"ATTEMPTS", "attempts", false},
    {"REASON", "reason", false},     {"ERROR", "error", false}};
static const struct cg_print_column COUNT_COLUMNS[] = {{"events", "count", false}};

/* How an answer is printed. */
struct view {
  const struct cg_print_column *columns; /* NULL: nothing is printed. */
  size_t count;                          /* Of columns. */
  bool is_list;                          /* A table, else a document. */
};

/* Calls the target, which is released, and prints the answer. */
static int call(const struct cg_remote_options *remote, const char *method, struct cg_buf *target,
                const struct cg_buf *data, const struct view *view) {
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(remote, method, target, data, &client, &answer);
  if (code == CG_CLI_FINE && view->is_list)
    cg_print_list(answer, view->columns, view->count,
                  remote->as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  else if (code == CG_CLI_FINE && view->columns != NULL)
    cg_print_document(answer, view->columns, view->count, remote->as_json);
  cg_client_close(client);
  return code;
}

/* Reads the common options and `count` arguments, of which the first is a name. -1: go on. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, int count,
                 struct cg_remote_options *remote) {
  int code = cg_remote_parse(verb, argc, argv, remote);
  if (code >= 0)
    return code;
  if (argc - optind != count) {
    if (count == 0)
      return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
    return cg_cli_wrong(verb, count == 1 ? "name one subscription"
                                         : "give the name of a subscription and a position");
  }
  return count == 0 || cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Path of a subscription, or of what is asked of it. */
static struct cg_buf *target_of(const char *name, const char *action) {
  struct cg_buf *target = cg_remote_target("/subscriptions/", name);
  if (action != NULL) {
    cg_buf_append(target, "/", 1);
    cg_buf_append(target, action, strlen(action));
  }
  return target;
}

static int subscription_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {LIST_COLUMNS, COUNT_OF(LIST_COLUMNS), true};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 0, &remote);
  if (code >= 0)
    return code;
  return call(&remote, "GET", cg_remote_target("/subscriptions", NULL), NULL, &view);
}

static int subscription_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), false};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 1, &remote);
  if (code >= 0)
    return code;
  return call(&remote, "GET", target_of(argv[optind], NULL), NULL, &view);
}

/* pause and resume. */
static int subscription_switch(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {NULL, 0, false};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 1, &remote);
  if (code >= 0)
    return code;
  return call(&remote, "POST", target_of(argv[optind], verb->name), NULL, &view);
}

/* Is the text a position, or one of the words, which end with NULL? */
static bool is_place(const char *text, const char *const *words) {
  for (; *words != NULL; words++)
    if (strcmp(text, *words) == 0)
      return true;
  return *text != '\0' && strlen(text) < 16 && strspn(text, "0123456789") == strlen(text);
}

/* Sends {"position": place} to what the verb is called. */
static int act_on(const struct cg_cli_verb *verb, const struct cg_remote_options *remote,
                  const char *name, const char *place, const struct view *view) {
  struct cg_buf *data = cg_buf_take(NULL, 64);
  cg_document_begin(data);
  if (*place >= '0' && *place <= '9')
    cg_document_number(data, "position", strtod(place, NULL));
  else
    cg_document_text(data, "position", place, strlen(place));
  cg_document_end(data);
  int code = call(remote, "POST", target_of(name, verb->name), data, view);
  cg_buf_unref(data);
  return code;
}

static int subscription_reset(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {NULL, 0, false};
  static const char *const words[] = {"start", "end", NULL};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 2, &remote);
  if (code >= 0)
    return code;
  if (!is_place(argv[optind + 1], words))
    return cg_cli_wrong(verb, "a position is a number, start or end, not %s", argv[optind + 1]);
  return act_on(verb, &remote, argv[optind], argv[optind + 1], &view);
}

/* replay and drop. */
static int subscription_unpark(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {COUNT_COLUMNS, COUNT_OF(COUNT_COLUMNS), false};
  static const char *const words[] = {"all", NULL};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 2, &remote);
  if (code >= 0)
    return code;
  if (!is_place(argv[optind + 1], words))
    return cg_cli_wrong(verb, "a position is a number, or all, not %s", argv[optind + 1]);
  return act_on(verb, &remote, argv[optind], argv[optind + 1], &view);
}

static int subscription_parked(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {PARKED_COLUMNS, COUNT_OF(PARKED_COLUMNS), true};
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"after", required_argument, NULL, 'a'},
                                          {"max", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  const char *after = NULL, *max = NULL;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'a')
      after = optarg;
    else if (option == 'm')
      max = optarg;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "name one subscription");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_buf *target = target_of(argv[optind], "parked");
  cg_remote_query(target, "after", after);
  cg_remote_query(target, "max", max);
  return call(&remote, "GET", target, NULL, &view);
}

int cg_cli_subscription(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list subscriptions", list_usage, subscription_list},
      {"show", "show one subscription", show_usage, subscription_show},
      {"pause", "stop its deliveries for a while", pause_usage, subscription_switch},
      {"resume", "go on after a pause or a failure", resume_usage, subscription_switch},
      {"reset", "begin again behind a position", reset_usage, subscription_reset},
      {"parked", "list events that have failed", parked_usage, subscription_parked},
      {"replay", "deliver parked events again", replay_usage, subscription_unpark},
      {"drop", "forget parked events", drop_usage, subscription_unpark},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
