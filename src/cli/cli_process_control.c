/* cli_process_control.c - what people tell running processes, and do to them: `catga process
 * history|signal|approve|reject|approvals|cancel|kill|pause|resume|retry|skip`, `catga promise`.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <string.h>

#include "cli/cli_process.h"
#include "cli/document.h"
#include "cli/print.h"
#include "cli/remote.h"

#define NUMBER_CHARS 32 /* Room for a version as text. */
#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define DATA "  --data D       data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define ANSWERS "Exit code: 0 done, 1 refused, 3 there is no such process, or nothing runs there.\n"

const char cg_cli_process_history_usage[] =
    "Usage: catga process history ID [-o json] [--data D]\n"
    "Lists what the records of its journal say.\n"
    "  -o json        one document a line, with all data\n" DATA
    "Exit code: 0 printed, 3 there is no such process, or nothing runs there.\n"
    "Example: catga process history order-42\n";

const char cg_cli_process_signal_usage[] =
    "Usage: catga process signal ID NAME [JSON|-] [--id S] [--data D]\n"
    "Sends it a signal; one that comes before it is waited for is kept.\n"
    "  JSON           the value; - reads it from stdin; without it, null\n"
    "  --id S         id of the signal: one that was there before is ignored\n" DATA ANSWERS
    "Example: catga process signal order-42 paid '{\"amount\":5}'\n";

const char cg_cli_process_approve_usage[] =
    "Usage: catga process approve ID NAME [JSON|-] [--by WHO] [--data D]\n"
    "Approves what it waits for.\n"
    "  JSON           the values that its form asks for; - reads them from stdin\n"
    "  --by WHO       who approves\n" DATA ANSWERS
    "Example: catga process approve order-42 'large order' --by ann\n";

const char cg_cli_process_reject_usage[] =
    "Usage: catga process reject ID NAME [--by WHO] [--reason TEXT] [--data D]\n"
    "Rejects what it waits for.\n"
    "  --by WHO       who rejects\n"
    "  --reason TEXT  why\n" DATA ANSWERS
    "Example: catga process reject order-42 'large order' --by ann --reason 'too much'\n";

const char cg_cli_process_approvals_usage[] =
    "Usage: catga process approvals [-o json] [--data D]\n"
    "Lists the approvals that processes wait for.\n"
    "  -o json        one document a line\n" DATA "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga process approvals\n";

const char cg_cli_process_cancel_usage[] =
    "Usage: catga process cancel ID [--reason TEXT] [--data D]\n"
    "Ends it: its children are cancelled, what was done is undone. Waits for the end of that.\n"
    "  --reason TEXT  why\n" DATA ANSWERS "Example: catga process cancel order-42\n";

const char cg_cli_process_kill_usage[] =
    "Usage: catga process kill ID [--reason TEXT] [--data D]\n"
    "Ends it where it stands; nothing is undone.\n"
    "  --reason TEXT  why\n" DATA ANSWERS "Example: catga process kill order-42\n";

const char cg_cli_process_pause_usage[] =
    "Usage: catga process pause ID [--reason TEXT] [--data D]\n"
    "Holds it, also over a restart: attempts that run end, nothing more begins.\n"
    "  --reason TEXT  why\n" DATA ANSWERS "Example: catga process pause order-42\n";

const char cg_cli_process_resume_usage[] =
    "Usage: catga process resume ID [--reason TEXT] [--data D]\n"
    "Lets it go on after a pause.\n"
    "  --reason TEXT  why\n" DATA ANSWERS "Example: catga process resume order-42\n";

const char cg_cli_process_retry_usage[] =
    "Usage: catga process retry ID [--reason TEXT] [--data D]\n"
    "Lets one that failed go on from the step that failed, one whose undo failed undo what is "
    "left,\n"
    "and one that diverged or stopped look again.\n"
    "  --reason TEXT  why\n" DATA ANSWERS "Example: catga process retry order-42\n";

const char cg_cli_process_skip_usage[] =
    "Usage: catga process skip ID OP [JSON|-] [--data D]\n"
    "Gives a step that failed, or waits for another attempt, a result, and lets it go on.\n"
    "  OP             number of the operation, as history shows it\n"
    "  JSON           the result; - reads it from stdin; without it, none\n" DATA ANSWERS
    "Example: catga process skip order-42 3 '{\"tracking\":\"by hand\"}'\n";

