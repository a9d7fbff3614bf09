/* http_request.c - collects a body, hands the request to a task, sends what the task answers.
 *
 * MHD calls the access handler once for the headers, once for each piece of the body, once at its
 * end, and once more after the connection was resumed: then the answer is there. */
#include "http/http_request.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define TICKET_TYPE "catga.http_ticket"
#define NAME_BYTES_MAX 256            /* Of a header; longer ones are not passed on. */
#define DISCARD_BYTES_MAX (16u << 20) /* Of a refused body that is read to its end. */

/* What start_task gets through lua_cpcall. */
struct start {
  struct cg_http_request *request; /* To be handled. */
  const char *method;              /* "GET", ... */
  const char *url;                 /* Path, unescaped, without the query. */
};

static struct cg_http_request *new_request(struct cg_http *http, struct MHD_Connection *connection);
static uint64_t body_bytes(struct MHD_Connection *connection);
static enum MHD_Result begin_task(struct cg_http_request *request, const char *method,
                                  const char *url);
static int start_task(lua_State *L);
static int answer_request(lua_State *L);
static int collect_ticket(lua_State *L);
static void finish(struct cg_http_request *request);
static enum MHD_Result send_answer(struct cg_http_request *request);

enum MHD_Result cg_http_request_access(void *arg, struct MHD_Connection *connection,
                                       const char *url, const char *method, const char *version,
                                       const char *upload, size_t *upload_size, void **state) {
  (void)version;
  struct cg_http *http = arg;
  struct cg_http_request *request = *state;
  if (request == NULL) {
    request = new_request(http, connection);
    *state = request;
    uint64_t announced_bytes = body_bytes(connection);
    if (announced_bytes <= http->body_bytes_max)
      return MHD_YES;
    cg_http_request_refuse(request, MHD_HTTP_CONTENT_TOO_LARGE, "body too large", "limit");
    /* A client that is still sending would meet a closed socket before it reads the answer. */
    return announced_bytes <= DISCARD_BYTES_MAX ? MHD_YES : send_answer(request);
  }
  if (*upload_size > 0) {
    if (request->body->size + *upload_size > http->body_bytes_max)
      cg_http_request_refuse(request, MHD_HTTP_CONTENT_TOO_LARGE, "body too large", "limit");
    else if (request->answer == NULL)
      cg_buf_append(request->body, upload, *upload_size);
    *upload_size = 0;
    return MHD_YES;
  }
  if (request->answer != NULL)
    return send_answer(request);
  return begin_task(request, method, url);
}

void cg_http_request_completed(void *arg, struct MHD_Connection *connection, void **state,
                               enum MHD_RequestTerminationCode code) {
  (void)connection;
  (void)code;
  struct cg_http *http = arg;
  struct cg_http_request *request = *state;
  if (request == NULL)
    return;
  *state = NULL;
  if (request->ticket != NULL)
    request->ticket->request = NULL;
  if (request->previous != NULL)
    request->previous->next = request->next;
  else
    http->requests = request->next;
  if (request->next != NULL)
    request->next->previous = request->previous;
  cg_buf_unref(request->body);
  cg_buf_unref(request->answer);
  cg_free(request);
}

void cg_http_request_refuse(struct cg_http_request *request, unsigned status, const char *title,
                            const char *code) {
  if (request->answer != NULL)
    return;
  char text[256];
  int size = snprintf(text, sizeof(text),
                      "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"code\":\"%s\"}",
                      title, status, code);
  request->status = status;
  snprintf(request->content_type, sizeof(request->content_type), "application/problem+json");
  request->answer = cg_buf_take(request->http->runtime->pool, (size_t)size);
  cg_buf_append(request->answer, text, (size_t)size);
  if (request->ticket != NULL)
    finish(request);
}

static struct cg_http_request *new_request(struct cg_http *http,
                                           struct MHD_Connection *connection) {
  struct cg_http_request *request = cg_alloc(sizeof(*request));
  request->http = http;
  request->connection = connection;
  request->body = cg_buf_take(http->runtime->pool, 0);
  request->next = http->requests;
  if (http->requests != NULL)
    http->requests->previous = request;
  http->requests = request;
  return request;
}

/* Bytes of the body as announced; 0 when they are not: those are counted as they come. */
static uint64_t body_bytes(struct MHD_Connection *connection) {
  const char *length =
      MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
  return length != NULL ? strtoull(length, NULL, 10) : 0;
}

