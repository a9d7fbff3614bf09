/* cli_stream_edit.h - the verbs of `catga stream` beside reading.
 *
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_STREAM_EDIT_H
#define CG_CLI_CLI_STREAM_EDIT_H

#include "cli/cli.h"

/* The verbs, and their usage texts. */
int cg_cli_stream_list(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_stream_info(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_stream_append(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_stream_delete(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_stream_scavenge(const struct cg_cli_verb *verb, int argc, char **argv);
int cg_cli_stream_metadata(const struct cg_cli_verb *verb, int argc, char **argv);
extern const char cg_cli_stream_list_usage[];
extern const char cg_cli_stream_info_usage[];
extern const char cg_cli_stream_append_usage[];
extern const char cg_cli_stream_delete_usage[];
extern const char cg_cli_stream_metadata_usage[];
extern const char cg_cli_stream_scavenge_usage[];

#endif
