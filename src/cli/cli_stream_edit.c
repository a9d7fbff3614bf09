/* cli_stream_edit.c - `catga stream list|info|append|delete|metadata|scavenge`, in a running
 * instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/cli_stream_edit.h"

#include <stdio.h>
#include <string.h>

#include "cli/document.h"
#include "cli/print.h"
#include "cli/remote.h"
#include "codec/codec.h"

#define OPTIONS_MAX 8 /* Options of one verb. */
#define COMMON                                                                                     \
  "  -o json      one document a line\n"                                                           \
  "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"

const char cg_cli_stream_list_usage[] =
    "Usage: catga stream list [--prefix P] [--category C] [--after NAME] [--max N] [-o json]\n"
    "                         [--data D]\n"
    "Prints streams by name; those of the runtime only when P or C asks for them.\n"
    "  --prefix P   names that begin so\n"
    "  --category C names that are C up to the first hyphen\n"
    "  --after NAME the page behind that name\n"
    "  --max N      at most so many, up to 1000 (default 100)\n" COMMON
    "Exit code: 0 printed, 1 a wrong bound, 3 nothing runs there.\n"
    "Example: catga stream list --category Order\n";

const char cg_cli_stream_info_usage[] =
    "Usage: catga stream info STREAM [-o json] [--data D]\n"
    "Prints what is known of a stream: version, events that are shown, metadata.\n" COMMON
    "Exit code: 0 printed, 3 there is no such stream, or nothing runs there.\n"
    "Example: catga stream info Order-42\n";

const char cg_cli_stream_append_usage[] =
    "Usage: catga stream append STREAM TYPE [JSON|-] [--expect V] [--id ID]\n"
    "                           [-o json] [--data D]\n"
    "Appends an event; it is durable when this returns.\n"
    "  JSON         the data; - reads it from stdin; without it, {}\n"
    "  --expect V   version of the stream's last event, or none, exists, any (default any)\n"
    "  --id ID      the same id again appends nothing\n" COMMON
    "Exit code: 0 done, 1 refused or failed, 3 nothing runs there.\n"
    "Example: catga stream append Order-42 OrderNoted '{\"text\":\"call back\"}' --expect 3\n";

const char cg_cli_stream_delete_usage[] =
    "Usage: catga stream delete STREAM [--expect V] [--hard] [-o json] [--data D]\n"
    "Hides what a stream holds; later appends go on with its versions.\n"
    "  --expect V   version of its last event\n"
    "  --hard       for good: the stream can never be appended to or read again\n" COMMON
    "Exit code: 0 done, 1 refused, 3 there is no such stream, or nothing runs there.\n"
    "Example: catga stream delete Order-42 --expect 7\n";

const char cg_cli_stream_metadata_usage[] =
    "Usage: catga stream metadata STREAM|--category C [--set JSON|-] [--expect V]\n"
    "                             [-o json] [--data D]\n"
    "Prints the metadata of a stream or of all streams of a category, or sets it: max_age,\n"
    "max_count, truncate_before, tags, custom. What a stream says wins over its category.\n"
    "  --category C of a category instead of a stream\n"
    "  --set JSON   the new metadata, in place of the old\n"
    "  --expect V   version of the metadata before, or none\n" COMMON
    "Exit code: 0 done, 1 refused, 3 nothing runs there.\n"
    "Example: catga stream metadata --category Order --set '{\"max_age\":\"30d\"}'\n";

const char cg_cli_stream_scavenge_usage[] =
    "Usage: catga stream scavenge [-o json] [--data D]\n"
    "Takes out of the sealed files of the log what metadata hides, what was deleted, and what the\n"
    "settings process_retain, inbox_window and others let go. Positions and versions stay.\n"
    "Files of which less than scavenge_min percent would go are left alone (events left: what\n"
    "could go of them).\n"
    "The instance goes on serving.\n" COMMON
    "Exit code: 0 done, 1 failed, or one is under way, 3 nothing runs there.\n"
    "Example: catga stream scavenge --data /var/lib/orders\n";

