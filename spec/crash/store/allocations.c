/* allocations.c - counts allocations; see allocations.h.
 *
 * Thread: any; counters are atomic. */
#include "allocations.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static _Atomic uint64_t total; /* Allocations so far. */
static _Atomic uint64_t fatal; /* Number of the one that fails; 0: none. */

void allocations_fail_at(uint64_t k) {
  fatal = k == 0 ? 0 : total + k;
}

uint64_t allocations_count(void) {
  return total;
}

static bool fails(void) {
  uint64_t number = atomic_fetch_add(&total, 1) + 1;
  return number == fatal;
}

void *__wrap_malloc(size_t size) {
  return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
  return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
  return fails() ? NULL : __real_realloc(memory, size);
}
