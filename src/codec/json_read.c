/* json_read.c - a strict pull parser for JSON.
 *
 * How it works: `state` says what may come next and one bit a level says whether it is an object,
 * so that no stack is needed. A key takes its colon along. Strings without escapes are handed out
 * as a part of the text; only the others are copied to the scratch buffer.
 * Owns: nothing. Thread: any. */
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "codec/json_number.h"
#include "codec/json_scan.h"
#include "codec/utf8.h"

#define NOINLINE __attribute__((noinline)) /* Keeps rare work out of the code for common tokens. */

static_assert(CG_JSON_DEPTH_MAX % 8 == 0, "one bit a level");

/* What may come next. */
enum state {
  STATE_VALUE,      /* A value. */
  STATE_FIRST_ITEM, /* A value or the end of the array. */
  STATE_FIRST_KEY,  /* A key or the end of the object. */
  STATE_AFTER,      /* A comma or the end of the array or object. */
  STATE_DONE        /* White space only. */
};

static enum cg_code read_value(struct cg_json_reader *reader, struct cg_json_token *token,
                               struct cg_err *err);
static inline enum cg_code read_key(struct cg_json_reader *reader, struct cg_json_token *token,
                                    struct cg_err *err);
static inline enum cg_code read_after(struct cg_json_reader *reader, struct cg_json_token *token,
                                      struct cg_err *err);
static enum cg_code read_close(struct cg_json_reader *reader, struct cg_json_token *token);
static NOINLINE enum cg_code fail_expected(const struct cg_json_reader *reader, const char *what,
                                           struct cg_err *err);

/* The byte at the offset; 0, which no rule of JSON accepts, at the end. */
static inline char peek(const struct cg_json_reader *reader) {
  return reader->offset < reader->size ? reader->text[reader->offset] : '\0';
}

/* Moves to the next byte that is not white space. */
static inline void skip_space(struct cg_json_reader *reader) {
  const char *text = reader->text;
  size_t offset = reader->offset;
  while (
      offset < reader->size && (uint8_t)text[offset] <= ' ' &&
      (text[offset] == ' ' || text[offset] == '\n' || text[offset] == '\r' || text[offset] == '\t'))
    offset++;
  reader->offset = offset;
}

/* True when the innermost open level is an object. */
static inline bool in_object(const struct cg_json_reader *reader) {
  uint32_t level = reader->depth - 1;
  return (reader->open[level / 8] >> (level % 8)) & 1;
}

void cg_json_reader_init(struct cg_json_reader *reader, const char *text, size_t size,
                         struct cg_buf *scratch) {
  *reader = (struct cg_json_reader){
      .text = text,
      .size = size,
      .scratch = scratch,
      .depth_max = CG_JSON_DEPTH_MAX,
      .state = STATE_VALUE,
  };
}

enum cg_code cg_json_next(struct cg_json_reader *reader, struct cg_json_token *token,
                          struct cg_err *err) {
  skip_space(reader);
  switch ((enum state)reader->state) {
  case STATE_VALUE:
    return read_value(reader, token, err);
  case STATE_FIRST_ITEM:
    if (peek(reader) == ']')
      return read_close(reader, token);
    return read_value(reader, token, err);
  case STATE_FIRST_KEY:
    if (peek(reader) == '}')
      return read_close(reader, token);
    return read_key(reader, token, err);
  case STATE_AFTER:
    return read_after(reader, token, err);
  case STATE_DONE:
    break;
  }
  if (reader->offset < reader->size)
    return fail_expected(reader, "the end of the text", err);
  token->kind = CG_JSON_END;
  return CG_OK;
}

