/* document.h - builds one JSON object in a buffer, field by field.
 *
 * How to use: begin, any fields, end; print it by cg_print_document, or cg_document_print for one
 * line of JSON.
 * Owns: nothing; the buffer is the caller's. Thread: any. */
#ifndef CG_CLI_DOCUMENT_H
#define CG_CLI_DOCUMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Appends "{". */
void cg_document_begin(struct cg_buf *buf);
/* Appends a field with a number. */
void cg_document_number(struct cg_buf *buf, const char *name, double number);
/* Appends a field with a text; bytes that are no UTF-8 become question marks. */
void cg_document_text(struct cg_buf *buf, const char *name, const char *text, size_t size);
/* Appends a field with true or false. */
void cg_document_bool(struct cg_buf *buf, const char *name, bool value);
/* Appends a field with JSON that is given. */
void cg_document_json(struct cg_buf *buf, const char *name, const struct cg_buf *json);
/* Appends "}". */
void cg_document_end(struct cg_buf *buf);
/* Prints what the buffer holds as one line. */
void cg_document_print(const struct cg_buf *buf);

#endif
