/* say.c - formats a line on the stack and writes it in one call.
 *
 * Owns: nothing. Thread: any. */
#include "base/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define STAMP_BYTES 24 /* "12:34:56.789 warn  ", and room for a clock that is off. */

static size_t escape(const char *text, char *line, size_t capacity);
static size_t write_stamp(char *line, enum cg_say_level level);
static void write_line(int fd, const char *line, size_t size);

void cg_say(struct cg_say *say, enum cg_say_level level, const char *format, ...) {
  if (!say || level < say->level)
    return;
  int errno_kept = errno;

  char text[CG_SAY_LINE_BYTES + 1];
  va_list args;
  va_start(args, format);
  if (vsnprintf(text, sizeof(text), format, args) < 0)
    text[0] = 0;
  va_end(args);

  char line[CG_SAY_LINE_BYTES + 1];
  if (say->sink) {
    line[escape(text, line, CG_SAY_LINE_BYTES)] = 0;
    say->sink(say->sink_arg, level, line);
  } else {
    size_t size = write_stamp(line, level);
    size += escape(text, line + size, CG_SAY_LINE_BYTES - 1 - size);
    line[size++] = '\n';
    write_line(say->fd, line, size);
  }
  errno = errno_kept;
}

/* Copies a text with its control characters escaped and its last line feed dropped, as much as
 * fits; returns the bytes written, without a terminating zero. */
static size_t escape(const char *text, char *line, size_t capacity) {
  static const char digits[] = "0123456789abcdef";
  size_t size = 0;
  for (; *text; text++) {
    uint8_t byte = (uint8_t)*text;
    if (byte == '\n' && text[1] == 0)
      break;
    if ((byte >= 0x20 && byte != 0x7F) || byte == '\t' || byte == '\n') {
      if (size + 1 > capacity)
        break;
      line[size++] = (char)byte;
    } else {
      if (size + 4 > capacity)
        break;
      line[size++] = '\\';
      line[size++] = 'x';
      line[size++] = digits[byte >> 4];
      line[size++] = digits[byte & 15];
    }
  }
  return size;
}

/* Writes "12:34:56.789 warn  "; returns its size. */
static size_t write_stamp(char *line, enum cg_say_level level) {
  static const char *const names[] = {"debug", "info", "warn", "error"};
  struct cg_clock clock = cg_clock_system();
  int64_t now_ms = cg_clock_wall_ms(&clock);
  time_t now_s = (time_t)(now_ms / 1000);
  struct tm local;
  localtime_r(&now_s, &local);
  int size = snprintf(line, STAMP_BYTES, "%02d:%02d:%02d.%03d %-5s ", local.tm_hour % 24,
                      local.tm_min % 60, local.tm_sec % 61, (int)(now_ms % 1000), names[level]);
  return size < STAMP_BYTES ? (size_t)size : STAMP_BYTES - 1;
}

static void write_line(int fd, const char *line, size_t size) {
  ssize_t written;
  do
    written = write(fd, line, size);
  while (written < 0 && errno == EINTR);
}
