/* embed_test.c - the public C API: life of an instance, C and Lua handlers, messages, processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "catga.h"

#define TURNS_MAX 100000  /* More turns of the loop mean that something never comes. */
#define WAITS_MAX 100     /* Waits for the descriptor; more mean the same. */
#define WAIT_MS_MAX 10000 /* Nothing here takes that long. */

static const char SCRIPT[] =
    "local catga = require 'catga'\n"
    "catga.command { name = 'Greet', input = { name = 'string' },\n"
    "  handle = function(c) return { text = 'hello ' .. c.name } end }\n"
    "catga.command('Refuse', function() return nil, catga.error('refused', 'not today') end)\n"
    "catga.command('Raise', function() error('oh no') end)\n"
    "catga.command('Fresh', function(_, ctx) return ctx:new_id() end)\n"
    "catga.command('ViaC', function(c) return catga.send('Native', c) end)\n"
    "catga.command('Quit', function() catga.exit(5) return true end)\n"
    "catga.query('Count', function()\n"
    "  return #catga.events.read('$type-Noted') end)\n"
    "local P = catga.process 'P'\n"
    "function P:execute(input)\n"
    "  if input.forever then self:sleep('1h') end\n"
    "  if input.bad then error(catga.error('bad', 'it is bad')) end\n"
    "  return { doubled = self:double(input.n) }\n"
    "end\n"
    "function P:double(n) return n * 2 end\n";

/* One app in a directory of its own. */
struct fixture {
  char root[64];       /* Holds app/ and data/. */
  char app[80];        /* App directory. */
  char data[80];       /* Data directory. */
  struct catga *catga; /* NULL while none is open. */
};

/* The answer to one message. */
struct outcome {
  int count;         /* Answers that came. */
  int status;        /* Of the last one, as the rest. */
  char json[256];    /* "" without a value. */
  char code[64];     /* "" without an error. */
  char message[512]; /* The same. */
};

static void take(void *arg, const struct catga_answer *answer) {
  struct outcome *outcome = arg;
  outcome->count++;
  outcome->status = answer->status;
  snprintf(outcome->json, sizeof(outcome->json), "%s", answer->json ? answer->json : "");
  snprintf(outcome->code, sizeof(outcome->code), "%s", answer->code ? answer->code : "");
  snprintf(outcome->message, sizeof(outcome->message), "%s",
           answer->message ? answer->message : "");
}

static void ignore_line(void *arg, enum catga_level level, const char *line) {
  (void)arg;
  (void)level;
  (void)line;
}

static void native(void *arg, const char *json, size_t size, struct catga_reply *reply) {
  int *calls = arg;
  (*calls)++;
  assert_int_equal(json[size], 0);
  if (strstr(json, "bad") != NULL) {
    catga_reply_error(reply, "out_of_stock", "none left");
    return;
  }
  if (strstr(json, "silent") != NULL)
    return;
  catga_reply_json(reply, json, size);
}

static void write_script(const struct fixture *fixture, const char *text) {
  char path[128];
  snprintf(path, sizeof(path), "%s/main.lua", fixture->app);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static struct catga *make(const struct fixture *fixture, uv_loop_t *loop, bool in_memory) {
  struct catga_options options;
  catga_options_init(&options, sizeof(options));
  options.app = fixture->app;
  options.data = in_memory ? NULL : fixture->data;
  options.loop = loop;
  options.say = ignore_line;
  struct catga *catga = catga_new(&options);
  assert_non_null(catga);
  return catga;
}

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  snprintf(fixture->root, sizeof(fixture->root), "/tmp/catga-embed-XXXXXX");
  if (mkdtemp(fixture->root) == NULL)
    return -1;
  snprintf(fixture->app, sizeof(fixture->app), "%s/app", fixture->root);
  snprintf(fixture->data, sizeof(fixture->data), "%s/data", fixture->root);
  char command[128];
  snprintf(command, sizeof(command), "mkdir %s", fixture->app);
  if (system(command) != 0)
    return -1;
  write_script(fixture, SCRIPT);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  char command[128];
  snprintf(command, sizeof(command), "rm -rf %s", fixture->root);
  int status = system(command);
  free(fixture);
  return status;
}

