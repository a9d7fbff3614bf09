/* harness.h - what the modes of store_crash share: a writer in a process of its own, and checking
 * what it has left.
 *
 * Owns: its children, which end with it; a sequence of chance. Thread: one. */
#ifndef SPEC_CRASH_HARNESS_H
#define SPEC_CRASH_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HARNESS_COUNT_MAX UINT64_C(1000000) /* Commits of a writer that is to be killed. */
#define HARNESS_COMMITS_MAX 2000            /* A longer story begins anew: checking stays short. */
#define HARNESS_COMMAND_BYTES 4096          /* Of a shell command. */

/* A writer under way. */
struct harness_writer {
  pid_t pid;      /* The process. */
  int acks;       /* Its acknowledgements. */
  uint64_t acked; /* The last one read. */
};

/* Begins the sequence of chance. */
void harness_seed(uint64_t seed);
/* The next number below `bound`. */
uint64_t harness_chance(uint64_t bound);
/* Says what is wrong; 1. */
int harness_fail(const char *what, const char *why);
/* Runs a shell command; false unless it ends with 0. */
bool harness_run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Removes a directory, so that a story can begin anew. */
void harness_remove(const char *directory);

/* The writer itself: checks the store, appends `count` commits, writes each acknowledged number to
 * stdout; an exit code. */
int harness_write(const char *directory, uint64_t acked, uint64_t count);
/* Checks in a process of its own, as a restart would; *commits gets how many there are. */
bool harness_check(const char *directory, uint64_t acked, uint64_t *commits);
/* Starts a writer; it ends when this process does. */
struct harness_writer harness_start(const char *directory, uint64_t acked, uint64_t count);
/* Reads one acknowledgement; false at the end. */
bool harness_next_ack(struct harness_writer *writer);
/* Reads what was acknowledged to the end and waits for the writer; its wait status. */
int harness_finish(struct harness_writer *writer);
/* Whether a wait status says SIGKILL. */
bool harness_was_killed(int status);

#endif
