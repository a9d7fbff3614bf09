/* cli_outbox.c - `catga outbox list|show|status|inbox|cancel|retry`, in a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <string.h>

#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define DATA "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define COMMON "  -o json      one document a line\n" DATA
#define ANSWERS "Exit code: 0 done, 1 refused, 3 there is no such message, or nothing runs there.\n"

static const char list_usage[] =
    "Usage: catga outbox list [--name N] [--group G] [--after ID] [--max N] [-o json] [--data D]\n"
    "Lists the messages that wait, the oldest first; the age is in milliseconds.\n"
    "  --name N     of this command\n"
    "  --group G    of this group\n"
    "  --after ID   behind that message\n"
    "  --max N      at most so many, up to 10000 (default 100)\n" COMMON
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga outbox list --group mail\n";

static const char show_usage[] =
    "Usage: catga outbox show ID [-o json] [--data D]\n"
    "Shows one message, also one that was handled not long ago.\n" COMMON ANSWERS
    "Example: catga outbox show 7283746192837\n";

static const char status_usage[] =
    "Usage: catga outbox status [-o json] [--data D]\n"
    "Tells how many messages wait, and for how many milliseconds the oldest of those that are due\n"
    "has waited.\n" COMMON "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga outbox status -o json\n";

static const char inbox_usage[] =
    "Usage: catga outbox inbox [-o json] [--data D]\n"
    "Tells how many keys of messages are known, and since when the oldest.\n" COMMON
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga outbox inbox\n";

static const char cancel_usage[] =
    "Usage: catga outbox cancel ID [--data D]\n"
    "Cancels a message that waits: it will not be handled.\n" DATA ANSWERS
    "Example: catga outbox cancel 7283746192837\n";

static const char retry_usage[] =
    "Usage: catga outbox retry ID [--data D]\n"
    "Makes a message due now that was delayed, or waits for its next attempt.\n" DATA ANSWERS
    "Example: catga outbox retry 7283746192837\n";

const char cg_cli_outbox_usage[] = "Usage: catga outbox VERB ... (--help after each)\n"
                                   "Example: catga outbox list\n";

static const struct cg_print_column LIST_COLUMNS[] = {
    {"ID", "id", false},          {"NAME", "name", false},
    {"STATUS", "status", false},  {"GROUP", "group", false},
    {"AGE", "age", false},        {"DUE", "due", true},
    {"TRIED", "attempts", false}, {"REASON", "reason.message", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {{"id", "id", false},
                                                      {"kind", "kind", false},
                                                      {"name", "name", false},
                                                      {"status", "status", false},
                                                      {"key", "key", false},
                                                      {"group", "group", false},
                                                      {"priority", "priority", false},
                                                      {"enqueued", "enqueued", true},
                                                      {"due", "due", true},
                                                      {"expires", "expires", true},
                                                      {"ended", "ended", true},
                                                      {"attempts", "attempts", false},
                                                      {"attempts at most", "attempts_max", false},
                                                      {"reason", "reason", false},
                                                      {"dead letter", "letter", false},
                                                      {"data", "data", false},
                                                      {"value", "value", false}};
static const struct cg_print_column STATUS_COLUMNS[] = {
    {"waiting", "waiting", false},  {"due", "due", false},
    {"delayed", "delayed", false},  {"being handled", "working", false},
    {"handled", "handled", false},  {"failed attempts", "failed", false},
    {"oldest due", "oldest", true}, {"its age in ms", "oldest_age", false}};
static const struct cg_print_column INBOX_COLUMNS[] = {{"keys", "count", false},
                                                       {"not handled yet", "waiting", false},
                                                       {"oldest", "oldest", true},
                                                       {"window in ms", "window", false}};

/* Calls the target, which is released, and prints the answer with `count` columns; 0: nothing. */
static int call(const struct cg_remote_options *remote, const char *method, struct cg_buf *target,
                const struct cg_print_column *columns, size_t count) {
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(remote, method, target, NULL, &client, &answer);
  if (code == CG_CLI_FINE && columns == LIST_COLUMNS)
    cg_print_list(answer, columns, count, remote->as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  else if (code == CG_CLI_FINE && count > 0)
    cg_print_document(answer, columns, count, remote->as_json);
  cg_client_close(client);
  return code;
}

static int outbox_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"name", required_argument, NULL, 'n'},
                                          {"group", required_argument, NULL, 'g'},
                                          {"after", required_argument, NULL, 'a'},
                                          {"max", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  struct cg_buf *target = cg_remote_target("/outbox", NULL);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    const char *name = option == 'n'   ? "name"
                       : option == 'g' ? "group"
                       : option == 'a' ? "after"
                       : option == 'm' ? "max"
                                       : NULL;
    if (name != NULL) {
      cg_remote_query(target, name, optarg);
    } else if (!cg_remote_option(verb, &remote, option)) {
      cg_buf_unref(target);
      return cg_cli_option_exit(option);
    }
  }
  if (argc != optind) {
    cg_buf_unref(target);
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  }
  return call(&remote, "GET", target, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS));
}

/* status and inbox. */
static int outbox_status(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = cg_remote_parse(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  if (strcmp(verb->name, "inbox") == 0)
    return call(&remote, "GET", cg_remote_target("/inbox", NULL), INBOX_COLUMNS,
                COUNT_OF(INBOX_COLUMNS));
  return call(&remote, "GET", cg_remote_target("/outbox-status", NULL), STATUS_COLUMNS,
              COUNT_OF(STATUS_COLUMNS));
}

/* show, cancel and retry. */
static int outbox_one(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = cg_remote_parse(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "give the id of one message");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_buf *target = cg_remote_target("/outbox/", argv[optind]);
  if (strcmp(verb->name, "show") == 0)
    return call(&remote, "GET", target, SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS));
  cg_buf_append(target, "/", 1);
  cg_buf_append(target, verb->name, strlen(verb->name));
  return call(&remote, "POST", target, NULL, 0);
}

int cg_cli_outbox(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list messages that wait", list_usage, outbox_list},
      {"show", "show one message", show_usage, outbox_one},
      {"status", "how many wait, and for how long", status_usage, outbox_status},
      {"inbox", "how many keys are known", inbox_usage, outbox_status},
      {"cancel", "cancel a message", cancel_usage, outbox_one},
      {"retry", "make a message due now", retry_usage, outbox_one},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