/* Turns the loop until the answer is there. */
static void await(struct catga *catga, const struct outcome *outcome) {
  for (int i = 0; outcome->count == 0 && i < TURNS_MAX; i++)
    uv_run(catga_loop(catga), UV_RUN_ONCE);
  assert_int_equal(outcome->count, 1);
}

static struct outcome send_command(struct catga *catga, const char *name, const char *json,
                                   const char *key) {
  struct outcome outcome = {.count = 0};
  catga_send(catga, name, json, strlen(json), key, take, &outcome);
  await(catga, &outcome);
  return outcome;
}

static void stop_and_free(struct catga *catga) {
  assert_int_equal(catga_stop(catga, NULL, NULL), CATGA_OK);
  assert_int_equal(catga_run(catga), 0);
  catga_free(catga);
}

static void test_options_have_a_size(void **state) {
  (void)state;
  struct catga_options options;
  catga_options_init(&options, sizeof(options));
  options.size = sizeof(options) + 8;
  assert_null(catga_new(&options));
  options.size = 4;
  assert_null(catga_new(&options));
  assert_string_equal(catga_strerror(CATGA_CONFLICT),
                      "the expected version or tail is not the actual one");
  assert_string_equal(catga_strerror(1), "unknown status");
  assert_non_null(strchr(catga_version(), '.'));
}

