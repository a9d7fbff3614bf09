/* store_names.c - the names of streams in their order, a page at a time: those of the tables come
 * sorted; of those in memory only the ones that a page may need are kept, and sorted.
 *
 * Owns: nothing. Thread: the loop thread. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/store_state.h"

/* A page under way. */
struct names {
  const struct cg_store_page *page; /* What is asked for. */
  const struct cg_slot **heap;      /* The lowest names in memory, the highest of them on top. */
  uint32_t count;                   /* How many. */
  uint32_t next;                    /* Once the heap is sorted: the next to be given. */
  uint32_t left;                    /* Names that may still be given. */
  bool is_ended;                    /* By the caller. */
  cg_store_name_fn each;            /* The caller's. */
  void *arg;                        /* Passed to each. */
};

static int compare_slots(const struct cg_slot *a, const struct cg_slot *b) {
  return cg_table_compare(a->name, a->name_size, b->name, b->name_size);
}

static int compare_places(const void *left, const void *right) {
  return compare_slots(*(const struct cg_slot *const *)left, *(const struct cg_slot *const *)right);
}

/* Whether a stream in memory belongs to the page. Those without entries are in tables. */
static bool is_wanted(const struct cg_store_page *page, const struct cg_slot *slot) {
  return slot->held > 0 && slot->name_size >= page->prefix_size &&
         (page->prefix_size == 0 || memcmp(slot->name, page->prefix, page->prefix_size) == 0) &&
         (page->after_size == 0 ||
          cg_table_compare(slot->name, slot->name_size, page->after, page->after_size) > 0);
}

/* Moves the top of the heap down to where it belongs. */
static void sink(struct names *names) {
  const struct cg_slot **heap = names->heap;
  for (uint32_t at = 0;;) {
    uint32_t child = at * 2 + 1;
    if (child >= names->count)
      return;
    if (child + 1 < names->count && compare_slots(heap[child + 1], heap[child]) > 0)
      child++;
    if (compare_slots(heap[at], heap[child]) >= 0)
      return;
    const struct cg_slot *slot = heap[at];
    heap[at] = heap[child];
    heap[child] = slot;
    at = child;
  }
}

/* Keeps a slot if its name is among the lowest so far. */
static void keep(struct names *names, const struct cg_slot *slot) {
  const struct cg_slot **heap = names->heap;
  if (names->count == names->page->max) {
    if (compare_slots(slot, heap[0]) >= 0)
      return;
    heap[0] = slot;
    sink(names);
    return;
  }
  uint32_t at = names->count++;
  for (; at > 0 && compare_slots(heap[(at - 1) / 2], slot) < 0; at = (at - 1) / 2)
    heap[at] = heap[(at - 1) / 2];
  heap[at] = slot;
}

/* Gives one name; false when the page is over. */
static bool give(struct names *names, const char *name, size_t size) {
  names->is_ended = !names->each(names->arg, name, size) || --names->left == 0;
  return !names->is_ended;
}

/* A name of a table: those in memory that are below it go first. */
static bool on_name(void *arg, const char *name, size_t size) {
  struct names *names = arg;
  while (names->next < names->count) {
    const struct cg_slot *slot = names->heap[names->next];
    int order = cg_table_compare(slot->name, slot->name_size, name, size);
    if (order > 0)
      break;
    names->next++;
    if (order < 0 && !give(names, slot->name, slot->name_size))
      return false;
  }
  return give(names, name, size);
}

enum cg_code cg_store_streams(struct cg_store *store, const struct cg_store_page *page,
                              cg_store_name_fn each, void *arg, struct cg_err *err) {
  assert(page->max >= 1 && page->max <= CG_STORE_STREAMS_MAX && !store->is_building);
  struct names names = {.page = page, .left = page->max, .each = each, .arg = arg};
  names.heap = cg_alloc(page->max * sizeof(names.heap[0]));
  for (uint32_t place = 0; place < store->slots.count; place++)
    if (is_wanted(page, &store->slots.items[place]))
      keep(&names, &store->slots.items[place]);
  qsort(names.heap, names.count, sizeof(names.heap[0]), compare_places);
  enum cg_code code = CG_OK;
  if (store->has_index)
    code = cg_index_names(&store->index, page->prefix, page->prefix_size, page->after,
                          page->after_size, on_name, &names, err);
  while (code == CG_OK && !names.is_ended && names.next < names.count) {
    const struct cg_slot *slot = names.heap[names.next++];
    give(&names, slot->name, slot->name_size);
  }
  cg_free(names.heap);
  return code;
}
