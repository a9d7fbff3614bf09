/* spawn.h - programs run beside this one: their input, output and end, on the loop.
 *
 * How to use: start one; `on_change` tells when bytes came, input went out, or it is over. It runs
 * in a process group of its own: to end it ends the group, first by SIGTERM, then by SIGKILL.
 * Owns: process, pipes, timer; a program that is let go is ended and waited for all the same.
 * Thread: the loop thread. */
#ifndef CG_RUNTIME_SPAWN_H
#define CG_RUNTIME_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_runtime;

/* Its outputs. */
enum { CG_SPAWN_STDOUT, CG_SPAWN_STDERR, CG_SPAWN_OUTPUTS };

/* What to run. */
struct cg_spawn_request {
  char **args;       /* The command first; ends with NULL. Searched for on the PATH. */
  char **env;        /* "NAME=value" of all variables, ends with NULL; NULL: as here. */
  const char *cwd;   /* Working directory, or NULL: as here. */
  int64_t time_ms;   /* How long it may take; 0: no limit. */
  size_t output_max; /* Bytes of both outputs together; 0: no bound, what is not taken waits. */
};

/* How it ended. */
enum cg_spawn_outcome {
  CG_SPAWN_RUNNING,
  CG_SPAWN_ENDED,     /* By itself: exit_code, signal. */
  CG_SPAWN_TIMEOUT,   /* It took too long. */
  CG_SPAWN_TOO_LARGE, /* It has put out more than output_max. */
  CG_SPAWN_CANCELLED, /* By cg_spawn_end. */
};

/* Tells that something has changed. Must not call back into this file. */
typedef void (*cg_spawn_fn)(void *arg);

/* One program. Read-only for others. */
struct cg_spawn {
  struct cg_runtime *runtime;             /* Whose loop it uses. */
  uv_process_t process;                   /* The program. */
  uv_pipe_t input;                        /* Its standard input. */
  uv_pipe_t output[CG_SPAWN_OUTPUTS];     /* Its outputs. */
  uv_timer_t timer;                       /* For time_ms, then for the pause before SIGKILL. */
  struct cg_buf *bytes[CG_SPAWN_OUTPUTS]; /* Of the outputs, not taken yet. */
  size_t total;                           /* Bytes of both so far. */
  size_t output_max;                      /* As in the request. */
  cg_spawn_fn on_change;                  /* Told of changes; NULL once it was let go. */
  void *arg;                              /* Passed to it. */
  enum cg_spawn_outcome outcome;          /* Set when it is decided. */
  int64_t exit_code;                      /* Once it has exited. */
  int signal;                             /* That ended it, or 0. */
  uint32_t open_handles;                  /* Until their close callbacks have run. */
  bool is_paused[CG_SPAWN_OUTPUTS];       /* Not read: bytes wait to be taken. */
  bool is_open[CG_SPAWN_OUTPUTS];         /* Its end was not seen. */
  bool is_exited;                         /* The program. */
  bool is_ending;                         /* It was told to end. */
  bool is_over;                           /* Exited, and its outputs are closed. */
};

/* Starts it; counts as outside work until it is over. Errors: CG_ENOTFOUND, CG_EPERM, ... as the
 * system says. */
enum cg_code cg_spawn_start(struct cg_spawn **spawn, struct cg_runtime *runtime,
                            const struct cg_spawn_request *request, cg_spawn_fn on_change,
                            void *arg, struct cg_err *err);
/* Forgets the bytes of an output, so that more may come. */
void cg_spawn_taken(struct cg_spawn *spawn, int output);
/* Is there room for more input? Also when nobody reads it any more. */
bool cg_spawn_has_room(const struct cg_spawn *spawn);
/* Gives it input; what it does not read is dropped. Then finish, once. */
void cg_spawn_write(struct cg_spawn *spawn, const void *bytes, size_t size);
void cg_spawn_finish(struct cg_spawn *spawn);
/* Ends it and its group; harmless when it is over. */
void cg_spawn_end(struct cg_spawn *spawn);
/* Lets go of it: ends it when it runs. NULL is fine. */
void cg_spawn_free(struct cg_spawn *spawn);

#endif
