/* json_number.h - doubles to decimal text and back; private to codec.
 *
 * How to use: format gives the shortest text that reads back as the same double; parse takes text
 * that already has the form of a JSON number. Neither depends on the locale.
 * Owns: nothing. Thread: any. */
#ifndef CG_CODEC_JSON_NUMBER_H
#define CG_CODEC_JSON_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#define CG_JSON_NUMBER_BYTES 32                 /* Room for any formatted number. */
#define CG_JSON_INTEGER_MAX (UINT64_C(1) << 53) /* Up to here every integer is a double. */
#define CG_JSON_EXPONENT_MAX 100000             /* Exponents are clipped here; beyond any. */

/* The parts of a number that was read, without its sign: digits times ten to `exponent`. */
struct cg_json_decimal {
  uint64_t digits; /* All digits, or nonsense when there are more than 19. */
  int exponent;    /* Clipped to about CG_JSON_EXPONENT_MAX. */
  int digit_count; /* At least as many as there are from the first that is not 0. */
};

/* Writes a finite `number` to `out` with room for CG_JSON_NUMBER_BYTES; returns the size, no
 * terminating zero. */
size_t cg_json_number_format(double number, char *out);

/* The double nearest to `decimal`, which was read from `text` of `size` bytes (at most
 * CG_JSON_NUMBER_CHARS_MAX; used when the parts alone do not decide). The sign is left to the
 * caller: `text` starts with a digit. May return infinity. */
double cg_json_number_parse(const struct cg_json_decimal *decimal, const char *text, size_t size);

#endif
