/* cli_process.c - `catga process start|list|show`, and the table of the other verbs of processes.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <string.h>

#include "cli/cli_process.h"
#include "cli/cli_process_definition.h"
#include "cli/print.h"
#include "cli/remote.h"

#define PROCESS_ID_BYTES 4096 /* Of its text, with the zero; a stream's name is shorter. */
#define TAG_BYTES 1100        /* Of "tag." and a tag's name, with the zero. */
#define OP_BYTES 8            /* Only whether there is one is looked at. */
#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))

static const char start_usage[] =
    "Usage: catga process start NAME [JSON|-] [--id ID] [--timeout D] [--tag NAME=VALUE]...\n"
    "                           [--wait] [-o json] [--data D]\n"
    "Starts a process and prints its id; the same id again is the same run.\n"
    "  JSON              its input; - reads it from stdin; without it, {}\n"
    "  --id ID           its id, instead of the one out of its input\n"
    "  --timeout D       ended and undone after that time, e.g. 2h\n"
    "  --tag NAME=VALUE  a tag, by which lists are filtered\n"
    "  --wait            wait for its end and print its result as JSON\n"
    "  -o json           print the whole answer as JSON\n"
    "  --data D          data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 started (--wait: completed), 1 refused or failed, 3 no such process, or nothing\n"
    "runs there.\n"
    "Example: catga process start OrderProcess '{\"id\":\"42\"}' --wait\n";

static const char list_usage[] =
    "Usage: catga process list [--status S] [--name NAME] [--tag NAME=VALUE]... [--parent ID]\n"
    "                          [--max N] [-o json] [--data D]\n"
    "Lists processes, newest first.\n"
    "  --status S   running, waiting, completed, compensated, failed, compensation_failed, ...\n"
    "  --name NAME  of this process only\n"
    "  --tag T=V    with this tag\n"
    "  --parent ID  children of this process\n"
    "  --max N      at most so many (default 100)\n"
    "  -o json      one document a line\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 1 there is no such status, 3 nothing runs there.\n"
    "Example: catga process list --status failed\n";

static const char show_usage[] =
    "Usage: catga process show ID [--locals] [-o json] [--data D]\n"
    "Shows one process: how it stands, what it waits for, the step that is attempted, approvals.\n"
    "  --locals   where it stands instead: file, line and local variables of each strand\n"
    "  -o json    as JSON\n"
    "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 shown, 3 there is none, or nothing runs there.\n"
    "Example: catga process show order-42\n";

const char cg_cli_process_usage[] = "Usage: catga process VERB ... (--help after each)\n"
                                    "Example: catga process list --status running\n";

