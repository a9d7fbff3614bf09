/* document.c - builds one JSON object in a buffer, field by field.
 *
 * Owns: nothing. Thread: any. */
#include "cli/document.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/json.h"

/* Appends a string, with question marks in place of what is no UTF-8. */
static void write_text(struct cg_buf *buf, const char *text, size_t size) {
  if (cg_json_write_string(buf, text, size, NULL) == CG_OK)
    return;
  char *plain = cg_strndup(text, size);
  for (size_t index = 0; index < size; index++)
    if ((unsigned char)plain[index] >= 0x80)
      plain[index] = '?';
  cg_json_write_string(buf, plain, size, NULL);
  cg_free(plain);
}

/* Appends the name of the next field. */
static void begin_field(struct cg_buf *buf, const char *name) {
  if (buf->data[buf->size - 1] != '{')
    cg_buf_append(buf, ",", 1);
  write_text(buf, name, strlen(name));
  cg_buf_append(buf, ":", 1);
}

void cg_document_begin(struct cg_buf *buf) {
  cg_buf_append(buf, "{", 1);
}

void cg_document_number(struct cg_buf *buf, const char *name, double number) {
  begin_field(buf, name);
  cg_json_write_number(buf, number, NULL);
}

void cg_document_text(struct cg_buf *buf, const char *name, const char *text, size_t size) {
  begin_field(buf, name);
  write_text(buf, text, size);
}

void cg_document_bool(struct cg_buf *buf, const char *name, bool value) {
  begin_field(buf, name);
  cg_buf_append(buf, value ? "true" : "false", value ? 4 : 5);
}

void cg_document_json(struct cg_buf *buf, const char *name, const struct cg_buf *json) {
  begin_field(buf, name);
  cg_buf_append(buf, json->data, json->size);
}

void cg_document_end(struct cg_buf *buf) {
  cg_buf_append(buf, "}", 1);
}

void cg_document_print(const struct cg_buf *buf) {
  printf("%.*s\n", (int)buf->size, (const char *)buf->data);
}
