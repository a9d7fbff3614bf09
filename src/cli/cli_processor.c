/* cli_processor.c - `catga processor list|show|pause|resume|reset`: streams of operators in a
 * running program. (`catga stream` is about the event store.)
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
#define ANSWERS "Exit code: 0 done, 1 refused, 3 there is no such stream, or nothing runs there.\n"

static const char list_usage[] =
    "Usage: catga processor list [-o json] [--data D]\n"
    "Lists the streams that the scripts define with catga.stream: how far they are.\n" COMMON
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga processor list\n";

static const char show_usage[] =
    "Usage: catga processor show NAME [-o json] [--data D]\n"
    "Shows one stream: position, watermark, open windows, late and dropped items, errors.\n" COMMON
        ANSWERS "Example: catga processor show revenue\n";

static const char pause_usage[] =
    "Usage: catga processor pause NAME [--data D]\n"
    "Stops a stream until it is resumed; a durable one also over a restart.\n" DATA ANSWERS
    "Example: catga processor pause revenue\n";

static const char resume_usage[] =
    "Usage: catga processor resume NAME [--data D]\n"
    "Goes on after a pause, or after a failure that has stopped it.\n" DATA ANSWERS
    "Example: catga processor resume revenue\n";

static const char reset_usage[] =
    "Usage: catga processor reset NAME POSITION|start|end [--data D]\n"
    "Begins a durable stream again behind a position of the log, without its state. What its "
    "sinks\n"
    "have done stays done.\n" DATA ANSWERS "Example: catga processor reset revenue start\n";

const char cg_cli_processor_usage[] = "Usage: catga processor VERB ... (--help after each)\n"
                                      "Example: catga processor list\n";

static const struct cg_print_column LIST_COLUMNS[] = {
    {"NAME", "name", false}, {"STATUS", "status", false}, {"POSITION", "position", false},
    {"LAG", "lag", false},   {"EVENTS", "events", false}, {"WINDOWS", "windows", false},
    {"LATE", "late", false}, {"ERROR", "error", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {{"name", "name", false},
                                                      {"kind", "kind", false},
                                                      {"status", "status", false},
                                                      {"defined at", "at", false},
                                                      {"version", "version", false},
                                                      {"position", "position", false},
                                                      {"lag", "lag", false},
                                                      {"events", "events", false},
                                                      {"events a second", "rate", false},
                                                      {"watermark", "watermark", true},
                                                      {"open windows", "windows", false},
                                                      {"keys", "keys", false},
                                                      {"late", "late", false},
                                                      {"late for some windows", "missed", false},
                                                      {"dropped", "dropped", false},
                                                      {"skipped", "skipped", false},
                                                      {"error", "error", false},
                                                      {"last error", "last_error", false}};

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
  if (code == CG_CLI_FINE && view != NULL && view->is_list)
    cg_print_list(answer, view->columns, view->count,
                  remote->as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  else if (code == CG_CLI_FINE && view != NULL)
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
    return cg_cli_wrong(verb, count == 1 ? "name one stream"
                                         : "give the name of a stream and a position");
  }
  return count == 0 || cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Path of a stream, or of what is asked of it. */
static struct cg_buf *target_of(const char *name, const char *action) {
  struct cg_buf *target = cg_remote_target("/processors/", name);
  if (action != NULL) {
    cg_buf_append(target, "/", 1);
    cg_buf_append(target, action, strlen(action));
  }
  return target;
}

static int processor_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {LIST_COLUMNS, COUNT_OF(LIST_COLUMNS), true};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 0, &remote);
  if (code >= 0)
    return code;
  return call(&remote, "GET", cg_remote_target("/processors", NULL), NULL, &view);
}

static int processor_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct view view = {SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), false};
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 1, &remote);
  if (code >= 0)
    return code;
  return call(&remote, "GET", target_of(argv[optind], NULL), NULL, &view);
}

/* pause and resume. */
static int processor_switch(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 1, &remote);
  if (code >= 0)
    return code;
  return call(&remote, "POST", target_of(argv[optind], verb->name), NULL, NULL);
}

/* Is the text a position, or one of the words for one? */
static bool is_place(const char *text) {
  if (strcmp(text, "start") == 0 || strcmp(text, "end") == 0)
    return true;
  return *text != '\0' && strlen(text) < 16 && strspn(text, "0123456789") == strlen(text);
}

static int processor_reset(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = parse(verb, argc, argv, 2, &remote);
  if (code >= 0)
    return code;
  const char *place = argv[optind + 1];
  if (!is_place(place))
    return cg_cli_wrong(verb, "a position is a number, start or end, not %s", place);
  struct cg_buf *data = cg_buf_take(NULL, 64);
  cg_document_begin(data);
  if (*place >= '0' && *place <= '9')
    cg_document_number(data, "position", strtod(place, NULL));
  else
    cg_document_text(data, "position", place, strlen(place));
  cg_document_end(data);
  code = call(&remote, "POST", target_of(argv[optind], "reset"), data, NULL);
  cg_buf_unref(data);
  return code;
}

int cg_cli_processor(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list streams of operators", list_usage, processor_list},
      {"show", "show one of them", show_usage, processor_show},
      {"pause", "stop it for a while", pause_usage, processor_switch},
      {"resume", "go on after a pause or a failure", resume_usage, processor_switch},
      {"reset", "begin again behind a position, without its state", reset_usage, processor_reset},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
