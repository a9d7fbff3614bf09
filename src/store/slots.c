/* slots.c - how streams are kept in memory: an array of slots with a list of the free ones, and a
 * map from names to their places.
 *
 * Eviction goes round like the hand of a clock: a stream that was found by name since the hand came
 * by last is passed over once.
 * Owns: see slots.h. Thread: the loop thread. */
#include "store/slots.h"

#include <string.h>

#include "base/mem.h"

#define ENTRIES_START 8u /* Records of a stream that fit at first: a short process has 5 to 7. */
#define SLOTS_START 64u
#define TRY_FRACTION 16u /* Eviction that found nothing is tried again after growth by 1/16. */

void cg_slots_init(struct cg_slots *slots, uint64_t seed) {
  *slots = (struct cg_slots){.names = cg_map_new(seed), .first_free = CG_SLOT_NONE};
}

void cg_slots_deinit(struct cg_slots *slots) {
  for (uint32_t place = 0; place < slots->count; place++) {
    cg_free(slots->items[place].name);
    cg_free(slots->items[place].entries);
  }
  cg_free(slots->items);
  cg_map_free(slots->names);
}

uint32_t cg_slots_find(struct cg_slots *slots, const char *name, size_t size) {
  uint64_t *place = cg_map_find(slots->names, name, size);
  if (place == NULL)
    return CG_SLOT_NONE;
  slots->items[*place].touched = true;
  return (uint32_t)*place;
}

/* A place that no stream has. */
static uint32_t take_place(struct cg_slots *slots) {
  uint32_t place = slots->first_free;
  if (place != CG_SLOT_NONE) {
    slots->first_free = slots->items[place].next_free;
    return place;
  }
  if (slots->count == slots->capacity) {
    slots->capacity = slots->capacity == 0 ? SLOTS_START : slots->capacity * 2;
    slots->items = cg_realloc(slots->items, slots->capacity * sizeof(slots->items[0]));
  }
  slots->items[slots->count] = (struct cg_slot){0};
  return slots->count++;
}

uint32_t cg_slots_make(struct cg_slots *slots, const char *name, size_t size) {
  assert(slots->used < CG_SLOT_NONE);
  uint32_t place = take_place(slots);
  struct cg_slot *slot = &slots->items[place];
  *slot = (struct cg_slot){.name = cg_strndup(name, size),
                           .name_size = (uint16_t)size,
                           .generation = slot->generation,
                           .touched = true};
  *cg_map_put(slots->names, name, size, NULL) = place;
  slots->used++;
  return place;
}

void cg_slots_grow(struct cg_slot *slot) {
  slot->capacity = slot->capacity == 0 ? ENTRIES_START : slot->capacity * 2;
  slot->entries = cg_realloc(slot->entries, slot->capacity * sizeof(slot->entries[0]));
}

/* Drops the entries of records that tables hold. */
static void drop_covered(struct cg_slot *slot, uint64_t covered_position) {
  uint32_t low = 0, high = slot->held;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (slot->entries[middle].position < covered_position)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0)
    return;
  slot->base += low;
  slot->held -= low;
  memmove(slot->entries, slot->entries + low, slot->held * sizeof(slot->entries[0]));
  if (slot->held == 0) {
    cg_free(slot->entries);
    slot->entries = NULL;
    slot->capacity = 0;
  } else if (slot->capacity > ENTRIES_START && slot->held <= slot->capacity / 4) {
    slot->capacity = slot->held > ENTRIES_START / 2 ? slot->held * 2 : ENTRIES_START;
    slot->entries = cg_realloc(slot->entries, slot->capacity * sizeof(slot->entries[0]));
  }
}

/* Frees a slot. The last generation of a place is not used, so that no number comes back. */
static void evict(struct cg_slots *slots, uint32_t place) {
  struct cg_slot *slot = &slots->items[place];
  cg_map_remove(slots->names, slot->name, slot->name_size);
  cg_free(slot->name);
  cg_free(slot->entries);
  slots->used--;
  slots->evicted_count++;
  *slot = (struct cg_slot){.generation = slot->generation + 1};
  if (slot->generation == CG_SLOT_GENERATIONS_MAX)
    return;
  slot->next_free = slots->first_free;
  slots->first_free = place;
}

/* Decides how many slots there are to be looked at. */
static void plan(struct cg_slots *slots, uint64_t covered_position, uint32_t used_max) {
  bool has_grown = covered_position > slots->covered_position;
  if (has_grown) {
    slots->covered_position = covered_position;
    slots->drop_left = slots->count;
  }
  if (slots->used > used_max && (has_grown || slots->used >= slots->next_try)) {
    slots->evict_left = (uint64_t)slots->count * 2; /* Once round they may only be touched. */
    slots->next_try = UINT32_MAX;
  }
}

/* The slot under a hand, which goes on. */
static uint32_t pass(const struct cg_slots *slots, uint32_t *hand) {
  uint32_t place = *hand < slots->count ? *hand : 0;
  *hand = place + 1;
  return place;
}

/* Evicts the stream at a place if it may go and was not touched lately. */
static void try_evict(struct cg_slots *slots, uint32_t place) {
  struct cg_slot *slot = &slots->items[place];
  if (slot->name == NULL || slot->held > 0 || slot->unfinished)
    return;
  if (slot->touched)
    slot->touched = false;
  else
    evict(slots, place);
}

bool cg_slots_turn(struct cg_slots *slots, uint64_t covered_position, uint32_t used_max,
                   uint32_t budget) {
  plan(slots, covered_position, used_max);
  for (; slots->drop_left > 0 && budget > 0; slots->drop_left--, budget--) {
    struct cg_slot *slot = &slots->items[pass(slots, &slots->drop_hand)];
    if (slot->held > 0)
      drop_covered(slot, slots->covered_position);
  }
  for (; slots->evict_left > 0 && slots->used > used_max && budget > 0; budget--) {
    try_evict(slots, pass(slots, &slots->evict_hand));
    slots->evict_left--;
  }
  bool is_over = slots->used > used_max;
  if (!is_over)
    slots->next_try = 0;
  else if (slots->evict_left == 0 && slots->next_try == UINT32_MAX)
    slots->next_try = slots->used + slots->used / TRY_FRACTION + 1;
  return slots->drop_left > 0 || (is_over && slots->evict_left > 0);
}
