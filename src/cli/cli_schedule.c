/* cli_schedule.c - `catga schedule list|show|create|pause|resume|trigger|backfill|delete`, in a
 * running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/document.h"
#include "cli/print.h"
#include "cli/remote.h"

#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))
#define ID_BYTES 1024 /* Room for the id of a process. */
#define DATA "  --data D       data directory of the instance (default $CATGA_DATA, else .catga)\n"
#define JSON "  -o json        one document a line\n"
#define ANSWERS                                                                                    \
  "Exit code: 0 done, 1 refused, 3 there is no such schedule, or nothing runs there.\n"

static const char list_usage[] =
    "Usage: catga schedule list [--prefix P] [--max N] [-o json] [--data D]\n"
    "Lists the schedules: what they start, when next, when last.\n"
    "  --prefix P     those whose name begins so\n"
    "  --max N        at most so many, up to 10000 (default 1000)\n" JSON DATA
    "Exit code: 0 printed, 3 nothing runs there.\n"
    "Example: catga schedule list\n";

static const char show_usage[] =
    "Usage: catga schedule show NAME [-o json] [--data D]\n"
    "Shows one schedule.\n" JSON DATA ANSWERS "Example: catga schedule show nightly\n";

static const char create_usage[] =
    "Usage: catga schedule create NAME CRON PROCESS [JSON|-] [OPTIONS] [-o json] [--data D]\n"
    "Makes a schedule that lasts until it is deleted.\n"
    "  JSON           input of the process; - reads it from stdin; without it, {}\n"
    "  --timezone Z   of the cron expression, such as Europe/Berlin (default UTC)\n"
    "  --overlap O    while the run before goes on: skip (default), queue, cancel, allow\n"
    "  --queue-max N  runs that wait (default 100)\n"
    "  --jitter T     a run begins up to so much later, such as 5m\n"
    "  --catch-up T   a time missed for longer is not run (default 1h)\n"
    "  --paused       until it is resumed\n"
    "  --note TEXT    shown with it\n" JSON DATA "Exit code: 0 made, 1 refused, 3 there is no such "
    "process or time zone, or nothing runs there.\n"
    "Example: catga schedule create nightly '0 3 * * *' Report '{\"kind\":\"daily\"}'\n";

static const char pause_usage[] =
    "Usage: catga schedule pause NAME [--note TEXT] [--data D]\n"
    "Starts nothing at its times until it is resumed, also over a restart.\n"
    "  --note TEXT    why\n" DATA ANSWERS "Example: catga schedule pause nightly --note repair\n";

static const char resume_usage[] =
    "Usage: catga schedule resume NAME [--note TEXT] [--data D]\n"
    "Goes on after a pause; its times are not made up for: catga schedule backfill does that.\n"
    "  --note TEXT    shown with it\n" DATA ANSWERS "Example: catga schedule resume nightly\n";

static const char trigger_usage[] =
    "Usage: catga schedule trigger NAME [--overlap O] [-o json] [--data D]\n"
    "Starts a run now, paused or not, and prints the id of the process.\n"
    "  --overlap O    skip, queue, cancel or allow, instead of that of the schedule\n" JSON DATA
        ANSWERS "Example: catga schedule trigger nightly\n";

static const char backfill_usage[] =
    "Usage: catga schedule backfill NAME FROM TO [--overlap O] [-o json] [--data D]\n"
    "Runs all times of a span in the past, both ends included, but those that have run already.\n"
    "  --overlap O    queue (default): one after the other; allow: all at once\n" JSON DATA ANSWERS
    "Example: catga schedule backfill nightly 2026-01-01 2026-01-31T23:59:59Z\n";

static const char delete_usage[] =
    "Usage: catga schedule delete NAME [--data D]\n"
    "Ends a schedule that was made by `create`; runs that have begun go on.\n" DATA ANSWERS
    "Example: catga schedule delete nightly\n";

const char cg_cli_schedule_usage[] = "Usage: catga schedule VERB ... (--help after each)\n"
                                     "Example: catga schedule list\n";

static const struct cg_print_column LIST_COLUMNS[] = {
    {"NAME", "name", false},         {"STATUS", "status", false},   {"CRON", "cron", false},
    {"TIMEZONE", "timezone", false}, {"PROCESS", "process", false}, {"NEXT", "next", true},
    {"LAST", "last", true},          {"RUNS", "runs", false}};
