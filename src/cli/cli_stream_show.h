/* cli_stream_show.h - `catga stream show`: the state that a stream's events make.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_STREAM_SHOW_H
#define CG_CLI_CLI_STREAM_SHOW_H

#include "cli/cli.h"

/* The verb, and its usage text. */
int cg_cli_stream_show(const struct cg_cli_verb *verb, int argc, char **argv);
extern const char cg_cli_stream_show_usage[];

#endif
