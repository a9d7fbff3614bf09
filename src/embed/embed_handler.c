/* embed_handler.c - handlers written in C: reached from C without Lua, and from Lua as a function
 * from JSON to JSON. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "embed/embed.h"

#define CODE_BYTES 64     /* Of an error's code, with the zero. */
#define MESSAGE_BYTES 512 /* Of its message. */

struct catga_reply {
  struct cg_buf *json; /* The value with a zero behind it, or NULL. */
  bool is_error;
  char code[CODE_BYTES];       /* Set when is_error. */
  char message[MESSAGE_BYTES]; /* The same. */
};

static int run_handler(void *arg, const char *json, size_t size, void *reply);
static int call_from_lua(lua_State *L);
static void set_reply(struct catga_reply *reply, const char *json, size_t size);

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
  set_reply(reply, json, size);
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
  reply.json = NULL;
  reply.is_error = false;
  cg_mediator_dispatch(handler, json != NULL ? json : "", json != NULL ? size : 0, &reply);
  if (fn != NULL) {
    struct catga_answer answer = {.status = CATGA_OK, .json = "null", .json_size = 4};
    if (reply.is_error) {
      answer = (struct catga_answer){
          .status = cg_embed_status_of(reply.code), .code = reply.code, .message = reply.message};
    } else if (reply.json != NULL) {
      answer.json = (const char *)reply.json->data;
      answer.json_size = reply.json->size - 1;
    }
    fn(arg, &answer);
  }
  cg_buf_unref(reply.json);
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
  reply.json = NULL;
  reply.is_error = false;
  cg_mediator_dispatch(handler, json, size, &reply);
  if (reply.is_error) {
    cg_buf_unref(reply.json);
    lua_pushnil(L);
    lua_pushstring(L, reply.code);
    lua_pushstring(L, reply.message);
    return 3;
  }
  if (reply.json == NULL) {
    lua_pushliteral(L, "null");
    return 1;
  }
  lua_pushlstring(L, (const char *)reply.json->data, reply.json->size - 1);
  cg_buf_unref(reply.json);
  return 1;
}

static void set_reply(struct catga_reply *reply, const char *json, size_t size) {
  cg_buf_unref(reply->json);
  reply->is_error = false;
  reply->json = cg_buf_take(NULL, size + 1);
  cg_buf_append(reply->json, json, size);
  cg_buf_append(reply->json, "", 1);
}
