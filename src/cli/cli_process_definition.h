/* cli_process_definition.h - the verb `catga process definition`, a part of `catga process`.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_PROCESS_DEFINITION_H
#define CG_CLI_PROCESS_DEFINITION_H

#include "cli/cli.h"

/* What its --help says. */
extern const char cg_cli_process_definition_usage[];
/* Runs it: the exit code. */
int cg_cli_process_definition(const struct cg_cli_verb *verb, int argc, char **argv);

#endif
