/* print.c - decodes into a small Lua state, formats the cells as text, pads them. */
#include "cli/print.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bind/bind.h"

#define CELL_BYTES 256 /* A longer cell of a table is cut, and ends in "...". */
#define COLUMNS_MAX 12
#define COUNT_CHARS 64   /* Room for a number as text. */
#define TITLE_COLUMNS 10 /* Width of the names of fields, unless one is longer. */

static lua_State *decode(const struct cg_buf *text);
static int print_rows(lua_State *L, const struct cg_print_column *columns, size_t column_count,
                      enum cg_print_as as);
static void format_cell(lua_State *L, const struct cg_print_column *column, char *cell,
                        size_t size);
static void print_json(lua_State *L);
static int count_columns(const char *text);
static void print_padded(const char *text, int width, bool is_last);

int cg_print_list(const struct cg_buf *text, const struct cg_print_column *columns,
                  size_t column_count, enum cg_print_as as) {
  lua_State *L = decode(text);
  if (L == NULL)
    return -1;
  int count = print_rows(L, columns, column_count, as);
  lua_close(L);
  return count;
}

int cg_print_list_of(const struct cg_buf *json, const char *field,
                     const struct cg_print_column *columns, size_t column_count,
                     enum cg_print_as as) {
  lua_State *L = decode(json);
  if (L == NULL)
    return -1;
  lua_getfield(L, -1, field);
  int count = lua_istable(L, -1) ? print_rows(L, columns, column_count, as) : -1;
  lua_close(L);
  return count;
}

/* Prints the list on top of the stack. */
static int print_rows(lua_State *L, const struct cg_print_column *columns, size_t column_count,
                      enum cg_print_as as) {
  int count = (int)lua_objlen(L, -1);
  int widths[COLUMNS_MAX];
  assert(column_count <= COLUMNS_MAX);
  char cell[CELL_BYTES];
  for (size_t c = 0; c < column_count; c++)
    widths[c] = count_columns(columns[c].title);
  for (int i = 1; i <= count && as != CG_PRINT_JSON; i++) {
    lua_rawgeti(L, -1, i);
    for (size_t c = 0; c < column_count; c++) {
      format_cell(L, &columns[c], cell, sizeof(cell));
      if (count_columns(cell) > widths[c])
        widths[c] = count_columns(cell);
    }
    lua_pop(L, 1);
  }
  for (size_t c = 0; c < column_count && as == CG_PRINT_TABLE; c++)
    print_padded(columns[c].title, widths[c], c + 1 == column_count);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, -1, i);
    if (as == CG_PRINT_JSON)
      print_json(L);
    for (size_t c = 0; c < column_count && as != CG_PRINT_JSON; c++) {
      format_cell(L, &columns[c], cell, sizeof(cell));
      print_padded(cell, widths[c], c + 1 == column_count);
    }
    lua_pop(L, 1);
  }
  return count;
}

void cg_print_document(const struct cg_buf *text, const struct cg_print_column *columns,
                       size_t column_count, bool as_json) {
  lua_State *L = decode(text);
  if (L == NULL)
    return;
  if (as_json)
    print_json(L);
  int width = TITLE_COLUMNS;
  for (size_t c = 0; c < column_count; c++)
    if (count_columns(columns[c].title) > width)
      width = count_columns(columns[c].title);
  for (size_t c = 0; c < column_count && !as_json; c++) {
    char cell[64 * CELL_BYTES];
    format_cell(L, &columns[c], cell, sizeof(cell));
    if (cell[0] != 0)
      printf("%-*s %s\n", width, columns[c].title, cell);
  }
  lua_close(L);
}

double cg_print_number(const struct cg_buf *text, int index, const char *field) {
  lua_State *L = decode(text);
  if (L == NULL)
    return -1;
  int count = (int)lua_objlen(L, -1);
  lua_rawgeti(L, -1, index < 0 ? count + 1 + index : index + 1);
  double number = -1;
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, field);
    if (lua_isnumber(L, -1))
      number = lua_tonumber(L, -1);
  }
  lua_close(L);
  return number;
}

void cg_print_problem(const struct cg_buf *text) {
  char code[CELL_BYTES], detail[8 * CELL_BYTES];
  cg_print_field(text, "code", code, sizeof(code));
  cg_print_field(text, "detail", detail, sizeof(detail));
  if (detail[0] == 0)
    cg_print_field(text, "title", detail, sizeof(detail));
  if (strcmp(code, detail) == 0) /* An error that a script gave without a message. */
    fprintf(stderr, "catga: %s\n", code);
  else
    fprintf(stderr, "catga: %s: %s\n", code[0] != 0 ? code : "failed", detail);
}

