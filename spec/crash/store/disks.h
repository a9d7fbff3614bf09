/* disks.h - modes of store_crash that need a mounted disk of their own; see main.c.
 *
 * Owns: nothing. Thread: one. */
#ifndef SPEC_CRASH_DISKS_H
#define SPEC_CRASH_DISKS_H

#include <stdbool.h>
#include <stdint.h>

/* Mode power: an exit code. */
int disks_power(const char *directory, const char *image, const char *work, uint64_t cycles,
                bool is_lying);
/* Mode full: an exit code. */
int disks_full(const char *directory, const char *filler);

#endif
