/* say.h - levelled text output for people and machines (never called "log": that is the event log).
 *
 * One line a message, to a file descriptor: "12:34:56.789 warn  text". Debug and info lines can be
 * switched off. Thread: any; one write call a line. */
#ifndef CG_BASE_SAY_H
#define CG_BASE_SAY_H

#include <stdbool.h>

/* Levels, least important first. */
enum cg_say_level { CG_SAY_DEBUG, CG_SAY_INFO, CG_SAY_WARN, CG_SAY_ERROR };

/* Where output goes. Hangs from the runtime; no global state. */
struct cg_say {
  int fd;                  /* Usually 2. */
  enum cg_say_level level; /* Lines below it are dropped. */
  void (*sink)(void *arg, enum cg_say_level level, const char *line); /* Instead of fd when set. */
  void *sink_arg;                                                     /* Passed to sink. */
};

/* Says a line, printf format, cut at 4,095 bytes; control characters other than tab and newline
 * are escaped. */
void cg_say(struct cg_say *say, enum cg_say_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
