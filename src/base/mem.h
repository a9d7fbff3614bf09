/* mem.h - memory that does not fail.
 *
 * How to use: for small allocations of the program's own making. What a message, a file or a user
 * sizes is checked against its bound before it comes here.
 * Owns: nothing. Thread: any. Dies rather than fails: a line on stderr and abort(); the event log
 * survives that. */
#ifndef CG_BASE_MEM_H
#define CG_BASE_MEM_H

#include <stddef.h>

/* `size` zeroed bytes, never NULL; free with cg_free. size 0 gives a unique pointer. */
void *cg_alloc(size_t size);
/* As realloc, never NULL; new bytes are not zeroed. */
void *cg_realloc(void *memory, size_t size);
/* A copy of `size` bytes plus a terminating zero; free with cg_free. */
char *cg_strndup(const char *text, size_t size);
/* Frees; NULL is fine. */
void cg_free(void *memory);

#endif
