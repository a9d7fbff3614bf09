/* cli_route.c - `catga route list|status|explain`, in a running instance or for scripts that nobody
 * runs.
 *
 * Owns: nothing. Thread: the main thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/local.h"
#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define FILE_BYTES_MAX ((size_t)256 << 20) /* More is no message. */
#define OPTIONS                                                                                    \
  "  --dir DIR    of the scripts in DIR, without a running instance\n"                             \
  "  -o json      one document a line\n"                                                           \
  "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"

static const char list_usage[] =
    "Usage: catga route list [--dir DIR] [-o json] [--data D]\n"
    "Lists the routing rules in the order in which they are asked, with what they have "
    "counted.\n" OPTIONS "Exit code: 0 printed, 1 the scripts are wrong, 3 nothing runs there.\n"
    "Example: catga route list\n";

static const char status_usage[] =
    "Usage: catga route status [-o json] [--data D]\n"
    "Lists the sets of rules: how far their readers are, what waits for another attempt, how many\n"
    "groups are being gathered.\n"
    "  -o json      one document a line\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga route status\n";

static const char explain_usage[] =
    "Usage: catga route explain JSON|FILE|- [--dir DIR] [-o json] [--data D]\n"
    "Says which rules take a message, which do not and why, and where it would go. Nothing is "
    "sent.\n"
    "The message is {\"type\": ..., \"data\": ...}; - reads it from stdin.\n" OPTIONS
    "Exit code: 0 printed, 1 refused, or the scripts are wrong, 3 nothing runs there.\n"
    "Example: catga route explain '{\"type\":\"OrderCreated\",\"data\":{\"amount\":1500}}'\n";

const char cg_cli_route_usage[] = "Usage: catga route VERB ... (--help after each)\n"
                                  "Example: catga route list\n";

static const struct cg_print_column LIST_COLUMNS[] = {
    {"RULE", "name", false},         {"SET", "set", false},
    {"PRIORITY", "priority", false}, {"TYPES", "types", false},
    {"WHEN", "conditions", false},   {"TO", "to", false},
    {"MATCHED", "matched", false},   {"FILTERED", "filtered", false},
    {"FAILED", "failed", false},     {"AT", "at", false}};
static const struct cg_print_column STATUS_COLUMNS[] = {
    {"SET", "name", false},        {"MODE", "mode", false},     {"RULES", "rules", false},
    {"STATUS", "status", false},   {"LAG", "lag", false},       {"POSITION", "position", false},
    {"RETRIES", "waiting", false}, {"GROUPS", "groups", false}, {"ERROR", "error", false}};
static const struct cg_print_column RULE_COLUMNS[] = {
    {"RULE", "rule", false},       {"PRIORITY", "priority", false},
    {"VERDICT", "verdict", false}, {"WHY", "why", false},
    {"AT", "at", false},           {"CODE", "code", false}};
static const struct cg_print_column SEND_COLUMNS[] = {{"RULE", "rule", false},
                                                      {"KIND", "kind", false},
                                                      {"TO", "to", false},
                                                      {"READ BY", "read_by", false},
                                                      {"MESSAGE", "message", false}};

/* Options of all these verbs. */
struct given {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *dir;                 /* --dir, or NULL. */
};

