/* remote.c - see remote.h. */
#include "cli/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "codec/json.h"

#define STDIN_BYTES_MAX ((size_t)256 << 20) /* More is no message. */

void cg_remote_init(struct cg_remote_options *options) {
  const char *data = getenv("CATGA_DATA");
  *options = (struct cg_remote_options){.data = data != NULL && *data != 0 ? data : ".catga"};
}

bool cg_remote_option(const struct cg_cli_verb *verb, struct cg_remote_options *options,
                      int option) {
  if (option == 'd') {
    options->data = optarg;
    return true;
  }
  if (option == 'o' && strcmp(optarg, "json") == 0) {
    options->as_json = true;
    return true;
  }
  if (option == 'o')
    cg_cli_wrong(verb, "-o knows json, not %s", optarg);
  return false;
}

int cg_remote_parse(const struct cg_cli_verb *verb, int argc, char **argv,
                    struct cg_remote_options *options) {
  static const struct option known[] = {
      {"data", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  cg_remote_init(options);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, known)) != -1)
    if (!cg_remote_option(verb, options, option))
      return cg_cli_option_exit(option);
  return -1;
}

bool cg_remote_name(const struct cg_cli_verb *verb, const char *name) {
  if (*name == 0)
    cg_cli_wrong(verb, "the name is empty");
  return *name != 0;
}

struct cg_client *cg_remote_open(const struct cg_remote_options *options, int *code) {
  struct cg_client *client;
  struct cg_err err;
  if (cg_client_open(&client, options->data, &err) == CG_OK)
    return client;
  cg_cli_fail("%s", err.message);
  *code = err.code == CG_ENOTFOUND ? CG_CLI_NOT_FOUND : CG_CLI_FAILED;
  return NULL;
}

int cg_remote_call(struct cg_client *client, const struct cg_client_request *request,
                   const struct cg_buf **answer) {
  long status;
  struct cg_err err;
  if (cg_client_call(client, request, &status, answer, &err) != CG_OK) {
    cg_cli_fail("%s", err.message);
    return err.code == CG_ENOTFOUND ? CG_CLI_NOT_FOUND : CG_CLI_FAILED;
  }
  if (status < 400)
    return CG_CLI_FINE;
  cg_print_problem(*answer);
  return status == 404 ? CG_CLI_NOT_FOUND : CG_CLI_FAILED;
}

struct cg_buf *cg_remote_target(const char *path, const char *name) {
  struct cg_buf *target = cg_buf_take(NULL, 256);
  cg_buf_append(target, path, strlen(path));
  if (name != NULL)
    cg_client_escape(target, name);
  return target;
}

void cg_remote_query(struct cg_buf *target, const char *name, const char *value) {
  if (value == NULL)
    return;
  bool is_first = memchr(target->data, '?', target->size) == NULL;
  cg_buf_append(target, is_first ? "?" : "&", 1);
  cg_buf_append(target, name, strlen(name));
  cg_buf_append(target, "=", 1);
  cg_client_escape(target, value);
}

int cg_remote_send(const struct cg_remote_options *options, const char *method,
                   struct cg_buf *target, const struct cg_buf *data, struct cg_client **client,
                   const struct cg_buf **answer) {
  int code = CG_CLI_FAILED;
  *client = cg_remote_open(options, &code);
  if (*client != NULL) {
    cg_buf_append(target, "", 1);
    struct cg_client_request request = {.method = method,
                                        .target = (const char *)target->data,
                                        .body = data != NULL ? (const char *)data->data : NULL,
                                        .body_size = data != NULL ? data->size : 0};
    code = cg_remote_call(*client, &request, answer);
  }
  cg_buf_unref(target);
  return code;
}

bool cg_remote_is_json(const struct cg_buf *data) {
  struct cg_buf *scratch = cg_buf_take(NULL, data->size + 1);
  struct cg_json_reader reader;
  struct cg_json_token token;
  struct cg_err err;
  enum cg_code code;
  cg_json_reader_init(&reader, (const char *)data->data, data->size, scratch);
  do
    code = cg_json_next(&reader, &token, &err);
  while (code == CG_OK && token.kind != CG_JSON_END);
  cg_buf_unref(scratch);
  if (code != CG_OK)
    cg_cli_fail("invalid: the data: %s", err.message);
  return code == CG_OK;
}

struct cg_buf *cg_remote_data(const char *argument) {
  struct cg_buf *data = cg_buf_take(NULL, 4096);
  if (strcmp(argument, "-") != 0) {
    cg_buf_append(data, argument, strlen(argument));
    return data;
  }
  size_t count;
  do {
    uint8_t *room = cg_buf_room(data, 65536);
    count = fread(room, 1, 65536, stdin);
    data->size += count;
  } while (count > 0 && data->size <= STDIN_BYTES_MAX);
  if (data->size <= STDIN_BYTES_MAX)
    return data;
  cg_cli_fail("stdin has more than %zu MiB", STDIN_BYTES_MAX >> 20);
  cg_buf_unref(data);
  return NULL;
}
