/* cli_process_query.c - `catga process query|update|replay|fork` and `show --locals`: asking and
 * changing processes of a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <string.h>

#include "cli/cli_process.h"
#include "cli/document.h"
#include "cli/print.h"

#define DATA "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define VERDICT_CHARS 32      /* "diverged", with room. */
#define PROCESS_ID_BYTES 4096 /* Of its text, with the zero; a stream's name is shorter. */

const char cg_cli_process_query_usage[] =
    "Usage: catga process query ID NAME [JSON|-] [--data D]\n"
    "Asks a process, running or not, by one of its queries and prints the value as JSON.\n"
    "  JSON       what the query is given; - reads it from stdin\n" DATA
    "Exit code: 0 answered, 1 the query failed, 3 no such process or query, or nothing runs "
    "there.\n"
    "Example: catga process query order-42 progress\n";

const char cg_cli_process_update_usage[] =
    "Usage: catga process update ID NAME [JSON|-] [--id ID] [--data D]\n"
    "Sends a running process one of its updates and prints the result as JSON.\n"
    "  JSON       its value; - reads it from stdin\n"
    "  --id ID    the same id again is the same update, with the same outcome\n" DATA
    "Exit code: 0 done, 1 refused or failed, 3 no such process or update, or nothing runs there.\n"
    "Example: catga process update order-42 change_address '{\"city\":\"Bonn\"}' --id a1\n";

const char cg_cli_process_replay_usage[] =
    "Usage: catga process replay ID [-o json] [--data D]\n"
    "Replays the journal of a process by the scripts as they are, without any effect, and says\n"
    "whether they still do the same.\n"
    "  -o json    as JSON\n" DATA
    "Exit code: 0 the same, 1 they diverge, 3 no such process, or nothing runs there.\n"
    "Example: catga process replay order-42\n";

const char cg_cli_process_fork_usage[] =
    "Usage: catga process fork ID OPERATION [--id NEW] [--input JSON] [--data D]\n"
    "Starts a new process with the recorded outcomes of the operations 1 to OPERATION (0: none) "
    "of\n"
    "another one, and the newest scripts; prints its id.\n"
    "  --id NEW      id of the new process\n"
    "  --input JSON  another input\n"
    "  --data D      data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 started, 1 refused, 3 no such process, or nothing runs there.\n"
    "Example: catga process fork order-42 3\n";

static const struct cg_print_column REPLAY_COLUMNS[] = {
    {"verdict", "verdict", false},   {"id", "id", false},        {"name", "name", false},
    {"records", "records", false},   {"operation", "op", false}, {"recorded", "expected", false},
    {"script asks", "asked", false}, {"at", "at", false},        {"stands at", "strands", false}};

/* Calls a path of a process; *answer is the document while *client is open. */
static int call(const struct cg_remote_options *remote, const char *method, const char *path,
                const char *id, const struct cg_buf *data, struct cg_client **client,
                const struct cg_buf **answer) {
  return cg_remote_send(remote, method, cg_remote_target(path, id), data, client, answer);
}

/* Prints the answer as it is. */
static void print_raw(const struct cg_buf *answer) {
  fwrite(answer->data, 1, strlen((const char *)answer->data), stdout);
  putchar('\n');
}

/* Adds a field with the JSON of an argument, unless that is NULL. False, after a complaint, when it
 * cannot be read. */
static bool add_json(struct cg_buf *data, const char *name, const char *argument) {
  if (argument == NULL)
    return true;
  struct cg_buf *json = cg_remote_data(argument);
  if (json == NULL)
    return false;
  cg_document_json(data, name, json);
  cg_buf_unref(json);
  return true;
}

static void add_text(struct cg_buf *data, const char *name, const char *text) {
  if (text != NULL)
    cg_document_text(data, name, text, strlen(text));
}

