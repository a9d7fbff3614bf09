/* err.c - setting errors and naming codes.
 *
 * A message is formatted aside first, so that it may quote the message it replaces, and is cut
 * between two UTF-8 characters when it is too long.
 * Owns: nothing. Thread: any. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static size_t format_cut(char *text, size_t capacity, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
static size_t whole_characters(const char *text, size_t size);

enum cg_code cg_err_set(struct cg_err *err, enum cg_code code, const char *format, ...) {
  if (!err)
    return code;

  char message[CG_ERR_MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  size_t size = format_cut(message, sizeof(message), format, args);
  va_end(args);

  err->code = code;
  memcpy(err->message, message, size + 1);
  return code;
}

enum cg_code cg_err_prefix(struct cg_err *err, const char *format, ...) {
  if (!err || err->code == CG_OK)
    return CG_OK;

  char message[CG_ERR_MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  size_t size = format_cut(message, sizeof(message), format, args);
  va_end(args);

  static const char separator[] = ": ";
  size_t rest = strlen(err->message);
  size_t room = sizeof(message) - 1;
  if (size + sizeof(separator) - 1 > room)
    size = whole_characters(message, room - (sizeof(separator) - 1));
  memcpy(message + size, separator, sizeof(separator) - 1);
  size += sizeof(separator) - 1;
  if (rest > room - size)
    rest = whole_characters(err->message, room - size);
  memcpy(message + size, err->message, rest);
  message[size + rest] = 0;

  memcpy(err->message, message, size + rest + 1);
  return err->code;
}

enum cg_code cg_err_from_errno(int errno_value) {
  switch (errno_value) {
  case ENOSPC:
  case EDQUOT:
    return CG_EFULL;
  case ENOENT:
    return CG_ENOTFOUND;
  case EACCES:
  case EPERM:
  case EROFS:
    return CG_EPERM;
  case EEXIST:
    return CG_EEXISTS;
  case ENOMEM:
    return CG_ENOMEM;
  default:
    return CG_EIO;
  }
}

const char *cg_code_name(enum cg_code code) {
  switch (code) {
#define X(symbol, value, name, text)                                                               \
  case symbol:                                                                                     \
    return name;
    CG_CODES(X)
#undef X
  }
  return "unknown"; /* A number that came from outside the table. */
}

/* As vsnprintf, but returns what was written, cut between characters. */
static size_t format_cut(char *text, size_t capacity, const char *format, va_list args) {
  int wanted = vsnprintf(text, capacity, format, args);
  if (wanted < 0) { /* A wide-character argument that cannot be converted. */
    text[0] = 0;
    return 0;
  }
  if ((size_t)wanted < capacity)
    return (size_t)wanted;
  size_t size = whole_characters(text, capacity - 1);
  text[size] = 0;
  return size;
}

/* How many of the first `size` bytes to keep so that a text cut there ends with a whole UTF-8
 * character. Text that is not UTF-8 is cut at `size`. */
static size_t whole_characters(const char *text, size_t size) {
  for (size_t back = 1; back <= 3 && back <= size; back++) {
    uint8_t byte = (uint8_t)text[size - back];
    if (byte < 0x80)
      break;
    if (byte >= 0xC0) {
      size_t width = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
      return width > back ? size - back : size;
    }
  }
  return size;
}
