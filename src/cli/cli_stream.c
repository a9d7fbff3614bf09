/* cli_stream.c - `catga stream read|tail`: events of a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_stream_edit.h"
#include "cli/cli_stream_show.h"
#include "cli/print.h"
#include "cli/remote.h"

#define TAIL_WAIT "30s" /* One request of tail waits so long for events. */

static const char read_usage[] =
    "Usage: catga stream read STREAM [--from N] [--to N] [--until TIME] [--max N] [--backward]\n"
    "                         [--types A,B] [--type-prefix P] [-o json] [--data D]\n"
    "Prints events of a stream.\n"
    "  --from N     from this version on (default 0; backward: the last)\n"
    "  --to N       up to this version\n"
    "  --until TIME nothing later, such as 2026-01-01T00:00:00Z\n"
    "  --max N      at most so many, up to 10000 (default 100)\n"
    "  --backward   newest first\n"
    "  --types A,B  only events of these types\n"
    "  --type-prefix P  only events whose type begins so\n"
    "  -o json      one document a line\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 3 there is no such stream, or nothing runs there.\n"
    "Example: catga stream read Order-42 --backward --max 1\n";

static const char tail_usage[] =
    "Usage: catga stream tail STREAM [--from N] [-o json] [--data D]\n"
    "Prints events of a stream as they come, until it is interrupted.\n"
    "  --from N   from this version on (default: only new ones)\n"
    "  -o json    one document a line\n"
    "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 1 the instance has ended, 3 nothing runs there.\n"
    "Example: catga stream tail Order-42 --from 0\n";

const char cg_cli_stream_usage[] = "Usage: catga stream VERB ... (--help after each)\n"
                                   "Example: catga stream read Order-42\n";

static const struct cg_print_column COLUMNS[] = {{"VERSION", "version", false},
                                                 {"TIME", "time", true},
                                                 {"TYPE", "type", false},
                                                 {"DATA", "data", false}};

#define COLUMN_COUNT (sizeof(COLUMNS) / sizeof(COLUMNS[0]))

/* What to read. */
struct range {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *stream;              /* Its name. */
  const char *from;                /* Text of a number, or NULL. */
  const char *max;                 /* The same. */
  const char *wait;                /* A duration, or NULL. */
  const char *to;                  /* Text of a number, or NULL. */
  const char *until_time;          /* A time, or NULL. */
  const char *types;               /* Types with commas between, or NULL. */
  const char *type_prefix;         /* What a type begins with, or NULL. */
  bool is_backward;                /* Newest first. */
};

static int get(struct cg_client *client, const struct range *range, const struct cg_buf **answer) {
  struct cg_buf *target = cg_remote_target("/streams/", range->stream);
  cg_remote_query(target, "from", range->from);
  cg_remote_query(target, "to", range->to);
  cg_remote_query(target, "until_time", range->until_time);
  cg_remote_query(target, "max", range->max);
  cg_remote_query(target, "wait", range->wait);
  cg_remote_query(target, "types", range->types);
  cg_remote_query(target, "type_prefix", range->type_prefix);
  cg_remote_query(target, "backward", range->is_backward ? "1" : NULL);
  cg_buf_append(target, "", 1);
  struct cg_client_request request = {.method = "GET", .target = (const char *)target->data};
  int code = cg_remote_call(client, &request, answer);
  cg_buf_unref(target);
  return code;
}

/* -1: go on; else the exit code. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, struct range *range) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'},  {"from", required_argument, NULL, 'f'},
      {"to", required_argument, NULL, 't'},    {"until", required_argument, NULL, 'u'},
      {"max", required_argument, NULL, 'm'},   {"backward", no_argument, NULL, 'b'},
      {"types", required_argument, NULL, 'T'}, {"type-prefix", required_argument, NULL, 'p'},
      {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
  cg_remote_init(&range->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'f')
      range->from = optarg;
    else if (option == 'm')
      range->max = optarg;
    else if (option == 't')
      range->to = optarg;
    else if (option == 'u')
      range->until_time = optarg;
    else if (option == 'T')
      range->types = optarg;
    else if (option == 'p')
      range->type_prefix = optarg;
    else if (option == 'b')
      range->is_backward = true;
    else if (!cg_remote_option(verb, &range->remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "name one stream");
  range->stream = argv[optind];
  return cg_remote_name(verb, range->stream) ? -1 : CG_CLI_USAGE;
}

static int stream_read(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct range range = {.stream = NULL};
  int code = parse(verb, argc, argv, &range);
  if (code >= 0)
    return code;
  struct cg_client *client = cg_remote_open(&range.remote, &code);
  if (client == NULL)
    return code;
  const struct cg_buf *answer;
  code = get(client, &range, &answer);
  if (code == CG_CLI_FINE)
    cg_print_list(answer, COLUMNS, COLUMN_COUNT,
                  range.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_client_close(client);
  return code;
}

/* The version behind the last event. */
static int find_end(struct cg_client *client, const struct range *range, double *next) {
  struct range last = *range;
  last.is_backward = true;
  last.max = "1";
  last.wait = "0s";
  const struct cg_buf *answer;
  int code = get(client, &last, &answer);
  if (code == CG_CLI_FINE)
    *next = cg_print_number(answer, 0, "version") + 1;
  return code;
}

static int stream_tail(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct range range = {.stream = NULL};
  int code = parse(verb, argc, argv, &range);
  if (code >= 0)
    return code;
  if (range.is_backward || range.max != NULL || range.to != NULL || range.until_time != NULL ||
      range.types != NULL || range.type_prefix != NULL)
    return cg_cli_wrong(verb, "of the options of read only --from makes sense here");
  struct cg_client *client = cg_remote_open(&range.remote, &code);
  if (client == NULL)
    return code;
  double next = range.from != NULL ? strtod(range.from, NULL) : 0;
  code = range.from != NULL ? CG_CLI_FINE : find_end(client, &range, &next);
  range.wait = TAIL_WAIT;
  enum cg_print_as as = range.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE;
  while (code == CG_CLI_FINE) {
    char from[32];
    snprintf(from, sizeof(from), "%.0f", next);
    range.from = from;
    const struct cg_buf *answer;
    code = get(client, &range, &answer);
    if (code != CG_CLI_FINE)
      break;
    double last = cg_print_number(answer, -1, "version");
    if (last < 0)
      continue;
    cg_print_list(answer, COLUMNS, COLUMN_COUNT, as);
    fflush(stdout);
    as = range.remote.as_json ? CG_PRINT_JSON : CG_PRINT_ROWS;
    next = last + 1;
  }
  cg_client_close(client);
  return code;
}

int cg_cli_stream(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list streams", cg_cli_stream_list_usage, cg_cli_stream_list},
      {"info", "tell what is known of a stream", cg_cli_stream_info_usage, cg_cli_stream_info},
      {"read", "print events of a stream", read_usage, stream_read},
      {"tail", "print events as they come", tail_usage, stream_tail},
      {"show", "print the state that its events make", cg_cli_stream_show_usage,
       cg_cli_stream_show},
      {"append", "append an event", cg_cli_stream_append_usage, cg_cli_stream_append},
      {"metadata", "print or set retention", cg_cli_stream_metadata_usage, cg_cli_stream_metadata},
      {"delete", "hide a stream's events, or end it", cg_cli_stream_delete_usage,
       cg_cli_stream_delete},
      {"scavenge", "take out what is hidden or deleted", cg_cli_stream_scavenge_usage,
       cg_cli_stream_scavenge},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
