/* embed_handler.c - handlers written in C: reached from C without Lua, and from Lua as a function
 * from JSON to JSON. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "embed/embed.h"

#define CODE_BYTES 64     /* Of an error's code, with the zero. */
#define MESSAGE_BYTES 512 /* Of its message. */
#define SMALL_BYTES 512   /* Of a value that stays on the stack, with the zero. */

/* Lives on the stack of a dispatch, which so allocates nothing for a small answer. */
struct catga_reply {
  const char *json;            /* The value, zero-terminated; NULL: none was given. */
  size_t size;                 /* Bytes of it. */
  struct cg_buf *large;        /* Holds a value that does not fit `small`, or NULL. */
  struct cg_buf_pool *pool;    /* Where `large` comes from. */
  bool is_error;               /* The handler answered with an error. */
  char small[SMALL_BYTES];     /* Holds a value that fits. */
  char code[CODE_BYTES];       /* Set when is_error. */
  char message[MESSAGE_BYTES]; /* The same. */
};

static int run_handler(void *arg, const char *json, size_t size, void *reply);
static int call_from_lua(lua_State *L);
static void begin_reply(struct catga_reply *reply, struct catga *catga);

int catga_handle(struct catga *catga, const char *kind, const char *name, catga_handler_fn fn,
                 void *arg) {
  if (catga->state != CG_EMBED_NEW)
    return cg_err_set(&catga->err, CG_ECLOSED, "handler %s: register handlers before catga_open",
                      name);
  bool is_command = strcmp(kind, "command") == 0;
  if (!is_command && strcmp(kind, "query") != 0)
    return cg_err_set(&catga->err, CG_EINVAL, "handler %s: kind is command or query, not %s", name,
                      kind);
  struct cg_embed_handler *handler = cg_alloc(sizeof(*handler));
  *handler =
      (struct cg_embed_handler){.fn = fn, .arg = arg, .catga = catga, .next = catga->handlers};
  enum cg_code code =
      cg_mediator_add(catga->mediator, is_command ? CG_MEDIATOR_COMMAND : CG_MEDIATOR_QUERY, name,
                      run_handler, handler, &catga->err);
  if (code != CG_OK) {
    cg_free(handler);
    return code;
  }
  catga->handlers = handler;
  return CATGA_OK;
}

void catga_reply_json(struct catga_reply *reply, const char *json, size_t size) {
  reply->is_error = false;
  char *to = reply->small;
  if (size >= SMALL_BYTES) {
    struct cg_buf *large = cg_buf_take(reply->pool, size + 1);
    cg_buf_unref(reply->large);
    reply->large = large;
    to = (char *)large->data;
  }
  memcpy(to, json, size);
  to[size] = 0;
  reply->json = to;
  reply->size = size;
}

void catga_reply_error(struct catga_reply *reply, const char *code, const char *message) {
  reply->is_error = true;
  snprintf(reply->code, sizeof(reply->code), "%s", code != NULL && *code != 0 ? code : "error");
  snprintf(reply->message, sizeof(reply->message), "%s", message != NULL ? message : code);
}

bool cg_embed_dispatch(struct catga *catga, enum cg_mediator_kind kind, const char *name,
                       const char *json, size_t size, catga_answer_fn fn, void *arg) {
  if (catga->state != CG_EMBED_OPEN)
    return false;
  struct cg_mediator_handler *handler = cg_mediator_find(catga->mediator, kind, name, strlen(name));
  if (handler == NULL)
    return false;
  struct catga_reply reply;
  begin_reply(&reply, catga);
  cg_mediator_dispatch(handler, json != NULL ? json : "", json != NULL ? size : 0, &reply);
  if (fn != NULL) {
    struct catga_answer answer = {.status = CATGA_OK, .json = "null", .json_size = 4};
    if (reply.is_error) {
      answer = (struct catga_answer){
          .status = cg_embed_status_of(reply.code), .code = reply.code, .message = reply.message};
    } else if (reply.json != NULL) {
      answer.json = reply.json;
      answer.json_size = reply.size;
    }
    fn(arg, &answer);
  }
  cg_buf_unref(reply.large);
  return true;
}

void cg_embed_push_handlers(struct catga *catga, lua_State *L) {
  size_t count = cg_mediator_count(catga->mediator);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    struct cg_mediator_handler *handler = cg_mediator_at(catga->mediator, i);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, handler->kind == CG_MEDIATOR_COMMAND ? "command" : "query");
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, handler->name);
    lua_setfield(L, -2, "name");
    lua_pushlightuserdata(L, handler);
    lua_pushcclosure(L, call_from_lua, 1);
    lua_setfield(L, -2, "fn");
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static int run_handler(void *arg, const char *json, size_t size, void *reply_arg) {
  struct cg_embed_handler *handler = arg;
  struct catga_reply *reply = reply_arg;
  handler->fn(handler->arg, json, size, reply);
  return reply->is_error;
}

/* fn(json) -> json | nil, code, message */
static int call_from_lua(lua_State *L) {
  struct cg_mediator_handler *handler = lua_touserdata(L, lua_upvalueindex(1));
  size_t size;
  const char *json = luaL_checklstring(L, 1, &size);
  struct catga_reply reply;
  begin_reply(&reply, ((struct cg_embed_handler *)handler->arg)->catga);
  cg_mediator_dispatch(handler, json, size, &reply);
  if (reply.is_error) {
    cg_buf_unref(reply.large);
    lua_pushnil(L);
    lua_pushstring(L, reply.code);
    lua_pushstring(L, reply.message);
    return 3;
  }
  if (reply.json == NULL)
    lua_pushliteral(L, "null");
  else
    lua_pushlstring(L, reply.json, reply.size);
  cg_buf_unref(reply.large);
  return 1;
}

/* The arrays are written when they are used. */
static void begin_reply(struct catga_reply *reply, struct catga *catga) {
  reply->json = NULL;
  reply->size = 0;
  reply->large = NULL;
  reply->pool = catga->runtime->pool;
  reply->is_error = false;
}
