/* bytes.h - little-endian integers in the bytes of files.
 *
 * How to use: load from, and store to, any place; alignment does not matter.
 * Owns: nothing. Thread: any. */
#ifndef CG_BASE_BYTES_H
#define CG_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* The integer that stands there. */
static inline uint16_t cg_bytes_load_16(const uint8_t *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof(value));
  return le16toh(value);
}

/* The integer that stands there. */
static inline uint32_t cg_bytes_load_32(const uint8_t *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof(value));
  return le32toh(value);
}

/* The integer that stands there. */
static inline uint64_t cg_bytes_load_64(const uint8_t *bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof(value));
  return le64toh(value);
}

/* Puts an integer there. */
static inline void cg_bytes_store_16(uint8_t *bytes, uint16_t value) {
  value = htole16(value);
  memcpy(bytes, &value, sizeof(value));
}

/* Puts an integer there. */
static inline void cg_bytes_store_32(uint8_t *bytes, uint32_t value) {
  value = htole32(value);
  memcpy(bytes, &value, sizeof(value));
}

/* Puts an integer there. */
static inline void cg_bytes_store_64(uint8_t *bytes, uint64_t value) {
  value = htole64(value);
  memcpy(bytes, &value, sizeof(value));
}

#endif