static const struct cg_print_column SHOW_COLUMNS[] = {{"name", "name", false},
                                                      {"status", "status", false},
                                                      {"note", "note", false},
                                                      {"cron", "cron", false},
                                                      {"timezone", "timezone", false},
                                                      {"process", "process", false},
                                                      {"input", "input", false},
                                                      {"overlap", "overlap", false},
                                                      {"defined", "defined", false},
                                                      {"next", "next", true},
                                                      {"last", "last", true},
                                                      {"last id", "last_id", false},
                                                      {"running", "running", false},
                                                      {"queued", "queued", false},
                                                      {"backfills", "backfills", false},
                                                      {"runs", "runs", false},
                                                      {"skipped", "skipped", false},
                                                      {"missed", "missed", false},
                                                      {"failed", "failed", false},
                                                      {"error", "error", false}};
static const struct cg_print_column COUNT_COLUMNS[] = {{"times", "count", false}};

/* How an answer is printed. */
enum as {
  AS_NOTHING, /* Not at all. */
  AS_LIST,    /* A table of schedules. */
  AS_ONE,     /* One schedule. */
  AS_COUNT,   /* How many times. */
  AS_ID       /* The id of a process. */
};

/* Options of all these verbs; those that were not given are NULL. */
struct given {
  struct cg_remote_options remote; /* Which instance, and how to print. */
  const char *prefix;              /* --prefix. */
  const char *max;                 /* --max. */
  const char *timezone;            /* --timezone. */
  const char *overlap;             /* --overlap. */
  const char *queue_max;           /* --queue-max. */
  const char *jitter;              /* --jitter. */
  const char *catch_up;            /* --catch-up. */
  const char *note;                /* --note. */
  bool is_paused;                  /* --paused. */
};

static void print_answer(const struct cg_buf *answer, enum as as, bool as_json) {
  char id[ID_BYTES];
  switch (as) {
  case AS_NOTHING:
    return;
  case AS_LIST:
    cg_print_list(answer, LIST_COLUMNS, COUNT_OF(LIST_COLUMNS),
                  as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
    return;
  case AS_ONE:
    cg_print_document(answer, SHOW_COLUMNS, COUNT_OF(SHOW_COLUMNS), as_json);
    return;
  case AS_COUNT:
    cg_print_document(answer, COUNT_COLUMNS, COUNT_OF(COUNT_COLUMNS), as_json);
    return;
  case AS_ID:
    if (as_json) {
      cg_print_document(answer, NULL, 0, true);
      return;
    }
    cg_print_field(answer, "id", id, sizeof(id));
    printf("%s\n", id);
    return;
  }
}

/* Calls the target, which is released, and prints the answer. */
static int call(const struct given *given, const char *method, struct cg_buf *target,
                const struct cg_buf *data, enum as as) {
  struct cg_client *client;
  const struct cg_buf *answer;
  int code = cg_remote_send(&given->remote, method, target, data, &client, &answer);
  if (code == CG_CLI_FINE)
    print_answer(answer, as, given->remote.as_json);
  cg_client_close(client);
  return code;
}

/* Where the value of an option goes; NULL: it is none of ours. */
static const char **place_of(struct given *given, int option) {
  switch (option) {
  case 'p':
    return &given->prefix;
  case 'm':
    return &given->max;
  case 'z':
    return &given->timezone;
  case 'v':
    return &given->overlap;
  case 'q':
    return &given->queue_max;
  case 'j':
    return &given->jitter;
  case 'c':
    return &given->catch_up;
  case 'n':
    return &given->note;
  default:
    return NULL;
  }
}

/* Reads options and from `least` to `most` arguments, of which the first is a name. -1: go on. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv,
                 const struct option *options, int least, int most, struct given *given) {
  *given = (struct given){.prefix = NULL};
  cg_remote_init(&given->remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    const char **place = place_of(given, option);
    if (place != NULL)
      *place = optarg;
    else if (option == 'x')
      given->is_paused = true;
    else if (!cg_remote_option(verb, &given->remote, option))
      return cg_cli_option_exit(option);
  }
  int count = argc - optind;
  if (count > most && most == 0)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  if (count < least || count > most)
    return cg_cli_wrong(verb, most == 1   ? "name one schedule"
                              : most == 3 ? "give the name of a schedule and a span, from and to"
                                          : "give a name, a cron expression and a process");
  return count == 0 || cg_remote_name(verb, argv[optind]) ? -1 : CG_CLI_USAGE;
}

/* Path of a schedule, or of what is asked of it. */
static struct cg_buf *target_of(const char *name, const char *action) {
  struct cg_buf *target = cg_remote_target("/schedules/", name);
  if (action != NULL) {
    cg_buf_append(target, "/", 1);
    cg_buf_append(target, action, strlen(action));
  }
  return target;
}

/* Adds a field unless its value is NULL. */
static void add_text(struct cg_buf *data, const char *name, const char *value) {
  if (value != NULL)
    cg_document_text(data, name, value, strlen(value));
}

static int schedule_list(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"prefix", required_argument, NULL, 'p'},
                                          {"max", required_argument, NULL, 'm'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 0, 0, &given);
  if (code >= 0)
    return code;
  struct cg_buf *target = cg_remote_target("/schedules", NULL);
  cg_remote_query(target, "prefix", given.prefix);
  cg_remote_query(target, "max", given.max);
  return call(&given, "GET", target, NULL, AS_LIST);
}

