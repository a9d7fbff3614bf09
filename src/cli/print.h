/* print.h - answers of a running instance for people (tables) and programs (-o json).
 *
 * Owns: a Lua state that holds the decoded answer. Thread: one. */
#ifndef CG_CLI_PRINT_H
#define CG_CLI_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* One column of a table. */
struct cg_print_column {
  const char *title; /* In the head line. */
  const char *field; /* Of the document; "step.name": of a document in it. */
  bool is_time;      /* Milliseconds since 1970: printed as local date and time. */
};

/* How to print a list. */
enum cg_print_as {
  CG_PRINT_TABLE, /* A table with a head. */
  CG_PRINT_ROWS,  /* Without a head. */
  CG_PRINT_JSON   /* One document a line. */
};

/* Prints a JSON list of documents with `column_count` columns. Returns how many there were, or -1
 * when the text is no such list. */
int cg_print_list(const struct cg_buf *text, const struct cg_print_column *columns,
                  size_t column_count, enum cg_print_as as);
/* The same for the list in the field `field` of a JSON document. */
int cg_print_list_of(const struct cg_buf *json, const char *field,
                     const struct cg_print_column *columns, size_t column_count,
                     enum cg_print_as as);
/* Prints one JSON document: a line a field in the order given, fields without a value left out; or
 * as JSON in one line. */
void cg_print_document(const struct cg_buf *text, const struct cg_print_column *columns,
                       size_t column_count, bool as_json);
/* The number `field` of the document at `index` (0 is the first, -1 the last) of a JSON list; -1
 * when there is none. */
double cg_print_number(const struct cg_buf *text, int index, const char *field);
/* Prints a problem document as "catga: code: detail" on stderr. */
void cg_print_problem(const struct cg_buf *text);
/* Prints a field of a JSON document as JSON in one line: null when there is none. */
void cg_print_part(const struct cg_buf *json, const char *field);
/* Copies the field of the document at `index` (0 is the first) of the list in the field `list` of a
 * JSON document, as cg_print_field does. False when there is no such document. */
bool cg_print_item(const struct cg_buf *json, const char *list, int index, const char *field,
                   char *text, size_t size);
/* Copies the text field of a JSON document into `text`, "" when there is none; a longer one is cut
 * and ends in "...". */
void cg_print_field(const struct cg_buf *json, const char *field, char *text, size_t size);
/* The whole number in a field of a JSON document; 0 when there is none. */
uint64_t cg_print_count(const struct cg_buf *json, const char *field);

#endif
