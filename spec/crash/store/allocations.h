/* allocations.h - the C library's allocations, one of which fails.
 *
 * How to use: link with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc; only calls from our own
 * objects are counted, not those within libraries.
 * Owns: nothing. Thread: any. */
#ifndef SPEC_CRASH_ALLOCATIONS_H
#define SPEC_CRASH_ALLOCATIONS_H

#include <stdint.h>

/* Lets the k-th allocation from now fail (from 1); 0: none. */
void allocations_fail_at(uint64_t k);
/* Allocations so far. */
uint64_t allocations_count(void);

#endif
