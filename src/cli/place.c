/* place.c - see place.h. A socket that nothing answers at was left behind: then the files are
 * opened. */
#include "cli/place.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "embed/embed.h"

static bool is_there(const char *data, const char *name) {
  char path[PATH_MAX];
  struct stat info;
  return snprintf(path, sizeof(path), "%s/%s", data, name) < PATH_MAX && stat(path, &info) == 0;
}

bool cg_place_open(struct cg_place *place, const char *data, bool makes, int *code) {
  *place = (struct cg_place){.client = NULL};
  *code = CG_CLI_FAILED;
  struct cg_err err;
  if (is_there(data, CG_EMBED_SOCKET_NAME)) {
    struct cg_remote_options remote = {.data = data};
    place->client = cg_remote_open(&remote, code);
    const struct cg_buf *answer;
    long status;
    struct cg_client_request request = {.method = "GET", .target = "/livez"};
    if (place->client == NULL)
      return false;
    if (cg_client_call(place->client, &request, &status, &answer, &err) == CG_OK)
      return true;
    cg_client_close(place->client); /* It has ended without removing its socket. */
    place->client = NULL;
  }
  if (!makes && !is_there(data, "log")) {
    cg_cli_fail("there is no log in %s; name its data directory by --data", data);
    *code = CG_CLI_NOT_FOUND;
    return false;
  }
  if (cg_local_open(&place->local, data, &err) == CG_OK)
    return true;
  cg_cli_fail("%s", err.message);
  return false;
}

bool cg_place_close(struct cg_place *place) {
  struct cg_err err;
  cg_client_close(place->client);
  if (cg_local_close(place->local, &err) == CG_OK)
    return true;
  cg_cli_fail("%s", err.message);
  return false;
}

bool cg_place_call(struct cg_place *place, const char *method, struct cg_buf *target,
                   const char *body, size_t size, long *status, const struct cg_buf **answer) {
  cg_buf_append(target, "", 1);
  struct cg_client_request request = {
      .method = method, .target = (const char *)target->data, .body = body, .body_size = size};
  struct cg_err err;
  enum cg_code code = place->client != NULL
                          ? cg_client_call(place->client, &request, status, answer, &err)
                          : cg_local_call(place->local, &request, status, answer, &err);
  cg_buf_unref(target);
  if (code != CG_OK)
    cg_cli_fail("%s", err.message);
  return code == CG_OK;
}

const char *cg_place_next(const struct cg_place *place) {
  return place->client != NULL ? cg_client_next(place->client) : cg_local_next(place->local);
}
