/* json_number.c - doubles to decimal text and back.
 *
 * How it works: integers up to 2^53 go through a digit loop. Money and measures have few decimals:
 * multiply by 10, 100, ... until it is an integer m below 10^15 and m / 10^p is the number again;
 * as m and 10^p are exact, that one division rounds as a correct reader does, so the text m / 10^p
 * is proven to read back, and the first p has the fewest digits. Other fractions of middle size are
 * scaled to 17 digits in 128-bit integers and rounded as far as they still read back. The rest asks
 * the C library for 15, 16 and 17 digits. Reading is the mirror: m * or / 10^p when both are exact,
 * else strtod.
 * Owns: nothing. Thread: any. */
#include "codec/json_number.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

#define DIGITS_EXACT 15       /* So many decimal digits always survive a double. */
#define DIGITS_MAX 17         /* So many always tell two doubles apart. */
#define DIGITS_LIMIT 1e15     /* Ten to DIGITS_EXACT. */
#define FEW_DECIMALS 4        /* Money and measures. */
#define MIDDLE_MIN 1e-5       /* From here ... */
#define MIDDLE_MAX 1e15       /* ... to here 128 bits hold the exact value of 17 digits. */
#define DECIMAL_DIGITS_MAX 19 /* So many digits fit in 64 bits. */
#define POWER_EXACT 22        /* The largest power of ten that is a double. */
#define POINT_LEFT_MAX (-6)   /* Smaller numbers than 0.000001 are written with an exponent. */

