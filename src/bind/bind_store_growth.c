/* bind_store_growth.c - waiting for the log to grow: how readers of all events learn of new ones.
 *
 * A reader that has seen everything parks here; it is not counted as busy, because nothing is under
 * way for it. It is woken in the same turn in which the committing task is, so that `settle` does
 * not see a moment in between.
 * Owns: the list of waiting readers. Thread: the loop thread. */
#include "base/mem.h"
#include "bind/bind_store.h"

/* A task that waits until a record above a position is durable. */
struct cg_bind_growth {
  struct cg_bind_store *store; /* Whose list it is in. */
  uint64_t position;           /* Seen so far. */
  struct cg_task *task;        /* Parked. */
  struct cg_bind_growth *next; /* In the store's list. */
};

/* Takes the entry at `link` out of the list and frees it. */
static struct cg_task *take(struct cg_bind_growth **link) {
  struct cg_bind_growth *growth = *link;
  struct cg_task *task = growth->task;
  *link = growth->next;
  cg_free(growth);
  return task;
}

void cg_bind_growth_wake(struct cg_bind_store *store) {
  uint64_t durable = cg_log_durable_position(cg_store_log(store->store));
  struct cg_bind_growth **link = &store->growth;
  while (*link != NULL) {
    if ((*link)->position + 1 >= durable) {
      link = &(*link)->next;
      continue;
    }
    struct cg_task *task = take(link);
    lua_pushboolean(cg_task_values(task), 1);
    cg_task_wake(task, 1);
  }
}

void cg_bind_growth_forget(struct cg_bind_store *store) {
  while (store->growth != NULL)
    take(&store->growth);
}

void cg_bind_growth_end(struct cg_bind_store *store, const struct cg_err *err) {
  while (store->growth != NULL) {
    struct cg_task *task = take(&store->growth);
    cg_task_wake(task, cg_bind_false(cg_task_values(task), err));
  }
}

static void cancel_growth(struct cg_task *task, void *arg) {
  struct cg_bind_growth *growth = arg;
  struct cg_bind_growth **link = &growth->store->growth;
  (void)task;
  while (*link != growth)
    link = &(*link)->next;
  take(link);
}

/* wait_growth(position) -> true | false, err; parks until a record above the position is durable.
 * Nothing when the wait is interrupted. */
static int bind_store_wait_growth(lua_State *L) {
  struct cg_bind_store *store = cg_bind_check_store(L, 1);
  double position = luaL_checknumber(L, 2);
  luaL_argcheck(L, position >= 0, 2, "positions start at 1; 0 waits for the first record");
  struct cg_log *log = cg_store_log(store->store);
  if (cg_log_durable_position(log) > (uint64_t)position + 1) {
    lua_pushboolean(L, 1);
    return 1;
  }
  struct cg_err err;
  if (cg_log_failed(log, &err) != CG_OK)
    return cg_bind_false(L, &err);
  cg_task_check_park(store->runtime, L);
  struct cg_bind_growth *growth = cg_alloc(sizeof(*growth));
  *growth = (struct cg_bind_growth){.store = store,
                                    .position = (uint64_t)position,
                                    .task = cg_task_current(store->runtime),
                                    .next = store->growth};
  store->growth = growth;
  return cg_task_park(store->runtime, L, 0, cancel_growth, growth);
}

const luaL_Reg cg_bind_store_growth_methods[] = {{"wait_growth", bind_store_wait_growth},
                                                 {NULL, NULL}};
