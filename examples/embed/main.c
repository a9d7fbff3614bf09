/* main.c - a C program with Catga inside: a handler in C, a process in Lua that uses it.
 *
 * Build: cc main.c $(pkg-config --cflags --libs catga)    Run: ./a.out app data
 * Owns: the instance. Thread: the main thread, which runs the loop. */
#include <catga.h>
#include <stdio.h>
#include <string.h>

/* What the callbacks share. */
struct program {
  struct catga *catga; /* The instance. */
  int failed;          /* 1 until the process has completed. */
};

/* The command Price in C: a constant price for everything. */
static void price(void *arg, const char *json, size_t size, struct catga_reply *reply) {
  int *asked = arg;
  (*asked)++;
  if (size == 0 || strstr(json, "\"item\"") == NULL)
    catga_reply_error(reply, "invalid", "Price needs an item");
  else
    catga_reply_json(reply, "{\"cents\":250}", 13);
}

static void finished(void *arg, const struct catga_answer *answer) {
  struct program *program = arg;
  program->failed = answer->status != CATGA_OK;
  printf("result %s\n", program->failed ? answer->message : answer->json);
  catga_stop(program->catga, NULL, NULL);
}

static void started(void *arg, const struct catga_answer *answer) {
  struct program *program = arg;
  if (answer->status != CATGA_OK)
    finished(arg, answer);
  else
    catga_result(program->catga, "order-1", finished, program);
}

int main(int argc, char **argv) {
  struct catga_options options;
  catga_options_init(&options, sizeof(options));
  options.app = argc > 1 ? argv[1] : "app";
  options.data = argc > 2 ? argv[2] : NULL; /* NULL: in memory. */
  struct program program = {.catga = catga_new(&options), .failed = 1};
  int asked = 0;
  if (program.catga == NULL)
    return 1;
  catga_handle(program.catga, "command", "Price", price, &asked);
  if (catga_open(program.catga) == CATGA_OK) {
    static const char ORDER[] = "{\"id\":\"order-1\",\"items\":[\"tea\",\"cup\"]}";
    catga_start(program.catga, "Order", ORDER, sizeof(ORDER) - 1, started, &program);
    catga_run(program.catga);
    printf("asked %d times\n", asked);
  } else {
    fprintf(stderr, "%s\n", catga_message(program.catga));
  }
  catga_free(program.catga);
  return program.failed;
}
