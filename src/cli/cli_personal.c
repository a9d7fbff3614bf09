/* cli_personal.c - `catga personal list|export|forget` and `catga forget`: persons whose data is
 * encrypted, in a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define PAGE 1000        /* Persons or events of one request. */
#define PAGE_TEXT "1000" /* The same as text. */
#define NUMBER_CHARS 64  /* Room for a number as text, or the name of a key. */

#define COMMON                                                                                     \
  "  -o json      one document a line\n"                                                           \
  "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"

const char cg_cli_personal_usage[] = "Usage: catga personal VERB ... (--help after each)\n"
                                     "Example: catga personal list\n";

static const char list_usage[] =
    "Usage: catga personal list [--prefix P] [--forgotten] [-o json] [--data D]\n"
    "Prints the persons of whom there is a key, in the order in which they got it.\n"
    "  --prefix P   only those whose id begins so\n"
    "  --forgotten  those too who were forgotten: only the name of the key is left\n" COMMON
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga personal list --prefix 42\n";

static const char export_usage[] =
    "Usage: catga personal export SUBJECT [--data D]\n"
    "Prints all events that hold personal data of a person, decrypted, one document a line. Looks\n"
    "through the whole log.\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 1 the person was forgotten, 3 there is no such person, or nothing runs\n"
    "there.\n"
    "Example: catga personal export 42 > person-42.ndjson\n";

const char cg_cli_forget_usage[] =
    "Usage: catga forget SUBJECT [-o json] [--data D]      (or: catga personal forget ...)\n"
    "Destroys the key of a person: all their personal data is unreadable from now on, for ever.\n"
    "Tells which projections may still hold it and must be rebuilt.\n" COMMON
    "Exit code: 0 forgotten, also if that was before; 3 there is no such person, or nothing runs\n"
    "there.\n"
    "Example: catga forget 42\n";

static const struct cg_print_column LIST_COLUMNS[] = {{"SUBJECT", "subject", false},
                                                      {"SINCE", "time", true},
                                                      {"KEY", "key", false},
                                                      {"FORGOTTEN", "forgotten", false}};
static const struct cg_print_column FORGET_COLUMNS[] = {
    {"key", "key", false}, {"digest", "digest", false}, {"to rebuild", "projections", false}};

/* What the options have said. */
struct given {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *prefix;              /* --prefix, or NULL. */
  bool with_forgotten;             /* --forgotten. */
};

/* -1: go on; else the exit code. */
static int parse_list(const struct cg_cli_verb *verb, int argc, char **argv, struct given *given) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"prefix", required_argument, NULL, 'p'},
                                          {"forgotten", no_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'p')
      given->prefix = optarg;
    else if (option == 'f')
      given->with_forgotten = true;
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  return -1;
}

/* The same for a verb that takes one subject. */
static int parse_subject(const struct cg_cli_verb *verb, int argc, char **argv,
                         struct cg_remote_options *remote) {
  int code = cg_remote_parse(verb, argc, argv, remote);
  if (code >= 0)
    return code;
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "name one person");
  return cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Asks for one page behind `after`; the target is released. */
static int get_page(struct cg_client *client, struct cg_buf *target, const char *after,
                    const struct cg_buf **answer) {
  cg_remote_query(target, "after", after);
  cg_remote_query(target, "max", PAGE_TEXT);
  cg_buf_append(target, "", 1);
  struct cg_client_request request = {.method = "GET", .target = (const char *)target->data};
  int code = cg_remote_call(client, &request, answer);
  cg_buf_unref(target);
  return code;
}

static int personal_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse_list(verb, argc, argv, &given);
  if (code >= 0)
    return code;
  struct cg_client *client = cg_remote_open(&given.remote, &code);
  if (client == NULL)
    return code;
  char after[NUMBER_CHARS] = "0";
  enum cg_print_as as = given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE;
  int count = 0;
  do {
    struct cg_buf *target = cg_remote_target("/subjects", NULL);
    cg_remote_query(target, "prefix", given.prefix);
    cg_remote_query(target, "forgotten", given.with_forgotten ? "1" : NULL);
    const struct cg_buf *answer;
    code = get_page(client, target, after, &answer);
    if (code != CG_CLI_FINE)
      break;
    count = cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS), as);
    if (count == PAGE)
      snprintf(after, sizeof(after), "%.0f", cg_print_number(answer, -1, "number"));
    as = given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_ROWS;
  } while (count == PAGE);
  cg_client_close(client);
  return code;
}

static int personal_export(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = parse_subject(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  struct cg_client *client = cg_remote_open(&remote, &code);
  if (client == NULL)
    return code;
  char after[NUMBER_CHARS] = "0";
  int count = 0;
  do {
    const struct cg_buf *answer;
    code = get_page(client, cg_remote_target("/subjects/", argv[optind]), after, &answer);
    if (code != CG_CLI_FINE)
      break;
    count = cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS), CG_PRINT_JSON);
    if (count == PAGE)
      snprintf(after, sizeof(after), "%.0f", cg_print_number(answer, -1, "position"));
  } while (count == PAGE);
  cg_client_close(client);
  return code;
}

int cg_cli_forget(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int code = parse_subject(verb, argc, argv, &remote);
  if (code >= 0)
    return code;
  struct cg_client *client;
  const struct cg_buf *answer;
  code = cg_remote_send(&remote, "POST", cg_remote_target("/forget/", argv[optind]), NULL, &client,
                        &answer);
  if (code == CG_CLI_FINE)
    cg_print_document(answer, FORGET_COLUMNS, COUNT_OF(FORGET_COLUMNS), remote.as_json);
  cg_client_close(client);
  return code;
}

int cg_cli_personal(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list persons whose data is encrypted", list_usage, personal_list},
      {"export", "print all events with data of a person", export_usage, personal_export},
      {"forget", "make the data of a person unreadable for ever", cg_cli_forget_usage,
       cg_cli_forget},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
