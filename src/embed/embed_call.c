/* embed_call.c - messages from C: send, ask, publish, start, result.
 *
 * A message with a handler in C is answered at once; each other one is a task that runs
 * catga.Program:call, and a cg_embed_call that waits for its answer. */
#include <string.h>

#include "base/mem.h"
#include "embed/embed.h"

static void call(struct catga *catga, const char *kind, const char *name, const char *json,
                 size_t size, const char *key, catga_answer_fn fn, void *arg);
static int on_answer(lua_State *L);
static void answer_call(struct cg_embed_call *open, const struct catga_answer *answer);

void catga_send(struct catga *catga, const char *name, const char *json, size_t size,
                const char *key, catga_answer_fn fn, void *arg) {
  if (key == NULL && cg_embed_dispatch(catga, CG_MEDIATOR_COMMAND, name, json, size, fn, arg))
    return;
  call(catga, "command", name, json, size, key, fn, arg);
}

void catga_ask(struct catga *catga, const char *name, const char *json, size_t size,
               catga_answer_fn fn, void *arg) {
  if (cg_embed_dispatch(catga, CG_MEDIATOR_QUERY, name, json, size, fn, arg))
    return;
  call(catga, "query", name, json, size, NULL, fn, arg);
}

void catga_publish(struct catga *catga, const char *name, const char *json, size_t size,
                   catga_answer_fn fn, void *arg) {
  call(catga, "event", name, json, size, NULL, fn, arg);
}

void catga_start(struct catga *catga, const char *name, const char *json, size_t size,
                 catga_answer_fn fn, void *arg) {
  call(catga, "process", name, json, size, NULL, fn, arg);
}

void catga_result(struct catga *catga, const char *id, catga_answer_fn fn, void *arg) {
  call(catga, "result", id, NULL, 0, NULL, fn, arg);
}

static void call(struct catga *catga, const char *kind, const char *name, const char *json,
                 size_t size, const char *key, catga_answer_fn fn, void *arg) {
  if (catga->state != CG_EMBED_OPEN) {
    struct catga_answer closed = {
        .status = CATGA_CLOSED, .code = "closed", .message = "the instance is not open"};
    if (fn != NULL)
      fn(arg, &closed);
    return;
  }
  struct cg_embed_call *open = cg_alloc(sizeof(*open));
  *open = (struct cg_embed_call){.catga = catga, .fn = fn, .arg = arg, .next = catga->calls};
  if (catga->calls != NULL)
    catga->calls->previous = open;
  catga->calls = open;

  lua_State *L = catga->runtime->L;
  cg_embed_push_method(catga, "call");
  lua_pushstring(L, kind);
  lua_pushstring(L, name);
  lua_pushlstring(L, json != NULL ? json : "", json != NULL ? size : 0);
  lua_pushstring(L, key);
  lua_pushlightuserdata(L, open);
  lua_pushcclosure(L, on_answer, 1);
  cg_task_spawn(catga->runtime, L, 6);
}

/* answer(json) or answer(nil, code, message, retryable) */
static int on_answer(lua_State *L) {
  struct cg_embed_call *open = lua_touserdata(L, lua_upvalueindex(1));
  struct catga_answer answer = {.status = CATGA_OK};
  if (lua_isstring(L, 1)) {
    answer.json = lua_tolstring(L, 1, &answer.json_size);
  } else {
    answer.code = lua_tostring(L, 2);
    answer.message = lua_tostring(L, 3);
    answer.retryable = lua_toboolean(L, 4);
    answer.status = cg_embed_status_of(answer.code);
  }
  answer_call(open, &answer);
  return 0;
}

/* Ends a call: tells its callback and frees it. */
static void answer_call(struct cg_embed_call *open, const struct catga_answer *answer) {
  struct catga *catga = open->catga;
  if (open->previous != NULL)
    open->previous->next = open->next;
  else
    catga->calls = open->next;
  if (open->next != NULL)
    open->next->previous = open->previous;
  catga_answer_fn fn = open->fn;
  void *arg = open->arg;
  cg_free(open);
  if (fn != NULL)
    fn(arg, answer);
}

void cg_embed_close_calls(struct catga *catga) {
  struct catga_answer closed = {.status = CATGA_CLOSED,
                                .code = "closed",
                                .message = "stopped before the answer was there",
                                .retryable = 1};
  while (catga->calls != NULL)
    answer_call(catga->calls, &closed);
}

const char *catga_strerror(int status) {
  static const struct {
    int status;
    const char *text;
  } texts[] = {
#define X(symbol, value, name, text) {value, text},
      CG_CODES(X)
#undef X
  };
  if (status == CATGA_REFUSED)
    return "the handler answered with an error";
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
    if (texts[i].status == status)
      return texts[i].text;
  return "unknown status";
}

int cg_embed_status_of(const char *code) {
  static const struct {
    const char *name;
    int status;
  } statuses[] = {
#define X(symbol, value, name, text) {name, value},
      CG_CODES(X)
#undef X
          {"validation", CATGA_INVALID},
      {"bytecode", CATGA_INVALID},
      {"error", CATGA_SCRIPT}};
  if (strncmp(code, "unknown_", 8) == 0)
    return CATGA_NOT_FOUND;
  for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
    if (strcmp(statuses[i].name, code) == 0)
      return statuses[i].status;
  return CATGA_REFUSED;
}
