/* json_write.c - appends JSON strings and numbers to a buffer.
 *
 * How it works: a string is copied and the copy scanned; nearly every one needs no escape and is
 * done then. Otherwise plain runs are copied and the bytes between them escaped or checked.
 * Owns: nothing. Thread: any. */
#include <math.h>
#include <string.h>

#include "codec/json.h"
#include "codec/json_number.h"
#include "codec/json_scan.h"
#include "codec/utf8.h"

/* Appends the escape of one control character, quote or backslash. */
static void write_escape(struct cg_buf *buf, uint8_t byte) {
  static const char hex[] = "0123456789abcdef";
  static const char short_from[] = "\"\\\b\f\n\r\t";
  static const char short_to[] = "\"\\bfnrt";
  char *out = (char *)cg_buf_room(buf, 6);
  const char *found = byte == 0 ? NULL : strchr(short_from, byte);
  out[0] = '\\';
  if (found != NULL) {
    out[1] = short_to[found - short_from];
    buf->size += 2;
    return;
  }
  memcpy(out + 1, "u00", 3);
  out[4] = hex[byte >> 4];
  out[5] = hex[byte & 15];
  buf->size += 6;
}

/* Appends the rest of a string from `at` on, and the closing quote. */
static enum cg_code write_with_care(struct cg_buf *buf, const char *text, size_t size, size_t at,
                                    struct cg_err *err) {
  while (at < size) {
    uint8_t byte = (uint8_t)text[at];
    size_t run = 1;
    if (byte < 0x80) {
      write_escape(buf, byte);
    } else {
      run = cg_utf8_sequence_size(text + at, size - at);
      if (run == 0)
        return cg_err_set(err, CG_EINVAL, "the text is not UTF-8 (byte 0x%02X at offset %zu)", byte,
                          at);
      cg_buf_append(buf, text + at, run);
    }
    at += run;
    run = cg_json_scan_plain(text + at, size - at, size - at);
    cg_buf_append(buf, text + at, run);
    at += run;
  }
  *cg_buf_room(buf, 1) = '"';
  buf->size++;
  return CG_OK;
}

enum cg_code cg_json_write_string(struct cg_buf *buf, const char *text, size_t size,
                                  struct cg_err *err) {
  size_t start = buf->size;
  size_t readable_size = size + CG_JSON_SCAN_BLOCK; /* The scan may look behind the copy. */
  char *out = (char *)cg_buf_room(buf, readable_size + 2);
  *out++ = '"';
  memcpy(out, text, size);
  size_t plain_size = cg_json_scan_plain(out, size, readable_size);
  buf->size += 1 + plain_size;
  if (plain_size == size) {
    out[size] = '"';
    buf->size++;
    return CG_OK;
  }

  enum cg_code code = write_with_care(buf, text, size, plain_size, err);
  if (code != CG_OK)
    buf->size = start;
  return code;
}

enum cg_code cg_json_write_number(struct cg_buf *buf, double number, struct cg_err *err) {
  if (!isfinite(number))
    return cg_err_set(err, CG_EINVAL, "%s is not a number that JSON can hold",
                      isnan(number) ? "NaN"
                      : number > 0  ? "infinity"
                                    : "-infinity");
  char *out = (char *)cg_buf_room(buf, CG_JSON_NUMBER_BYTES);
  buf->size += cg_json_number_format(number, out);
  return CG_OK;
}
