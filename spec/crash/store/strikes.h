/* strikes.h - modes of store_crash that let chosen calls go wrong; see main.c.
 *
 * Owns: nothing. Thread: one. */
#ifndef SPEC_CRASH_STRIKES_H
#define SPEC_CRASH_STRIKES_H

#include <stdint.h>

/* Mode points: an exit code. */
int strikes_kill(const char *directory, uint64_t cycles);
/* Mode errors: an exit code. */
int strikes_fail(const char *directory, uint64_t cycles);
/* Mode memory: an exit code. */
int strikes_memory(const char *directory, uint64_t cycles);

#endif
