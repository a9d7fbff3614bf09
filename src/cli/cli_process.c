/* cli_process.c - `catga process start|list|show`: processes of a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "cli/remote.h"

#define PROCESS_ID_BYTES 4096 /* Of its text, with the zero; a stream's name is shorter. */

static const char start_usage[] =
    "Usage: catga process start NAME [JSON|-] [--wait] [-o json] [--data D]\n"
    "Starts a process and prints its id; the same id again is the same run.\n"
    "  JSON       its input; - reads it from stdin; without it, {}\n"
    "  --wait     wait for its end and print its result as JSON\n"
    "  -o json    print the whole answer as JSON\n"
    "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 started (--wait: completed), 1 refused or failed, 3 no such process, or nothing\n"
    "runs there.\n"
    "Example: catga process start OrderProcess '{\"id\":\"42\"}' --wait\n";

static const char list_usage[] =
    "Usage: catga process list [--status S] [--name NAME] [--max N] [-o json] [--data D]\n"
    "Lists processes, newest first.\n"
    "  --status S   running, waiting, completed, compensated, failed, compensation_failed, ...\n"
    "  --name NAME  of this process only\n"
    "  --max N      at most so many (default 100)\n"
    "  -o json      one document a line\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 1 there is no such status, 3 nothing runs there.\n"
    "Example: catga process list --status failed\n";

static const char show_usage[] =
    "Usage: catga process show ID [-o json] [--data D]\n"
    "Shows one process.\n"
    "  -o json    as JSON\n"
    "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 shown, 3 there is none, or nothing runs there.\n"
    "Example: catga process show order-42\n";

const char cg_cli_process_usage[] = "Usage: catga process VERB ... (--help after each)\n"
                                    "Example: catga process list --status running\n";

static const struct cg_print_column LIST_COLUMNS[] = {{"ID", "id", false},
                                                      {"NAME", "name", false},
                                                      {"STATUS", "status", false},
                                                      {"STARTED", "started", true},
                                                      {"ENDED", "ended", true}};

static const struct cg_print_column SHOW_COLUMNS[] = {
    {"id", "id", false},          {"name", "name", false},  {"status", "status", false},
    {"started", "started", true}, {"ended", "ended", true}, {"records", "records", false},
    {"result", "result", false},  {"error", "error", false}};

/* Appends "name=value" to a query. */
static void add_query(struct cg_buf *target, const char *name, const char *value) {
  if (value == NULL)
    return;
  cg_buf_append(target, target->size > 0 && memchr(target->data, '?', target->size) ? "&" : "?", 1);
  cg_buf_append(target, name, strlen(name));
  cg_buf_append(target, "=", 1);
  cg_client_escape(target, value);
}

/* Calls the target and gives the answer to `print`. */
static int call(const struct cg_remote_options *options, const char *method, struct cg_buf *target,
                const struct cg_buf *data,
                void (*print)(const struct cg_buf *answer, const struct cg_remote_options *options,
                              bool waited),
                bool waited) {
  int code = CG_CLI_FAILED;
  struct cg_client *client = cg_remote_open(options, &code);
  if (client != NULL) {
    cg_buf_append(target, "", 1);
    struct cg_client_request request = {.method = method,
                                        .target = (const char *)target->data,
                                        .body = data != NULL ? (const char *)data->data : NULL,
                                        .body_size = data != NULL ? data->size : 0};
    const struct cg_buf *answer;
    code = cg_remote_call(client, &request, &answer);
    if (code == CG_CLI_FINE)
      print(answer, options, waited);
  }
  cg_client_close(client);
  cg_buf_unref(target);
  return code;
}

static struct cg_buf *target_of(const char *path, const char *name) {
  struct cg_buf *target = cg_buf_take(NULL, 256);
  cg_buf_append(target, path, strlen(path));
  if (name != NULL)
    cg_client_escape(target, name);
  return target;
}

static void print_started(const struct cg_buf *answer, const struct cg_remote_options *options,
                          bool waited) {
  if (options->as_json)
    printf("%s\n", (const char *)answer->data);
  else if (waited)
    cg_print_part(answer, "result");
  else {
    char id[PROCESS_ID_BYTES];
    cg_print_field(answer, "id", id, sizeof(id));
    printf("%s\n", id);
  }
}

static int process_start(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"wait", no_argument, NULL, 'w'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  bool wait = false;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'w')
      wait = true;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  int count = argc - optind;
  if (count < 1 || count > 2)
    return cg_cli_wrong(verb, count < 1 ? "name the process" : "one name and one JSON text");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_buf *data = cg_remote_data(count == 2 ? argv[optind + 1] : "{}");
  if (data == NULL)
    return CG_CLI_FAILED;
  struct cg_buf *target = target_of("/processes/", argv[optind]);
  add_query(target, "wait", wait ? "1" : NULL);
  int code = call(&remote, "POST", target, data, print_started, wait);
  cg_buf_unref(data);
  return code;
}

static void print_processes(const struct cg_buf *answer, const struct cg_remote_options *options,
                            bool waited) {
  (void)waited;
  cg_print_list(answer, LIST_COLUMNS, sizeof(LIST_COLUMNS) / sizeof(LIST_COLUMNS[0]),
                options->as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
}

static int process_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"status", required_argument, NULL, 's'},
      {"name", required_argument, NULL, 'n'}, {"max", required_argument, NULL, 'm'},
      {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  const char *status = NULL, *name = NULL, *max = NULL;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 's')
      status = optarg;
    else if (option == 'n')
      name = optarg;
    else if (option == 'm')
      max = optarg;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  struct cg_buf *target = target_of("/processes", NULL);
  add_query(target, "status", status);
  add_query(target, "name", name);
  add_query(target, "max", max);
  return call(&remote, "GET", target, NULL, print_processes, false);
}

static void print_process(const struct cg_buf *answer, const struct cg_remote_options *options,
                          bool waited) {
  (void)waited;
  cg_print_document(answer, SHOW_COLUMNS, sizeof(SHOW_COLUMNS) / sizeof(SHOW_COLUMNS[0]),
                    options->as_json);
}

static int process_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = cg_remote_parse(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "give one process id");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  return call(&remote, "GET", target_of("/processes/", argv[optind]), NULL, print_process, false);
}

int cg_cli_process(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"start", "start a process", start_usage, process_start},
      {"list", "list processes", list_usage, process_list},
      {"show", "show one process", show_usage, process_show},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
