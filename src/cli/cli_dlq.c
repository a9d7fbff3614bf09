/* cli_dlq.c - `catga dlq list|show|groups|edit|retry|purge`: dead letters of a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <string.h>

#include "cli/document.h"
#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define DATA "  --data D        data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define COMMON "  -o json         one document a line\n" DATA
#define FILTER                                                                                     \
  "  --group TEXT    alike: as `catga dlq groups` prints it\n"                                     \
  "  --source NAME   of this command, subscription, projection, ...\n"                             \
  "  --kind KIND     message, handler, subscription, projection, stream or route\n"                \
  "  --code CODE     of the error\n"                                                               \
  "  --older-than T  that failed last longer ago, such as 7d\n"
#define ANSWERS "Exit code: 0 done, 1 refused, 3 there is no such letter, or nothing runs there.\n"

static const char list_usage[] =
    "Usage: catga dlq list [FILTER] [--status S] [--after ID] [--max N] [-o json] [--data D]\n"
    "Lists what has failed in the end and is neither done nor purged, the oldest first; behind it\n"
    "the parked events of subscriptions.\n" FILTER
    "  --status S      open, retrying, retried, purged or all\n"
    "  --after ID      behind that letter\n"
    "  --max N         at most so many, up to 10000 (default 100)\n" COMMON
    "Exit code: 0 printed, 1 refused, 3 nothing runs there.\n"
    "Example: catga dlq list --source ProcessPayment\n";

static const char show_usage[] =
    "Usage: catga dlq show ID [-o json] [--data D]\n"
    "Shows one dead letter: why it failed, with causes and traceback, and its data.\n" COMMON
        ANSWERS "Example: catga dlq show 7283746192837\n";

static const char groups_usage[] =
    "Usage: catga dlq groups [FILTER] [-o json] [--data D]\n"
    "Counts dead letters that are alike: of one kind, source, error code and place.\n" FILTER COMMON
    "Exit code: 0 printed, 1 refused, 3 nothing runs there.\n"
    "Example: catga dlq groups\n";

static const char edit_usage[] =
    "Usage: catga dlq edit ID JSON|- [--data D]\n"
    "Changes the data with which a dead letter is retried; - reads it from stdin.\n" DATA ANSWERS
    "Example: catga dlq edit 7283746192837 '{\"amount\":5}'\n";

static const char retry_usage[] =
    "Usage: catga dlq retry ID | FILTER | --all [-o json] [--data D]\n"
    "Does again what failed: one, those that fit, or all. The outbox does it, after this returns;\n"
    "a letter that is done well is closed, another one is open again.\n" FILTER
    "  --all           every letter that is open\n" COMMON ANSWERS
    "Example: catga dlq retry --group 'message ProcessPayment: gateway_down'\n";

static const char purge_usage[] =
    "Usage: catga dlq purge ID | FILTER | --all [-o json] [--data D]\n"
    "Closes dead letters for good: what failed will not be done.\n" FILTER
    "  --all           every letter that is open\n" COMMON ANSWERS
    "Example: catga dlq purge --older-than 30d\n";

const char cg_cli_dlq_usage[] = "Usage: catga dlq VERB ... (--help after each)\n"
                                "Example: catga dlq list\n";

static const struct cg_print_column LIST_COLUMNS[] = {{"ID", "id", false},
                                                      {"KIND", "kind", false},
                                                      {"SOURCE", "source", false},
                                                      {"STATUS", "status", false},
                                                      {"FAILED", "last_failed", true},
                                                      {"TRIED", "attempts", false},
                                                      {"CODE", "reason.code", false},
                                                      {"REASON", "reason.message", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {{"id", "id", false},
                                                      {"kind", "kind", false},
                                                      {"source", "source", false},
                                                      {"type", "type", false},
                                                      {"status", "status", false},
                                                      {"group", "group", false},
                                                      {"first failed", "first_failed", true},
                                                      {"last failed", "last_failed", true},
                                                      {"closed", "closed", true},
                                                      {"attempts", "attempts", false},
                                                      {"retries", "retries", false},
                                                      {"code", "reason.code", false},
                                                      {"reason", "reason.message", false},
                                                      {"causes", "causes", false},
                                                      {"correlation", "correlation_id", false},
                                                      {"stream", "stream", false},
                                                      {"version", "version", false},
                                                      {"position", "position", false},
                                                      {"detail", "detail", false},
                                                      {"edited", "edited", false},
                                                      {"data", "data", false},
                                                      {"traceback", "traceback", false}};
static const struct cg_print_column GROUP_COLUMNS[] = {{"COUNT", "count", false},
                                                       {"FIRST", "first_failed", true},
                                                       {"LAST", "last_failed", true},
                                                       {"NEWEST", "id", false},
                                                       {"GROUP", "group", false}};
static const struct cg_print_column COUNT_COLUMNS[] = {{"letters", "count", false}};

/* Options of these verbs, by what they are called over HTTP; those not given are NULL. */
struct given {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *texts[8];            /* In the order of TEXTS. */
  bool is_all;                     /* --all. */
};

/* An option with a text. */
struct text {
  int option;       /* Its letter. */
  const char *name; /* Over HTTP. */
};

static const struct text TEXTS[] = {{'g', "group"}, {'s', "source"},     {'k', "kind"},
                                    {'c', "code"},  {'t', "older_than"}, {'u', "status"},
                                    {'a', "after"}, {'m', "max"}};

