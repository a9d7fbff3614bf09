/* mem.c - memory that does not fail: the C library's, with abort() in place of NULL.
 *
 * Owns: nothing. Thread: any. */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(size_t size) __attribute__((noreturn, cold));

void *cg_alloc(size_t size) {
  void *memory = calloc(1, size ? size : 1);
  if (!memory)
    die(size);
  return memory;
}

void *cg_realloc(void *memory, size_t size) {
  void *moved = realloc(memory, size ? size : 1);
  if (!moved)
    die(size);
  return moved;
}

char *cg_strndup(const char *text, size_t size) {
  char *copy = cg_realloc(NULL, size + 1);
  if (size > 0)
    memcpy(copy, text, size);
  copy[size] = 0;
  return copy;
}

void cg_free(void *memory) {
  free(memory);
}

/* There is nobody left to return to: the caller was promised memory. */
static void die(size_t size) {
  fprintf(stderr, "catga: out of memory (%zu bytes wanted); the event log is safe\n", size);
  abort();
}