static enum MHD_Result begin_task(struct cg_http_request *request, const char *method,
                                  const char *url) {
  struct start start = {.request = request, .method = method, .url = url};
  lua_State *L = request->http->runtime->L;
  if (lua_cpcall(L, start_task, &start) != 0) {
    cg_say(request->http->runtime->say, CG_SAY_ERROR, "request %s %s: %s", method, url,
           lua_tostring(L, -1));
    lua_pop(L, 1);
    if (request->ticket == NULL) {
      cg_http_request_refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory", "no_memory");
      return send_answer(request);
    }
  }
  request->is_suspended = true;
  MHD_suspend_connection(request->connection);
  return MHD_YES;
}

/* Into the table on top of the Lua stack; names in lower case. */
static enum MHD_Result add_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                  const char *value) {
  (void)kind;
  lua_State *L = arg;
  char lower[NAME_BYTES_MAX];
  size_t size = strlen(name);
  if (size >= sizeof(lower))
    return MHD_YES;
  for (size_t i = 0; i <= size; i++)
    lower[i] = (char)tolower((unsigned char)name[i]);
  lua_pushstring(L, value != NULL ? value : "");
  lua_setfield(L, -2, lower);
  return MHD_YES;
}

static enum MHD_Result add_argument(void *arg, enum MHD_ValueKind kind, const char *name,
                                    const char *value) {
  (void)kind;
  lua_State *L = arg;
  lua_pushstring(L, value != NULL ? value : "");
  lua_setfield(L, -2, name);
  return MHD_YES;
}

/* Spawns handler(method, path, query, headers, body, answer). */
static int start_task(lua_State *L) {
  struct start *start = lua_touserdata(L, 1);
  struct cg_http_request *request = start->request;
  struct cg_http *http = request->http;
  cg_ref_push(L, http->handler);
  lua_pushstring(L, start->method);
  lua_pushstring(L, start->url);
  lua_newtable(L);
  MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, add_argument, L);
  lua_newtable(L);
  MHD_get_connection_values(request->connection, MHD_HEADER_KIND, add_header, L);
  lua_pushlstring(L, (const char *)request->body->data, request->body->size);

  struct cg_http_ticket *ticket = lua_newuserdata(L, sizeof(*ticket));
  ticket->request = NULL;
  if (luaL_newmetatable(L, TICKET_TYPE)) {
    lua_pushcfunction(L, collect_ticket);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushcclosure(L, answer_request, 1);
  cg_task_spawn(http->runtime, L, 6);
  ticket->request = request;
  request->ticket = ticket;
  return 0;
}

/* answer(status, content_type, body [, header_name, header_value]); later calls do nothing. */
static int answer_request(lua_State *L) {
  struct cg_http_ticket *ticket = lua_touserdata(L, lua_upvalueindex(1));
  int status = luaL_checkint(L, 1);
  const char *content_type = luaL_checkstring(L, 2);
  size_t size;
  const char *body = luaL_checklstring(L, 3, &size);
  const char *header_name = luaL_optstring(L, 4, "");
  const char *header_value = luaL_optstring(L, 5, "");
  struct cg_http_request *request = ticket->request;
  if (request == NULL)
    return 0;
  request->status = (unsigned)status;
  snprintf(request->content_type, sizeof(request->content_type), "%s", content_type);
  snprintf(request->header_name, sizeof(request->header_name), "%s", header_name);
  snprintf(request->header_value, sizeof(request->header_value), "%s", header_value);
  request->answer = cg_buf_take(request->http->runtime->pool, size);
  cg_buf_append(request->answer, body, size);
  finish(request);
  return 0;
}

static int collect_ticket(lua_State *L) {
  struct cg_http_ticket *ticket = lua_touserdata(L, 1);
  if (ticket->request != NULL)
    cg_http_request_refuse(ticket->request, MHD_HTTP_INTERNAL_SERVER_ERROR,
                           "the handler was ended before it answered", "error");
  return 0;
}

/* The answer is there: the task has nothing more to say, the connection goes on. */
static void finish(struct cg_http_request *request) {
  request->ticket->request = NULL;
  request->ticket = NULL;
  if (request->is_suspended) {
    request->is_suspended = false;
    MHD_resume_connection(request->connection);
    cg_http_resumed(request->http);
  }
}

static enum MHD_Result send_answer(struct cg_http_request *request) {
  struct MHD_Response *response = MHD_create_response_from_buffer(
      request->answer->size, request->answer->data, MHD_RESPMEM_MUST_COPY);
  if (response == NULL)
    return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, request->content_type);
  if (request->header_name[0] != 0)
    MHD_add_response_header(response, request->header_name, request->header_value);
  enum MHD_Result result = MHD_queue_response(request->connection, request->status, response);
  MHD_destroy_response(response);
  return result;
}