/* Reads options and `count` arguments. -1: go on. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, int count,
                 struct given *given) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"dir", required_argument, NULL, 'r'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  *given = (struct given){.dir = NULL};
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'r' && strcmp(verb->name, "status") != 0)
      given->dir = optarg;
    else if (option == 'r')
      return cg_cli_wrong(verb, "the scripts in a directory have no status");
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind == count)
    return -1;
  if (count == 0)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  return cg_cli_wrong(verb, "give one message: JSON, a file, or -");
}

static void print_explanation(const struct cg_buf *answer, bool as_json) {
  if (as_json) {
    cg_print_document(answer, NULL, 0, true);
    return;
  }
  enum cg_print_as as = CG_PRINT_TABLE;
  if (cg_print_list_of(answer, "rules", RULE_COLUMNS, COUNT_OF(RULE_COLUMNS), as) == 0)
    printf("no rule reads events of this type\n");
  uint64_t unlisted = cg_print_count(answer, "unlisted");
  if (unlisted > 0)
    printf("and %llu more rules that say no\n", (unsigned long long)unlisted);
  printf("\n");
  if (cg_print_list_of(answer, "sends", SEND_COLUMNS, COUNT_OF(SEND_COLUMNS), as) == 0)
    printf("it would go nowhere\n");
}

/* Prints an answer: columns of a list, or NULL for an explanation. */
static void print_answer(const struct cg_buf *answer, const struct cg_print_column *columns,
                         size_t count, bool as_json) {
  if (columns == NULL)
    print_explanation(answer, as_json);
  else
    cg_print_list(answer, columns, count, as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
}

/* Asks the scripts of a directory. */
static int call_local(const struct given *given, const struct cg_client_request *request,
                      const struct cg_print_column *columns, size_t count) {
  struct cg_local *local;
  const struct cg_buf *answer;
  struct cg_err err;
  long status;
  if (cg_local_open_scripts(&local, given->dir, &err) != CG_OK)
    return cg_cli_fail("%s", err.message);
  int code = CG_CLI_FINE;
  if (cg_local_call(local, request, &status, &answer, &err) != CG_OK) {
    code = cg_cli_fail("%s", err.message);
  } else if (status >= 400) {
    cg_print_problem(answer);
    code = CG_CLI_FAILED;
  } else {
    print_answer(answer, columns, count, given->remote.as_json);
  }
  if (cg_local_close(local, &err) != CG_OK && code == CG_CLI_FINE)
    code = cg_cli_fail("%s", err.message);
  return code;
}

static int call(const struct given *given, const char *method, const char *path,
                const struct cg_buf *data, const struct cg_print_column *columns, size_t count) {
  if (given->dir != NULL) {
    struct cg_client_request request = {.method = method,
                                        .target = path,
                                        .body = data != NULL ? (const char *)data->data : NULL,
                                        .body_size = data != NULL ? data->size : 0};
    return call_local(given, &request, columns, count);
  }
  struct cg_client *client;
  const struct cg_buf *answer;
  int code =
      cg_remote_send(&given->remote, method, cg_remote_target(path, NULL), data, &client, &answer);
  if (code == CG_CLI_FINE)
    print_answer(answer, columns, count, given->remote.as_json);
  cg_client_close(client);
  return code;
}

static int route_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, 0, &given);
  if (code >= 0)
    return code;
  return call(&given, "GET", "/routes", NULL, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS));
}

static int route_status(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, 0, &given);
  if (code >= 0)
    return code;
  return call(&given, "GET", "/route-sets", NULL, STATUS_COLUMNS, COUNT_OF(STATUS_COLUMNS));
}

/* What a file holds; NULL: it has said why not. */
static struct cg_buf *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    cg_cli_fail("%s: %s; a message is JSON, a file, or - for stdin", path, strerror(errno));
    return NULL;
  }
  struct cg_buf *data = cg_buf_take(NULL, 4096);
  size_t count;
  do {
    uint8_t *room = cg_buf_room(data, 65536);
    count = fread(room, 1, 65536, file);
    data->size += count;
  } while (count > 0 && data->size <= FILE_BYTES_MAX);
  bool is_read = !ferror(file) && data->size <= FILE_BYTES_MAX;
  fclose(file);
  if (is_read)
    return data;
  cg_cli_fail("%s cannot be read, or has more than %zu MiB", path, FILE_BYTES_MAX >> 20);
  cg_buf_unref(data);
  return NULL;
}

static int route_explain(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, 1, &given);
  if (code >= 0)
    return code;
  const char *argument = argv[optind];
  bool is_json = argument[strspn(argument, " \t\r\n")] == '{';
  struct cg_buf *data =
      is_json || strcmp(argument, "-") == 0 ? cg_remote_data(argument) : read_file(argument);
  if (data == NULL)
    return CG_CLI_FAILED;
  code = call(&given, "POST", "/route-explanations", data, NULL, 0);
  cg_buf_unref(data);
  return code;
}

int cg_cli_route(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list the rules", list_usage, route_list},
      {"status", "how far the readers of the rules are", status_usage, route_status},
      {"explain", "why a message goes where", explain_usage, route_explain},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