/* show and delete. */
static int schedule_one(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 1, 1, &given);
  if (code >= 0)
    return code;
  bool is_show = strcmp(verb->name, "show") == 0;
  return call(&given, is_show ? "GET" : "DELETE", target_of(argv[optind], NULL), NULL,
              is_show ? AS_ONE : AS_NOTHING);
}

static int schedule_create(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"timezone", required_argument, NULL, 'z'},
                                          {"overlap", required_argument, NULL, 'v'},
                                          {"queue-max", required_argument, NULL, 'q'},
                                          {"jitter", required_argument, NULL, 'j'},
                                          {"catch-up", required_argument, NULL, 'c'},
                                          {"paused", no_argument, NULL, 'x'},
                                          {"note", required_argument, NULL, 'n'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 3, 4, &given);
  if (code >= 0)
    return code;
  char *end = NULL;
  double queue_max = given.queue_max != NULL ? strtod(given.queue_max, &end) : 0;
  if (given.queue_max != NULL && (end == given.queue_max || *end != '\0'))
    return cg_cli_wrong(verb, "--queue-max is a number, not %s", given.queue_max);
  struct cg_buf *input = cg_remote_data(argc - optind == 4 ? argv[optind + 3] : "{}");
  if (input == NULL)
    return CG_CLI_FAILED;
  struct cg_buf *data = cg_buf_take(NULL, 256);
  cg_document_begin(data);
  add_text(data, "name", argv[optind]);
  add_text(data, "cron", argv[optind + 1]);
  add_text(data, "process", argv[optind + 2]);
  cg_document_json(data, "input", input);
  add_text(data, "timezone", given.timezone);
  add_text(data, "overlap", given.overlap);
  if (given.queue_max != NULL)
    cg_document_number(data, "queue_max", queue_max);
  add_text(data, "jitter", given.jitter);
  add_text(data, "catch_up", given.catch_up);
  add_text(data, "note", given.note);
  if (given.is_paused)
    cg_document_bool(data, "paused", true);
  cg_document_end(data);
  code = call(&given, "POST", cg_remote_target("/schedules", NULL), data, AS_ONE);
  cg_buf_unref(data);
  cg_buf_unref(input);
  return code;
}

/* pause, resume and trigger. */
static int schedule_act(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option note_options[] = {{"note", required_argument, NULL, 'n'},
                                               {"data", required_argument, NULL, 'd'},
                                               {"help", no_argument, NULL, 'h'},
                                               {NULL, 0, NULL, 0}};
  static const struct option trigger_options[] = {{"overlap", required_argument, NULL, 'v'},
                                                  {"data", required_argument, NULL, 'd'},
                                                  {"help", no_argument, NULL, 'h'},
                                                  {NULL, 0, NULL, 0}};
  bool is_trigger = strcmp(verb->name, "trigger") == 0;
  struct given given;
  int code = parse(verb, argc, argv, is_trigger ? trigger_options : note_options, 1, 1, &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = cg_buf_take(NULL, 64);
  cg_document_begin(data);
  add_text(data, "note", given.note);
  add_text(data, "overlap", given.overlap);
  cg_document_end(data);
  code = call(&given, "POST", target_of(argv[optind], verb->name), data,
              is_trigger ? AS_ID : AS_NOTHING);
  cg_buf_unref(data);
  return code;
}

static int schedule_backfill(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"overlap", required_argument, NULL, 'v'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct given given;
  int code = parse(verb, argc, argv, options, 3, 3, &given);
  if (code >= 0)
    return code;
  struct cg_buf *data = cg_buf_take(NULL, 64);
  cg_document_begin(data);
  add_text(data, "from", argv[optind + 1]);
  add_text(data, "to", argv[optind + 2]);
  add_text(data, "overlap", given.overlap);
  cg_document_end(data);
  code = call(&given, "POST", target_of(argv[optind], verb->name), data, AS_COUNT);
  cg_buf_unref(data);
  return code;
}

int cg_cli_schedule(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"list", "list schedules", list_usage, schedule_list},
      {"show", "show one schedule", show_usage, schedule_one},
      {"create", "make a schedule", create_usage, schedule_create},
      {"pause", "start nothing for a while", pause_usage, schedule_act},
      {"resume", "go on after a pause", resume_usage, schedule_act},
      {"trigger", "start a run now", trigger_usage, schedule_act},
      {"backfill", "run the times of a span in the past", backfill_usage, schedule_backfill},
      {"delete", "end a schedule that was made by create", delete_usage, schedule_one},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