static const struct cg_print_column LIST_COLUMNS[] = {{"STREAM", "stream", false},
                                                      {"VERSION", "version", false},
                                                      {"EVENTS", "count", false},
                                                      {"LAST", "last_time", true},
                                                      {"DELETED", "deleted", false}};
static const struct cg_print_column INFO_COLUMNS[] = {
    {"stream", "stream", false},         {"version", "version", false},
    {"events", "count", false},          {"first version", "first_version", false},
    {"first event", "first_time", true}, {"last event", "last_time", true},
    {"deleted", "deleted", false},       {"metadata", "metadata", false}};
static const struct cg_print_column RESULT_COLUMNS[] = {{"version", "version", false},
                                                        {"repeated", "repeated", false}};
static const struct cg_print_column SCAVENGE_COLUMNS[] = {
    {"segments", "segments", false},
    {"rewritten", "rewritten", false},
    {"removed events", "removed_events", false},
    {"removed bytes", "removed_bytes", false},
    {"events left", "left_events", false}};
static const struct cg_print_column METADATA_COLUMNS[] = {{"version", "version", false},
                                                          {"metadata", "metadata", false}};

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))

/* What the options of a verb have said; NULL or false: nothing. */
struct given {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *prefix;              /* --prefix. */
  const char *category;            /* --category. */
  const char *after;               /* --after. */
  const char *max;                 /* --max. */
  const char *expect;              /* --expect. */
  const char *id;                  /* --id. */
  const char *set;                 /* --set. */
  bool is_hard;                    /* --hard. */
};

/* Reads the options named in `letters`. -1: go on; else the exit code. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, const char *letters,
                 struct given *given) {
  static const struct option all[] = {
      {"prefix", required_argument, NULL, 'p'}, {"category", required_argument, NULL, 'c'},
      {"after", required_argument, NULL, 'a'},  {"max", required_argument, NULL, 'm'},
      {"expect", required_argument, NULL, 'e'}, {"id", required_argument, NULL, 'i'},
      {"set", required_argument, NULL, 's'},    {"hard", no_argument, NULL, 'H'}};
  struct option options[OPTIONS_MAX + 3] = {{"data", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'}};
  for (size_t i = 0, count = 2; i < COUNT_OF(all); i++)
    if (strchr(letters, all[i].val) != NULL)
      options[count++] = all[i];
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'p')
      given->prefix = optarg;
    else if (option == 'c')
      given->category = optarg;
    else if (option == 'a')
      given->after = optarg;
    else if (option == 'm')
      given->max = optarg;
    else if (option == 'e')
      given->expect = optarg;
    else if (option == 'i')
      given->id = optarg;
    else if (option == 's')
      given->set = optarg;
    else if (option == 'H')
      given->is_hard = true;
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  return -1;
}

/* The same for a verb that takes one stream. */
static int parse_stream(const struct cg_cli_verb *verb, int argc, char **argv, const char *letters,
                        struct given *given) {
  int code = parse(verb, argc, argv, letters, given);
  if (code >= 0)
    return code;
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "name one stream");
  return cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Calls and prints the document that is answered. */
static int call(const struct given *given, const char *method, struct cg_buf *target,
                const struct cg_buf *data, const struct cg_print_column *columns, size_t count) {
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(&given->remote, method, target, data, &client, &answer);
  if (code == CG_CLI_FINE)
    cg_print_document(answer, columns, count, given->remote.as_json);
  cg_client_close(client);
  return code;
}

int cg_cli_stream_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse(verb, argc, argv, "pcam", &given);
  if (code >= 0)
    return code;
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  struct cg_buf *target = cg_remote_target("/streams", NULL);
  cg_remote_query(target, "prefix", given.prefix);
  cg_remote_query(target, "category", given.category);
  cg_remote_query(target, "after", given.after);
  cg_remote_query(target, "max", given.max);
  struct cg_client *client;
  const struct cg_buf *answer;
  code = cg_remote_send(&given.remote, "GET", target, NULL, &client, &answer);
  if (code == CG_CLI_FINE)
    cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS),
                  given.remote.as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_client_close(client);
  return code;
}

