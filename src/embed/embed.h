/* embed.h - an instance of the public API from the inside. Door of the folder.
 *
 * The API itself is include/catga.h; this is what its files share, and what the program's own
 * command line needs beyond it.
 * Owns: struct catga. Thread: the loop thread. */
#ifndef CG_EMBED_EMBED_H
#define CG_EMBED_EMBED_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"
#include "base/say.h"
#include "catga.h"
#include "http/http.h"
#include "mediator/mediator.h"
#include "runtime/runtime.h"

#define CG_EMBED_SOCKET_NAME "catga.sock" /* Of the HTTP socket in the data directory. */
#define CG_EMBED_STOPPERS_MAX 8           /* Callbacks of catga_stop. */

/* Life of an instance. */
enum cg_embed_state {
  CG_EMBED_NEW,      /* Made, not open. */
  CG_EMBED_OPEN,     /* Takes messages. */
  CG_EMBED_STOPPING, /* The app ends its work. */
  CG_EMBED_CLOSING,  /* Handles are being closed. */
  CG_EMBED_STOPPED   /* Nothing is left on the loop. */
};

/* A C handler as it was registered. */
struct cg_embed_handler {
  catga_handler_fn fn;           /* Answers the message. */
  void *arg;                     /* Passed to fn. */
  struct catga *catga;           /* Whose it is. */
  struct cg_embed_handler *next; /* Registered before. */
};

/* A message whose answer is not there yet. */
struct cg_embed_call {
  struct catga *catga;            /* Whose it is. */
  catga_answer_fn fn;             /* May be NULL. */
  void *arg;                      /* Passed to fn. */
  struct cg_embed_call *next;     /* In the list of the instance. */
  struct cg_embed_call *previous; /* The same list. */
};

/* One stop callback. */
struct cg_embed_stopper {
  catga_stopped_fn fn; /* To be told. */
  void *arg;           /* Passed to fn. */
};

/* An instance. */
struct catga {
  enum cg_embed_state state;    /* Where in its life it is. */
  struct cg_say say;            /* Where lines go. */
  catga_say_fn say_fn;          /* The program's own, or NULL. */
  void *say_arg;                /* Passed to say_fn. */
  char *app;                    /* App directory, or NULL. */
  char *data;                   /* Data directory, or NULL. */
  unsigned flags;               /* enum catga_flags. */
  uv_loop_t *loop;              /* The given one, or own_loop. */
  uv_loop_t own_loop;           /* Used when owns_loop. */
  bool owns_loop;               /* No loop was given. */
  bool free_wanted;             /* catga_free came before the handles were closed. */
  bool is_warming;              /* warm_up has not come back from the pool. */
  struct cg_runtime *runtime;   /* NULL before open and after the stop. */
  struct cg_http *http;         /* NULL without CATGA_SOCKET. */
  cg_ref request_ref;           /* What handles its requests. */
  cg_ref program_ref;           /* The Lua object catga.Program. */
  uv_async_t wake;              /* Takes the end of the stop out of the task that reports it. */
  uv_work_t warm_up;            /* Makes the pool's threads at open. */
  struct cg_mediator *mediator; /* Handlers in C. */
  struct cg_embed_handler *handlers;                       /* In C, newest first. */
  struct cg_embed_call *calls;                             /* Unanswered messages. */
  struct cg_embed_stopper stoppers[CG_EMBED_STOPPERS_MAX]; /* To be told of the stop. */
  int stopper_count;                                       /* How many of them are set. */
  int exit_code;                                           /* Of the program. */
  struct cg_err err; /* Of the last call that keeps a message. */
};

/* Pushes the method `name` of the Lua program and the program onto the stack of the main state:
 * its arguments follow, then cg_task_spawn. */
void cg_embed_push_method(struct catga *catga, const char *name);
/* Answers all open calls with CATGA_CLOSED. */
void cg_embed_close_calls(struct catga *catga);
/* Pushes the list of C handlers for Lua: { kind, name, fn } each. */
void cg_embed_push_handlers(struct catga *catga, lua_State *L);
/* Dispatches to a C handler without Lua; false when there is none of that kind. */
bool cg_embed_dispatch(struct catga *catga, enum cg_mediator_kind kind, const char *name,
                       const char *json, size_t size, catga_answer_fn fn, void *arg);
/* Copies a setting of the open app (catga.lua) as text into `text`, "" when there is none. */
void cg_embed_setting(struct catga *catga, const char *name, char *text, size_t size);
/* Status of a Lua error code. */
int cg_embed_status_of(const char *code);

#endif
