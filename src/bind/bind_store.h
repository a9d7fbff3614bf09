/* bind_store.h - what the files of the store binding share: the userdata and its waiting tasks.
 *
 * Owns: see bind_store.c. Thread: the loop thread. */
#ifndef CG_BIND_BIND_STORE_H
#define CG_BIND_BIND_STORE_H

#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "base/fs_fault.h"
#include "bind/bind.h"
#include "store/store.h"

#define CG_BIND_STORE_TYPE "catga.store"
#define CG_BIND_LOG_TYPE "catga.memory_log"

/* A task that waits until a position is durable. */
struct cg_bind_waiter {
  uint64_t position;    /* The one it waits for. */
  struct cg_task *task; /* Parked. */
};

/* A store as Lua holds it (through a boxed pointer). */
struct cg_bind_store {
  struct cg_store *store;         /* NULL once closed. */
  struct cg_runtime *runtime;     /* Whose tasks use it. */
  struct cg_clock clock;          /* Stamps records. */
  struct cg_buf *scratch;         /* Records read, values encoded. */
  struct cg_log_cursor *cursor;   /* Of the last read_all, or NULL. */
  uint64_t cursor_after;          /* Position up to which the cursor has read. */
  size_t size_max;                /* Bytes of one value (message_size_max). */
  size_t journal_max;             /* Of one in a journal; what is larger is stored beside it. */
  struct cg_bind_waiter *ring;    /* FIFO of waiting tasks. */
  uint32_t ring_first;            /* Index of the oldest. */
  uint32_t ring_count;            /* How many wait. */
  uint32_t ring_capacity;         /* A power of two. */
  struct cg_bind_cursor *cursors; /* Of readers of all events, or NULL. */
  struct cg_bind_growth *growth;  /* Readers that wait for new events, or NULL. */
  struct cg_scavenge *scavenge;   /* Of a segment being looked at or rewritten, or NULL. */
  bool is_rewriting;              /* The scavenge belongs to the thread that rewrites. */
  cg_ref on_failed;               /* Function to run when the log failed, or CG_NO_REF. */
  uv_async_t async;               /* Rung by the log's writer thread. */
  struct cg_fs_fault fault;       /* Faults that a test asked for. */
  struct cg_turn_hook hook;       /* Flushes the log at the end of a turn. */
  bool failure_told;              /* on_failed was started. */
  bool is_building;               /* Between begin and commit or rollback. */
};

/* The store at a stack index; raises when it is none or closed. */
struct cg_bind_store *cg_bind_check_store(lua_State *L, int index);
/* The same, for reading. Nobody reads while building a commit, so one that is there was left behind
 * by a script that ran out of memory. */
struct cg_bind_store *cg_bind_check_reading(lua_State *L);
/* A stream number at a stack index; raises when there is no such stream, or not any more. */
cg_store_stream cg_bind_check_stream(lua_State *L, int index, struct cg_bind_store *store);

/* Ends a C function with the top `held_count` values as results: at once when `position` is
 * durable, else the task parks until it is. When the log fails the results are false and an
 * error. */
int cg_bind_wait_durable(lua_State *L, struct cg_bind_store *store, uint64_t position,
                         int held_count);

/* Wakes the readers for which there is something new. */
void cg_bind_growth_wake(struct cg_bind_store *store);
/* Forgets all readers, whose tasks are gone. */
void cg_bind_growth_forget(struct cg_bind_store *store);
/* Wakes all readers with false and the error. */
void cg_bind_growth_end(struct cg_bind_store *store, const struct cg_err *err);

/* Pushes a record as an event table; on an error pushes nothing. */
enum cg_code cg_bind_push_event(lua_State *L, const struct cg_record *record, struct cg_err *err);

/* Before the log is closed: nothing of the scavenge uses it any more. */
void cg_bind_scavenge_stop(struct cg_bind_store *store);

/* Makes the type of cursors known to Lua. */
void cg_bind_cursor_type(lua_State *L);
/* Closes all cursors: before the log is closed. */
void cg_bind_cursors_close(struct cg_bind_store *store);

/* Methods that the other files bind_store_*.c add to the type. */
extern const luaL_Reg cg_bind_store_append_methods[];
extern const luaL_Reg cg_bind_store_cursor_methods[];
extern const luaL_Reg cg_bind_store_growth_methods[];
extern const luaL_Reg cg_bind_store_read_methods[];
extern const luaL_Reg cg_bind_store_scavenge_methods[];
extern const luaL_Reg cg_bind_store_stream_methods[];

#endif
