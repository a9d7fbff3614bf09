/* cli_stream_show.c - asks a running instance for the state of an aggregate, or for what changed
 * between two of its versions.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/cli_stream_show.h"

#include <string.h>

#include "cli/print.h"
#include "cli/remote.h"

#define VERSION_DIGITS 16 /* Of the number of a version. */

const char cg_cli_stream_show_usage[] =
    "Usage: catga stream show STREAM [--version N | --at TIME | --diff A..B] [-o json] [--data D]\n"
    "Prints the state of the aggregate whose stream it is, as the running scripts make it.\n"
    "  --version N  as it was at this version\n"
    "  --at TIME    as it was at this time, such as 2026-01-01T00:00:00Z\n"
    "  --diff A..B  what changed from version A to version B; ..B: from the very start\n"
    "  -o json      as JSON; of a difference one document a line\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 1 the scripts cannot make it, 3 there is no such stream, version or\n"
    "aggregate, or nothing runs there.\n"
    "Example: catga stream show Order-42 --diff 3..7\n";

static const struct cg_print_column STATE_COLUMNS[] = {{"stream", "stream", false},
                                                       {"version", "version", false},
                                                       {"time", "time", true},
                                                       {"state", "state", false}};
static const struct cg_print_column CHANGE_COLUMNS[] = {
    {"PATH", "path", false}, {"BEFORE", "before", false}, {"AFTER", "after", false}};

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))

/* What to show. */
struct wanted {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *stream;              /* Its name. */
  const char *version;             /* Text of a number, or NULL. */
  const char *at;                  /* A time, or NULL. */
  const char *diff;                /* "A..B", or NULL. */
  char from[VERSION_DIGITS + 1];   /* A; "" for the start. */
  char to[VERSION_DIGITS + 1];     /* B. */
};

/* Copies a number of digits; false when there is anything else, or too much. */
static bool copy_digits(char *to, const char *from, size_t size) {
  if (size > VERSION_DIGITS || strspn(from, "0123456789") < size)
    return false;
  memcpy(to, from, size);
  to[size] = 0;
  return true;
}

static bool split_diff(struct wanted *wanted) {
  const char *dots = strstr(wanted->diff, "..");
  if (dots == NULL || dots[2] == 0)
    return false;
  return copy_digits(wanted->from, wanted->diff, (size_t)(dots - wanted->diff)) &&
         copy_digits(wanted->to, dots + 2, strlen(dots + 2));
}

/* -1: go on; else the exit code. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, struct wanted *wanted) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"version", required_argument, NULL, 'v'},
      {"at", required_argument, NULL, 'a'},   {"diff", required_argument, NULL, 'D'},
      {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0}};
  cg_remote_init(&wanted->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'v')
      wanted->version = optarg;
    else if (option == 'a')
      wanted->at = optarg;
    else if (option == 'D')
      wanted->diff = optarg;
    else if (!cg_remote_option(verb, &wanted->remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "name one stream");
  if ((wanted->version != NULL) + (wanted->at != NULL) + (wanted->diff != NULL) > 1)
    return cg_cli_wrong(verb, "give one of --version, --at and --diff");
  if (wanted->diff != NULL && !split_diff(wanted))
    return cg_cli_wrong(verb, "--diff takes two versions, such as 3..7, not \"%s\"", wanted->diff);
  wanted->stream = argv[optind];
  return cg_remote_name(verb, wanted->stream) ? -1 : CG_CLI_USAGE;
}

static struct cg_buf *target_of(const struct wanted *wanted) {
  bool is_diff = wanted->diff != NULL;
  struct cg_buf *target =
      cg_remote_target(is_diff ? "/aggregate-changes/" : "/aggregates/", wanted->stream);
  cg_remote_query(target, "version", wanted->version);
  cg_remote_query(target, "at", wanted->at);
  cg_remote_query(target, "from", is_diff && wanted->from[0] != 0 ? wanted->from : NULL);
  cg_remote_query(target, "to", is_diff ? wanted->to : NULL);
  cg_buf_append(target, "", 1);
  return target;
}

int cg_cli_stream_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct wanted wanted = {.stream = NULL};
  int code = parse(verb, argc, argv, &wanted);
  if (code >= 0)
    return code;
  struct cg_client *client = cg_remote_open(&wanted.remote, &code);
  if (client == NULL)
    return code;
  struct cg_buf *target = target_of(&wanted);
  struct cg_client_request request = {.method = "GET", .target = (const char *)target->data};
  const struct cg_buf *answer;
  code = cg_remote_call(client, &request, &answer);
  if (code == CG_CLI_FINE && wanted.diff != NULL)
    cg_print_list(answer, CHANGE_COLUMNS, COUNT_OF(CHANGE_COLUMNS),
                  wanted.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  else if (code == CG_CLI_FINE)
    cg_print_document(answer, STATE_COLUMNS, COUNT_OF(STATE_COLUMNS), wanted.remote.as_json);
  cg_buf_unref(target);
  cg_client_close(client);
  return code;
}
