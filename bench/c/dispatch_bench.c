/* dispatch_bench.c - a message from C to a handler written in C, beside a bare call of it.
 *
 * Three ways: the handler found before, as a caller does that sends one type; found by name each
 * time; and catga_send of the public API, which answers with JSON. What is called cannot be
 * inlined.
 * Owns: a table of handlers. Thread: one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "catga.h"
#include "mediator/mediator.h"

#define CALLS 5000000
#define API_CALLS 500000
#define OTHER_HANDLERS 100 /* In the table beside the one that is called. */

static const char NAME[] = "ReserveInventory";
static const char JSON[] = "{\"order_id\":\"o1\",\"amount\":99.5}";

static void fail(const char *what) {
  fprintf(stderr, "dispatch_bench: %s\n", what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct cg_clock clock = cg_clock_system();
  return cg_clock_mono_ns(&clock);
}

/* The handler: adds up sizes, so that no call can be left out. */
static int handle(void *arg, const char *data, size_t size, void *reply) {
  (void)data;
  (void)reply;
  *(uint64_t *)arg += size;
  return 0;
}

static void handle_api(void *arg, const char *json, size_t size, struct catga_reply *reply) {
  (void)json;
  *(uint64_t *)arg += size;
  catga_reply_json(reply, "1", 1);
}

static void on_answer(void *arg, const struct catga_answer *answer) {
  if (answer->status != CATGA_OK)
    fail("a send failed");
  *(uint64_t *)arg += 1;
}

static void print_each(const char *what, uint64_t begin_ns, uint64_t calls) {
  printf("%s: %.1f ns\n", what, (double)(now_ns() - begin_ns) / (double)calls);
}

static struct cg_mediator *make_table(uint64_t *sum) {
  struct cg_mediator *mediator = cg_mediator_new(now_ns());
  struct cg_err err;
  for (int i = 0; i < OTHER_HANDLERS; i++) {
    char name[32];
    snprintf(name, sizeof(name), "Other%d", i);
    if (cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, name, handle, sum, &err) != CG_OK)
      fail(err.message);
  }
  if (cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, NAME, handle, sum, &err) != CG_OK)
    fail(err.message);
  return mediator;
}

static void bench_table(void) {
  uint64_t sum = 0;
  struct cg_mediator *mediator = make_table(&sum);
  cg_mediator_fn volatile bare = handle;
  uint64_t begin_ns = now_ns();
  for (int i = 0; i < CALLS; i++)
    bare(&sum, JSON, sizeof(JSON) - 1, NULL);
  print_each("C to C, bare call", begin_ns, CALLS);

  struct cg_mediator_handler *volatile found =
      cg_mediator_find(mediator, CG_MEDIATOR_COMMAND, NAME, sizeof(NAME) - 1);
  begin_ns = now_ns();
  for (int i = 0; i < CALLS; i++)
    cg_mediator_dispatch(found, JSON, sizeof(JSON) - 1, NULL);
  print_each("C to C, found before", begin_ns, CALLS);

  begin_ns = now_ns();
  for (int i = 0; i < CALLS; i++)
    cg_mediator_dispatch(cg_mediator_find(mediator, CG_MEDIATOR_COMMAND, NAME, sizeof(NAME) - 1),
                         JSON, sizeof(JSON) - 1, NULL);
  print_each("C to C, found by name", begin_ns, CALLS);
  if (sum != (uint64_t)3 * CALLS * (sizeof(JSON) - 1))
    fail("the handler was not called each time");
  cg_mediator_free(mediator);
}

static void bench_api(void) {
  struct catga_options options;
  catga_options_init(&options, sizeof(options));
  options.level = CATGA_ERROR;
  struct catga *catga = catga_new(&options);
  uint64_t sum = 0, answers = 0;
  if (catga_handle(catga, "command", NAME, handle_api, &sum) != CATGA_OK ||
      catga_open(catga) != CATGA_OK)
    fail(catga_message(catga));
  uint64_t begin_ns = now_ns();
  for (int i = 0; i < API_CALLS; i++)
    catga_send(catga, NAME, JSON, sizeof(JSON) - 1, NULL, on_answer, &answers);
  while (answers < API_CALLS && catga_turn(catga) != 0)
    continue;
  print_each("C to C, catga_send", begin_ns, API_CALLS);
  if (sum != (uint64_t)API_CALLS * (sizeof(JSON) - 1))
    fail("the handler was not called each time");
  catga_stop(catga, NULL, NULL);
  while (catga_turn(catga) != 0)
    continue;
  catga_free(catga);
}

int main(void) {
  bench_table();
  bench_api();
  return 0;
}
