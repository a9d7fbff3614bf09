/* value_keys.c - the short object keys that were read lately.
 *
 * How it works: a direct-mapped table. Two words hold all bytes of a key of up to 16 bytes (they
 * overlap when it has less), so that two compares decide.
 * Owns: one registry entry of the Lua state. Thread: the one of the Lua state. */
#include "bind/value_keys.h"

#include <assert.h>
#include <string.h>

#define HASH_FACTOR UINT64_C(0x9E3779B97F4A7C15) /* Spreads neighbours over the top bits. */
#define HASH_SHIFT 56                            /* Leaves the bits of a slot. */

static_assert(CG_VALUE_KEYS_MAX == 1 << (64 - HASH_SHIFT), "a slot for every hash");

static const char cache_key = 'k'; /* Its address is the registry's key of the table. */

/* Makes the cache; pushes its table. */
static void new_cache(lua_State *L) {
  lua_createtable(L, CG_VALUE_KEYS_MAX, 1);
  struct cg_value_keys *cache = lua_newuserdata(L, sizeof(*cache));
  memset(cache, 0, sizeof(*cache));
  lua_rawseti(L, -2, 0); /* The strings have the places from 1 on. */
  lua_pushlightuserdata(L, (void *)&cache_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

struct cg_value_keys *cg_value_keys_open(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&cache_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    new_cache(L);
  }
  lua_rawgeti(L, -1, 0);
  struct cg_value_keys *cache = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return cache;
}

/* Pushes a key that is not remembered. */
static const char *push_new(lua_State *L, const char *text, size_t size) {
  lua_pushlstring(L, text, size);
  return lua_tolstring(L, -1, NULL);
}

/* The 8 bytes at `text`. */
static inline uint64_t load(const char *text) {
  uint64_t word;
  memcpy(&word, text, sizeof(word));
  return word;
}

/* The first `size` of the 8 bytes at `text`, 1 to 7, and zeros. */
static inline uint64_t load_part(const char *text, size_t size) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return load(text) & (UINT64_MAX >> (64 - 8 * size));
#else
  return load(text) & (UINT64_MAX << (64 - 8 * size));
#endif
}

const char *cg_value_keys_push(lua_State *L, struct cg_value_keys *cache, int table,
                               const char *text, size_t size, bool is_roomy) {
  if (size == 0 || size > CG_VALUE_KEYS_BYTES_MAX || (size < sizeof(uint64_t) && !is_roomy))
    return push_new(L, text, size);

  bool is_long = size >= sizeof(uint64_t);
  uint64_t head = is_long ? load(text) : load_part(text, size);
  uint64_t tail = is_long ? load(text + size - sizeof(uint64_t)) : 0;
  uint64_t hash = (head ^ (tail << 31 | tail >> 33)) * HASH_FACTOR;
  size_t slot = (size_t)((hash + size * HASH_FACTOR) >> HASH_SHIFT);
  struct cg_value_key *key = &cache->keys[slot];
  if (key->head == head && key->tail == tail && key->size == size) {
    lua_rawgeti(L, table, (int)slot + 1);
    return key->text;
  }

  const char *pushed = push_new(L, text, size);
  lua_pushvalue(L, -1);
  lua_rawseti(L, table, (int)slot + 1);
  *key = (struct cg_value_key){head, tail, size, pushed};
  return pushed;
}
