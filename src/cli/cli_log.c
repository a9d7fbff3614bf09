/* cli_log.c - `catga log`: its table of verbs, and `verify`.
 *
 * Owns: nothing. Thread: the main thread. */
#include "cli/cli_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli_log_transfer.h"
#include "cli/document.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "codec/json.h"
#include "store/store.h"

#define FAULTS_LISTED_MAX 1000 /* More faults are counted only, with -o json. */

static const char verify_usage[] =
    "Usage: catga log verify [-o json] [--data D]\n"
    "Checks every segment, commit and record of an event log that no program has open, and every\n"
    "entry of its index; changes nothing.\n"
    "  -o json    one document\n"
    "  --data D   data directory, or a backup (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 no fault, 1 faults were found or it cannot be read, 3 there is no log.\n"
    "Example: catga log verify --data /var/lib/orders\n";

const char cg_cli_log_usage[] = "Usage: catga log VERB ... (--help after each)\n"
                                "Example: catga log verify --data /var/lib/orders\n";

/* A check under way. */
struct check {
  struct cg_progress progress; /* Shown meanwhile. */
  struct cg_buf *faults;       /* JSON list without its end; NULL: faults are printed. */
  uint32_t listed_count;       /* Faults in it. */
};

bool cg_cli_log_find(const char *data, char path[PATH_MAX]) {
  struct stat info;
  int size = snprintf(path, PATH_MAX, "%s/log", data);
  if (size < PATH_MAX && stat(path, &info) == 0)
    return true;
  cg_cli_fail("there is no log in %s; name its data directory by --data", data);
  return false;
}

int cg_cli_log_fail(const struct cg_err *err) {
  cg_cli_fail("%s", err->message);
  return err->code == CG_ENOTFOUND ? CG_CLI_NOT_FOUND : CG_CLI_FAILED;
}

int cg_cli_log_check(const char *path) {
  struct cg_progress progress;
  cg_progress_init(&progress, "verify");
  struct cg_log_verify verify = {.progress = cg_progress_bytes, .arg = &progress};
  struct cg_err err;
  enum cg_code code = cg_log_verify(path, cg_fs_system(), &verify, &err);
  cg_progress_end(&progress);
  return code == CG_OK ? CG_CLI_FINE : cg_cli_log_fail(&err);
}

int cg_cli_log_ask(const char *data, struct cg_cli_log_state *state) {
  struct cg_client *client = NULL;
  const struct cg_client_request request = {.method = "GET", .target = "/log"};
  const struct cg_buf *answer;
  struct cg_err err;
  long status;
  *state = (struct cg_cli_log_state){.is_running = false};
  enum cg_code code = cg_client_open(&client, data, &err);
  if (code == CG_OK)
    code = cg_client_call(client, &request, &status, &answer, &err);
  int exit_code = -1;
  if (code == CG_OK && status >= 400) {
    cg_print_problem(answer);
    exit_code = CG_CLI_FAILED;
  } else if (code == CG_OK) {
    *state =
        (struct cg_cli_log_state){.is_running = true,
                                  .until_position = cg_print_count(answer, "readable_position"),
                                  .commit_count = cg_print_count(answer, "commits"),
                                  .sync_count = cg_print_count(answer, "syncs")};
    if (state->until_position == 0)
      exit_code = cg_cli_fail("what runs on %s does not say where its log stands", data);
  } else if (code != CG_ENOTFOUND) { /* That is: nothing runs there. */
    exit_code = cg_cli_log_fail(&err);
  }
  cg_client_close(client);
  return exit_code;
}

static void report(void *arg, bool is_fault, const char *line) {
  struct check *check = arg;
  cg_progress_end(&check->progress);
  if (!is_fault) {
    fprintf(stderr, "%s\n", line);
    return;
  }
  if (check->faults == NULL) {
    printf("fault: %s\n", line);
    return;
  }
  if (++check->listed_count > FAULTS_LISTED_MAX)
    return;
  if (check->listed_count > 1)
    cg_buf_append(check->faults, ",", 1);
  if (cg_json_write_string(check->faults, line, strlen(line), NULL) != CG_OK)
    cg_buf_append(check->faults, "\"?\"", 3); /* A path that is no UTF-8. */
}

static void tell_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes) {
  struct check *check = arg;
  cg_progress_bytes(&check->progress, done_bytes, total_bytes);
}