static void test_sends_to_lua(void **state) {
  struct catga *catga = make(*state, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome outcome = send_command(catga, "Greet", "{\"name\":\"C\"}", NULL);
  assert_int_equal(outcome.status, CATGA_OK);
  assert_string_equal(outcome.json, "{\"text\":\"hello C\"}");
  outcome = send_command(catga, "Greet", "{}", NULL);
  assert_int_equal(outcome.status, CATGA_INVALID);
  assert_string_equal(outcome.code, "validation");
  outcome = send_command(catga, "Greet", "{", NULL);
  assert_int_equal(outcome.status, CATGA_INVALID);
  outcome = send_command(catga, "Greeet", "{}", NULL);
  assert_int_equal(outcome.status, CATGA_NOT_FOUND);
  assert_non_null(strstr(outcome.message, "did you mean Greet?"));
  outcome = send_command(catga, "Refuse", "{}", NULL);
  assert_int_equal(outcome.status, CATGA_REFUSED);
  assert_string_equal(outcome.code, "refused");
  assert_string_equal(outcome.message, "not today");
  outcome = send_command(catga, "Raise", "{}", NULL);
  assert_int_equal(outcome.status, CATGA_SCRIPT);
  assert_non_null(strstr(outcome.message, "main.lua:5: oh no"));
  stop_and_free(catga);
}

static void test_a_key_gives_the_stored_answer(void **state) {
  struct catga *catga = make(*state, NULL, false);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome first = send_command(catga, "Fresh", "{}", "one");
  struct outcome second = send_command(catga, "Fresh", "{}", "one");
  struct outcome other = send_command(catga, "Fresh", "{}", "two");
  assert_string_equal(first.json, second.json);
  assert_string_not_equal(first.json, other.json);
  stop_and_free(catga);

  catga = make(*state, NULL, false);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome later = send_command(catga, "Fresh", "{}", "one");
  assert_string_equal(first.json, later.json);
  stop_and_free(catga);
}

static void test_handlers_in_c(void **state) {
  struct catga *catga = make(*state, NULL, true);
  int calls = 0;
  assert_int_equal(catga_handle(catga, "event", "Native", native, &calls), CATGA_INVALID);
  assert_int_equal(catga_handle(catga, "command", "Native", native, &calls), CATGA_OK);
  assert_int_equal(catga_handle(catga, "query", "Native", native, &calls), CATGA_EXISTS);
  assert_non_null(strstr(catga_message(catga), "Native has a handler already"));
  assert_int_equal(catga_open(catga), CATGA_OK);
  assert_int_equal(catga_handle(catga, "command", "Late", native, &calls), CATGA_CLOSED);

  struct outcome outcome = {.count = 0};
  catga_send(catga, "Native", "[1]", 3, NULL, take, &outcome);
  assert_int_equal(outcome.count, 1); /* Before the loop turns. */
  assert_string_equal(outcome.json, "[1]");
  outcome = send_command(catga, "Native", "\"bad\"", NULL);
  assert_int_equal(outcome.status, CATGA_REFUSED);
  assert_string_equal(outcome.code, "out_of_stock");
  assert_string_equal(outcome.message, "none left");
  outcome = send_command(catga, "Native", "\"silent\"", NULL);
  assert_string_equal(outcome.json, "null");
  assert_int_equal(calls, 3);

  outcome = send_command(catga, "ViaC", "{\"a\":[]}", NULL);
  assert_string_equal(outcome.json, "{\"a\":[]}");
  outcome = send_command(catga, "ViaC", "{\"bad\":1}", NULL);
  assert_string_equal(outcome.code, "out_of_stock");
  outcome = send_command(catga, "Native", "[2]", "key");
  assert_string_equal(outcome.json, "[2]");
  assert_int_equal(calls, 6);
  stop_and_free(catga);
}

static void check_length(void *arg, const struct catga_answer *answer) {
  assert_int_equal(answer->status, CATGA_OK);
  assert_int_equal(strlen(answer->json), answer->json_size);
  *(size_t *)arg = answer->json_size;
}

static void test_answers_of_any_size(void **state) {
  struct catga *catga = make(*state, NULL, true);
  int calls = 0;
  assert_int_equal(catga_handle(catga, "command", "Native", native, &calls), CATGA_OK);
  assert_int_equal(catga_open(catga), CATGA_OK);
  char *text = malloc(5001);
  for (size_t size = 2; size <= 5000; size += size < 600 ? 1 : 400) {
    memset(text, 'x', size);
    text[0] = text[size - 1] = '"';
    text[size] = 0;
    size_t answered = 0;
    catga_send(catga, "Native", text, size, NULL, check_length, &answered);
    assert_int_equal(answered, size);
    struct outcome through_lua = {.count = 0};
    catga_send(catga, "ViaC", text, size, NULL, take, &through_lua);
    await(catga, &through_lua);
    assert_int_equal(strncmp(through_lua.json, text, sizeof(through_lua.json) - 1), 0);
  }
  free(text);
  stop_and_free(catga);
}

static void test_a_name_has_one_handler_in_c_or_lua(void **state) {
  struct catga *catga = make(*state, NULL, true);
  int calls = 0;
  assert_int_equal(catga_handle(catga, "command", "Greet", native, &calls), CATGA_OK);
  assert_int_equal(catga_open(catga), CATGA_SCRIPT);
  assert_non_null(strstr(catga_message(catga), "Greet has a handler already, at the C program"));
  catga_free(catga);
}

static void test_publishes_and_asks(void **state) {
  struct catga *catga = make(*state, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome outcome = {.count = 0};
  catga_publish(catga, "Noted", "{}", 2, take, &outcome);
  await(catga, &outcome);
  assert_string_equal(outcome.json, "true");
  outcome.count = 0;
  catga_ask(catga, "Count", NULL, 0, take, &outcome);
  await(catga, &outcome);
  assert_string_equal(outcome.json, "1");
  catga_publish(catga, "Noted", "{}", 2, NULL, NULL); /* Nobody wants the answer. */
  stop_and_free(catga);
}

static struct outcome start_process(struct catga *catga, const char *json) {
  struct outcome outcome = {.count = 0};
  catga_start(catga, "P", json, strlen(json), take, &outcome);
  await(catga, &outcome);
  return outcome;
}

static struct outcome result_of(struct catga *catga, const char *id) {
  struct outcome outcome = {.count = 0};
  catga_result(catga, id, take, &outcome);
  await(catga, &outcome);
  return outcome;
}

static void test_starts_processes(void **state) {
  struct catga *catga = make(*state, NULL, false);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome outcome = start_process(catga, "{\"id\":\"p1\",\"n\":21}");
  assert_string_equal(outcome.json, "\"p1\"");
  outcome = result_of(catga, "p1");
  assert_string_equal(outcome.json, "{\"doubled\":42}");
  outcome = start_process(catga, "{\"id\":\"p1\",\"n\":22}");
  assert_int_equal(outcome.status, CATGA_CONFLICT);
  start_process(catga, "{\"id\":\"p2\",\"bad\":true}");
  outcome = result_of(catga, "p2");
  assert_int_equal(outcome.status, CATGA_REFUSED);
  assert_string_equal(outcome.code, "bad");
  outcome = result_of(catga, "p3");
  assert_int_equal(outcome.status, CATGA_NOT_FOUND);
  stop_and_free(catga);
}

static void set_flag(void *arg) {
  *(int *)arg += 1;
}

static void test_open_calls_are_closed_by_the_stop(void **state) {
  struct catga *catga = make(*state, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_OK);
  start_process(catga, "{\"id\":\"p\",\"forever\":true}");
  struct outcome outcome = {.count = 0};
  catga_result(catga, "p", take, &outcome);
  int stopped = 0;
  assert_int_equal(catga_stop(catga, set_flag, &stopped), CATGA_OK);
  assert_int_equal(catga_stop(catga, set_flag, &stopped), CATGA_OK);
  assert_int_equal(catga_run(catga), 0);
  assert_int_equal(stopped, 2);
  assert_int_equal(outcome.count, 1);
  assert_int_equal(outcome.status, CATGA_CLOSED);
  struct outcome late = {.count = 0};
  catga_send(catga, "Greet", "{}", 2, NULL, take, &late);
  assert_int_equal(late.status, CATGA_CLOSED);
  catga_free(catga);
}

static void test_two_instances_on_a_given_loop(void **state) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct catga *one = make(*state, &loop, true);
  struct catga *two = make(*state, &loop, false);
  assert_int_equal(catga_open(one), CATGA_OK);
  assert_int_equal(catga_open(two), CATGA_OK);
  assert_string_equal(send_command(one, "Greet", "{\"name\":\"1\"}", NULL).json,
                      "{\"text\":\"hello 1\"}");
  assert_string_equal(send_command(two, "Greet", "{\"name\":\"2\"}", NULL).json,
                      "{\"text\":\"hello 2\"}");
  int stopped = 0;
  catga_stop(one, set_flag, &stopped);
  catga_stop(two, set_flag, &stopped);
  assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
  assert_int_equal(stopped, 2);
  catga_free(one);
  catga_free(two);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&loop), 0);
}

