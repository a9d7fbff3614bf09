/* catga.h - Catga inside a C program: the public API, the only installed header.
 *
 * How to use:
 *   catga_options_init, catga_new, catga_handle (C handlers), catga_open, then either catga_run
 *   (an own loop) or let the loop that was given run; catga_send and the like; catga_stop;
 *   catga_free.
 *
 * Messages go in and out as JSON text in UTF-8, sized, not necessarily zero-terminated. Nothing
 * here calls exit(), changes signal handlers, or keeps state in globals; several instances may live
 * in one program (only one of them with CATGA_GUARD).
 *
 * Errors: functions return CATGA_OK (0) or a negative status. catga_message says what happened, in
 * a sentence that names what, where and how to mend it.
 *
 * Ownership: what you pass in stays yours and is copied where it is kept; what a callback gets is
 * valid during the call only. Thread: everything belongs to the thread that runs the loop. */
#ifndef CATGA_H
#define CATGA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s; /* libuv's uv_loop_t. */

/* One running app. Opaque. */
struct catga;

/* Outcomes. The numbers are a contract. */
enum catga_status {
  CATGA_OK = 0,           /* Done. */
  CATGA_INVALID = -2,     /* Bad argument or bad input: wrong JSON, a schema violation. */
  CATGA_IO = -3,          /* A file operation failed. */
  CATGA_NO_MEMORY = -4,   /* Out of memory, or a cap was reached. */
  CATGA_NOT_FOUND = -5,   /* No such thing: command, query, process, directory. */
  CATGA_EXISTS = -6,      /* It exists already. */
  CATGA_CONFLICT = -7,    /* The expected version is not the actual one. */
  CATGA_CORRUPT = -8,     /* Stored bytes are damaged. */
  CATGA_BUSY = -9,        /* The data directory is in use by another process. */
  CATGA_DISK_FULL = -10,  /* No space left. */
  CATGA_LIMIT = -11,      /* A configured bound was reached. */
  CATGA_TIMEOUT = -12,    /* Not done in time. */
  CATGA_CANCELLED = -13,  /* Given up on request. */
  CATGA_FAILED = -14,     /* The log stopped after a failed write; nothing more is acknowledged. */
  CATGA_SCRIPT = -15,     /* A Lua script raised an error, or does not load. */
  CATGA_CLOSED = -16,     /* Stopped, or not open yet. */
  CATGA_PERMISSION = -17, /* Not allowed by the system. */
  CATGA_REFUSED = -18     /* The handler answered with an error of its own; see its code. */
};

/* How important a line of output is. */
enum catga_level { CATGA_DEBUG = 0, CATGA_INFO = 1, CATGA_WARN = 2, CATGA_ERROR = 3 };

/* What to switch on. */
enum catga_flags {
  CATGA_GUARD = 1, /* Stop handlers that run longer than the setting handler_timeout. Uses SIGPROF
                       and ITIMER_PROF of the process: block SIGPROF in your other threads. */
  CATGA_WATCH = 2, /* Load the scripts anew when their files change. */
  CATGA_SOCKET = 4 /* Serve HTTP on the Unix socket <data>/catga.sock; needs `data`. */
};

/* Takes a line of output, without time and line feed; valid during the call. May come from the
 * thread that writes the log. */
typedef void (*catga_say_fn)(void *arg, enum catga_level level, const char *line);

/* How to make an instance. Set by catga_options_init, then change what you need. */
struct catga_options {
  size_t size;            /* sizeof(struct catga_options) of the program; leave it. */
  const char *app;        /* App directory with Lua scripts; NULL: C handlers only. Copied. */
  const char *data;       /* Data directory, made when missing; NULL: all in memory. Copied. */
  struct uv_loop_s *loop; /* NULL: an own one. Must outlive catga_free by one turn. */
  catga_say_fn say;       /* NULL: lines go to file descriptor 2. */
  void *say_arg;          /* Passed to say. */
  enum catga_level level; /* Lines below it are dropped. Default CATGA_INFO. */
  unsigned flags;         /* enum catga_flags, or-ed. Default 0. */
};

/* The answer to a message. */
struct catga_answer {
  int status;       /* CATGA_OK, or why there is no value. */
  const char *json; /* The value, zero-terminated; NULL on an error. */
  size_t json_size; /* Bytes of it. */
  const char *code; /* On an error its code, "unknown_command", "validation" or the handler's own;
                          else NULL. */
  const char *message; /* On an error what, where and how to mend it; else NULL. */
  int retryable;       /* On an error: 1 when the same message may succeed later. */
};

/* Gets the answer, exactly once a message: on the loop's thread, possibly before the function that
 * sent the message returns. `answer` is valid during the call. May call all functions here but
 * catga_run and catga_free. */
typedef void (*catga_answer_fn)(void *arg, const struct catga_answer *answer);

/* Where a C handler puts its answer. Opaque; valid during the handler. */
struct catga_reply;

/* Handles a command or query: `json` is its data, zero-terminated. Must call catga_reply_json or
 * catga_reply_error before it returns; without, the answer is JSON null. Must not wait, and not
 * call catga_run or catga_free. */
typedef void (*catga_handler_fn)(void *arg, const char *json, size_t size,
                                 struct catga_reply *reply);