/* query and update: sends {"name", <field>: JSON, "id"} and prints the answer. */
static int ask(const struct cg_cli_verb *verb, const struct cg_remote_options *remote, int count,
               char **arguments, const char *path, const char *field, const char *update_id) {
  if (count < 2 || count > 3)
    return cg_cli_wrong(verb, "give a process id, a name, and at most one JSON text");
  if (!cg_remote_name(verb, arguments[0]) || !cg_remote_name(verb, arguments[1]))
    return CG_CLI_USAGE;
  struct cg_buf *data = cg_buf_take(NULL, 256);
  cg_document_begin(data);
  add_text(data, "name", arguments[1]);
  add_text(data, "id", update_id);
  struct cg_client *client = NULL;
  int code = CG_CLI_FAILED;
  if (add_json(data, field, count == 3 ? arguments[2] : NULL)) {
    cg_document_end(data);
    const struct cg_buf *answer;
    code = call(remote, "POST", path, arguments[0], data, &client, &answer);
    if (code == CG_CLI_FINE)
      print_raw(answer);
  }
  cg_client_close(client);
  cg_buf_unref(data);
  return code;
}

int cg_cli_process_query(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = cg_remote_parse(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  return ask(verb, &remote, argc - optind, argv + optind, "/process-queries/", "args", NULL);
}

int cg_cli_process_update(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"id", required_argument, NULL, 'i'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  const char *id = NULL;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'i')
      id = optarg;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  return ask(verb, &remote, argc - optind, argv + optind, "/process-updates/", "value", id);
}

int cg_cli_process_replay(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = cg_remote_parse(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "give one process id");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_client *client;
  const struct cg_buf *answer;
  code = call(&remote, "GET", "/process-replays/", argv[optind], NULL, &client, &answer);
  if (code == CG_CLI_FINE) {
    cg_print_document(answer, REPLAY_COLUMNS, sizeof(REPLAY_COLUMNS) / sizeof(REPLAY_COLUMNS[0]),
                      remote.as_json);
    char verdict[VERDICT_CHARS];
    cg_print_field(answer, "verdict", verdict, sizeof(verdict));
    code = strcmp(verdict, "same") == 0 ? CG_CLI_FINE : CG_CLI_FAILED;
  }
  cg_client_close(client);
  return code;
}

/* Sends the fork and prints the id of the new process. */
static int send_fork(const struct cg_remote_options *remote, char **arguments, const char *id,
                     const char *input) {
  struct cg_buf *data = cg_buf_take(NULL, 256);
  cg_document_begin(data);
  add_text(data, "op", arguments[1]);
  add_text(data, "id", id);
  struct cg_client *client = NULL;
  int code = CG_CLI_FAILED;
  if (add_json(data, "input", input)) {
    cg_document_end(data);
    const struct cg_buf *answer;
    code = call(remote, "POST", "/process-forks/", arguments[0], data, &client, &answer);
    if (code == CG_CLI_FINE) {
      char new_id[PROCESS_ID_BYTES];
      cg_print_field(answer, "id", new_id, sizeof(new_id));
      printf("%s\n", new_id);
    }
  }
  cg_client_close(client);
  cg_buf_unref(data);
  return code;
}

int cg_cli_process_fork(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"id", required_argument, NULL, 'i'},
                                          {"input", required_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  const char *id = NULL, *input = NULL;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'i')
      id = optarg;
    else if (option == 'n')
      input = optarg;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 2)
    return cg_cli_wrong(verb, "give a process id and the number of an operation");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  return send_fork(&remote, argv + optind, id, input);
}

int cg_cli_process_locals(const struct cg_remote_options *remote, const char *id) {
  struct cg_buf *target = cg_remote_target("/process-locals/", id);
  cg_remote_query(target, "text", remote->as_json ? NULL : "1");
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(remote, "GET", target, NULL, &client, &answer);
  if (code == CG_CLI_FINE)
    print_raw(answer);
  cg_client_close(client);
  return code;
}
