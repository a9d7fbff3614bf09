/* cli.c - the table of verbs, and what all verbs share: options, suggestions, complaints. */
#include "cli/cli.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "catga.h"

#define WORD_BYTES_MAX 64 /* Longer words get no suggestion. */

/* Adding a verb is one line here. */
static const struct cg_cli_verb VERBS[] = {
    {"run", "run an app", cg_cli_run_usage, cg_cli_run},
    {"test", "run the specs of an app", cg_cli_test_usage, cg_cli_test},
    {"send", "send a command to a running instance", cg_cli_send_usage, cg_cli_message},
    {"ask", "ask a query of a running instance", cg_cli_ask_usage, cg_cli_message},
    {"publish", "publish an event in a running instance", cg_cli_publish_usage, cg_cli_message},
    {"process", "start, look at and steer processes", cg_cli_process_usage, cg_cli_process},
    {"promise", "keep a promise of a process, or let it fail", cg_cli_promise_usage,
     cg_cli_promise},
    {"stream", "read, append to and delete streams of events", cg_cli_stream_usage, cg_cli_stream},
    {"subscription", "look at and steer subscriptions", cg_cli_subscription_usage,
     cg_cli_subscription},
    {"route", "show what is routed where, and why", cg_cli_route_usage, cg_cli_route},
    {"processor", "look at and steer streams of operators", cg_cli_processor_usage,
     cg_cli_processor},
    {"schedule", "start processes at the times of a clock", cg_cli_schedule_usage, cg_cli_schedule},
    {"outbox", "look at and steer messages that wait", cg_cli_outbox_usage, cg_cli_outbox},
    {"dlq", "look at, mend and retry what has failed", cg_cli_dlq_usage, cg_cli_dlq},
    {"handler", "list handlers, explain what stands around them", cg_cli_handler_usage,
     cg_cli_handler},
    {"policy", "look at breakers, limiters and other policies", cg_cli_policy_usage, cg_cli_policy},
    {"projection", "look at, steer and rebuild read models", cg_cli_projection_usage,
     cg_cli_projection},
    {"sql", "ask the read models by SQL, read-only", cg_cli_sql_usage, cg_cli_sql},
    {"log", "check, back up, export, import and repair the event log", cg_cli_log_usage,
     cg_cli_log},
    {"personal", "list persons, export and forget their data", cg_cli_personal_usage,
     cg_cli_personal},
    {"forget", "make the data of a person unreadable for ever", cg_cli_forget_usage, cg_cli_forget},
    {NULL, NULL, NULL, NULL}};

/* `catga help VERB...` is `catga VERB... --help`. */
static int help_on(int argc, char **argv) {
  static char option[] = "--help";
  for (int i = 1; i + 1 < argc; i++)
    argv[i] = argv[i + 1];
  argv[argc - 1] = option;
  return cg_cli_dispatch(NULL, VERBS, argc - 1, argv + 1);
}

static void print_help(void) {
  printf("Usage: catga VERB [OPTIONS] [ARGUMENTS]\n\n"
         "Durable event-driven software in Lua: one program, one log.\n\nVerbs:\n");
  for (const struct cg_cli_verb *verb = VERBS; verb->name != NULL; verb++)
    printf("  %-12s %s\n", verb->name, verb->summary);
  printf("\n  --version  print the version\n  --help     print this, or after a verb its usage\n\n"
         "Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 not found or cannot connect.\n\n"
         "Example: catga run examples/orders\n");
}

int cg_cli_main(int argc, char **argv) {
  if (argc < 2) {
    print_help();
    return CG_CLI_USAGE;
  }
  bool is_help = strcmp(argv[1], "help") == 0;
  if (is_help && argc > 2)
    return help_on(argc, argv);
  if (is_help || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    print_help();
    return CG_CLI_FINE;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("catga %s\n", catga_version());
    return CG_CLI_FINE;
  }
  return cg_cli_dispatch(NULL, VERBS, argc - 1, argv + 1);
}