int cg_cli_stream_info(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse_stream(verb, argc, argv, "", &given);
  if (code >= 0)
    return code;
  return call(&given, "GET", cg_remote_target("/stream-info/", argv[optind]), NULL, INFO_COLUMNS,
              COUNT_OF(INFO_COLUMNS));
}

/* The event as JSON, or NULL after a complaint. */
static struct cg_buf *event_of(const char *type, const char *argument, const char *id) {
  struct cg_buf *data = cg_remote_data(argument);
  if (data == NULL)
    return NULL;
  if (!cg_remote_is_json(data)) {
    cg_buf_unref(data);
    return NULL;
  }
  struct cg_buf *event = cg_buf_take(NULL, data->size + 256);
  cg_document_begin(event);
  cg_document_text(event, "type", type, strlen(type));
  if (id != NULL)
    cg_document_text(event, "id", id, strlen(id));
  cg_document_json(event, "data", data);
  cg_document_end(event);
  cg_buf_unref(data);
  return event;
}

int cg_cli_stream_append(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse(verb, argc, argv, "ei", &given);
  if (code >= 0)
    return code;
  int count = argc - optind;
  if (count < 2 || count > 3)
    return cg_cli_wrong(verb, "name a stream and a type, and give at most one JSON text");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_buf *event = event_of(argv[optind + 1], count == 3 ? argv[optind + 2] : "{}", given.id);
  if (event == NULL)
    return CG_CLI_FAILED;
  struct cg_buf *target = cg_remote_target("/streams/", argv[optind]);
  cg_remote_query(target, "expect", given.expect);
  code = call(&given, "POST", target, event, RESULT_COLUMNS, COUNT_OF(RESULT_COLUMNS));
  cg_buf_unref(event);
  return code;
}

int cg_cli_stream_delete(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse_stream(verb, argc, argv, "eH", &given);
  if (code >= 0)
    return code;
  struct cg_buf *target = cg_remote_target("/streams/", argv[optind]);
  cg_remote_query(target, "expect", given.expect);
  cg_remote_query(target, "hard", given.is_hard ? "1" : NULL);
  return call(&given, "DELETE", target, NULL, RESULT_COLUMNS, COUNT_OF(RESULT_COLUMNS));
}

int cg_cli_stream_scavenge(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse(verb, argc, argv, "", &given);
  if (code >= 0)
    return code;
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  return call(&given, "POST", cg_remote_target("/scavenge", NULL), NULL, SCAVENGE_COLUMNS,
              COUNT_OF(SCAVENGE_COLUMNS));
}

int cg_cli_stream_metadata(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given = {.prefix = NULL};
  int code = parse(verb, argc, argv, "cse", &given);
  if (code >= 0)
    return code;
  if (argc - optind != (given.category == NULL))
    return cg_cli_wrong(verb, "name one stream, or a category by --category");
  const char *name = given.category != NULL ? given.category : argv[optind];
  if (!cg_remote_name(verb, name))
    return CG_CLI_USAGE;
  if (given.expect != NULL && given.set == NULL)
    return cg_cli_wrong(verb, "--expect needs --set");
  struct cg_buf *target =
      cg_remote_target(given.category != NULL ? "/category-metadata/" : "/metadata/", name);
  if (given.set == NULL)
    return call(&given, "GET", target, NULL, METADATA_COLUMNS, COUNT_OF(METADATA_COLUMNS));
  struct cg_buf *data = cg_remote_data(given.set);
  if (data == NULL) {
    cg_buf_unref(target);
    return CG_CLI_FAILED;
  }
  cg_remote_query(target, "expect", given.expect);
  code = call(&given, "PUT", target, data, RESULT_COLUMNS, COUNT_OF(RESULT_COLUMNS));
  cg_buf_unref(data);
  return code;
}
