/* cli_log.c - `catga log verify`: the files of an event log that nobody has open.
 *
 * Owns: nothing. Thread: the main thread. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cli/remote.h"
#include "store/store.h"

static const char verify_usage[] =
    "Usage: catga log verify [--data D]\n"
    "Checks every segment, commit and record of the event log; changes nothing.\n"
    "  --data D   data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 no fault, 1 faults were found or it cannot be read, 3 there is no log.\n"
    "Example: catga log verify --data /var/lib/orders\n";

const char cg_cli_log_usage[] = "Usage: catga log verify ... (--help after it)\n"
                                "Example: catga log verify --data /var/lib/orders\n";

static void report(void *arg, bool is_fault, const char *line) {
  (void)arg;
  fprintf(is_fault ? stdout : stderr, "%s%s\n", is_fault ? "fault: " : "", line);
}

static int log_verify(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options remote;
  int exit_code = cg_remote_parse(verb, argc, argv, &remote);
  if (exit_code >= 0)
    return exit_code;
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  char path[PATH_MAX];
  snprintf(path, sizeof(path), "%s/log", remote.data);
  struct stat info;
  if (stat(path, &info) != 0) {
    cg_cli_fail("there is no log in %s; name its data directory by --data", remote.data);
    return CG_CLI_NOT_FOUND;
  }
  struct cg_err err;
  enum cg_code code = cg_log_verify(path, cg_fs_system(), report, NULL, &err);
  if (code != CG_OK)
    return cg_cli_fail("%s", err.message);
  printf("no fault in %s\n", path);
  return CG_CLI_FINE;
}

int cg_cli_log(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"verify", "check the files of the log", verify_usage, log_verify}, {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