static const char resolve_usage[] =
    "Usage: catga promise resolve ID [JSON|-] [--data D]\n"
    "Gives the promise of a process its value.\n"
    "  JSON           the value; - reads it from stdin; without it, null\n" DATA
    "Exit code: 0 done, 1 refused, 3 there is no such promise, or nothing runs there.\n"
    "Example: catga promise resolve '3~1f2e3d4c5b6a7988~order-42' '{\"ok\":true}'\n";

static const char refuse_usage[] =
    "Usage: catga promise reject ID CODE [MESSAGE] [--data D]\n"
    "Lets the promise of a process fail.\n"
    "  CODE           of the error, e.g. refused\n"
    "  MESSAGE        for people\n" DATA
    "Exit code: 0 done, 1 refused, 3 there is no such promise, or nothing runs there.\n"
    "Example: catga promise reject '3~1f2e3d4c5b6a7988~order-42' refused 'no stock'\n";

const char cg_cli_promise_usage[] = "Usage: catga promise VERB ... (--help after each)\n"
                                    "Example: catga promise resolve ID '{\"ok\":true}'\n";

static const struct cg_print_column HISTORY_COLUMNS[] = {{"VERSION", "version", false},
                                                         {"TIME", "time", true},
                                                         {"OP", "op", false},
                                                         {"WHAT", "what", false}};
static const struct cg_print_column APPROVAL_COLUMNS[] = {
    {"PROCESS", "process", false},     {"APPROVAL", "name", false},   {"QUORUM", "quorum", false},
    {"APPROVERS", "approvers", false}, {"ANSWERS", "answers", false}, {"DUE", "due", true}};

/* What a command line of these verbs may say. */
struct given {
  struct cg_remote_options remote; /* The common options. */
  const char *id;                  /* --id */
  const char *by;                  /* --by */
  const char *reason;              /* --reason */
  int count;                       /* Arguments, from argv[optind] on. */
};

/* Reads it; `allowed` has the letters of the options: i, b, r. -1: go on. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, const char *allowed,
                 int least, int most, const char *wanted, struct given *given) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"id", required_argument, NULL, 'i'},
      {"by", required_argument, NULL, 'b'},   {"reason", required_argument, NULL, 'r'},
      {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
  *given = (struct given){.id = NULL};
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (strchr("ibr", option) != NULL && strchr(allowed, option) == NULL)
      return cg_cli_wrong(verb, "it has no option %s", argv[optind - 2]);
    if (option == 'i')
      given->id = optarg;
    else if (option == 'b')
      given->by = optarg;
    else if (option == 'r')
      given->reason = optarg;
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  given->count = argc - optind;
  if (given->count < least || given->count > most)
    return cg_cli_wrong(verb, "%s", wanted);
  return least == 0 || cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Calls the target, which is released like `data`, and prints a list by `columns`, or nothing. */
static int call(const struct given *given, const char *method, struct cg_buf *target,
                struct cg_buf *data, const struct cg_print_column *columns, size_t column_count) {
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(&given->remote, method, target, data, &client, &answer);
  if (code == CG_CLI_FINE && columns != NULL)
    cg_print_list(answer, columns, column_count,
                  given->remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_client_close(client);
  if (data != NULL)
    cg_buf_unref(data);
  return code;
}

static void add_text(struct cg_buf *data, const char *name, const char *text) {
  if (text != NULL)
    cg_document_text(data, name, text, strlen(text));
}

/* Adds a field that is JSON; `argument` NULL: nothing. False, after a complaint: it is none. */
static bool add_json(struct cg_buf *data, const char *name, const char *argument) {
  if (argument == NULL)
    return true;
  struct cg_buf *text = cg_remote_data(argument);
  bool is_fine = text != NULL && cg_remote_is_json(text);
  if (is_fine)
    cg_document_json(data, name, text);
  if (text != NULL)
    cg_buf_unref(text);
  return is_fine;
}

static struct cg_buf *new_document(void) {
  struct cg_buf *data = cg_buf_take(NULL, 256);
  cg_document_begin(data);
  return data;
}

/* Ends the document and posts it. */
static int post(const struct given *given, const char *path, const char *name,
                struct cg_buf *data) {
  cg_document_end(data);
  return call(given, "POST", cg_remote_target(path, name), data, NULL, 0);
}

int cg_cli_process_history(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, "", 1, 1, "give one process id", &given);
  if (code >= 0)
    return code;
  struct cg_client *client = cg_remote_open(&given.remote, &code);
  if (client == NULL)
    return code;
  char from[NUMBER_CHARS] = "0";
  enum cg_print_as as = given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE;
  do {
    struct cg_buf *target = cg_remote_target("/process-history/", argv[optind]);
    cg_remote_query(target, "from", from);
    cg_buf_append(target, "", 1);
    struct cg_client_request request = {.method = "GET", .target = (const char *)target->data};
    const struct cg_buf *answer;
    code = cg_remote_call(client, &request, &answer);
    cg_buf_unref(target);
    if (code != CG_CLI_FINE)
      break;
    cg_print_list(answer, HISTORY_COLUMNS, COUNT_OF(HISTORY_COLUMNS), as);
    as = given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_ROWS;
    snprintf(from, sizeof(from), "%s", cg_client_next(client));
  } while (from[0] != 0);
  cg_client_close(client);
  return code;
}

