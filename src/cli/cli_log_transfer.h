/* cli_log_transfer.h - the verbs `catga log export`, `import` and `compress`.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_LOG_TRANSFER_H
#define CG_CLI_CLI_LOG_TRANSFER_H

#include "cli/cli.h"

/* The verbs, and their usage texts. */
int cg_cli_log_export(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_log_import(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_log_compress(const struct cg_cli_verb *verb, int argc, char **argv);
extern const char cg_cli_log_compress_usage[];
extern const char cg_cli_log_export_usage[];
extern const char cg_cli_log_import_usage[];

#endif