/* One round of a loop of another kind: waits as long as it is told to, then turns. */
static int wait_and_turn(struct catga *catga) {
  struct pollfd ready = {.fd = catga_backend_fd(catga), .events = POLLIN};
  int ms = catga_backend_timeout(catga);
  bool is_long = ms < 0 || ms > WAIT_MS_MAX;
  int count = poll(&ready, 1, is_long ? WAIT_MS_MAX : ms);
  assert_true(count > 0 || (count == 0 && !is_long));
  return catga_turn(catga);
}

static void test_a_foreign_loop_turns_it(void **state) {
  struct catga *catga = make(*state, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_OK);
  assert_true(catga_backend_fd(catga) >= 0);
  struct outcome outcome = {.count = 0};
  catga_send(catga, "Greet", "{\"name\":\"f\"}", 12, NULL, take, &outcome);
  for (int i = 0; outcome.count == 0 && i < WAITS_MAX; i++)
    assert_int_equal(wait_and_turn(catga), 1);
  assert_int_equal(outcome.count, 1);
  assert_int_equal(outcome.status, CATGA_OK);
  catga_stop(catga, NULL, NULL);
  int turns = 0;
  while (wait_and_turn(catga) && turns < WAITS_MAX)
    turns++;
  assert_true(turns < WAITS_MAX);
  assert_int_equal(catga_exit_code(catga), 0);
  catga_free(catga);
}

