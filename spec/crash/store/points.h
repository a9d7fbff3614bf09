/* points.h - file calls with names, one of which kills the program or fails.
 *
 * A point is `<when>:<call>:<file>`: when is before, within (half of a write is done) or after;
 * file is the kind of file by its name: segment, segment.tmp, segment.rewritten, table, table.tmp,
 * ids, lock, log, index, data (the last three are directories), other. For instance
 * "after:rename:segment".
 *
 * How to use: points_fs gives the calls over the system's files; points_arm names the point and
 * which of its occurrences strikes; points_list tells which points were passed and how often.
 * Owns: one static table, because a program has one disk. Thread: any. */
#ifndef SPEC_CRASH_POINTS_H
#define SPEC_CRASH_POINTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fs.h"

#define POINTS_NAME_BYTES 64 /* Room for a name. */
/* "<n>:<path>": the n-th thread (from 1, in the order of their first file calls) writes its id into
 * the file and waits at that call until another process traces it. */
#define POINTS_GATE_VARIABLE "STORE_CRASH_GATE"

/* In place of an errno value: a read or write does only half of what it was asked. */
#define POINTS_SHORT (-1000)

/* The calls; static memory. */
const struct cg_fs *points_fs(void);
/* Ends the program by SIGKILL at the `occurrence`-th time (from 1) that the point `name` (kept) is
 * passed; NULL: never. */
void points_arm(const char *name, uint64_t occurrence);
/* Lets the call fail there with a positive errno value, or with -POINTS_SHORT, and, when it is
 * lasting, at every later time. */
void points_arm_error(const char *name, uint64_t occurrence, int error, bool is_lasting);
/* Lets every datasync and sync_dir do nothing and say that it did: the control of power losses. */
void points_lie_about_syncs(void);
/* Prints each point that was passed, with how often: "after:rename:segment 12". */
void points_list(FILE *file);

#endif
