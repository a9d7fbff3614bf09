/* map.c - open addressing with linear probing over one array of slots, keys in one arena.
 *
 * A slot is empty while its hash is 0. Removing shifts the followers of the slot back, so there are
 * no tombstones. Removed key bytes stay in the arena as waste until it is full; then the keys that
 * live are copied to a new one.
 * Owns: slots and key bytes. Thread: one at a time. */
#include "base/map.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

#define SLOTS_MIN 8u
#define RESERVED_MAX ((size_t)1 << 24)
#define SLOTS_MAX (UINT32_C(1) << 31) /* The stored hash has 32 bits. */
#define ARENA_MIN 256u
#define KEY_MAX UINT32_MAX
#define NOT_FOUND SIZE_MAX

/* One place of the table. */
struct slot {
  uint64_t value;      /* The user's. */
  uint64_t key_offset; /* Of the key in the arena. */
  uint32_t key_size;   /* Bytes of the key. */
  uint32_t hash;       /* Of the key; 0: the slot is empty. */
};

/* The map. */
struct cg_map {
  struct slot *slots;    /* A power of two of them. */
  uint8_t *arena;        /* Key bytes, one key after the other; NULL while arena_capacity is 0. */
  size_t slot_count;     /* Length of slots. */
  size_t count;          /* Slots in use. */
  size_t arena_size;     /* Bytes in use, with the waste. */
  size_t arena_waste;    /* Bytes of removed keys. */
  size_t arena_capacity; /* Bytes allocated. */
  uint64_t seed;         /* Of the hash. */
};

static size_t find_slot(const struct cg_map *map, uint32_t hash, const void *key, size_t size);
static void resize(struct cg_map *map, size_t slot_count);
static size_t arena_add(struct cg_map *map, const void *key, size_t size);
static void arena_make_room(struct cg_map *map, size_t size);

struct cg_map *cg_map_new(uint64_t seed) {
  struct cg_map *map = cg_alloc(sizeof(*map));
  map->slot_count = SLOTS_MIN;
  map->slots = cg_alloc(map->slot_count * sizeof(struct slot));
  map->seed = seed;
  return map;
}

void cg_map_free(struct cg_map *map) {
  if (!map)
    return;
  cg_free(map->slots);
  cg_free(map->arena);
  cg_free(map);
}

size_t cg_map_count(const struct cg_map *map) {
  return map->count;
}

void cg_map_reserve(struct cg_map *map, size_t count) {
  size_t slot_count = map->slot_count;
  while (slot_count / 4 * 3 < count && count <= RESERVED_MAX)
    slot_count *= 2;
  if (slot_count > map->slot_count)
    resize(map, slot_count);
}