/* Prints what was read as one document. */
static void print_json(const char *path, const struct cg_log_counts *counts,
                       const struct cg_index_verify *index, struct cg_buf *faults) {
  struct cg_buf *buf = cg_buf_take(NULL, 512);
  cg_buf_append(faults, "]", 1);
  cg_document_begin(buf);
  cg_document_text(buf, "path", path, strlen(path));
  cg_document_number(buf, "segments", (double)counts->segment_count);
  cg_document_number(buf, "commits", (double)counts->commit_count);
  cg_document_number(buf, "records", (double)counts->record_count);
  cg_document_number(buf, "bytes", (double)counts->bytes);
  cg_document_number(buf, "first_position", (double)counts->first_position);
  cg_document_number(buf, "next_position", (double)counts->end_position);
  cg_document_number(buf, "torn_bytes", (double)counts->torn_bytes);
  cg_document_number(buf, "index_tables", (double)index->table_count);
  cg_document_number(buf, "index_entries", (double)index->entry_count);
  cg_document_number(buf, "fault_count", (double)(counts->fault_count + index->fault_count));
  cg_document_json(buf, "faults", faults);
  cg_document_end(buf);
  cg_document_print(buf);
  cg_buf_unref(buf);
}

/* Says what was read, for people. */
static void print_summary(const char *path, const struct cg_log_counts *counts,
                          const struct cg_index_verify *index) {
  if (counts->fault_count + index->fault_count == 0)
    printf("no fault in %s\n", path);
  printf("%" PRIu64 " segment%s, %" PRIu64 " commits, %" PRIu64 " records, %" PRIu64
         " bytes; positions %" PRIu64 " to %" PRIu64 "\n",
         counts->segment_count, counts->segment_count == 1 ? "" : "s", counts->commit_count,
         counts->record_count, counts->bytes, counts->first_position, counts->end_position - 1);
  if (index->table_count > 0)
    printf("%" PRIu64 " tables of the index, %" PRIu64 " entries\n", index->table_count,
           index->entry_count);
}

/* A log that ends before what derived files know has lost its end. */
static enum cg_code check_end(const char *data, struct cg_log_counts *counts, struct cg_err *err) {
  uint64_t position;
  enum cg_code code = cg_derived_proven(data, cg_fs_system(), &position, err);
  if (code != CG_OK || position <= counts->end_position)
    return code;
  counts->fault_count++;
  return cg_err_set(err, CG_ECORRUPT,
                    "the log ends before position %" PRIu64 ", but its index or read models know "
                    "all below %" PRIu64 ": files at its end are missing",
                    counts->end_position, position);
}

static int log_verify(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options options;
  int exit_code = cg_remote_parse(verb, argc, argv, &options);
  if (exit_code >= 0)
    return exit_code;
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  char path[PATH_MAX];
  if (!cg_cli_log_find(options.data, path))
    return CG_CLI_NOT_FOUND;
  struct check check = {.faults = options.as_json ? cg_buf_take(NULL, 256) : NULL};
  if (options.as_json)
    cg_buf_append(check.faults, "[", 1);
  cg_progress_init(&check.progress, "verify");
  struct cg_log_verify verify = {.report = report, .progress = tell_progress, .arg = &check};
  struct cg_err err;
  enum cg_code code = cg_log_verify(path, cg_fs_system(), &verify, &err);
  struct cg_index_verify index = {.report = report, .progress = tell_progress, .arg = &check};
  check.progress.doing = "verify index";
  if (code == CG_OK)
    code = check_end(options.data, &verify.counts, &err);
  if (code == CG_OK) /* The index is compared with the log, which must be good for that. */
    code = cg_index_verify(options.data, cg_fs_system(), &index, &err);
  cg_progress_end(&check.progress);
  bool is_read = code == CG_OK || code == CG_ECORRUPT;
  if (is_read && options.as_json)
    print_json(path, &verify.counts, &index, check.faults);
  else if (is_read)
    print_summary(path, &verify.counts, &index);
  cg_buf_unref(check.faults);
  return code == CG_OK ? CG_CLI_FINE : cg_cli_log_fail(&err);
}

int cg_cli_log(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct cg_cli_verb verbs[] = {
      {"stats", "say what is in the log", cg_cli_log_stats_usage, cg_cli_log_stats},
      {"verify", "check the files of the log", verify_usage, log_verify},
      {"repair", "cut a damaged log so that it opens", cg_cli_log_repair_usage, cg_cli_log_repair},
      {"backup", "copy the log, also while the app runs", cg_cli_log_backup_usage,
       cg_cli_log_backup},
      {"restore", "make a data directory of a backup", cg_cli_log_restore_usage,
       cg_cli_log_restore},
      {"export", "print events as CloudEvents", cg_cli_log_export_usage, cg_cli_log_export},
      {"import", "append CloudEvents", cg_cli_log_import_usage, cg_cli_log_import},
      {"compress", "compress sealed files", cg_cli_log_compress_usage, cg_cli_log_compress},
      {NULL, NULL, NULL, NULL}};
  return cg_cli_group(verb, verbs, argc, argv);
}
