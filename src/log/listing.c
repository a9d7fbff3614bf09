/* listing.c - which segments, and which remains of unfinished ones, a directory holds.
 *
 * Names that are neither are somebody else's and are left out.
 * Owns: its lists. Thread: any. */
#include "log/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/segment.h"

static void add(struct cg_listing_numbers *numbers, uint64_t number) {
  if (numbers->count == numbers->capacity) {
    numbers->capacity = numbers->capacity > 0 ? numbers->capacity * 2 : 16;
    numbers->items = cg_realloc(numbers->items, numbers->capacity * sizeof(*numbers->items));
  }
  numbers->items[numbers->count++] = number;
}

/* Sorts a name into the lists; called by the directory walk. */
static int note_name(void *arg, const char *name) {
  struct cg_listing *listing = arg;
  uint64_t number;
  enum cg_segment_kind kind = cg_segment_parse_name(name, &number);
  if (kind == CG_SEGMENT_KIND_FILE)
    add(&listing->segments, number);
  else if (kind == CG_SEGMENT_KIND_TEMP && listing->leftovers.count < CG_LISTING_LEFTOVERS_MAX)
    add(&listing->leftovers, number);
  else if (kind == CG_SEGMENT_KIND_REWRITTEN && listing->rewritten.count < CG_LISTING_LEFTOVERS_MAX)
    add(&listing->rewritten, number);
  return 0;
}

static int compare_numbers(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return a < b ? -1 : a > b;
}

enum cg_code cg_listing_read(struct cg_listing *listing, const struct cg_fs *fs,
                             const char *directory, struct cg_err *err) {
  *listing = (struct cg_listing){0};
  int result;
  unsigned interrupt_count = 0;
  do {
    listing->segments.count = 0;
    listing->leftovers.count = 0;
    listing->rewritten.count = 0;
    result = fs->list(fs->arg, directory, note_name, listing);
  } while (result == -EINTR && ++interrupt_count < CG_IO_INTERRUPTS_MAX);
  if (result < 0) {
    cg_listing_deinit(listing);
    return cg_err_set(err, cg_err_from_errno(-result), "list %s: %s", directory, strerror(-result));
  }
  if (listing->segments.count > 0)
    qsort(listing->segments.items, listing->segments.count, sizeof(uint64_t), compare_numbers);
  return CG_OK;
}

void cg_listing_deinit(struct cg_listing *listing) {
  cg_free(listing->segments.items);
  cg_free(listing->leftovers.items);
  cg_free(listing->rewritten.items);
  *listing = (struct cg_listing){0};
}