int cg_cli_dispatch(const char *group, const struct cg_cli_verb *verbs, int argc, char **argv) {
  const char *names[64];
  size_t count = 0;
  for (const struct cg_cli_verb *verb = verbs; verb->name != NULL; verb++) {
    if (argc > 0 && strcmp(verb->name, argv[0]) == 0)
      return verb->run(verb, argc, argv);
    names[count++] = verb->name;
  }
  names[count] = NULL;
  const char *before = group != NULL ? group : "";
  const char *space = group != NULL ? " " : "";
  const char *near = argc > 0 ? cg_cli_suggest(argv[0], names) : NULL;
  if (argc == 0)
    fprintf(stderr, "catga: %s needs a verb:", before);
  else if (near != NULL)
    fprintf(stderr, "catga: there is no verb \"%s%s%s\"; did you mean \"%s\"? Verbs:", before,
            space, argv[0], near);
  else
    fprintf(stderr, "catga: there is no verb \"%s%s%s\"; verbs:", before, space, argv[0]);
  for (size_t i = 0; i < count; i++)
    fprintf(stderr, "%s %s", i > 0 ? "," : "", names[i]);
  fprintf(stderr, " (catga%s%s --help)\n", group != NULL ? " " : "", before);
  return CG_CLI_USAGE;
}

int cg_cli_group(const struct cg_cli_verb *group, const struct cg_cli_verb *verbs, int argc,
                 char **argv) {
  if (argc < 2 || (strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0))
    return cg_cli_dispatch(group->name, verbs, argc - 1, argv + 1);
  fputs(group->usage, stdout);
  for (const struct cg_cli_verb *verb = verbs; verb->name != NULL; verb++)
    printf("  %-10s %s\n", verb->name, verb->summary);
  return CG_CLI_FINE;
}

int cg_cli_option(const struct cg_cli_verb *verb, int argc, char **argv,
                  const struct option *options) {
  opterr = 0;
  int at = optind;
  int option = getopt_long(argc, argv, ":ho:", options, NULL);
  if (option == 'h') {
    fputs(verb->usage, stdout);
    return 'h';
  }
  if (option == ':') {
    cg_cli_wrong(verb, "option %s needs a value", argv[optind - 1]);
    return '?';
  }
  if (option != '?')
    return option;
  const char *names[32];
  size_t count = 0;
  for (const struct option *known = options; known->name != NULL; known++)
    names[count++] = known->name;
  names[count] = NULL;
  const char *word = argv[at > 0 && optind > at ? optind - 1 : at > 0 ? at : 1];
  const char *near = word[0] == '-' && word[1] == '-' ? cg_cli_suggest(word + 2, names) : NULL;
  if (near != NULL)
    cg_cli_wrong(verb, "there is no option %s; did you mean --%s?", word, near);
  else
    cg_cli_wrong(verb, "there is no option %s", word);
  return '?';
}

int cg_cli_option_exit(int option) {
  return option == 'h' ? CG_CLI_FINE : CG_CLI_USAGE;
}

int cg_cli_wrong(const struct cg_cli_verb *verb, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "catga: ");
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\n%s", verb->usage);
  return CG_CLI_USAGE;
}

int cg_cli_fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "catga: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  return CG_CLI_FAILED;
}

/* Single-character edits between two words (Levenshtein); both at most WORD_BYTES_MAX long. */
static size_t distance(const char *a, const char *b) {
  size_t row[WORD_BYTES_MAX + 1];
  size_t b_size = strlen(b);
  for (size_t j = 0; j <= b_size; j++)
    row[j] = j;
  for (size_t i = 0; a[i] != 0; i++) {
    size_t corner = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b_size; j++) {
      size_t change = corner + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[j]));
      corner = row[j + 1];
      size_t least = corner < row[j] ? corner : row[j];
      row[j + 1] = change < least + 1 ? change : least + 1;
    }
  }
  return row[b_size];
}

const char *cg_cli_suggest(const char *word, const char *const *names) {
  const char *best = NULL;
  size_t size = strlen(word);
  size_t best_distance = size / 3 > 2 ? size / 3 : 2;
  if (size > WORD_BYTES_MAX)
    return NULL;
  if (size < 4) /* Two letters of three would be another word. */
    best_distance = 1;
  for (; *names != NULL; names++) {
    if (strlen(*names) > WORD_BYTES_MAX)
      continue;
    size_t edits = distance(word, *names);
    if (edits < best_distance || (edits == best_distance && best == NULL)) {
      best = *names;
      best_distance = edits;
    }
  }
  return best;
}
