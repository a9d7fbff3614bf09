/* cli_log_export.c - `catga log export`: events as CloudEvents, one JSON document a line.
 *
 * It works page by page, so a log of any size takes the same memory.
 * Owns: nothing. Thread: the main thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_log_transfer.h"
#include "cli/place.h"
#include "cli/print.h"
#include "cli/progress.h"

#define POSITION_CHARS 32 /* Of a position as text. */

const char cg_cli_log_export_usage[] =
    "Usage: catga log export [--after N] [--to N] [--until TIME] [--stream S] [--category C]\n"
    "                        [--types A,B] [--type-prefix P] [--source URI] [--data D]\n"
    "Prints events as CloudEvents, one JSON document a line, in the order of positions: of a\n"
    "running instance, or of files that no program has open. Personal fields stay encrypted.\n"
    "  --after N        from behind this position on (default 0)\n"
    "  --to N           up to this position (default: the last one when it begins)\n"
    "  --until TIME     nothing later, such as 2026-01-01T00:00:00Z\n"
    "  --stream S, --category C, --types A,B, --type-prefix P   only these events\n"
    "  --source URI     source of the events (default urn:catga:log:<id of the log>)\n"
    "  --data D         data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 all printed, 1 failed, 3 there is no log.\n"
    "Example: catga log export --category Order --data /var/lib/orders >orders.ndjson\n";

/* What to export; NULL: not asked for. */
struct selection {
  const char *after;       /* --after. */
  const char *to;          /* --to. */
  const char *until_time;  /* --until. */
  const char *stream;      /* --stream. */
  const char *category;    /* --category. */
  const char *types;       /* --types. */
  const char *type_prefix; /* --type-prefix. */
  const char *source;      /* --source. */
};

/* Finds where the export ends: at what is durable now. */
static bool find_end(struct cg_place *place, char end[POSITION_CHARS]) {
  long status;
  const struct cg_buf *answer;
  if (!cg_place_call(place, "GET", cg_remote_target("/export/end", NULL), NULL, 0, &status,
                     &answer))
    return false;
  if (status != 200) {
    cg_print_problem(answer);
    return false;
  }
  cg_print_field(answer, "position", end, POSITION_CHARS);
  return true;
}

/* Prints one page; *is_end: there is no further one. */
static bool export_page(struct cg_place *place, const struct selection *selection,
                        const char *after, bool *is_end) {
  struct cg_buf *target = cg_remote_target("/export", NULL);
  cg_remote_query(target, "after", after);
  cg_remote_query(target, "to", selection->to);
  cg_remote_query(target, "until_time", selection->until_time);
  cg_remote_query(target, "stream", selection->stream);
  cg_remote_query(target, "category", selection->category);
  cg_remote_query(target, "types", selection->types);
  cg_remote_query(target, "type_prefix", selection->type_prefix);
  cg_remote_query(target, "source", selection->source);
  long status;
  const struct cg_buf *answer;
  if (!cg_place_call(place, "GET", target, NULL, 0, &status, &answer))
    return false;
  if (status != 200) {
    cg_print_problem(answer);
    return false;
  }
  if (fwrite(answer->data, 1, answer->size, stdout) != answer->size) {
    cg_cli_fail("writing the events: %s", strerror(errno));
    return false;
  }
  *is_end = cg_place_next(place)[0] == 0;
  return true;
}

static bool export_all(struct cg_place *place, struct selection *selection) {
  char end[POSITION_CHARS], after[POSITION_CHARS];
  if (!find_end(place, end))
    return false;
  if (selection->to == NULL)
    selection->to = end;
  snprintf(after, sizeof(after), "%s", selection->after != NULL ? selection->after : "0");
  struct cg_progress progress;
  cg_progress_init(&progress, "export");
  bool is_fine, is_end = false;
  do {
    is_fine = export_page(place, selection, after, &is_end);
    if (is_fine && !is_end)
      snprintf(after, sizeof(after), "%s", cg_place_next(place));
    cg_progress_part(&progress, strtoull(after, NULL, 10), strtoull(selection->to, NULL, 10));
  } while (is_fine && !is_end);
  cg_progress_end(&progress);
  if (is_fine && fflush(stdout) != 0) {
    cg_cli_fail("writing the events: %s", strerror(errno));
    return false;
  }
  return is_fine;
}

int cg_cli_log_export(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"after", required_argument, NULL, 'a'},
                                          {"to", required_argument, NULL, 't'},
                                          {"until", required_argument, NULL, 'u'},
                                          {"stream", required_argument, NULL, 's'},
                                          {"category", required_argument, NULL, 'c'},
                                          {"types", required_argument, NULL, 'T'},
                                          {"type-prefix", required_argument, NULL, 'p'},
                                          {"source", required_argument, NULL, 'S'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct selection selection = {.after = NULL};
  const char **fields[] = {&selection.after,       &selection.to,       &selection.until_time,
                           &selection.stream,      &selection.category, &selection.types,
                           &selection.type_prefix, &selection.source};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    const char *letters = "atuscTpS", *letter = strchr(letters, option);
    if (letter != NULL)
      *fields[letter - letters] = optarg;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  struct cg_place place;
  int code;
  if (!cg_place_open(&place, remote.data, false, &code))
    return code;
  bool is_fine = export_all(&place, &selection);
  return cg_place_close(&place) && is_fine ? CG_CLI_FINE : CG_CLI_FAILED;
}
