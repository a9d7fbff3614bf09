/* slots.h - the streams that the store has in memory: found by name or by a number that can go
 * stale.
 *
 * A slot holds the places of the newest records of one stream, by version from `base` on; those
 * before it are found in the index's tables. A slot whose records are all in tables may be given to
 * another stream; the number of the stream that it held is stale then, which its upper half tells.
 *
 * How to use: cg_slots_init; find or make a slot by name; push an entry a record; give
 * cg_slots_turn a little time now and then, which drops what tables hold and evicts streams over
 * the bound.
 * Owns: names, entries. Thread: the loop thread. */
#ifndef CG_STORE_SLOTS_H
#define CG_STORE_SLOTS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "log/log.h"

#define CG_SLOT_NONE UINT32_MAX            /* No slot. */
#define CG_ENTRY_GONE UINT64_MAX           /* No place. */
#define CG_SLOT_GENERATIONS_MAX (1u << 21) /* A number stays below 2^53, for Lua. */

/* Where one record is. */
struct cg_entry {
  cg_log_place place; /* In the log; CG_ENTRY_GONE: the record was scavenged. */
  uint64_t position;  /* In the order of all records. */
};

/* One stream. */
struct cg_slot {
  char *name;               /* Zero-terminated copy; NULL: the slot is free. */
  struct cg_entry *entries; /* Those of the versions from `base` on. */
  uint64_t base;            /* How many versions there are before the first entry. */
  uint32_t held;            /* Entries, those of the commit being built included. */
  uint32_t capacity;        /* Room in entries. */
  uint32_t generation;      /* How many streams had the slot before. */
  uint32_t next_free;       /* While free: the next free slot. */
  uint32_t hint_table;      /* Table in which a version was found last; see index.h. */
  uint32_t hint_stream;     /* Place of the stream in it. */
  uint16_t name_size;       /* Bytes of name. */
  bool unfinished;          /* Opened and not closed. */
  bool touched;             /* Found by name since the last look for streams to evict. */
};

/* All of them. */
struct cg_slots {
  struct cg_map *names;      /* Stream name to place. */
  struct cg_slot *items;     /* By place. */
  uint32_t count;            /* Places, free ones included. */
  uint32_t capacity;         /* Room in items. */
  uint32_t used;             /* Places that are not free. */
  uint32_t first_free;       /* The list of free ones; CG_SLOT_NONE: none. */
  uint32_t drop_hand;        /* Where dropping of entries has come to. */
  uint32_t drop_left;        /* Slots that it still has to look at. */
  uint32_t evict_hand;       /* Where eviction has come to. */
  uint64_t evict_left;       /* Slots that it still has to look at, while too many are used. */
  uint64_t evicted_count;    /* Streams evicted so far. */
  uint32_t next_try;         /* Streams in memory from which on eviction is tried again. */
  uint64_t covered_position; /* Records below it are in tables. */
};

/* Makes it empty; `seed` is of the name map. */
void cg_slots_init(struct cg_slots *slots, uint64_t seed);
/* Frees everything in it. */
void cg_slots_deinit(struct cg_slots *slots);

/* The place of a stream that is in memory, or CG_SLOT_NONE. */
uint32_t cg_slots_find(struct cg_slots *slots, const char *name, size_t size);
/* Makes a slot for a stream that is not in memory. */
uint32_t cg_slots_make(struct cg_slots *slots, const char *name, size_t size);
/* Makes room for one more entry. */
void cg_slots_grow(struct cg_slot *slot);

/* Looks at up to `budget` slots: drops entries of records below `covered_position`, and evicts
 * finished streams without entries while more than `used_max` are in memory. Pointers to slots, and
 * the numbers of streams that are evicted, do not survive it. True when there is more to do. */
bool cg_slots_turn(struct cg_slots *slots, uint64_t covered_position, uint32_t used_max,
                   uint32_t budget);

/* The number of the stream at a place. */
static inline uint64_t cg_slots_number(const struct cg_slots *slots, uint32_t place) {
  return (uint64_t)slots->items[place].generation << 32 | place;
}

/* The slot of a stream, or NULL when the number is stale or none at all. */
static inline struct cg_slot *cg_slots_look(const struct cg_slots *slots, uint64_t number) {
  uint32_t place = (uint32_t)number;
  if (place >= slots->count)
    return NULL;
  struct cg_slot *slot = &slots->items[place];
  return slot->generation == number >> 32 && slot->name != NULL ? slot : NULL;
}

/* How many records the stream has, in tables and here. */
static inline uint64_t cg_slot_count(const struct cg_slot *slot) {
  return slot->base + slot->held;
}

/* Adds the entry of the next version. */
static inline void cg_slots_push(struct cg_slot *slot, struct cg_entry entry) {
  if (slot->held == slot->capacity)
    cg_slots_grow(slot);
  slot->entries[slot->held++] = entry;
}

#endif