static void test_freed_without_a_stop(void **state) {
  struct catga *catga = make(*state, NULL, false);
  catga_free(catga); /* Never opened. */
  catga_free(NULL);
  catga = make(*state, NULL, false);
  assert_int_equal(catga_open(catga), CATGA_OK);
  start_process(catga, "{\"id\":\"kept\",\"forever\":true}");
  struct outcome outcome = {.count = 0};
  catga_result(catga, "kept", take, &outcome);
  catga_free(catga);
  assert_int_equal(outcome.status, CATGA_CLOSED);

  uv_loop_t loop;
  uv_loop_init(&loop);
  catga = make(*state, &loop, false);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome again = start_process(catga, "{\"id\":\"kept\",\"forever\":true}");
  assert_string_equal(again.json, "\"kept\"");
  catga_free(catga);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_open_says_what_is_wrong(void **state) {
  struct fixture *fixture = *state;
  write_script(fixture, "local x = = 1\n");
  struct catga *catga = make(fixture, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_SCRIPT);
  assert_non_null(strstr(catga_message(catga), "main.lua:1:"));
  catga_free(catga);

  write_script(fixture, SCRIPT);
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct catga *first = make(fixture, &loop, false);
  assert_int_equal(catga_open(first), CATGA_OK);
  struct catga *second = make(fixture, &loop, false);
  assert_int_equal(catga_open(second), CATGA_BUSY);
  catga_free(second);
  catga_free(first);
  uv_run(&loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&loop), 0);

  strcat(fixture->app, "/none");
  catga = make(fixture, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_NOT_FOUND);
  catga_free(catga);
}

static void test_a_script_ends_the_program(void **state) {
  struct catga *catga = make(*state, NULL, true);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome outcome = {.count = 0};
  catga_send(catga, "Quit", "{}", 2, NULL, take, &outcome);
  assert_int_equal(catga_run(catga), 5);
  assert_string_equal(outcome.json, "true");
  catga_free(catga);
}

static void test_without_scripts(void **state) {
  (void)state;
  struct catga_options options;
  catga_options_init(&options, sizeof(options));
  options.say = ignore_line;
  struct catga *catga = catga_new(&options);
  int calls = 0;
  assert_int_equal(catga_handle(catga, "query", "Native", native, &calls), CATGA_OK);
  assert_int_equal(catga_open(catga), CATGA_OK);
  struct outcome outcome = {.count = 0};
  catga_ask(catga, "Native", "7", 1, take, &outcome);
  assert_string_equal(outcome.json, "7");
  stop_and_free(catga);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_options_have_a_size),
      TEST(test_sends_to_lua),
      TEST(test_a_key_gives_the_stored_answer),
      TEST(test_handlers_in_c),
      TEST(test_answers_of_any_size),
      TEST(test_a_name_has_one_handler_in_c_or_lua),
      TEST(test_publishes_and_asks),
      TEST(test_starts_processes),
      TEST(test_open_calls_are_closed_by_the_stop),
      TEST(test_two_instances_on_a_given_loop),
      TEST(test_a_foreign_loop_turns_it),
      TEST(test_freed_without_a_stop),
      TEST(test_open_says_what_is_wrong),
      TEST(test_a_script_ends_the_program),
      TEST(test_without_scripts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
