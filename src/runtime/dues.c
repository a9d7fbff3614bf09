/* dues.c - a binary heap in one array, which shrinks when three quarters of it are free.
 *
 * Owns: see dues.h. Thread: any one at a time. */
#include "runtime/dues.h"

#include <stddef.h>

#include "base/mem.h"

#define COUNT_MAX (1u << 31) /* Streams in it. */
#define CAPACITY_MIN 64u     /* Room that is kept. */

static bool comes_before(const struct cg_due *a, const struct cg_due *b) {
  return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->stream < b->stream);
}

void cg_dues_deinit(struct cg_dues *dues) {
  cg_free(dues->heap);
  *dues = (struct cg_dues){0};
}

static void resize(struct cg_dues *dues, uint32_t capacity) {
  dues->heap = cg_realloc(dues->heap, capacity * sizeof(dues->heap[0]));
  dues->capacity = capacity;
}

/* Puts an entry where it belongs, from the free place `place` upwards. */
static void rise(struct cg_dues *dues, uint32_t place, struct cg_due due) {
  while (place > 0) {
    uint32_t parent = (place - 1) / 2;
    if (!comes_before(&due, &dues->heap[parent]))
      break;
    dues->heap[place] = dues->heap[parent];
    place = parent;
  }
  dues->heap[place] = due;
}

/* The same downwards; returns the place. */
static uint32_t sink(struct cg_dues *dues, uint32_t place, struct cg_due due) {
  for (;;) {
    uint32_t child = place * 2 + 1;
    if (child >= dues->count)
      break;
    if (child + 1 < dues->count && comes_before(&dues->heap[child + 1], &dues->heap[child]))
      child++;
    if (!comes_before(&dues->heap[child], &due))
      break;
    dues->heap[place] = dues->heap[child];
    place = child;
  }
  dues->heap[place] = due;
  return place;
}

/* Takes the entry at a place out. */
static void take_out(struct cg_dues *dues, uint32_t place) {
  struct cg_due last = dues->heap[--dues->count];
  if (place < dues->count)
    rise(dues, sink(dues, place, last), last);
  if (dues->capacity > CAPACITY_MIN && dues->count < dues->capacity / 4)
    resize(dues, dues->capacity / 2);
}

bool cg_dues_push(struct cg_dues *dues, struct cg_due due) {
  if (dues->count == COUNT_MAX)
    return false;
  if (dues->count == dues->capacity)
    resize(dues, dues->capacity < CAPACITY_MIN ? CAPACITY_MIN : dues->capacity * 2);
  rise(dues, dues->count++, due);
  return true;
}

bool cg_dues_next(const struct cg_dues *dues, struct cg_due *due) {
  if (dues->count == 0)
    return false;
  *due = dues->heap[0];
  return true;
}

bool cg_dues_pop(struct cg_dues *dues, int64_t now_ms, struct cg_due *due) {
  if (!cg_dues_next(dues, due) || due->due_ms > now_ms)
    return false;
  take_out(dues, 0);
  return true;
}

bool cg_dues_remove(struct cg_dues *dues, uint64_t stream) {
  for (uint32_t place = 0; place < dues->count; place++) {
    if (dues->heap[place].stream == stream) {
      take_out(dues, place);
      return true;
    }
  }
  return false;
}
