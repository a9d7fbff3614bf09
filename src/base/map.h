/* map.h - a hash map from byte strings to a 64-bit value.
 *
 * How to use: keys are copied into the map's own arena; values are numbers or pointers.
 * Open addressing with linear probing, grown at 3/4 load; hash: wyhash-like 64-bit mix seeded per
 * map, so that no input can make it slow on purpose.
 * Owns: its slots and key bytes. Thread: one at a time. */
#ifndef CG_BASE_MAP_H
#define CG_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cg_map;

/* The hash of a key that maps use, never 0. Files hold it: it must stay as it is. */
uint32_t cg_map_hash(uint64_t seed, const void *key, size_t size);

/* An empty map; `seed` should differ between runs. */
struct cg_map *cg_map_new(uint64_t seed);
/* Frees map and keys; NULL is fine. The values are the caller's. */
void cg_map_free(struct cg_map *map);
/* Entries in the map. */
size_t cg_map_count(const struct cg_map *map);
/* Makes room for `count` keys, at most 2^24, so that the map need not grow under way. */
void cg_map_reserve(struct cg_map *map, size_t count);
/* Finds `key`; returns a pointer to its value, valid until the next put or remove, or NULL. */
uint64_t *cg_map_find(struct cg_map *map, const void *key, size_t size);
/* Finds or adds `key` (value 0 when added, *added says which; may be NULL). Copies the key. */
uint64_t *cg_map_put(struct cg_map *map, const void *key, size_t size, bool *added);
/* Removes `key`; false when it is not there. */
bool cg_map_remove(struct cg_map *map, const void *key, size_t size);

#endif