static const struct cg_print_column LIST_COLUMNS[] = {
    {"ID", "id", false},          {"NAME", "name", false},  {"STATUS", "status", false},
    {"STARTED", "started", true}, {"ENDED", "ended", true}, {"TAGS", "tags", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {
    {"id", "id", false},           {"name", "name", false},      {"status", "status", false},
    {"parent", "parent", false},   {"tags", "tags", false},      {"started", "started", true},
    {"ended", "ended", true},      {"step", "step.name", false}, {"attempt", "step.attempt", false},
    {"records", "records", false}, {"result", "result", false},  {"error", "error", false}};
static const struct cg_print_column STEP_COLUMNS[] = {
    {"STEP", "name", false}, {"ATTEMPT", "attempt", false}, {"OP", "op", false}};
static const struct cg_print_column WAIT_COLUMNS[] = {{"WAITS FOR", "kind", false},
                                                      {"NAME", "name", false},
                                                      {"OP", "op", false},
                                                      {"DUE", "due", true}};
static const struct cg_print_column APPROVAL_COLUMNS[] = {{"APPROVAL", "name", false},
                                                          {"QUORUM", "quorum", false},
                                                          {"APPROVERS", "approvers", false},
                                                          {"ANSWERS", "answers", false},
                                                          {"DUE", "due", true}};

static void print_started(const struct cg_buf *answer, const struct cg_remote_options *options,
                          bool is_waiting) {
  if (options->as_json)
    printf("%s\n", (const char *)answer->data);
  else if (is_waiting)
    cg_print_part(answer, "result");
  else {
    char id[PROCESS_ID_BYTES];
    cg_print_field(answer, "id", id, sizeof(id));
    printf("%s\n", id);
  }
}

/* Adds "tag.NAME=VALUE" to a query. False: it is no NAME=VALUE. */
static bool add_tag(struct cg_buf *query, const char *tag) {
  const char *equals = strchr(tag, '=');
  char name[TAG_BYTES];
  if (equals == NULL || equals == tag || (size_t)(equals - tag) >= sizeof(name) - 5)
    return false;
  snprintf(name, sizeof(name), "tag.%.*s", (int)(equals - tag), tag);
  cg_buf_append(query, "&", 1);
  cg_client_escape(query, name);
  cg_buf_append(query, "=", 1);
  cg_client_escape(query, equals + 1);
  return true;
}

/* What the options of start or list ask for, as a query without its "?"; or the exit code. */
static int parse_query(const struct cg_cli_verb *verb, int argc, char **argv,
                       const struct option *options, struct cg_remote_options *remote,
                       struct cg_buf *query) {
  cg_remote_init(remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 't') {
      if (!add_tag(query, optarg))
        return cg_cli_wrong(verb, "--tag is NAME=VALUE, not %s", optarg);
      continue;
    }
    const struct option *known = options;
    while (known->name != NULL && known->val != option)
      known++;
    if (option < 256 && strchr("winspmu", option) != NULL && known->name != NULL) {
      cg_buf_append(query, "&", 1);
      cg_buf_append(query, known->name, strlen(known->name));
      cg_buf_append(query, "=", 1);
      cg_client_escape(query, known->has_arg == no_argument ? "1" : optarg);
    } else if (!cg_remote_option(verb, remote, option)) {
      return cg_cli_option_exit(option);
    }
  }
  return -1;
}

/* Puts a query behind a path. */
static void add_query(struct cg_buf *target, const struct cg_buf *query) {
  if (query->size == 0)
    return;
  cg_buf_append(target, "?", 1);
  cg_buf_append(target, query->data + 1, query->size - 1); /* It begins with "&". */
}

static int start(const struct cg_cli_verb *verb, int argc, char **argv,
                 const struct cg_remote_options *remote, const struct cg_buf *query) {
  int count = argc - optind;
  if (count < 1 || count > 2)
    return cg_cli_wrong(verb, count < 1 ? "name the process" : "one name and one JSON text");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_buf *data = cg_remote_data(count == 2 ? argv[optind + 1] : "{}");
  if (data == NULL)
    return CG_CLI_FAILED;
  struct cg_buf *target = cg_remote_target("/processes/", argv[optind]);
  add_query(target, query);
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(remote, "POST", target, data, &client, &answer);
  static const char waits[] = "&wait=1";
  if (code == CG_CLI_FINE)
    print_started(answer, remote,
                  memmem(query->data, query->size, waits, sizeof(waits) - 1) != NULL);
  cg_client_close(client);
  cg_buf_unref(data);
  return code;
}

static int process_start(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"wait", no_argument, NULL, 'w'},
                                          {"id", required_argument, NULL, 'i'},
                                          {"timeout", required_argument, NULL, 'u'},
                                          {"tag", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  struct cg_buf *query = cg_buf_take(NULL, 256);
  int code = parse_query(verb, argc, argv, options, &remote, query);
  if (code < 0)
    code = start(verb, argc, argv, &remote, query);
  cg_buf_unref(query);
  return code;
}

static int process_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'},   {"status", required_argument, NULL, 's'},
      {"name", required_argument, NULL, 'n'},   {"tag", required_argument, NULL, 't'},
      {"parent", required_argument, NULL, 'p'}, {"max", required_argument, NULL, 'm'},
      {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  struct cg_buf *query = cg_buf_take(NULL, 256);
  int code = parse_query(verb, argc, argv, options, &remote, query);
  if (code < 0 && argc != optind)
    code = cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  if (code < 0) {
    struct cg_buf *target = cg_remote_target("/processes", NULL);
    add_query(target, query);
    struct cg_client *client;
    const struct cg_buf *answer;
    code = cg_remote_send(&remote, "GET", target, NULL, &client, &answer);
    if (code == CG_CLI_FINE)
      cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS),
                    remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
    cg_client_close(client);
  }
  cg_buf_unref(query);
  return code;
}

