/* utf8.c - what is valid UTF-8.
 *
 * How it works: the first byte tells the length and, for the four leads with a gap, the range of
 * the second byte; that excludes overlong forms, surrogates and what lies beyond U+10FFFF.
 * Owns: nothing. Thread: any. */
#include "codec/utf8.h"

#include <assert.h>
#include <stdbool.h>

/* True for a byte that may only follow a lead byte. */
static bool is_continuation(uint8_t byte) {
  return (byte & 0xC0) == 0x80;
}

/* True when the second byte may follow the lead byte. */
static bool is_second(uint8_t lead, uint8_t second) {
  switch (lead) {
  case 0xE0: /* Below is overlong. */
    return second >= 0xA0 && second <= 0xBF;
  case 0xED: /* Above is a surrogate. */
    return second >= 0x80 && second <= 0x9F;
  case 0xF0: /* Below is overlong. */
    return second >= 0x90 && second <= 0xBF;
  case 0xF4: /* Above is beyond U+10FFFF. */
    return second >= 0x80 && second <= 0x8F;
  default:
    return is_continuation(second);
  }
}

size_t cg_utf8_sequence_size(const char *text, size_t size) {
  const uint8_t *bytes = (const uint8_t *)text;
  if (size == 0)
    return 0;
  if (bytes[0] < 0x80)
    return 1;
  if (bytes[0] < 0xC2 || bytes[0] > 0xF4)
    return 0;

  size_t sequence_size = bytes[0] < 0xE0 ? 2 : bytes[0] < 0xF0 ? 3 : 4;
  if (size < sequence_size || !is_second(bytes[0], bytes[1]))
    return 0;
  for (size_t i = 2; i < sequence_size; i++) {
    if (!is_continuation(bytes[i]))
      return 0;
  }
  return sequence_size;
}

size_t cg_utf8_valid_size(const char *text, size_t size) {
  size_t at = 0;
  while (at < size) {
    size_t sequence_size = cg_utf8_sequence_size(text + at, size - at);
    if (sequence_size == 0)
      break;
    at += sequence_size;
  }
  return at;
}

size_t cg_utf8_encode(uint32_t code_point, char *out) {
  assert(code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF));
  uint8_t *bytes = (uint8_t *)out;
  if (code_point < 0x80) {
    bytes[0] = (uint8_t)code_point;
    return 1;
  }

  size_t size = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
  for (size_t i = size - 1; i > 0; i--) {
    bytes[i] = (uint8_t)(0x80 | (code_point & 0x3F));
    code_point >>= 6;
  }
  uint32_t lead = size == 2 ? 0xC0 : size == 3 ? 0xE0 : 0xF0;
  bytes[0] = (uint8_t)(lead | code_point);
  return size;
}
