/* json_scan.h - finds the end of the part of a JSON string that needs no care; private to codec.
 *
 * How to use: cg_json_scan_plain skips bytes that stand for themselves on both sides: ASCII from
 * space on, but no quote and no backslash. Owns: nothing. Thread: any. */
#ifndef CG_CODEC_JSON_SCAN_H
#define CG_CODEC_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CG_JSON_SCAN_ONES UINT64_C(0x0101010101010101) /* 1 in every byte of a word. */
#define CG_JSON_SCAN_HIGH UINT64_C(0x8080808080808080) /* The top bit of every byte. */

/* True for a byte that stands for itself. */
static inline bool cg_json_scan_is_plain(uint8_t byte) {
  return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* The top bits of the bytes in `word` that are not plain. Bits above the lowest one may be wrong
 * (borrows run upwards), so only "none" and the lowest one count. */
static inline uint64_t cg_json_scan_stops(uint64_t word) {
  uint64_t quote = word ^ (CG_JSON_SCAN_ONES * '"');
  uint64_t backslash = word ^ (CG_JSON_SCAN_ONES * '\\');
  uint64_t stops = (quote - CG_JSON_SCAN_ONES) & ~quote;
  stops |= (backslash - CG_JSON_SCAN_ONES) & ~backslash;
  stops |= (word - CG_JSON_SCAN_ONES * 0x20) & ~word;
  return (stops | word) & CG_JSON_SCAN_HIGH;
}

/* Bytes at the start of `text` that stand for themselves. */
static inline size_t cg_json_scan_plain(const char *text, size_t size) {
  size_t at = 0;
  for (; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
    uint64_t word;
    memcpy(&word, text + at, sizeof(word));
    uint64_t stops = cg_json_scan_stops(word);
    if (stops == 0)
      continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return at + (size_t)__builtin_ctzll(stops) / 8;
#else
    break; /* The loop below finds the byte. */
#endif
  }
  while (at < size && cg_json_scan_is_plain((uint8_t)text[at]))
    at++;
  return at;
}

#endif