void cg_print_part(const struct cg_buf *json, const char *field) {
  lua_State *L = decode(json);
  if (L == NULL)
    return;
  lua_getfield(L, -1, field);
  print_json(L);
  lua_close(L);
}

void cg_print_field(const struct cg_buf *json, const char *field, char *text, size_t size) {
  text[0] = 0;
  lua_State *L = decode(json);
  if (L == NULL)
    return;
  struct cg_print_column column = {.field = field};
  format_cell(L, &column, text, size);
  lua_close(L);
}

uint64_t cg_print_count(const struct cg_buf *json, const char *field) {
  char text[COUNT_CHARS];
  cg_print_field(json, field, text, sizeof(text));
  return strtoull(text, NULL, 10);
}

bool cg_print_item(const struct cg_buf *json, const char *list, int index, const char *field,
                   char *text, size_t size) {
  text[0] = 0;
  lua_State *L = decode(json);
  if (L == NULL)
    return false;
  lua_getfield(L, -1, list);
  bool is_there = lua_istable(L, -1) && index < (int)lua_objlen(L, -1);
  if (is_there) {
    lua_rawgeti(L, -1, index + 1);
    struct cg_print_column column = {.field = field};
    format_cell(L, &column, text, size);
  }
  lua_close(L);
  return is_there;
}

/* A state with the decoded table on top, or NULL; close it. */
static lua_State *decode(const struct cg_buf *text) {
  lua_State *L = luaL_newstate();
  if (L == NULL)
    return NULL;
  struct cg_err err;
  if (cg_value_decode(L, "answer", (const char *)text->data, text->size, &err) == CG_OK &&
      lua_istable(L, -1))
    return L;
  lua_close(L);
  return NULL;
}

/* Pushes the field of the document on top of the stack; nil when it is not there. A field may have
 * a name with a dot in it. */
static void push_field(lua_State *L, const char *field) {
  const char *dot = strchr(field, '.');
  lua_getfield(L, -1, field);
  if (dot == NULL || !lua_isnil(L, -1))
    return;
  lua_pop(L, 1);
  lua_pushlstring(L, field, (size_t)(dot - field));
  lua_gettable(L, -2);
  if (!lua_istable(L, -1))
    return;
  push_field(L, dot + 1);
  lua_remove(L, -2);
}

/* Copies text into a cell; what is too long is cut behind a whole character. */
static void copy_cell(char *cell, size_t size, const char *text, size_t text_size) {
  static const char MARK[] = "...";
  if (text_size < size) {
    memcpy(cell, text, text_size);
    cell[text_size] = 0;
    return;
  }
  size_t kept = size - sizeof(MARK);
  while (kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80)
    kept--;
  memcpy(cell, text, kept);
  memcpy(cell + kept, MARK, sizeof(MARK));
}

/* The field of the document on top of the stack as text. */
static void format_cell(lua_State *L, const struct cg_print_column *column, char *cell,
                        size_t size) {
  cell[0] = 0;
  if (!lua_istable(L, -1))
    return;
  push_field(L, column->field);
  if (column->is_time && lua_isnumber(L, -1)) {
    time_t seconds = (time_t)(lua_tonumber(L, -1) / 1000);
    struct tm local;
    localtime_r(&seconds, &local);
    strftime(cell, size, "%Y-%m-%d %H:%M:%S", &local);
  } else if (lua_type(L, -1) == LUA_TSTRING) {
    size_t text_size;
    const char *text = lua_tolstring(L, -1, &text_size);
    copy_cell(cell, size, text, text_size);
  } else if (!lua_isnil(L, -1)) {
    struct cg_buf *json = cg_buf_take(NULL, 256);
    if (cg_value_encode(L, -1, NULL, json, CG_VALUE_BYTES_MAX, NULL) == CG_OK)
      copy_cell(cell, size, (const char *)json->data, json->size);
    cg_buf_unref(json);
  }
  lua_pop(L, 1);
  for (char *byte = cell; *byte != 0; byte++)
    if ((unsigned char)*byte < 0x20 || *byte == 0x7f)
      *byte = ' ';
}

static void print_json(lua_State *L) {
  struct cg_buf *json = cg_buf_take(NULL, 256);
  if (cg_value_encode(L, -1, NULL, json, CG_VALUE_BYTES_MAX, NULL) == CG_OK)
    printf("%.*s\n", (int)json->size, (const char *)json->data);
  cg_buf_unref(json);
}

/* Columns of UTF-8 text, one for each character. */
static int count_columns(const char *text) {
  int count = 0;
  for (; *text != 0; text++)
    count += ((unsigned char)*text & 0xc0) != 0x80;
  return count;
}

static void print_padded(const char *text, int width, bool is_last) {
  fputs(text, stdout);
  if (is_last)
    putchar('\n');
  else
    printf("%*s", width - count_columns(text) + 2, "");
}
