/* value_path.c - where in a value we are, for error messages.
 *
 * How it works: the path is written from its end, so that a long one keeps what is nearest to the
 * fault and loses its middle. Owns: nothing. Thread: the one of the Lua state. */
#include "bind/value_path.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 240 /* Of a path in a message, without its name. */
#define STEP_BYTES 80  /* Of one step in it. */
#define KEY_BYTES 40   /* Of a key in it; a longer one is cut. */

/* True for a key that Lua lets stand after a dot. LuaJIT takes every byte from 0x80 on. */
static bool is_identifier(const char *key, size_t size) {
  if (size == 0 || (key[0] >= '0' && key[0] <= '9'))
    return false;
  for (size_t i = 0; i < size; i++) {
    uint8_t byte = (uint8_t)key[i];
    if (byte < 0x80 && byte != '_' && !isalnum(byte))
      return false;
  }
  return cg_utf8_valid_size(key, size) == size;
}

/* Writes one step as .key, ["key"] or [3]; returns the size. */
static size_t write_step(const struct cg_value_step *step, char *out) {
  if (step->key == NULL)
    return (size_t)snprintf(out, STEP_BYTES, "[%zu]", step->place);

  bool is_cut = step->key_size > KEY_BYTES;
  size_t size = step->key_size;
  if (is_cut) {
    size_t whole = cg_utf8_valid_size(step->key, KEY_BYTES); /* Do not cut a character. */
    size = whole + CG_UTF8_BYTES_MAX > KEY_BYTES ? whole : KEY_BYTES;
  }
  const char *tail = is_cut ? "..." : "";
  if (is_identifier(step->key, size))
    return (size_t)snprintf(out, STEP_BYTES, ".%.*s%s", (int)size, step->key, tail);

  bool is_text = cg_utf8_valid_size(step->key, size) == size;
  size_t at = (size_t)snprintf(out, STEP_BYTES, "[\"");
  for (size_t i = 0; i < size && at + 12 < STEP_BYTES; i++) {
    uint8_t byte = (uint8_t)step->key[i];
    bool is_plain = byte >= 0x20 && byte != 0x7F && (byte < 0x80 || is_text);
    at += (size_t)snprintf(out + at, STEP_BYTES - at, is_plain ? "%c" : "\\x%02X", byte);
  }
  return at + (size_t)snprintf(out + at, STEP_BYTES - at, "%s\"]", tail);
}

/* Writes the path with its name to `out`, zero-terminated. */
static void write_path(const struct cg_value_path *path, char *out, size_t capacity) {
  char text[PATH_BYTES];
  size_t at = sizeof(text);
  uint32_t left = path->depth;
  while (left > 0) {
    char step[STEP_BYTES];
    size_t size = write_step(&path->steps[left - 1], step);
    if (size > at)
      break;
    at -= size;
    memcpy(text + at, step, size);
    left--;
  }

  char argument[16] = "";
  if (path->argument > 0)
    snprintf(argument, sizeof(argument), " %d", path->argument);
  snprintf(out, capacity, "%.64s%s%s%.*s", path->name, argument, left > 0 ? "..." : "",
           (int)(sizeof(text) - at), text + at);
}

void cg_value_path_init(struct cg_value_path *path, const char *name) {
  path->name = name == NULL ? "value" : name;
  path->argument = 0;
  path->depth = 0;
}

enum cg_code cg_value_path_fail(const struct cg_value_path *path, enum cg_code code,
                                struct cg_err *err, const char *format, ...) {
  if (err == NULL)
    return code;
  char message[CG_ERR_MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  cg_err_set(err, code, "%s", message);
  return cg_value_path_prefix(path, code, err);
}

enum cg_code cg_value_path_prefix(const struct cg_value_path *path, enum cg_code code,
                                  struct cg_err *err) {
  if (err == NULL)
    return code;
  char text[PATH_BYTES + 96];
  write_path(path, text, sizeof(text));
  cg_err_prefix(err, "%s", text);
  return code;
}