/* Told that the instance has stopped. The last one may call catga_free when the loop was
 * given. */
typedef void (*catga_stopped_fn)(void *arg);

/* Version of the library, "0.1.0". */
const char *catga_version(void);
/* A short text for a status, "no such thing". Never NULL. */
const char *catga_strerror(int status);

/* Sets the defaults. Call it with sizeof(struct catga_options). */
void catga_options_init(struct catga_options *options, size_t size);

/* Makes an instance that is not open yet. NULL when options->size is none this library knows, which
 * means that the program was built for a newer one. Free it by catga_free. */
struct catga *catga_new(const struct catga_options *options);

/* Registers a C handler; only before catga_open. `kind` is "command" or "query"; `name` is copied;
 * `fn` and `arg` are kept. A name has exactly one handler, be it C or Lua. Lua reaches it by
 * catga.send and catga.ask. A message sent by catga_send or catga_ask without a key goes straight
 * to it: then no Lua runs, and no behavior of the scripts.
 * CATGA_INVALID: kind or name; CATGA_EXISTS: it has a handler; CATGA_CLOSED: open already. */
int catga_handle(struct catga *catga, const char *kind, const char *name, catga_handler_fn fn,
                 void *arg);
/* Answers with a value: JSON text, copied. The last call counts. */
void catga_reply_json(struct catga_reply *reply, const char *json, size_t size);
/* Answers with an error: `code` for programs ("out_of_stock"), `message` for people; copied, cut at
 * 63 and 511 bytes. */
void catga_reply_error(struct catga_reply *reply, const char *code, const char *message);

/* Loads the scripts and opens the data directory. Recovery of unfinished processes, projections and
 * catga.main begin when the loop turns. On an error nothing runs, and catga_free must follow.
 * CATGA_NOT_FOUND, CATGA_SCRIPT (file and line in the message), CATGA_INVALID (a setting),
 * CATGA_BUSY, CATGA_PERMISSION, CATGA_CORRUPT, CATGA_DISK_FULL, CATGA_IO. */
int catga_open(struct catga *catga);

/* Runs the loop until the instance has stopped: by catga_stop, catga.exit in a script, or because
 * the log failed. Returns the exit code: that of catga.exit, 1 after a failure, else 0. Also for a
 * given loop, as long as it is not running. CATGA_CLOSED: not open. */
int catga_run(struct catga *catga);

/* Stops gracefully: no new work, running step attempts end (at most the setting stop_timeout), all
 * is flushed. `fn` (NULL is fine) is told when nothing of the instance is left on the loop;
 * messages still unanswered get CATGA_CLOSED before. Several calls are one stop; each fn is told.
 * CATGA_LIMIT: more than 8 of them. */
int catga_stop(struct catga *catga, catga_stopped_fn fn, void *arg);

/* Frees an instance that was never opened, could not be opened, or has stopped; another one is
 * ended as a crash would end it (the log survives that), which on a given loop is finished after
 * its next turns. NULL is fine. */
void catga_free(struct catga *catga);

/* The message of the last error of catga_handle and catga_open; "" when there was none. Valid until
 * the next call. */
const char *catga_message(const struct catga *catga);
/* The loop, the given or the own one. */
struct uv_loop_s *catga_loop(struct catga *catga);
/* The exit code so far, as catga_run returns it. */
int catga_exit_code(const struct catga *catga);

/* For loops of another kind: wait until the descriptor is readable or the timeout is over, then
 * turn. The descriptor of the loop (epoll). */
int catga_backend_fd(struct catga *catga);
/* Milliseconds until the loop must turn though the descriptor is silent; -1: no need. */
int catga_backend_timeout(struct catga *catga);
/* Does what is due, without waiting. Returns 0 when the instance has stopped, else 1. */
int catga_turn(struct catga *catga);

/* Sends a command. `key` (NULL: none) makes its outcome stored: the same key again gives the stored
 * answer. Without data (`size` 0) Lua gets nil, a C handler "". fn may be NULL. The answer comes
 * after the commit is durable.
 * Statuses: CATGA_NOT_FOUND no such command; CATGA_INVALID wrong JSON or against the schema;
 * CATGA_REFUSED with the handler's code; CATGA_SCRIPT; CATGA_CLOSED; and those of the log. */
void catga_send(struct catga *catga, const char *name, const char *json, size_t size,
                const char *key, catga_answer_fn fn, void *arg);
/* Asks a query; as catga_send. */
void catga_ask(struct catga *catga, const char *name, const char *json, size_t size,
               catga_answer_fn fn, void *arg);
/* Publishes an event; the answer is JSON true once it is durable. */
void catga_publish(struct catga *catga, const char *name, const char *json, size_t size,
                   catga_answer_fn fn, void *arg);
/* Starts a process; the answer is its id (a JSON string) once the start is durable. The same
 * process id with the same input is the same run; with another input it is CATGA_CONFLICT. */
void catga_start(struct catga *catga, const char *name, const char *json, size_t size,
                 catga_answer_fn fn, void *arg);
/* Waits for the end of a process; the answer is its result. A process that ended otherwise answers
 * with its error. CATGA_NOT_FOUND: no such process. */
void catga_result(struct catga *catga, const char *id, catga_answer_fn fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
