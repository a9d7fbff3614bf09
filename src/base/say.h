/* say.h - levelled text output for people and machines (never called "log": that is the event log).
 *
 * One line a message, to a file descriptor: "12:34:56.789 warn  text", in local time. Debug and
 * info lines can be switched off.
 * Owns: nothing; the descriptor is the caller's. Thread: any; one write call a line, so lines of
 * several threads do not mix. */
#ifndef CG_BASE_SAY_H
#define CG_BASE_SAY_H

/* Bytes of a line with its line feed; a longer one is cut. */
#define CG_SAY_LINE_BYTES 4095

/* Levels, least important first. */
enum cg_say_level { CG_SAY_DEBUG, CG_SAY_INFO, CG_SAY_WARN, CG_SAY_ERROR };

/* Takes a message in place of the descriptor: escaped, without time, level and line feed, and only
 * valid during the call. Comes on whichever thread speaks. */
typedef void (*cg_say_sink_fn)(void *arg, enum cg_say_level level, const char *line);

/* Where output goes. Hangs from the runtime; no global state. Constant once threads share it. */
struct cg_say {
  int fd;                  /* Usually 2. */
  enum cg_say_level level; /* Lines below it are dropped. */
  cg_say_sink_fn sink;     /* Instead of fd when set. */
  void *sink_arg;          /* Passed to sink. */
};

/* Says a line, printf format. Control characters other than tab and newline are escaped as \xNN; a
 * newline at the end is dropped. NULL `say`: silence. A failed write is ignored: there is nowhere
 * to report it. Keeps errno. */
void cg_say(struct cg_say *say, enum cg_say_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
