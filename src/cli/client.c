/* client.c - libcurl by dlopen; one easy handle that keeps its connection. */
#include "cli/client.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "embed/embed.h"
#include "http/http_socket.h"

#define LIBRARY "libcurl.so.4"
#define ANSWER_BYTES_MAX ((size_t)256 << 20) /* A larger answer is cut off. */

#define NEXT_BYTES 32 /* Of the header Catga-Next: a number. */

typedef CURL *(*easy_init_fn)(void);
typedef CURLcode (*easy_setopt_fn)(CURL *, CURLoption, ...);
typedef CURLcode (*easy_perform_fn)(CURL *);
typedef CURLcode (*easy_getinfo_fn)(CURL *, CURLINFO, ...);
typedef void (*easy_cleanup_fn)(CURL *);
typedef const char *(*easy_strerror_fn)(CURLcode);
typedef struct curl_slist *(*slist_append_fn)(struct curl_slist *, const char *);
typedef void (*slist_free_fn)(struct curl_slist *);

/* One connection to an instance. */
struct cg_client {
  void *library;                   /* Of dlopen. */
  CURL *curl;                      /* The easy handle. */
  char socket[PATH_MAX];           /* Path, for messages. */
  struct cg_http_socket_name name; /* Address of the socket. */
  struct cg_buf *answer;           /* Body of the last answer. */
  char next[NEXT_BYTES];           /* Its header Catga-Next, or "". */
  easy_setopt_fn setopt;           /* curl_easy_setopt of the library; the others likewise. */
  easy_perform_fn perform;         /* curl_easy_perform. */
  easy_getinfo_fn getinfo;         /* curl_easy_getinfo. */
  easy_cleanup_fn cleanup;         /* curl_easy_cleanup. */
  easy_strerror_fn strerror_of;    /* curl_easy_strerror. */
  slist_append_fn slist_append;    /* curl_slist_append. */
  slist_free_fn slist_free;        /* curl_slist_free_all. */
};

static enum cg_code open_library(struct cg_client *client, struct cg_err *err);
static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg);
static size_t on_header(char *bytes, size_t size, size_t count, void *arg);
static void set_request(struct cg_client *client, const struct cg_client_request *request,
                        struct curl_slist *headers, const char *url);

enum cg_code cg_client_open(struct cg_client **out, const char *data, struct cg_err *err) {
  struct cg_client *client = cg_alloc(sizeof(*client));
  client->name.directory = -1;
  client->answer = cg_buf_take(NULL, 4096);
  snprintf(client->socket, sizeof(client->socket), "%s/%s", data, CG_EMBED_SOCKET_NAME);
  struct stat info;
  enum cg_code code = CG_OK;
  if (stat(client->socket, &info) != 0)
    code = cg_err_set(err, CG_ENOTFOUND,
                      "nothing runs on data directory %s (there is no %s); start it by catga run "
                      "DIR --data %s, or name another by --data",
                      data, client->socket, data);
  if (code == CG_OK)
    code = cg_http_socket_name(&client->name, client->socket, err);
  if (code == CG_OK)
    code = open_library(client, err);
  if (code != CG_OK) {
    cg_client_close(client);
    return code;
  }
  *out = client;
  return CG_OK;
}

void cg_client_close(struct cg_client *client) {
  if (client == NULL)
    return;
  if (client->curl != NULL)
    client->cleanup(client->curl);
  if (client->library != NULL)
    dlclose(client->library);
  cg_http_socket_name_end(&client->name);
  cg_buf_unref(client->answer);
  cg_free(client);
}

enum cg_code cg_client_call(struct cg_client *client, const struct cg_client_request *request,
                            long *status, const struct cg_buf **answer, struct cg_err *err) {
  struct cg_buf *url = cg_buf_take(NULL, 256);
  static const char HOST[] = "http://catga";
  cg_buf_append(url, HOST, sizeof(HOST) - 1);
  cg_buf_append(url, request->target, strlen(request->target) + 1);
  struct curl_slist *headers = client->slist_append(NULL, "Expect:");
  headers = client->slist_append(headers, "Content-Type: application/json");
  if (request->key != NULL) {
    char header[512];
    snprintf(header, sizeof(header), "Idempotency-Key: %s", request->key);
    headers = client->slist_append(headers, header);
  }
  client->answer->size = 0;
  client->next[0] = 0;
  set_request(client, request, headers, (const char *)url->data);
  CURLcode result = client->perform(client->curl);
  client->slist_free(headers);
  cg_buf_unref(url);
  if (result == CURLE_COULDNT_CONNECT)
    return cg_err_set(err, CG_ENOTFOUND,
                      "nothing answers at %s; the instance has ended without removing it",
                      client->socket);
  if (result != CURLE_OK)
    return cg_err_set(err, CG_EIO, "%s: %s", client->socket, client->strerror_of(result));
  client->getinfo(client->curl, CURLINFO_RESPONSE_CODE, status);
  *cg_buf_room(client->answer, 1) = 0;
  *answer = client->answer;
  return CG_OK;
}

