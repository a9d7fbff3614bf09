/* cli_policy.c - `catga handler list|explain` and `catga policy list|show`, in a running instance:
 * what stands around handlers, and what policies remember.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define DATA "  --data D       data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define JSON "  -o json        one document a line\n"

static const char handler_list_usage[] =
    "Usage: catga handler list [-o json] [--data D]\n"
    "Lists the handlers with what stands around them, outermost first.\n" JSON DATA
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga handler list\n";

static const char handler_explain_usage[] =
    "Usage: catga handler explain NAME [-o json] [--data D]\n"
    "Shows the pipeline of a message or durable subscription, outermost first: where each part is\n"
    "written, and each option with where its value comes from (default, script, catga.lua).\n" JSON
        DATA "Exit code: 0 printed, 3 there is no such handler, or nothing runs there.\n"
    "Example: catga handler explain ProcessPayment\n";

static const char policy_list_usage[] =
    "Usage: catga policy list [-o json] [--data D]\n"
    "Lists what policies remember now: breakers, limiters, bulkheads, caches and the like.\n" JSON
        DATA "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga policy list\n";

static const char policy_show_usage[] =
    "Usage: catga policy show NAME [-o json] [--data D]\n"
    "Shows one policy, or those of one message: its rules, who uses it, what it remembers and "
    "what\n"
    "it has counted.\n" JSON DATA
    "Exit code: 0 printed, 3 there is no such policy, or nothing runs there.\n"
    "Example: catga policy show payments\n";

const char cg_cli_handler_usage[] = "Usage: catga handler VERB ... (--help after each)\n"
                                    "Example: catga handler explain ProcessPayment\n";
const char cg_cli_policy_usage[] = "Usage: catga policy VERB ... (--help after each)\n"
                                   "Example: catga policy list\n";

static const struct cg_print_column HANDLER_COLUMNS[] = {
    {"NAME", "name", false},         {"KIND", "kind", false}, {"CALLS", "calls", false},
    {"FAILURES", "failures", false}, {"AT", "at", false},     {"ORDER", "order", false}};
static const struct cg_print_column PART_COLUMNS[] = {{"PART", "part", false},
                                                      {"ONCE A", "inside", false},
                                                      {"OPTION", "option", false},
                                                      {"VALUE", "value", false},
                                                      {"FROM", "from", false}};
static const struct cg_print_column POLICY_LIST_COLUMNS[] = {
    {"NAME", "name", false}, {"AT", "at", false}, {"NOW", "summary", false}};
static const struct cg_print_column POLICY_COLUMNS[] = {{"name", "name", false},
                                                        {"defined", "at", false},
                                                        {"used by", "used_by", false},
                                                        {"counters", "counters", false}};
static const struct cg_print_column RULE_COLUMNS[] = {{"RULE", "kind", false},
                                                      {"OPTION", "option", false},
                                                      {"VALUE", "value", false},
                                                      {"FROM", "from", false}};
static const struct cg_print_column KIND_COLUMNS[] = {
    {"KIND", "kind", false}, {"STATE", "state", false}, {"NOW", "detail", false}};

static void print_handlers(const struct cg_buf *answer, bool as_json) {
  cg_print_list(answer, HANDLER_COLUMNS, COUNT_OF(HANDLER_COLUMNS),
                as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
}

static void print_handler(const struct cg_buf *answer, bool as_json) {
  if (as_json)
    cg_print_list_of(answer, "handlers", NULL, 0, CG_PRINT_JSON);
  else
    cg_print_list_of(answer, "rows", PART_COLUMNS, COUNT_OF(PART_COLUMNS), CG_PRINT_TABLE);
}

static void print_policies(const struct cg_buf *answer, bool as_json) {
  cg_print_list(answer, POLICY_LIST_COLUMNS, COUNT_OF(POLICY_LIST_COLUMNS),
                as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
}

static void print_policy(const struct cg_buf *answer, bool as_json) {
  cg_print_document(answer, POLICY_COLUMNS, COUNT_OF(POLICY_COLUMNS), as_json);
  if (as_json)
    return;
  cg_print_list_of(answer, "rules", RULE_COLUMNS, COUNT_OF(RULE_COLUMNS), CG_PRINT_TABLE);
  cg_print_list_of(answer, "kinds", KIND_COLUMNS, COUNT_OF(KIND_COLUMNS), CG_PRINT_TABLE);
}

/* Reads the command line, asks for `path`, or for what its argument names there, and prints. */
static int ask(const struct cg_cli_verb *verb, int argc, char **argv, const char *path,
               bool is_named, void (*print)(const struct cg_buf *answer, bool as_json)) {
  struct cg_remote_options options;
  int code = cg_remote_parse(verb, argc, argv, &options);
  if (code >= 0)
    return code;
  if (!is_named && argc > optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  if (is_named && argc - optind != 1)
    return cg_cli_wrong(verb, "give one name");
  if (is_named && !cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  struct cg_client *client;
  const struct cg_buf *answer;
  code = cg_remote_send(&options, "GET", cg_remote_target(path, is_named ? argv[optind] : NULL),
                        NULL, &client, &answer);
  if (code == CG_CLI_FINE)
    print(answer, options.as_json);
  cg_client_close(client);
  return code;
}

static int handler_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  return ask(verb, argc, argv, "/handlers", false, print_handlers);
}

static int handler_explain(const struct cg_cli_verb *verb, int argc, char **argv) {
  return ask(verb, argc, argv, "/handlers/", true, print_handler);
}

static int policy_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  return ask(verb, argc, argv, "/policies", false, print_policies);
}

static int policy_show(const struct cg_cli_verb *verb, int argc, char **argv) {
  return ask(verb, argc, argv, "/policies/", true, print_policy);
}

static const struct cg_cli_verb HANDLER_VERBS[] = {
    {"list", "the handlers, and what stands around them", handler_list_usage, handler_list},
    {"explain", "the pipeline of one message", handler_explain_usage, handler_explain},
    {NULL, NULL, NULL, NULL}};

static const struct cg_cli_verb POLICY_VERBS[] = {
    {"list", "what policies remember", policy_list_usage, policy_list},
    {"show", "one policy, or those of one message", policy_show_usage, policy_show},
    {NULL, NULL, NULL, NULL}};

int cg_cli_handler(const struct cg_cli_verb *verb, int argc, char **argv) {
  return cg_cli_group(verb, HANDLER_VERBS, argc, argv);
}

int cg_cli_policy(const struct cg_cli_verb *verb, int argc, char **argv) {
  return cg_cli_group(verb, POLICY_VERBS, argc, argv);
}
