/* cli_process_definition.c - `catga process definition`: what the processes of a running instance
 * are made of.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/cli_process_definition.h"

#include <stdio.h>

#include "cli/print.h"
#include "cli/remote.h"

const char cg_cli_process_definition_usage[] =
    "Usage: catga process definition [NAME] [-o json] [--data D]\n"
    "Shows a process as the scripts define it: its steps, in order where it is declared, and "
    "their\n"
    "settings. Without a name, lists the processes.\n"
    "  -o json    as JSON, one document a line\n"
    "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 shown, 3 there is no such process, or nothing runs there.\n"
    "Example: catga process definition OrderProcess\n";

static const struct cg_print_column LIST_COLUMNS[] = {{"NAME", "name", false},
                                                      {"FORM", "form", false},
                                                      {"STEPS", "step_count", false},
                                                      {"COMPENSATION", "compensation", false},
                                                      {"AT", "at", false}};

static const struct cg_print_column HEAD_COLUMNS[] = {
    {"name", "name", false},       {"form", "form", false},
    {"at", "at", false},           {"code", "code", false},
    {"ordered", "ordered", false}, {"undone by", "compensation", false},
    {"options", "options", false}};

static const struct cg_print_column STEP_COLUMNS[] = {{"STEP", "name", false},
                                                      {"KIND", "kind", false},
                                                      {"BRANCH", "branch", false},
                                                      {"ATTEMPTS", "attempts", false},
                                                      {"TIMEOUT MS", "timeout_ms", false},
                                                      {"BACKOFF MS", "backoff_ms", false},
                                                      {"UNDO", "compensation", false},
                                                      {"AT", "at", false}};

#define COUNT_OF(columns) (sizeof(columns) / sizeof((columns)[0]))

static void print_one(const struct cg_buf *answer, bool as_json) {
  cg_print_document(answer, HEAD_COLUMNS, COUNT_OF(HEAD_COLUMNS), as_json);
  if (as_json)
    return;
  printf("\n");
  cg_print_list_of(answer, "steps", STEP_COLUMNS, COUNT_OF(STEP_COLUMNS), CG_PRINT_TABLE);
}

int cg_cli_process_definition(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = cg_remote_parse(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  int count = argc - optind;
  if (count > 1)
    return cg_cli_wrong(verb, "give one name");
  const char *name = count == 1 ? argv[optind] : NULL;
  if (name != NULL && !cg_remote_name(verb, name))
    return CG_CLI_USAGE;
  struct cg_buf *target =
      cg_remote_target(name != NULL ? "/process-definitions/" : "/process-definitions", name);
  struct cg_client *client = NULL;
  const struct cg_buf *answer;
  code = cg_remote_send(&remote, "GET", target, NULL, &client, &answer);
  if (code == CG_CLI_FINE && name != NULL)
    print_one(answer, remote.as_json);
  else if (code == CG_CLI_FINE)
    cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS),
                  remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_client_close(client);
  return code;
}