const char *cg_client_next(const struct cg_client *client) {
  return client->next;
}

void cg_client_escape(struct cg_buf *target, const char *text) {
  static const char SAFE[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  for (; *text != 0; text++) {
    if (strchr(SAFE, *text) != NULL) {
      cg_buf_append(target, text, 1);
      continue;
    }
    char code[4];
    snprintf(code, sizeof(code), "%%%02X", (unsigned char)*text);
    cg_buf_append(target, code, 3);
  }
}

static enum cg_code open_library(struct cg_client *client, struct cg_err *err) {
  client->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (client->library == NULL)
    return cg_err_set(err, CG_ENOTFOUND, "this verb needs libcurl (Debian package libcurl4): %s",
                      dlerror());
  easy_init_fn init = (easy_init_fn)dlsym(client->library, "curl_easy_init");
  client->setopt = (easy_setopt_fn)dlsym(client->library, "curl_easy_setopt");
  client->perform = (easy_perform_fn)dlsym(client->library, "curl_easy_perform");
  client->getinfo = (easy_getinfo_fn)dlsym(client->library, "curl_easy_getinfo");
  client->cleanup = (easy_cleanup_fn)dlsym(client->library, "curl_easy_cleanup");
  client->strerror_of = (easy_strerror_fn)dlsym(client->library, "curl_easy_strerror");
  client->slist_append = (slist_append_fn)dlsym(client->library, "curl_slist_append");
  client->slist_free = (slist_free_fn)dlsym(client->library, "curl_slist_free_all");
  if (init == NULL || client->setopt == NULL || client->perform == NULL ||
      client->getinfo == NULL || client->cleanup == NULL || client->strerror_of == NULL ||
      client->slist_append == NULL || client->slist_free == NULL)
    return cg_err_set(err, CG_ENOTFOUND, "%s is no libcurl", LIBRARY);
  client->curl = init();
  if (client->curl == NULL)
    return cg_err_set(err, CG_ENOMEM, "libcurl has no memory");
  return CG_OK;
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *arg) {
  struct cg_buf *answer = arg;
  if (answer->size + size * count > ANSWER_BYTES_MAX)
    return 0;
  cg_buf_append(answer, bytes, size * count);
  return size * count;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *arg) {
  static const char NAME[] = "Catga-Next: ";
  struct cg_client *client = arg;
  size_t bytes_count = size * count, name_size = sizeof(NAME) - 1;
  if (bytes_count < name_size || strncasecmp(bytes, NAME, name_size) != 0)
    return bytes_count;
  size_t value_size = 0;
  while (name_size + value_size < bytes_count && bytes[name_size + value_size] > ' ')
    value_size++;
  snprintf(client->next, sizeof(client->next), "%.*s", (int)value_size, bytes + name_size);
  return bytes_count;
}

static void set_request(struct cg_client *client, const struct cg_client_request *request,
                        struct curl_slist *headers, const char *url) {
  CURL *curl = client->curl;
  client->setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->name.text);
  client->setopt(curl, CURLOPT_NOPROXY, "*");
  client->setopt(curl, CURLOPT_NOSIGNAL, 1L);
  client->setopt(curl, CURLOPT_URL, url);
  client->setopt(curl, CURLOPT_HTTPHEADER, headers);
  client->setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
  client->setopt(curl, CURLOPT_WRITEDATA, client->answer);
  client->setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  client->setopt(curl, CURLOPT_HEADERDATA, client);
  bool has_body = strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0;
  client->setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
  if (has_body) {
    client->setopt(curl, CURLOPT_POST, 1L);
    client->setopt(curl, CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
    client->setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                   (curl_off_t)(request->body != NULL ? request->body_size : 0));
  } else {
    client->setopt(curl, CURLOPT_HTTPGET, 1L);
  }
}