#define FILTERS                                                                                    \
  {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'},                        \
      {"group", required_argument, NULL, 'g'}, {"source", required_argument, NULL, 's'},           \
      {"kind", required_argument, NULL, 'k'}, {"code", required_argument, NULL, 'c'}, {            \
    "older-than", required_argument, NULL, 't'                                                     \
  }

/* Reads options and at most `most` arguments. -1: go on. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv,
                 const struct option *options, int most, struct given *given) {
  *given = (struct given){.is_all = false};
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    size_t at = 0;
    while (at < COUNT_OF(TEXTS) && TEXTS[at].option != option)
      at++;
    if (at < COUNT_OF(TEXTS))
      given->texts[at] = optarg;
    else if (option == 'A')
      given->is_all = true;
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind > most)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind + most]);
  return argc == optind || cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Calls the target, which is released, and prints the answer with `count` columns; 0: nothing. */
static int call(const struct given *given, const char *method, struct cg_buf *target,
                const struct cg_buf *data, const struct cg_print_column *columns, size_t count) {
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(&given->remote, method, target, data, &client, &answer);
  bool as_json = given->remote.as_json;
  if (code == CG_CLI_FINE && (columns == LIST_COLUMNS || columns == GROUP_COLUMNS))
    cg_print_list(answer, columns, count, as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  else if (code == CG_CLI_FINE && count > 0)
    cg_print_document(answer, columns, count, as_json);
  cg_client_close(client);
  return code;
}

/* list and groups. */
static int dlq_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option list_options[] = {FILTERS,
                                               {"status", required_argument, NULL, 'u'},
                                               {"after", required_argument, NULL, 'a'},
                                               {"max", required_argument, NULL, 'm'},
                                               {NULL, 0, NULL, 0}};
  static const struct option group_options[] = {FILTERS, {NULL, 0, NULL, 0}};
  bool is_list = strcmp(verb->name, "list") == 0;
  struct given given;
  int code = parse(verb, argc, argv, is_list ? list_options : group_options, 0, &given);
  if (code >= 0)
    return code;
  struct cg_buf *target = cg_remote_target(is_list ? "/dead-letters" : "/dead-letter-groups", NULL);
  for (size_t i = 0; i < COUNT_OF(TEXTS); i++)
    cg_remote_query(target, TEXTS[i].name, given.texts[i]);
  if (is_list)
    return call(&given, "GET", target, NULL, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS));
  return call(&given, "GET", target, NULL, GROUP_COLUMNS, COUNT_OF(GROUP_COLUMNS));
}

static const struct option PLAIN_OPTIONS[] = {
    {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};

static int dlq_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, PLAIN_OPTIONS, 1, &given);
  if (code >= 0)
    return code;
  if (argc == optind)
    return cg_cli_wrong(verb, "give the id of one dead letter");
  return call(&given, "GET", cg_remote_target("/dead-letters/", argv[optind]), NULL, SHOW_COLUMNS,
              COUNT_OF(SHOW_COLUMNS));
}

static int dlq_edit(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct given given;
  int code = parse(verb, argc, argv, PLAIN_OPTIONS, 2, &given);
  if (code >= 0)
    return code;
  if (argc - optind != 2)
    return cg_cli_wrong(verb, "give the id of one dead letter, and its new data");
  struct cg_buf *data = cg_remote_data(argv[optind + 1]);
  if (data == NULL)
    return CG_CLI_FAILED;
  code = CG_CLI_USAGE;
  if (cg_remote_is_json(data))
    code = call(&given, "PUT", cg_remote_target("/dead-letters/", argv[optind]), data, NULL, 0);
  cg_buf_unref(data);
  return code;
}

/* retry and purge. */
static int dlq_act(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      FILTERS, {"all", no_argument, NULL, 'A'}, {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 1, &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = cg_buf_take(NULL, 64);
  bool is_filter = given.is_all;
  cg_document_begin(data);
  for (size_t i = 0; i < COUNT_OF(TEXTS); i++) {
    if (given.texts[i] == NULL)
      continue;
    cg_document_text(data, TEXTS[i].name, given.texts[i], strlen(given.texts[i]));
    is_filter = true;
  }
  if (given.is_all)
    cg_document_bool(data, "all", true);
  cg_document_end(data);
  if (is_filter == (argc != optind)) {
    code = cg_cli_wrong(verb, "give the id of one dead letter, or say which by --group, --source, "
                              "--kind, --code, --older-than, or --all");
  } else {
    struct cg_buf *target = cg_remote_target("/dead-letters/", is_filter ? NULL : argv[optind]);
    if (!is_filter)
      cg_buf_append(target, "/", 1);
    cg_buf_append(target, verb->name, strlen(verb->name));
    code = call(&given, "POST", target, data, COUNT_COLUMNS, COUNT_OF(COUNT_COLUMNS));
  }
  cg_buf_unref(data);
  return code;
}

int cg_cli_dlq(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list dead letters", list_usage, dlq_list},
      {"show", "show one dead letter", show_usage, dlq_show},
      {"groups", "count those that are alike", groups_usage, dlq_list},
      {"edit", "change the data of one", edit_usage, dlq_edit},
      {"retry", "do again what failed", retry_usage, dlq_act},
      {"purge", "close them for good", purge_usage, dlq_act},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
