/* json_scan.h - finds the end of the part of a JSON string that needs no care; private to codec.
 *
 * How to use: cg_json_scan_plain skips bytes that stand for themselves on both sides: ASCII from
 * space on, but no quote and no backslash. It looks at a block of bytes at once: 16 where there is
 * SSE2, else 8 in a word. Owns: nothing. Thread: any. */
#ifndef CG_CODEC_JSON_SCAN_H
#define CG_CODEC_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* True for a byte that stands for itself. */
static inline bool cg_json_scan_is_plain(uint8_t byte) {
  return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

#ifdef __SSE2__

#define CG_JSON_SCAN_BLOCK 16 /* Bytes of a block. */
#define CG_JSON_SCAN_STRIDE 1 /* Bits of cg_json_scan_stops that stand for a byte. */

/* Looks at one block: the lowest bit set tells the first byte that is not plain. */
static inline uint64_t cg_json_scan_stops(const char *text) {
  __m128i block = _mm_loadu_si128((const __m128i *)text);
  __m128i stops = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
  stops = _mm_or_si128(stops, _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
  /* As signed bytes, those from 0x80 on are below 0x20 too. */
  stops = _mm_or_si128(stops, _mm_cmplt_epi8(block, _mm_set1_epi8(0x20)));
  return (uint32_t)_mm_movemask_epi8(stops);
}

#else

#define CG_JSON_SCAN_BLOCK 8
#define CG_JSON_SCAN_STRIDE 8
#define CG_JSON_SCAN_ONES UINT64_C(0x0101010101010101) /* 1 in every byte of a word. */
#define CG_JSON_SCAN_HIGH UINT64_C(0x8080808080808080) /* The top bit of every byte. */

/* As above. Bits above the lowest one may be wrong, as borrows run upwards. */
static inline uint64_t cg_json_scan_stops(const char *text) {
  uint64_t word;
  memcpy(&word, text, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  uint64_t quote = word ^ (CG_JSON_SCAN_ONES * '"');
  uint64_t backslash = word ^ (CG_JSON_SCAN_ONES * '\\');
  uint64_t stops = (quote - CG_JSON_SCAN_ONES) & ~quote;
  stops |= (backslash - CG_JSON_SCAN_ONES) & ~backslash;
  stops |= (word - CG_JSON_SCAN_ONES * 0x20) & ~word;
  return (stops | word) & CG_JSON_SCAN_HIGH;
}

#endif

/* Bytes at the start of `text`, at most `size`, that stand for themselves. `readable_size` bytes,
 * at least `size`, may be read, whatever is in those behind. */
static inline size_t cg_json_scan_plain(const char *text, size_t size, size_t readable_size) {
  size_t at = 0;
  for (; at < size && at + CG_JSON_SCAN_BLOCK <= readable_size; at += CG_JSON_SCAN_BLOCK) {
    uint64_t stops = cg_json_scan_stops(text + at);
    size_t left = size - at;
    if (left < CG_JSON_SCAN_BLOCK)
      stops &= (UINT64_C(1) << (left * CG_JSON_SCAN_STRIDE)) - 1;
    if (stops != 0)
      return at + (size_t)__builtin_ctzll(stops) / CG_JSON_SCAN_STRIDE;
  }
  while (at < size && cg_json_scan_is_plain((uint8_t)text[at]))
    at++;
  return at < size ? at : size;
}

#endif
