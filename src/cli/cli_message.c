/* cli_message.c - `catga send`, `ask` and `publish`: one message to a running instance.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <string.h>

#include "cli/remote.h"

#define MESSAGE_OPTIONS                                                                            \
  "  JSON       the data; - reads it from stdin; without it, {}\n"                                 \
  "  --data D   data directory of the instance (default $CATGA_DATA, else .catga)\n"

const char cg_cli_send_usage[] =
    "Usage: catga send NAME [JSON|-] [--key K] [--data D]\n"
    "Sends a command and prints its answer as JSON.\n" MESSAGE_OPTIONS
    "  --key K    the same key again gives the stored answer and does nothing\n"
    "Exit code: 0 done, 1 refused or failed, 3 no such command, or nothing runs there.\n"
    "Example: catga send CreateOrder '{\"id\":\"42\"}' --key 42\n";

const char cg_cli_ask_usage[] =
    "Usage: catga ask NAME [JSON|-] [--after P] [--data D]\n"
    "Asks a query and prints its answer as JSON.\n" MESSAGE_OPTIONS
    "  --after P  the read models wait until they have seen this position of the log\n"
    "Exit code: 0 answered, 1 refused or failed, 3 no such query, or nothing runs there.\n"
    "Example: catga ask GetOrder '{\"id\":\"42\"}'\n";

const char cg_cli_publish_usage[] =
    "Usage: catga publish TYPE [JSON|-] [--data D]\n"
    "Publishes an event; it is durable when this returns.\n" MESSAGE_OPTIONS
    "Exit code: 0 done, 1 failed, 3 nothing runs there.\n"
    "Example: catga publish OrderCreated '{\"id\":\"42\"}'\n";

static int post(const struct cg_remote_options *options, const char *folder, const char *name,
                const char *argument, const char *key, const char *after) {
  int code = CG_CLI_FAILED;
  struct cg_buf *data = cg_remote_data(argument);
  if (data == NULL)
    return code;
  struct cg_buf *target = cg_buf_take(NULL, 256);
  cg_buf_append(target, folder, strlen(folder));
  cg_client_escape(target, name);
  cg_remote_query(target, "after", after);
  cg_buf_append(target, "", 1);
  struct cg_client *client = cg_remote_open(options, &code);
  if (client != NULL) {
    struct cg_client_request request = {.method = "POST",
                                        .target = (const char *)target->data,
                                        .body = (const char *)data->data,
                                        .body_size = data->size,
                                        .key = key};
    const struct cg_buf *answer;
    code = cg_remote_call(client, &request, &answer);
    if (code == CG_CLI_FINE)
      printf("%s\n", (const char *)answer->data);
  }
  cg_client_close(client);
  cg_buf_unref(target);
  cg_buf_unref(data);
  return code;
}

int cg_cli_message(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"after", required_argument, NULL, 'a'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  bool is_send = strcmp(verb->name, "send") == 0, is_ask = strcmp(verb->name, "ask") == 0;
  const char *key = NULL, *after = NULL;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'k' && is_send)
      key = optarg;
    else if (option == 'a' && is_ask)
      after = optarg;
    else if (option == 'k' || option == 'a')
      return cg_cli_wrong(verb, "there is no option --%s", option == 'k' ? "key" : "after");
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  int count = argc - optind;
  if (count < 1 || count > 2)
    return cg_cli_wrong(verb, count < 1 ? "name the message" : "one name and one JSON text");
  if (!cg_remote_name(verb, argv[optind]))
    return CG_CLI_USAGE;
  const char *folder = is_send ? "/commands/" : is_ask ? "/queries/" : "/events/";
  return post(&remote, folder, argv[optind], count == 2 ? argv[optind + 1] : "{}", key, after);
}