/* A table of what a list in the document holds, when it holds anything. */
static void print_table(const struct cg_buf *answer, const char *list,
                        const struct cg_print_column *columns, size_t column_count) {
  char op[OP_BYTES];
  if (!cg_print_item(answer, list, 0, columns[0].field, op, sizeof(op)))
    return;
  putchar('\n');
  cg_print_list_of(answer, list, columns, column_count, CG_PRINT_TABLE);
}

static void print_process(const struct cg_buf *answer, bool as_json) {
  cg_print_document(answer, SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), as_json);
  if (as_json)
    return;
  print_table(answer, "steps", STEP_COLUMNS, COUNT_OF(STEP_COLUMNS));
  print_table(answer, "waits", WAIT_COLUMNS, COUNT_OF(WAIT_COLUMNS));
  print_table(answer, "approvals", APPROVAL_COLUMNS, COUNT_OF(APPROVAL_COLUMNS));
}

static int process_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"locals", no_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  bool wants_locals = false;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'l')
      wants_locals = true;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "give one process id");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  if (wants_locals)
    return cg_cli_process_locals(&remote, argv[optind]);
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(&remote, "GET", cg_remote_target("/processes/", argv[optind]), NULL,
                            &client, &answer);
  if (code == CG_CLI_FINE)
    print_process(answer, remote.as_json);
  cg_client_close(client);
  return code;
}

int cg_cli_process(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"start", "start a process", start_usage, process_start},
      {"list", "list processes", list_usage, process_list},
      {"show", "show one process", show_usage, process_show},
      {"history", "list the records of its journal", cg_cli_process_history_usage,
       cg_cli_process_history},
      {"signal", "send it a signal", cg_cli_process_signal_usage, cg_cli_process_signal},
      {"approve", "approve what it waits for", cg_cli_process_approve_usage, cg_cli_process_answer},
      {"reject", "reject what it waits for", cg_cli_process_reject_usage, cg_cli_process_answer},
      {"approvals", "list what is to be approved", cg_cli_process_approvals_usage,
       cg_cli_process_approvals},
      {"cancel", "end it and undo what was done", cg_cli_process_cancel_usage,
       cg_cli_process_control},
      {"kill", "end it where it stands", cg_cli_process_kill_usage, cg_cli_process_control},
      {"pause", "hold it", cg_cli_process_pause_usage, cg_cli_process_control},
      {"resume", "let it go on after a pause", cg_cli_process_resume_usage, cg_cli_process_control},
      {"retry", "let it go on after a failure", cg_cli_process_retry_usage, cg_cli_process_control},
      {"skip", "give a step its result", cg_cli_process_skip_usage, cg_cli_process_skip},
      {"definition", "show what a process is made of, or list all", cg_cli_process_definition_usage,
       cg_cli_process_definition},
      {"query", "ask a process", cg_cli_process_query_usage, cg_cli_process_query},
      {"update", "change a running process", cg_cli_process_update_usage, cg_cli_process_update},
      {"replay", "do scripts still fit?", cg_cli_process_replay_usage, cg_cli_process_replay},
      {"fork", "a new one with its outcomes", cg_cli_process_fork_usage, cg_cli_process_fork},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