/* Both halves of a 128-bit product folded into one: every bit depends on every bit. */
static uint64_t mix(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Sixteen bytes a multiplication; the last, partial block is padded by zeros and told from real
 * zeros by the length mixed in at the end. The constants are arbitrary odd numbers with about half
 * of their bits set. Never 0. */
uint32_t cg_map_hash(uint64_t seed, const void *key, size_t size) {
  const uint64_t first = UINT64_C(0x9E3779B97F4A7C15), second = UINT64_C(0xD1B54A32D192ED03);
  const uint8_t *at = key;
  uint64_t hash = mix(seed ^ first, second);
  size_t rest = size;
  for (; rest >= 16; rest -= 16, at += 16)
    hash = mix(cg_bytes_load_64(at) ^ hash ^ first,
               cg_bytes_load_64(at + 8) ^ second ^ (hash << 32 | hash >> 32));
  if (rest > 0) {
    uint8_t block[16] = {0};
    memcpy(block, at, rest);
    hash = mix(cg_bytes_load_64(block) ^ hash ^ first,
               cg_bytes_load_64(block + 8) ^ second ^ (hash << 32 | hash >> 32));
  }
  hash = mix(hash ^ second, size ^ first ^ seed);
  uint32_t folded = (uint32_t)(hash ^ hash >> 32);
  return folded ? folded : 1;
}

uint64_t *cg_map_find(struct cg_map *map, const void *key, size_t size) {
  size_t index = find_slot(map, cg_map_hash(map->seed, key, size), key, size);
  return index == NOT_FOUND ? NULL : &map->slots[index].value;
}

uint64_t *cg_map_put(struct cg_map *map, const void *key, size_t size, bool *added) {
  assert(size <= KEY_MAX);
  uint32_t hash = cg_map_hash(map->seed, key, size);
  size_t index = find_slot(map, hash, key, size);
  if (added)
    *added = index == NOT_FOUND;
  if (index != NOT_FOUND)
    return &map->slots[index].value;

  if (map->count + 1 > map->slot_count / 4 * 3)
    resize(map, map->slot_count * 2);
  size_t mask = map->slot_count - 1;
  index = hash & mask;
  while (map->slots[index].hash != 0)
    index = (index + 1) & mask;
  size_t key_offset = arena_add(map, key, size);
  map->slots[index] =
      (struct slot){.key_offset = key_offset, .key_size = (uint32_t)size, .hash = hash};
  map->count++;
  return &map->slots[index].value;
}

bool cg_map_remove(struct cg_map *map, const void *key, size_t size) {
  size_t index = find_slot(map, cg_map_hash(map->seed, key, size), key, size);
  if (index == NOT_FOUND)
    return false;
  map->arena_waste += map->slots[index].key_size;
  map->count--;

  /* A follower may fill the gap when its own first place is not between the gap and itself. */
  size_t mask = map->slot_count - 1;
  size_t gap = index;
  for (size_t next = (gap + 1) & mask; map->slots[next].hash != 0; next = (next + 1) & mask) {
    size_t first = map->slots[next].hash & mask;
    if (((next - first) & mask) >= ((next - gap) & mask)) {
      map->slots[gap] = map->slots[next];
      gap = next;
    }
  }
  map->slots[gap].hash = 0;

  if (map->slot_count > SLOTS_MIN && map->count < map->slot_count / 8)
    resize(map, map->slot_count / 2);
  return true;
}

static size_t find_slot(const struct cg_map *map, uint32_t hash, const void *key, size_t size) {
  size_t mask = map->slot_count - 1;
  for (size_t index = hash & mask; map->slots[index].hash != 0; index = (index + 1) & mask) {
    const struct slot *slot = &map->slots[index];
    if (slot->hash == hash && slot->key_size == size &&
        (size == 0 || memcmp(map->arena + slot->key_offset, key, size) == 0))
      return index;
  }
  return NOT_FOUND;
}

static void resize(struct cg_map *map, size_t slot_count) {
  assert(slot_count <= SLOTS_MAX);
  struct slot *slots = cg_alloc(slot_count * sizeof(struct slot));
  size_t mask = slot_count - 1;
  for (size_t i = 0; i < map->slot_count; i++) {
    if (map->slots[i].hash == 0)
      continue;
    size_t index = map->slots[i].hash & mask;
    while (slots[index].hash != 0)
      index = (index + 1) & mask;
    slots[index] = map->slots[i];
  }
  cg_free(map->slots);
  map->slots = slots;
  map->slot_count = slot_count;
}

/* Copies a key to the arena; returns its offset. */
static size_t arena_add(struct cg_map *map, const void *key, size_t size) {
  if (map->count == 0)
    map->arena_size = map->arena_waste = 0;
  if (!map->arena || map->arena_capacity - map->arena_size < size)
    arena_make_room(map, size);
  size_t offset = map->arena_size;
  if (size > 0)
    memcpy(map->arena + offset, key, size);
  map->arena_size += size;
  return offset;
}

/* Copies the keys that live to an arena with room for them twice, and for `size` more bytes. */
static void arena_make_room(struct cg_map *map, size_t size) {
  size_t live = map->arena_size - map->arena_waste;
  size_t capacity = live * 2 + size;
  if (capacity < ARENA_MIN)
    capacity = ARENA_MIN;

  uint8_t *arena = cg_realloc(NULL, capacity);
  size_t arena_size = 0;
  for (size_t i = 0; i < map->slot_count; i++) {
    struct slot *slot = &map->slots[i];
    if (slot->hash == 0)
      continue;
    memcpy(arena + arena_size, map->arena + slot->key_offset, slot->key_size);
    slot->key_offset = arena_size;
    arena_size += slot->key_size;
  }
  assert(arena_size == live);
  cg_free(map->arena);
  map->arena = arena;
  map->arena_size = live;
  map->arena_waste = 0;
  map->arena_capacity = capacity;
}
