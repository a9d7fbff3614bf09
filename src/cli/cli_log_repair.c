/* cli_log_repair.c - `catga log repair`: cuts a damaged log, after a question.
 *
 * Owns: nothing. Thread: the main thread. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs_fault.h"
#include "cli/cli_log.h"
#include "cli/document.h"
#include "store/store.h"

const char cg_cli_log_repair_usage[] =
    "Usage: catga log repair [--yes] [-o json] [--data D]\n"
    "For a log that is damaged: cuts it before its first damage, so that it opens again. All that\n"
    "is behind the damage is lost to the log; a backup may have it (catga log restore). Before\n"
    "anything is changed it says which positions are lost, and asks. Every file that it touches "
    "is\n"
    "put aside first, into D/log/aside-<time>/. A good log is left alone.\n"
    "  --yes      do not ask\n"
    "  -o json    one document\n"
    "  --data D   data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 the log is good now, 1 it cannot be repaired, 2 nobody to ask, 3 there is no "
    "log.\n"
    "Example: catga log repair --data /var/lib/orders\n";

/* What else lies in the data directory and is derived from the log. */
static const char *const DERIVED[] = {"index", "models.sqlite", "models.sqlite-wal",
                                      "models.sqlite-shm", "models"};
#define DERIVED_COUNT (sizeof(DERIVED) / sizeof(DERIVED[0]))
_Static_assert(DERIVED_COUNT <= CG_LOG_REPAIR_DERIVED_MAX, "too many derived files");

/* A repair asked for. */
struct request {
  struct cg_remote_options options;      /* Where, and how to print. */
  bool is_agreed;                        /* --yes. */
  char path[PATH_MAX];                   /* Of the log. */
  char derived[DERIVED_COUNT][PATH_MAX]; /* Paths of the derived files. */
};

/* -1: go on; else the exit code. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, struct request *request) {
  static const struct option known[] = {{"data", required_argument, NULL, 'd'},
                                        {"yes", no_argument, NULL, 'y'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  cg_remote_init(&request->options);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, known)) != -1) {
    if (option == 'y')
      request->is_agreed = true;
    else if (!cg_remote_option(verb, &request->options, option))
      return cg_cli_option_exit(option);
  }
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  return cg_cli_log_find(request->options.data, request->path) ? -1 : CG_CLI_NOT_FOUND;
}

/* Says what is wrong, and what a repair does about it. */
static void print_plan(const struct cg_log_repair *repair) {
  printf("damage: %s\n", repair->fault);
  printf("The log will end before position %" PRIu64 ". ", repair->first_position);
  if (repair->last_position >= repair->first_position)
    printf("Lost: positions %" PRIu64 " to %" PRIu64 " as far as is known;\n%" PRIu64
           " records of them are whole in the files put aside.\n",
           repair->first_position, repair->last_position, repair->readable_count);
  else
    printf("No position behind it is known.\n");
  if (repair->is_cut)
    printf("Segment %" PRIu64 " is cut at offset %" PRIu64 ". ", repair->segment, repair->offset);
  printf("%" PRIu64 " segment%s moved aside as a whole.\n", repair->moved_count,
         repair->moved_count == 1 ? " is" : "s are");
  printf("Read models and index are derived: they are put aside too, and built again when the "
         "program\nruns.\n");
}

/* Prints one document. */
static void print_json(const struct request *request, const struct cg_log_repair *repair) {
  struct cg_buf *buf = cg_buf_take(NULL, 512);
  cg_document_begin(buf);
  cg_document_text(buf, "path", request->path, strlen(request->path));
  cg_document_bool(buf, "repaired", repair->is_needed);
  cg_document_number(buf, "next_position", (double)repair->first_position);
  if (repair->is_needed) {
    cg_document_text(buf, "fault", repair->fault, strlen(repair->fault));
    cg_document_number(buf, "lost_first", (double)repair->first_position);
    cg_document_number(buf, "lost_last", (double)repair->last_position);
    cg_document_number(buf, "lost_readable", (double)repair->readable_count);
    cg_document_number(buf, "segments_moved", (double)repair->moved_count);
    cg_document_text(buf, "aside", repair->aside, strlen(repair->aside));
  }
  cg_document_end(buf);
  cg_document_print(buf);
  cg_buf_unref(buf);
}

/* Asks; -1: go on; else the exit code. */
static int ask(const struct request *request) {
  if (request->is_agreed)
    return -1;
  if (isatty(STDIN_FILENO) != 1) {
    cg_cli_fail("nothing was changed: there is no terminal to ask on; agree by --yes");
    return CG_CLI_USAGE;
  }
  fprintf(stderr, "Cut the log there? [y/N] ");
  char answer[16] = "";
  bool is_yes = fgets(answer, sizeof(answer), stdin) != NULL &&
                (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0);
  return is_yes ? -1 : cg_cli_fail("nothing was changed");
}

int cg_cli_log_repair(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct request request = {.is_agreed = false};
  int exit_code = parse(verb, argc, argv, &request);
  if (exit_code >= 0)
    return exit_code;
  struct cg_log_repair repair = {.proven_position = 0};
  struct cg_err err;
  /* When the log's headers are damaged, there is something to cut anyway. */
  if (cg_derived_proven(request.options.data, cg_fs_system(), &repair.proven_position, &err) !=
      CG_OK)
    repair.proven_position = 0;
  if (cg_log_repair_plan(request.path, cg_fs_system(), &repair, &err) != CG_OK)
    return cg_cli_log_fail(&err);
  if (repair.is_needed) {
    if (!request.options.as_json)
      print_plan(&repair);
    fflush(stdout);
    exit_code = ask(&request);
    if (exit_code >= 0)
      return exit_code;
    for (size_t index = 0; index < DERIVED_COUNT; index++) {
      snprintf(request.derived[index], PATH_MAX, "%s/%s", request.options.data, DERIVED[index]);
      repair.derived[index] = request.derived[index];
    }
    struct cg_clock clock = cg_clock_system();
    struct cg_fs_fault fault;
    const struct cg_fs *fs = cg_fs_fault_from_environment(&fault);
    if (cg_log_repair_run(request.path, fs, cg_clock_wall_ms(&clock), &repair, &err) != CG_OK)
      return cg_cli_log_fail(&err);
  }
  exit_code = cg_cli_log_check(request.path);
  if (request.options.as_json)
    print_json(&request, &repair);
  else if (exit_code == CG_CLI_FINE && repair.is_needed)
    printf("repaired; the next position is %" PRIu64 ", what was put aside is in %s\n",
           repair.first_position, repair.aside);
  else if (exit_code == CG_CLI_FINE)
    printf("no fault in %s: nothing to repair\n", request.path);
  return exit_code;
}