/* Fails at `offset`, with line and column in front of the message. */
static enum cg_code __attribute__((format(printf, 5, 6)))
fail_at(const struct cg_json_reader *reader, size_t offset, enum cg_code code, struct cg_err *err,
        const char *format, ...) {
  size_t line = 1;
  size_t column = 1;
  for (size_t i = 0; i < offset; i++) {
    uint8_t byte = (uint8_t)reader->text[i];
    if (byte == '\n') {
      line++;
      column = 1;
    } else if ((byte & 0xC0) != 0x80) { /* Count characters: not the bytes that follow a lead. */
      column++;
    }
  }
  char message[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  return cg_err_set(err, code, "line %zu, column %zu: %s", line, column, message);
}

/* Fails because something else stands at the offset. */
static NOINLINE enum cg_code fail_expected(const struct cg_json_reader *reader, const char *what,
                                           struct cg_err *err) {
  size_t offset = reader->offset;
  if (offset >= reader->size)
    return fail_at(reader, offset, CG_EINVAL, err, "the text ends where %s is expected", what);
  uint8_t byte = (uint8_t)reader->text[offset];
  if (byte > 0x20 && byte < 0x7F)
    return fail_at(reader, offset, CG_EINVAL, err, "%s is expected, not '%c'", what, byte);
  return fail_at(reader, offset, CG_EINVAL, err, "%s is expected, not byte 0x%02X", what, byte);
}

/* After a complete value. */
static inline void set_after(struct cg_json_reader *reader) {
  reader->state = reader->depth == 0 ? STATE_DONE : STATE_AFTER;
}

/* Opens an array or an object at its bracket. */
static enum cg_code read_open(struct cg_json_reader *reader, struct cg_json_token *token,
                              bool is_object, struct cg_err *err) {
  assert(reader->depth_max <= CG_JSON_DEPTH_MAX);
  if (reader->depth >= reader->depth_max)
    return fail_at(reader, reader->offset, CG_ELIMIT, err, "nested deeper than %u levels",
                   reader->depth_max);
  uint32_t level = reader->depth++;
  uint8_t bit = (uint8_t)(1u << (level % 8));
  if (is_object)
    reader->open[level / 8] |= bit;
  else
    reader->open[level / 8] &= (uint8_t)~bit;
  reader->offset++;
  reader->state = is_object ? STATE_FIRST_KEY : STATE_FIRST_ITEM;
  token->kind = is_object ? CG_JSON_OBJECT_BEGIN : CG_JSON_ARRAY_BEGIN;
  return CG_OK;
}

/* Closes the innermost level at its bracket, which the caller has seen to fit. */
static enum cg_code read_close(struct cg_json_reader *reader, struct cg_json_token *token) {
  token->kind = in_object(reader) ? CG_JSON_OBJECT_END : CG_JSON_ARRAY_END;
  reader->offset++;
  reader->depth--;
  set_after(reader);
  return CG_OK;
}

/* A comma and what follows it, or the end of the level. */
static inline enum cg_code read_after(struct cg_json_reader *reader, struct cg_json_token *token,
                                      struct cg_err *err) {
  bool is_object = in_object(reader);
  char byte = peek(reader);
  if (byte == (is_object ? '}' : ']'))
    return read_close(reader, token);
  if (byte != ',')
    return fail_expected(reader, is_object ? "a comma or }" : "a comma or ]", err);

  reader->offset++;
  skip_space(reader);
  return is_object ? read_key(reader, token, err) : read_value(reader, token, err);
}

/* One of the three words. */
static enum cg_code read_word(struct cg_json_reader *reader, struct cg_json_token *token,
                              const char *word, enum cg_json_kind kind, struct cg_err *err) {
  size_t size = strlen(word);
  if (reader->size - reader->offset < size ||
      memcmp(reader->text + reader->offset, word, size) != 0)
    return fail_expected(reader, "a value", err);
  reader->offset += size;
  token->kind = kind;
  set_after(reader);
  return CG_OK;
}

/* The offset of the first byte from `at` on that ends or interrupts a string: a quote, a
 * backslash, a control character, what is not UTF-8, or the end of the text. */
static size_t skip_clean(const struct cg_json_reader *reader, size_t at) {
  for (;;) {
    size_t left = reader->size - at;
    at += cg_json_scan_plain(reader->text + at, left, left);
    if (at >= reader->size || (uint8_t)reader->text[at] < 0x80)
      return at;
    size_t sequence_size = cg_utf8_sequence_size(reader->text + at, reader->size - at);
    if (sequence_size == 0)
      return at;
    at += sequence_size;
  }
}

/* Four hexadecimal digits at the offset; -1 when they are not there. */
static int32_t read_hex(struct cg_json_reader *reader) {
  int32_t value = 0;
  if (reader->size - reader->offset < 4)
    return -1;
  for (int i = 0; i < 4; i++) {
    char byte = reader->text[reader->offset++];
    if (byte >= '0' && byte <= '9')
      value = value * 16 + (byte - '0');
    else if (byte >= 'a' && byte <= 'f')
      value = value * 16 + (byte - 'a' + 10);
    else if (byte >= 'A' && byte <= 'F')
      value = value * 16 + (byte - 'A' + 10);
    else
      return -1;
  }
  return value;
}

/* The rest of an escape after "\u", which began at `start`. */
static enum cg_code read_unicode(struct cg_json_reader *reader, size_t start, struct cg_err *err) {
  int32_t code_point = read_hex(reader);
  if (code_point < 0)
    return fail_at(reader, start, CG_EINVAL, err, "\\u must be followed by four hex digits");

  bool is_paired = code_point < 0xD800 || code_point > 0xDFFF;
  if (code_point >= 0xD800 && code_point <= 0xDBFF && reader->size - reader->offset >= 6 &&
      memcmp(reader->text + reader->offset, "\\u", 2) == 0) {
    reader->offset += 2;
    int32_t low = read_hex(reader);
    is_paired = low >= 0xDC00 && low <= 0xDFFF;
    code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
  }
  if (!is_paired)
    return fail_at(reader, start, CG_EINVAL, err, "half of a surrogate pair");

  char *out = (char *)cg_buf_room(reader->scratch, CG_UTF8_BYTES_MAX);
  reader->scratch->size += cg_utf8_encode((uint32_t)code_point, out);
  return CG_OK;
}

/* An escape, with the offset at its backslash. */
static enum cg_code read_escape(struct cg_json_reader *reader, struct cg_err *err) {
  static const char from[] = "\"\\/bfnrt";
  static const char to[] = "\"\\/\b\f\n\r\t";
  size_t start = reader->offset++;
  char byte = peek(reader);
  reader->offset++;
  if (byte == 'u')
    return read_unicode(reader, start, err);

  const char *found = byte == '\0' ? NULL : strchr(from, byte);
  if (found == NULL)
    return fail_at(reader, start, CG_EINVAL, err, "unknown escape in a string");
  *cg_buf_room(reader->scratch, 1) = (uint8_t)to[found - from];
  reader->scratch->size++;
  return CG_OK;
}

/* The rest of a string whose clean bytes from `start` on end at `end` with something else than the
 * closing quote. */
static enum cg_code read_with_care(struct cg_json_reader *reader, size_t start, size_t end,
                                   struct cg_json_token *token, struct cg_err *err) {
  struct cg_buf *scratch = reader->scratch;
  scratch->size = 0;
  for (;;) {
    reader->offset = end;
    if (end >= reader->size)
      return fail_at(reader, end, CG_EINVAL, err, "the text ends inside a string");
    uint8_t byte = (uint8_t)reader->text[end];
    if (byte < 0x20)
      return fail_at(reader, end, CG_EINVAL, err, "byte 0x%02X must be escaped in a string", byte);
    if (byte >= 0x80)
      return fail_at(reader, end, CG_EINVAL, err, "byte 0x%02X is not valid UTF-8 here", byte);
    cg_buf_append(scratch, reader->text + start, end - start);
    if (byte == '"')
      break;
    enum cg_code code = read_escape(reader, err);
    if (code != CG_OK)
      return code;
    start = reader->offset;
    end = skip_clean(reader, start);
  }
  reader->offset = end + 1;
  token->text = (const char *)scratch->data;
  token->size = scratch->size;
  return CG_OK;
}

/* A string that is long, or close to the end of the text, or has to be looked at with care. */
static NOINLINE enum cg_code read_long_string(struct cg_json_reader *reader,
                                              struct cg_json_token *token, struct cg_err *err) {
  size_t start = reader->offset + 1;
  size_t end = skip_clean(reader, start);
  if (end >= reader->size || reader->text[end] != '"')
    return read_with_care(reader, start, end, token, err);
  token->text = reader->text + start;
  token->size = end - start;
  reader->offset = end + 1;
  return CG_OK;
}

/* A string at its opening quote; sets text and size. */
static inline enum cg_code read_string(struct cg_json_reader *reader, struct cg_json_token *token,
                                       struct cg_err *err) {
  const char *start = reader->text + reader->offset + 1;
  if (reader->size - reader->offset > CG_JSON_SCAN_BLOCK) {
    uint64_t stops = cg_json_scan_stops(start);
    size_t size = stops == 0 ? 0 : (size_t)__builtin_ctzll(stops) / CG_JSON_SCAN_STRIDE;
    if (stops != 0 && start[size] == '"') {
      token->text = start;
      token->size = size;
      reader->offset += size + 2;
      return CG_OK;
    }
  }
  return read_long_string(reader, token, err);
}

/* A key with its colon. */
static inline enum cg_code read_key(struct cg_json_reader *reader, struct cg_json_token *token,
                                    struct cg_err *err) {
  if (peek(reader) != '"')
    return fail_expected(reader, "a key in quotes", err);
  enum cg_code code = read_string(reader, token, err);
  if (code != CG_OK)
    return code;
  skip_space(reader);
  if (peek(reader) != ':')
    return fail_expected(reader, "a colon", err);
  reader->offset++;
  reader->state = STATE_VALUE;
  token->kind = CG_JSON_KEY;
  return CG_OK;
}

/* Takes digits into `value`, which wraps around after 19 of them; returns where they end. */
static inline const char *take_digits(const char *at, const char *end, uint64_t *value) {
  for (; at < end; at++) {
    uint8_t digit = (uint8_t)(*at - '0');
    if (digit > 9)
      break;
    *value = *value * 10 + digit;
  }
  return at;
}

/* A distance in digits, clipped. */
static inline int clip(ptrdiff_t count) {
  return count < CG_JSON_EXPONENT_MAX ? (int)count : CG_JSON_EXPONENT_MAX;
}

/* The part from "e" on; NULL when there is no digit, and the offset is where it is missing. */
static const char *take_exponent(struct cg_json_reader *reader, const char *at, int *exponent) {
  const char *end = reader->text + reader->size;
  at++;
  bool is_negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+'))
    at++;
  const char *start = at;
  int value = 0;
  for (; at < end && *at >= '0' && *at <= '9'; at++) {
    if (value < CG_JSON_EXPONENT_MAX)
      value = value * 10 + (*at - '0');
  }
  *exponent += is_negative ? -value : value;
  reader->offset = (size_t)(start - reader->text);
  return at > start ? at : NULL;
}

/* The rest of a number with a fraction or an exponent, from `at` on. `digits` is its first digit,
 * `decimal` holds those before `at`. Leaves the offset where it ends. */
static enum cg_code read_fraction(struct cg_json_reader *reader, const char *digits, const char *at,
                                  struct cg_json_decimal *decimal, double *number,
                                  struct cg_err *err) {
  const char *end = reader->text + reader->size;
  decimal->digit_count = clip(at - digits); /* Leading zeros count too: then the slow way works. */
  if (*at == '.') {
    const char *fraction = at + 1;
    at = take_digits(fraction, end, &decimal->digits);
    decimal->exponent = -clip(at - fraction);
    decimal->digit_count = clip(at - digits - 1);
    reader->offset = (size_t)(at - reader->text);
    if (at == fraction)
      return fail_expected(reader, "a digit", err);
  }
  if (at < end && (*at == 'e' || *at == 'E')) {
    at = take_exponent(reader, at, &decimal->exponent);
    if (at == NULL)
      return fail_expected(reader, "a digit", err);
  }

  size_t size = (size_t)(at - digits);
  size_t start = (size_t)(digits - reader->text);
  if (size > CG_JSON_NUMBER_CHARS_MAX)
    return fail_at(reader, start, CG_ELIMIT, err, "a number has more than %d characters",
                   CG_JSON_NUMBER_CHARS_MAX);
  *number = cg_json_number_parse(decimal, digits, size);
  if (isinf(*number))
    return fail_at(reader, start, CG_EINVAL, err, "the number is too large for a double");
  reader->offset = (size_t)(at - reader->text);
  return CG_OK;
}

/* Fails for an integer that a double cannot hold. */
static NOINLINE enum cg_code fail_integer(const struct cg_json_reader *reader, size_t size,
                                          struct cg_err *err) {
  return fail_at(reader, reader->offset, CG_EINVAL, err,
                 "the integer %.*s%s is beyond 2^53 and would be rounded; send it as a string",
                 (int)(size > 40 ? 40 : size), reader->text + reader->offset,
                 size > 40 ? "..." : "");
}

/* A number at its first character. */
static enum cg_code read_number(struct cg_json_reader *reader, struct cg_json_token *token,
                                struct cg_err *err) {
  const char *start = reader->text + reader->offset;
  const char *end = reader->text + reader->size;
  const char *digits = start + (*start == '-');
  struct cg_json_decimal decimal = {0, 0, 0};
  const char *at = take_digits(digits, end, &decimal.digits);
  if (at == digits) {
    reader->offset += (size_t)(at - start);
    return fail_expected(reader, "a digit", err);
  }
  if (*digits == '0') { /* Another digit must not follow; whatever does is for the next token. */
    at = digits + 1;
    decimal.digits = 0;
  }

  double number = (double)decimal.digits;
  if (at < end && (*at == '.' || *at == 'e' || *at == 'E')) {
    enum cg_code code = read_fraction(reader, digits, at, &decimal, &number, err);
    if (code != CG_OK)
      return code;
  } else {
    if (at - digits > 16 || decimal.digits > CG_JSON_INTEGER_MAX) /* 2^53 has 16 digits. */
      return fail_integer(reader, (size_t)(at - start), err);
    reader->offset += (size_t)(at - start);
  }
  token->kind = CG_JSON_NUMBER;
  token->number = digits > start ? -number : number;
  set_after(reader);
  return CG_OK;
}

/* Any value at its first character. */
static enum cg_code read_value(struct cg_json_reader *reader, struct cg_json_token *token,
                               struct cg_err *err) {
  char byte = peek(reader);
  switch (byte) {
  case '"': {
    enum cg_code code = read_string(reader, token, err);
    token->kind = CG_JSON_STRING;
    set_after(reader);
    return code;
  }
  case '{':
    return read_open(reader, token, true, err);
  case '[':
    return read_open(reader, token, false, err);
  case 'n':
    return read_word(reader, token, "null", CG_JSON_NULL, err);
  case 't':
    return read_word(reader, token, "true", CG_JSON_TRUE, err);
  case 'f':
    return read_word(reader, token, "false", CG_JSON_FALSE, err);
  default:
    if (byte != '-' && !(byte >= '0' && byte <= '9'))
      return fail_expected(reader, "a value", err);
    return read_number(reader, token, err);
  }
}
