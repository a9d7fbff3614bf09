/* json.h - a JSON writer and reader on buffers, without Lua.
 *
 * Writer: append values to a cg_buf; strings are checked to be UTF-8 and escaped; doubles are
 * written with the fewest digits that read back as the same double (integers up to 2^53 without
 * exponent or fraction; -0 as -0.0; the locale does not matter); NaN and infinities are refused.
 * Reader: a pull parser over RFC 8259 text: one token a call, no recursion, strict (no comments, no
 * trailing commas, no bare words, valid UTF-8, paired surrogates), bounded depth, and it names the
 * line and column of an error. An integer beyond 2^53 in magnitude is refused, never rounded (a
 * number with fraction or exponent is read as the nearest double; overflow to infinity is refused).
 * Duplicate keys are the caller's to refuse (it holds the object).
 * Owns: nothing. Thread: any. */
#ifndef CG_CODEC_JSON_H
#define CG_CODEC_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define CG_JSON_DEPTH_MAX 128         /* Nesting of arrays and objects that is read or written. */
#define CG_JSON_NUMBER_CHARS_MAX 1024 /* Characters of one number; any double fits in 800. */

/* Appends a string with quotes. CG_EINVAL: not UTF-8 (the message has the byte offset); the buffer
 * is as it was then. */
enum cg_code cg_json_write_string(struct cg_buf *buf, const char *text, size_t size,
                                  struct cg_err *err);
/* Appends a number. Values beyond 2^53 in magnitude are written in exponent form, so that reading
 * gives the same double. CG_EINVAL: NaN or infinite. */
enum cg_code cg_json_write_number(struct cg_buf *buf, double number, struct cg_err *err);

/* Kinds of token. */
enum cg_json_kind {
  CG_JSON_NULL,         /* The word null. */
  CG_JSON_FALSE,        /* The word false. */
  CG_JSON_TRUE,         /* The word true. */
  CG_JSON_NUMBER,       /* In `number`. */
  CG_JSON_STRING,       /* In `text`. */
  CG_JSON_KEY,          /* An object's key; the value follows. */
  CG_JSON_ARRAY_BEGIN,  /* [ */
  CG_JSON_ARRAY_END,    /* ] */
  CG_JSON_OBJECT_BEGIN, /* { */
  CG_JSON_OBJECT_END,   /* } */
  CG_JSON_END           /* The text is complete. */
};

/* One token. */
struct cg_json_token {
  enum cg_json_kind kind; /* Which of the fields below count. */
  double number;          /* CG_JSON_NUMBER. */
  const char *text; /* CG_JSON_STRING, CG_JSON_KEY: unescaped, not zero-terminated; valid until
                         the next call. */
  size_t size;      /* Bytes of text. */
};

/* A reader over text that must stay valid while it is used. */
struct cg_json_reader {
  const char *text;                    /* The whole text. */
  size_t size;                         /* Bytes of text. */
  size_t offset;                       /* Next byte to look at. */
  struct cg_buf *scratch;              /* Unescaped strings; the caller's, emptied on use. */
  uint32_t depth;                      /* Open arrays and objects. */
  uint32_t depth_max;                  /* At most CG_JSON_DEPTH_MAX. */
  uint8_t state;                       /* What may come next. */
  uint8_t open[CG_JSON_DEPTH_MAX / 8]; /* One bit a level: 1 is an object. */
};

/* Starts reading. `scratch` is the caller's and must outlive the reader. */
void cg_json_reader_init(struct cg_json_reader *reader, const char *text, size_t size,
                         struct cg_buf *scratch);
/* The next token; CG_JSON_END again and again once the text is complete. CG_EINVAL with line and
 * column (both from 1, the column in characters); the reader must not be used after it. CG_ELIMIT:
 * nesting too deep, or a number too long. The scratch is used for strings with escapes only, and
 * they never have more bytes than the text; so with that capacity it does not grow. */
enum cg_code cg_json_next(struct cg_json_reader *reader, struct cg_json_token *token,
                          struct cg_err *err);

#endif