int cg_cli_process_approvals(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, "", 0, 0, "it takes no argument", &given);
  if (code >= 0)
    return code;
  return call(&given, "GET", cg_remote_target("/approvals", NULL), NULL, APPROVAL_COLUMNS,
              COUNT_OF(APPROVAL_COLUMNS));
}

int cg_cli_process_signal(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code =
      parse(verb, argc, argv, "i", 2, 3, "give a process id and the name of a signal", &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = new_document();
  add_text(data, "name", argv[optind + 1]);
  add_text(data, "id", given.id);
  if (!add_json(data, "value", given.count == 3 ? argv[optind + 2] : NULL)) {
    cg_buf_unref(data);
    return CG_CLI_FAILED;
  }
  return post(&given, "/process-signals/", argv[optind], data);
}

int cg_cli_process_answer(const struct cg_cli_verb *verb, int argc, char **argv) {
  bool approves = strcmp(verb->name, "approve") == 0;
  struct given given;
  int code = parse(verb, argc, argv, approves ? "b" : "br", 2, approves ? 3 : 2,
                   "give a process id and the name of an approval", &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = new_document();
  add_text(data, "name", argv[optind + 1]);
  cg_document_bool(data, "approved", approves);
  add_text(data, "by", given.by);
  add_text(data, "reason", given.reason);
  if (!add_json(data, "values", given.count == 3 ? argv[optind + 2] : NULL)) {
    cg_buf_unref(data);
    return CG_CLI_FAILED;
  }
  return post(&given, "/process-approvals/", argv[optind], data);
}

int cg_cli_process_control(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, "r", 1, 1, "give one process id", &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = new_document();
  add_text(data, "action", verb->name);
  add_text(data, "reason", given.reason);
  return post(&given, "/process-control/", argv[optind], data);
}

int cg_cli_process_skip(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code =
      parse(verb, argc, argv, "", 2, 3, "give a process id and the number of an operation", &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = new_document();
  add_text(data, "action", "skip");
  add_text(data, "op", argv[optind + 1]);
  if (!add_json(data, "result", given.count == 3 ? argv[optind + 2] : NULL)) {
    cg_buf_unref(data);
    return CG_CLI_FAILED;
  }
  return post(&given, "/process-control/", argv[optind], data);
}

static int promise_resolve(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, "", 1, 2, "give the id of a promise", &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = new_document();
  if (!add_json(data, "value", given.count == 2 ? argv[optind + 1] : "null")) {
    cg_buf_unref(data);
    return CG_CLI_FAILED;
  }
  return post(&given, "/promises/", argv[optind], data);
}

static int promise_reject(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code =
      parse(verb, argc, argv, "", 2, 3, "give the id of a promise and an error code", &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = new_document(), *failure = new_document();
  add_text(failure, "code", argv[optind + 1]);
  add_text(failure, "message", given.count == 3 ? argv[optind + 2] : NULL);
  cg_document_end(failure);
  cg_document_json(data, "error", failure);
  cg_buf_unref(failure);
  return post(&given, "/promises/", argv[optind], data);
}

int cg_cli_promise(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"resolve", "give a promise its value", resolve_usage, promise_resolve},
      {"reject", "let a promise fail", refuse_usage, promise_reject},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
