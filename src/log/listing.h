/* listing.h - which segments, and which remains of unfinished ones, a directory holds.
 *
 * Owns: its lists. Thread: any. */
#ifndef CG_LOG_LISTING_H
#define CG_LOG_LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

#define CG_LISTING_LEFTOVERS_MAX ((size_t)100000) /* More temporary files are left alone. */

/* A row of segment numbers. */
struct cg_listing_numbers {
  uint64_t *items; /* Sorted. */
  size_t count;    /* How many. */
  size_t capacity; /* Room. */
};

/* What a directory holds. All zero is empty. */
struct cg_listing {
  struct cg_listing_numbers segments;  /* Published segments. */
  struct cg_listing_numbers leftovers; /* Temporary files of segments never published. */
  struct cg_listing_numbers rewritten; /* Rewritten files that are not their segment's. */
};

/* Reads the directory; free the result with cg_listing_deinit. CG_ENOTFOUND, CG_EPERM, CG_EIO. */
enum cg_code cg_listing_read(struct cg_listing *listing, const struct cg_fs *fs,
                             const char *directory, struct cg_err *err);
/* Frees the lists. */
void cg_listing_deinit(struct cg_listing *listing);

#endif
