/* cli_log_compress.c - `catga log compress`: sealed files of a log in zstd blocks, in a running
 * instance or in files that no program has open.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/cli_log_transfer.h"
#include "cli/place.h"
#include "cli/print.h"

const char cg_cli_log_compress_usage[] =
    "Usage: catga log compress [--older D] [-o json] [--data D]\n"
    "Compresses the sealed files of a log (zstd): of a running instance, which goes on serving, "
    "or\n"
    "of files that no program has open. Reading them takes a little longer then.\n"
    "  --older D  only files that were sealed longer ago, such as 7d\n"
    "  -o json    one document\n"
    "  --data D   data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 done, 1 failed, or a scavenge is under way, 3 there is no log.\n"
    "Example: catga log compress --older 7d --data /var/lib/orders\n";

static const struct cg_print_column COLUMNS[] = {{"segments", "segments", false},
                                                 {"compressed", "compressed", false},
                                                 {"before", "bytes_before", false},
                                                 {"after", "bytes_after", false}};

int cg_cli_log_compress(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"older", required_argument, NULL, 'O'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  const char *older = NULL;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'O')
      older = optarg;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  struct cg_place place;
  int code;
  if (!cg_place_open(&place, remote.data, false, &code))
    return code;
  struct cg_buf *target = cg_remote_target("/compress", NULL);
  cg_remote_query(target, "older", older);
  long status;
  const struct cg_buf *answer;
  code = CG_CLI_FAILED;
  if (cg_place_call(&place, "POST", target, NULL, 0, &status, &answer)) {
    if (status == 200) {
      cg_print_document(answer, COLUMNS, sizeof(COLUMNS) / sizeof(COLUMNS[0]), remote.as_json);
      code = CG_CLI_FINE;
    } else {
      cg_print_problem(answer);
    }
  }
  return cg_place_close(&place) ? code : CG_CLI_FAILED;
}