/* Every power of ten that is exactly a double. */
static const double powers[POWER_EXACT + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* "00" to "99": two digits a step halve the divisions. */
static const char pairs[201] = "00010203040506070809101112131415161718192021222324"
                               "25262728293031323334353637383940414243444546474849"
                               "50515253545556575859606162636465666768697071727374"
                               "75767778798081828384858687888990919293949596979899";

/* A decimal number under construction: digits times ten to exponent. */
struct decimal {
  uint64_t digits; /* May end with zeros. */
  int exponent;    /* Power of ten of the last digit. */
};

/* Writes `value` in decimal; returns the size, at most 20. */
static size_t write_integer(uint64_t value, char *out) {
  char reversed[24];
  char *end = reversed + sizeof(reversed);
  char *at = end;
  while (value >= 100) {
    at -= 2;
    memcpy(at, pairs + 2 * (value % 100), 2);
    value /= 100;
  }
  if (value >= 10) {
    at -= 2;
    memcpy(at, pairs + 2 * value, 2);
  } else {
    *--at = (char)('0' + value);
  }
  memcpy(out, at, (size_t)(end - at));
  return (size_t)(end - at);
}

/* Finds the shortest decimal of a number with few decimals, by one exact division. */
static bool find_few_digits(double magnitude, struct decimal *decimal) {
  for (int power = 1; power <= FEW_DECIMALS; power++) {
    double scaled = magnitude * powers[power];
    if (scaled >= DIGITS_LIMIT)
      return false;
    uint64_t digits = (uint64_t)(scaled + 0.5);
    if ((double)digits / powers[power] == magnitude) {
      *decimal = (struct decimal){digits, -power};
      return true;
    }
  }
  return false;
}

/* Finds the shortest decimal of a fraction of middle size in exact integers. False when it is out
 * of their range. */
static bool find_in_integers(double magnitude, struct decimal *decimal) {
  if (magnitude < MIDDLE_MIN || magnitude > MIDDLE_MAX)
    return false;
  int exponent;
  uint64_t bits = (uint64_t)ldexp(frexp(magnitude, &exponent), DBL_MANT_DIG);
  int shift = DBL_MANT_DIG - exponent; /* magnitude is bits / 2^shift. */

  /* value / 2^shift has 17 digits before the point. Any whole number that is no farther from it
   * than half a unit of `bits`, which is scale / 2, reads as this double: look for the roundest.
   * No whole number is just between two doubles, as such a one has more digits. Below a power of
   * two the doubles are twice as dense, but those in this range have few digits themselves. */
  int power = 1;
  unsigned __int128 scale = 10;
  for (; magnitude * powers[power] < 1e16; power++)
    scale *= 10;
  unsigned __int128 value = bits * scale;
  uint64_t whole = (uint64_t)(value >> shift);
  uint64_t best = whole + (uint64_t)((value >> (shift - 1)) & 1); /* Rounded: 17 digits do. */
  for (uint64_t unit = 10; unit <= whole; unit *= 10) {
    uint64_t digits = (whole / unit + (whole % unit >= unit / 2)) * unit;
    unsigned __int128 candidate = (unsigned __int128)digits << shift;
    unsigned __int128 distance = candidate > value ? candidate - value : value - candidate;
    if (distance > scale / 2)
      break;
    best = digits;
  }
  *decimal = (struct decimal){best, -power};
  return true;
}

/* True when the decimal reads as `magnitude`. Text without a point is the same in all locales. */
static bool reads_as(const struct decimal *decimal, double magnitude) {
  char text[48];
  snprintf(text, sizeof(text), "%" PRIu64 "e%d", decimal->digits, decimal->exponent);
  return strtod(text, NULL) == magnitude;
}

/* The decimal of `digit_count` digits that is nearest to `magnitude`. */
static struct decimal nearest(double magnitude, int digit_count) {
  char text[48];
  snprintf(text, sizeof(text), "%.*e", digit_count - 1, magnitude);

  struct decimal decimal = {0, 0};
  const char *at = text;
  for (; *at != 'e'; at++) {
    if (*at >= '0' && *at <= '9') /* Skips the point, whatever the locale makes of it. */
      decimal.digits = decimal.digits * 10 + (uint64_t)(*at - '0');
  }
  decimal.exponent = (int)strtol(at + 1, NULL, 10) - (digit_count - 1);
  return decimal;
}

/* The shortest decimal that reads as `magnitude`, for any positive finite number. */
static struct decimal find_shortest(double magnitude) {
  int exponent;
  bool is_power_of_two = frexp(magnitude, &exponent) == 0.5;
  int digit_count = magnitude < DBL_MIN ? 1 : DIGITS_EXACT; /* Subnormals hold fewer digits. */
  for (; digit_count < DIGITS_MAX; digit_count++) {
    struct decimal decimal = nearest(magnitude, digit_count);
    if (reads_as(&decimal, magnitude))
      return decimal;
    /* Below a power of two the doubles are twice as dense: there the nearest decimal may read as
     * the neighbour while the next one up still reads as this number. */
    decimal.digits++;
    if (is_power_of_two && reads_as(&decimal, magnitude))
      return decimal;
  }
  return nearest(magnitude, DIGITS_MAX);
}

/* Writes d.ddde<x>; `size` digits are in `digits`, `point` of them stand before the point. */
static size_t write_exponent(const char *digits, size_t size, int point, char *out) {
  size_t at = 0;
  out[at++] = digits[0];
  if (size > 1) {
    out[at++] = '.';
    memcpy(out + at, digits + 1, size - 1);
    at += size - 1;
  }
  out[at++] = 'e';
  int exponent = point - 1;
  if (exponent < 0)
    out[at++] = '-';
  return at + write_integer((uint64_t)abs(exponent), out + at);
}

/* Writes a decimal that is no integer up to 2^53. */
static size_t write_decimal(struct decimal decimal, bool is_integer, char *out) {
  while (decimal.digits % 10 == 0) {
    decimal.digits /= 10;
    decimal.exponent++;
  }
  char digits[24];
  size_t size = write_integer(decimal.digits, digits);
  int point = (int)size + decimal.exponent;
  if (is_integer || point <= POINT_LEFT_MAX)
    return write_exponent(digits, size, point, out);

  size_t at = 0;
  if (point <= 0) {
    out[at++] = '0';
    out[at++] = '.';
    memset(out + at, '0', (size_t)-point);
    at += (size_t)-point;
    memcpy(out + at, digits, size);
    return at + size;
  }
  memcpy(out, digits, (size_t)point);
  out[point] = '.';
  memcpy(out + point + 1, digits + point, size - (size_t)point);
  return size + 1;
}

size_t cg_json_number_format(double number, char *out) {
  assert(isfinite(number));
  size_t at = 0;
  double magnitude = number;
  if (signbit(number)) {
    out[at++] = '-';
    magnitude = -number;
  }

  bool is_integer = magnitude == trunc(magnitude);
  if (is_integer && magnitude <= (double)CG_JSON_INTEGER_MAX) {
    at += write_integer((uint64_t)magnitude, out + at);
    if (number == 0 && signbit(number)) { /* A bare -0 may be read as the integer 0. */
      memcpy(out + at, ".0", 2);
      at += 2;
    }
    return at;
  }

  struct decimal decimal;
  if (is_integer ||
      (!find_few_digits(magnitude, &decimal) && !find_in_integers(magnitude, &decimal)))
    decimal = find_shortest(magnitude);
  return at + write_decimal(decimal, is_integer, out + at);
}

double cg_json_number_parse(const struct cg_json_decimal *decimal, const char *text, size_t size) {
  bool is_whole = decimal->digit_count <= DECIMAL_DIGITS_MAX;
  if (is_whole && decimal->digits == 0)
    return 0;
  if (is_whole && decimal->digits <= CG_JSON_INTEGER_MAX) {
    double digits = (double)decimal->digits;
    if (decimal->exponent >= 0 && decimal->exponent <= POWER_EXACT)
      return digits * powers[decimal->exponent];
    if (decimal->exponent < 0 && decimal->exponent >= -POWER_EXACT)
      return digits / powers[-decimal->exponent];
  }

  char copy[CG_JSON_NUMBER_CHARS_MAX + 1]; /* strtod wants a zero at the end. */
  assert(size <= CG_JSON_NUMBER_CHARS_MAX);
  memcpy(copy, text, size);
  copy[size] = '\0';
  locale_t c_locale =
      newlocale(LC_ALL_MASK, "C", (locale_t)0); /* Static memory in the C library. */
  assert(c_locale != (locale_t)0);
  double number = strtod_l(copy, NULL, c_locale);
  freelocale(c_locale);
  return number;
}
