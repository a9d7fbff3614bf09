/* cli_log_backup.c - `catga log backup|restore`.
 *
 * Owns: nothing. Thread: the main thread. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs_fault.h"
#include "cli/cli_log.h"
#include "cli/cli_log_keys.h"
#include "cli/document.h"
#include "cli/progress.h"
#include "store/store.h"

const char cg_cli_log_backup_usage[] =
    "Usage: catga log backup DIR [--with-keys] [-o json] [--data D]\n"
    "Copies the event log into DIR, also while the program runs; the same again copies only what "
    "is\n"
    "new. DIR is a data directory itself: catga log verify --data DIR checks it. Read models and\n"
    "index are not in it: they are built again.\n"
    "The keys of personal data are not in it either: destroying a key must not be undone by a\n"
    "restore. Keep them apart, and not longer than you may.\n"
    "  --with-keys  copy them too (DIR/keys, for its owner only)\n"
    "  -o json      one document\n"
    "  --data D     data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 done, 1 failed (the backup that was there is as it was), 3 there is no log.\n"
    "Example: catga log backup /mnt/backup/orders --data /var/lib/orders\n";

const char cg_cli_log_restore_usage[] =
    "Usage: catga log restore BACKUP [--with-keys] [-o json] [--data D]\n"
    "Makes a data directory of a backup; every byte is checked. D must be empty or missing.\n"
    "  --with-keys  restore the keys of personal data too, if they are in the backup; a key that\n"
    "               was destroyed since the backup is there again then\n"
    "  -o json      one document\n"
    "  --data D     data directory to make (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 done, 1 failed, 3 there is no backup.\n"
    "Example: catga log restore /mnt/backup/orders --data /var/lib/orders\n";

/* What was asked for. */
struct request {
  struct cg_remote_options options; /* The data directory, and how to print. */
  const char *directory;            /* Of the backup. */
  bool has_keys;                    /* --with-keys. */
  uint32_t key_count;               /* Files of keys that were copied. */
};

/* -1: go on; else the exit code. */
static int parse(const struct cg_cli_verb *verb, int argc, char **argv, struct request *request) {
  static const struct option known[] = {{"data", required_argument, NULL, 'd'},
                                        {"with-keys", no_argument, NULL, 'k'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  cg_remote_init(&request->options);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, known)) != -1) {
    if (option == 'k')
      request->has_keys = true;
    else if (!cg_remote_option(verb, &request->options, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 1 || *argv[optind] == 0)
    return cg_cli_wrong(verb, "name one directory of a backup");
  request->directory = argv[optind];
  return -1;
}

static const char *plural(uint64_t count) {
  return count == 1 ? "" : "s";
}

/* Prints what was done. */
static void print_result(const struct request *request, const struct cg_log_backup *backup,
                         const char *doing, const char *path) {
  if (!request->options.as_json) {
    printf("%s: positions 1 to %" PRIu64 ", %" PRIu64 " segment%s, %" PRIu64
           " bytes; copied %" PRIu64 " segment%s, %" PRIu64 " bytes\n",
           doing, backup->end_position - 1, backup->segment_count, plural(backup->segment_count),
           backup->bytes, backup->copied_count, plural(backup->copied_count), backup->copied_bytes);
    if (request->has_keys)
      printf("%" PRIu32 " file%s of keys copied\n", request->key_count, plural(request->key_count));
    return;
  }
  struct cg_buf *buf = cg_buf_take(NULL, 512);
  cg_document_begin(buf);
  cg_document_text(buf, "path", path, strlen(path));
  cg_document_number(buf, "next_position", (double)backup->end_position);
  cg_document_number(buf, "segments", (double)backup->segment_count);
  cg_document_number(buf, "bytes", (double)backup->bytes);
  cg_document_number(buf, "segments_copied", (double)backup->copied_count);
  cg_document_number(buf, "bytes_copied", (double)backup->copied_bytes);
  cg_document_number(buf, "keys_copied", request->key_count);
  cg_document_end(buf);
  cg_document_print(buf);
  cg_buf_unref(buf);
}

/* Copies keys, if that was asked for. -1: go on; else the exit code. */
static int copy_keys(struct request *request, const char *from, const char *to) {
  struct cg_err err;
  if (!request->has_keys || cg_cli_log_keys_copy(from, to, &request->key_count, &err) == CG_OK)
    return -1;
  return cg_cli_fail("the log is done, its keys are not: %s", err.message);
}

int cg_cli_log_backup(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct request request = {.directory = NULL};
  int exit_code = parse(verb, argc, argv, &request);
  if (exit_code >= 0)
    return exit_code;
  char path[PATH_MAX];
  if (!cg_cli_log_find(request.options.data, path))
    return CG_CLI_NOT_FOUND;
  struct cg_cli_log_state state;
  exit_code = cg_cli_log_ask(request.options.data, &state);
  if (exit_code >= 0)
    return exit_code;
  struct cg_clock clock = cg_clock_system();
  struct cg_progress progress;
  cg_progress_init(&progress, "backup");
  struct cg_log_backup backup = {.until_position = state.until_position,
                                 .now_ms = cg_clock_wall_ms(&clock),
                                 .progress = cg_progress_bytes,
                                 .arg = &progress};
  struct cg_err err;
  struct cg_fs_fault fault;
  const struct cg_fs *fs = cg_fs_fault_from_environment(&fault);
  enum cg_code code = cg_log_backup(path, request.directory, fs, &backup, &err);
  cg_progress_end(&progress);
  if (code != CG_OK)
    return cg_cli_log_fail(&err);
  /* Behind the log: a key is durable before what was encrypted with it. */
  exit_code = copy_keys(&request, request.options.data, request.directory);
  print_result(&request, &backup, "backed up", request.directory);
  return exit_code >= 0 ? exit_code : CG_CLI_FINE;
}

/* Checks what was restored. */
static int check(const char *data) {
  char path[PATH_MAX];
  return cg_cli_log_find(data, path) ? cg_cli_log_check(path) : CG_CLI_FAILED;
}

int cg_cli_log_restore(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct request request = {.directory = NULL};
  int exit_code = parse(verb, argc, argv, &request);
  if (exit_code >= 0)
    return exit_code;
  struct cg_progress progress;
  cg_progress_init(&progress, "restore");
  struct cg_log_backup backup = {.progress = cg_progress_bytes, .arg = &progress};
  struct cg_err err;
  struct cg_fs_fault fault;
  const struct cg_fs *fs = cg_fs_fault_from_environment(&fault);
  enum cg_code code = cg_log_restore(request.directory, request.options.data, fs, &backup, &err);
  cg_progress_end(&progress);
  if (code != CG_OK)
    return cg_cli_log_fail(&err);
  exit_code = copy_keys(&request, request.directory, request.options.data);
  if (exit_code < 0)
    exit_code = check(request.options.data);
  print_result(&request, &backup, "restored", request.options.data);
  return exit_code;
}
