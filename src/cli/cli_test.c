/* cli_test.c - `catga test`: busted specs in the host, as a task of a runtime without an app.
 *
 * Owns: the runtime. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "cli/cli.h"

const char cg_cli_test_usage[] =
    "Usage: catga test DIR|FILE... [--seed N] [-o OUTPUT] [--filter PATTERN]\n"
    "Runs busted specs, files called *_spec.lua, inside the host: a spec may wait.\n"
    "  --seed N          order of the specs, as an earlier run printed it\n"
    "  -o OUTPUT         output handler of busted: plainTerminal, utfTerminal, TAP, json, gtest\n"
    "  --filter PATTERN  only specs whose name matches the Lua pattern\n"
    "Exit code: 0 all passed, 1 some did not.\n"
    "Example: catga test examples/orders --filter compensation\n";

/* What was asked for, and what came out. */
struct test {
  const char *seed;   /* Text of a number, or NULL. */
  const char *output; /* Or NULL. */
  const char *filter; /* Or NULL. */
  char **roots;       /* Directories and files given. */
  int root_count;     /* How many. */
  int code;           /* Exit code. */
  bool is_over;       /* The specs have run to their end. */
};

static void count_handle(uv_handle_t *handle, void *arg) {
  int *count = arg;
  if (!uv_is_closing(handle))
    (*count)++;
}

/* handles() -> handles on the loop that are not closed */
static int test_handles(lua_State *L) {
  int count = 0;
  uv_walk(cg_runtime_of(L)->loop, count_handle, &count);
  lua_pushinteger(L, count);
  return 1;
}

/* done(exit_code) */
static int test_done(lua_State *L) {
  struct test *test = lua_touserdata(L, lua_upvalueindex(1));
  test->code = luaL_checkint(L, 1);
  test->is_over = true;
  uv_stop(cg_runtime_of(L)->loop);
  return 0;
}

static void set_text(lua_State *L, const char *name, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

/* Pushes the options of catga.spec_runner.run. */
static void push_options(lua_State *L, struct test *test) {
  lua_newtable(L);
  set_text(L, "seed", test->seed);
  set_text(L, "output", test->output);
  set_text(L, "filter", test->filter);
  lua_pushboolean(L, isatty(STDOUT_FILENO));
  lua_setfield(L, -2, "is_terminal");
  lua_createtable(L, test->root_count, 0);
  for (int i = 0; i < test->root_count; i++) {
    lua_pushstring(L, test->roots[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "roots");
  lua_pushcfunction(L, test_handles);
  lua_setfield(L, -2, "handles");
  lua_pushlightuserdata(L, test);
  lua_pushcclosure(L, test_done, 1);
  lua_setfield(L, -2, "done");
}

static void on_exit_wanted(struct cg_runtime *runtime, void *arg) {
  (void)arg;
  uv_stop(runtime->loop);
}

static int run_specs(struct test *test) {
  static const char MODULE[] = "return require 'catga.spec_runner'.run";
  struct cg_say say = {.fd = 2, .level = CG_SAY_INFO};
  struct cg_runtime_options options = {.say = &say, .bindings = cg_bind_open};
  struct cg_runtime *runtime;
  struct cg_err err;
  if (cg_runtime_new(&runtime, &options, &err) != CG_OK)
    return cg_cli_fail("%s", err.message);
  runtime->on_exit = on_exit_wanted;
  test->code = CG_CLI_FAILED; /* Also when a spec ends the loop. */
  if (cg_script_run(runtime->L, MODULE, sizeof(MODULE) - 1, "=catga", 0, 1, &err) == CG_OK) {
    push_options(runtime->L, test);
    cg_task_spawn(runtime, runtime->L, 1);
    uv_run(runtime->loop, UV_RUN_DEFAULT);
    if (!test->is_over)
      cg_cli_fail("the specs did not end: one waits for what never comes, or ended the program");
  } else {
    cg_cli_fail("%s", err.message);
  }
  fflush(stdout);
  if (test->code != CG_CLI_FINE)
    _exit(test->code); /* What a spec has left behind could keep the loop alive. */
  cg_runtime_stop(runtime);
  cg_runtime_free(runtime);
  return test->code;
}

int cg_cli_test(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"filter", required_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct test test = {.seed = NULL};
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 's')
      test.seed = optarg;
    else if (option == 'o')
      test.output = optarg;
    else if (option == 'f')
      test.filter = optarg;
    else
      return cg_cli_option_exit(option);
  }
  if (test.seed != NULL && strspn(test.seed, "0123456789") != strlen(test.seed))
    return cg_cli_wrong(verb, "--seed is a whole number, not %s", test.seed);
  if (argc == optind)
    return cg_cli_wrong(verb, "name a directory or file with specs");
  test.roots = argv + optind;
  test.root_count = argc - optind;
  return run_specs(&test);
}
