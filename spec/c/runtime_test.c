/* runtime_test.c - the border of tasks: parking and resuming, the deadline of runaway handlers, all
 * on a loop that belongs to somebody else. */
#include <lauxlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bind/bind.h"
#include "runtime/runtime.h"

#define DEADLINE_MS 100

/* A host with a loop of its own, and the runtime as a guest on it. */
struct host {
  uv_loop_t loop;             /* The host's. */
  uv_timer_t own_timer;       /* Work of the host itself. */
  int own_ticks;              /* How often own_timer fired. */
  struct cg_say say;          /* Where the runtime's lines go. */
  struct cg_runtime *runtime; /* The guest. */
};

static void on_own_tick(uv_timer_t *timer) {
  struct host *host = timer->data;
  host->own_ticks++;
}

static void init_host(struct host *host) {
  memset(host, 0, sizeof(*host));
  uv_loop_init(&host->loop);
  uv_timer_init(&host->loop, &host->own_timer);
  host->own_timer.data = host;
  uv_timer_start(&host->own_timer, on_own_tick, 1, 1);
  uv_unref((uv_handle_t *)&host->own_timer);
  host->say = (struct cg_say){.fd = 2, .level = CG_SAY_ERROR};
  struct cg_runtime_options options = {
      .loop = &host->loop, .say = &host->say, .bindings = cg_bind_open};
  struct cg_err err;
  assert_int_equal(cg_runtime_new(&host->runtime, &options, &err), CG_OK);
}

static int open_host(void **state) {
  static struct host host;
  init_host(&host);
  *state = &host;
  return 0;
}

static int close_host(void **state) {
  struct host *host = *state;
  cg_runtime_stop(host->runtime);
  uv_run(&host->loop, UV_RUN_DEFAULT);
  assert_int_equal(cg_runtime_free(host->runtime), 0); /* No reference leaked. */
  uv_close((uv_handle_t *)&host->own_timer, NULL);
  uv_run(&host->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&host->loop), 0); /* No handle leaked. */
  return 0;
}

/* Runs Lua text as a task until the loop has nothing more to do. */
static void run(struct host *host, const char *text) {
  lua_State *L = host->runtime->L;
  if (luaL_loadbufferx(L, text, strlen(text), "=user", "t") != 0)
    fail_msg("%s", lua_tostring(L, -1));
  cg_task_spawn(host->runtime, L, 0);
  uv_run(&host->loop, UV_RUN_DEFAULT);
}

static const char *global(struct host *host, const char *name) {
  lua_getglobal(host->runtime->L, name);
  const char *text = lua_tostring(host->runtime->L, -1);
  lua_pop(host->runtime->L, 1);
  return text != NULL ? text : "nil";
}

static void parks_through_pcall_metamethods_iterators_and_coroutines(void **state) {
  struct host *host = *state;
  run(host,
      "local clock = require 'catga.native.clock'.system()\n"
      "local function wait() clock:sleep(1) return 1 end\n"
      "sum = 0\n"
      "sum = sum + select(2, pcall(wait))\n"
      "sum = sum + select(2, xpcall(wait, print))\n"
      "sum = sum + setmetatable({}, { __index = wait }).x\n"
      "sum = sum + (setmetatable({}, { __add = wait }) + 1)\n"
      "for n in function(_, last) if not last then return wait() end end do sum = sum + n end\n"
      "local inner = coroutine.wrap(function() coroutine.yield(wait()) return wait() end)\n"
      "sum = sum + inner() + inner()\n"
      "local outer = coroutine.create(function()\n"
      "  return coroutine.wrap(function() return wait() end)()\n"
      "end)\n"
      "sum = sum + select(2, coroutine.resume(outer))\n"
      "clock:close()\n");
  assert_string_equal(global(host, "sum"), "8");
}

static void refuses_to_park_below_a_c_function_with_a_clear_error(void **state) {
  struct host *host = *state;
  run(host, "local clock = require 'catga.native.clock'.system()\n"
            "ok, message = pcall(table.sort, { 2, 1 }, function(a, b) clock:sleep(1) return a < b "
            "end)\n"
            "ok, message = tostring(ok), tostring(message)\n"
            "clock:close()\n");
  assert_string_equal(global(host, "ok"), "false");
  assert_non_null(strstr(global(host, "message"), "C-call boundary"));
}

/* What could not wait must not have armed anything: a later wait would end too early. */
static void a_refused_wait_wakes_nobody_later(void **state) {
  struct host *host = *state;
  run(host, "local clock = require 'catga.native.clock'.system()\n"
            "local native = require 'catga.native.task'\n"
            "local function below_c(fn) return pcall(table.sort, { 2, 1 }, function(a, b)\n"
            "  fn() return a < b end) end\n"
            "refused = 0\n"
            "local function own(fn) return function() coroutine.wrap(fn)() end end\n"
            "for _, fn in ipairs { function() clock:sleep(1) end, native.yield, native.park,\n"
            "  native.settle, native.abandon, own(function() clock:sleep(1) end) } do\n"
            "  if not below_c(fn) then refused = refused + 1 end\n"
            "end\n"
            "local start = clock:mono()\n"
            "clock:sleep(30)\n"
            "slept = clock:mono() - start >= 29 and 'whole' or 'cut short'\n"
            "clock:close()\n");
  assert_string_equal(global(host, "refused"), "6");
  assert_string_equal(global(host, "slept"), "whole");
}

static void a_closed_clock_lets_go_of_who_sleeps(void **state) {
  struct host *host = *state;
  run(host, "local native = require 'catga.native.task'\n"
            "local clock = require 'catga.native.clock'.virtual(0)\n"
            "local before = native.counts()\n"
            "local task = native.spawn(function() clock:sleep(3600000) end)\n"
            "native.yield()\n"
            "clock:close()\n"
            "left = native.counts() - before\n"
            "dropped = tostring(native.drop(task))\n");
  assert_string_equal(global(host, "left"), "0");
  assert_string_equal(global(host, "dropped"), "false");
}

static void an_abandoned_task_stops_inside_a_coroutine_of_its_own(void **state) {
  struct host *host = *state;
  run(host, "local native = require 'catga.native.task'\n"
            "after = 'stopped'\n"
            "native.spawn(function()\n"
            "  coroutine.wrap(function() native.abandon() end)()\n"
            "  after = 'went on'\n"
            "end)\n");
  assert_string_equal(global(host, "after"), "stopped");
}

/* A coroutine that waits in one task is not woken by another that resumes it. */
static void a_coroutine_that_waits_cannot_be_resumed(void **state) {
  struct host *host = *state;
  run(host, "local native = require 'catga.native.task'\n"
            "local clock = require 'catga.native.clock'.system()\n"
            "local start, waited = clock:mono()\n"
            "local co = coroutine.create(function() clock:sleep(20)\n"
            "  waited = clock:mono() - start end)\n"
            "native.spawn(function() coroutine.resume(co)\n"
            "  whole = waited >= 19 and 'whole' or 'cut short' clock:close() end)\n"
            "native.yield()\n"
            "local ok, why = coroutine.resume(co)\n"
            "refused = tostring(not ok and why:find('waits', 1, true) ~= nil)\n");
  assert_string_equal(global(host, "refused"), "true");
  assert_string_equal(global(host, "whole"), "whole");
}

static void a_yield_outside_of_a_coroutine_is_an_error(void **state) {
  struct host *host = *state;
  run(host, "ok, message = pcall(coroutine.yield, 1)\n"
            "ok, message = tostring(ok), tostring(message)\n"
            "inside = coroutine.wrap(function() coroutine.yield('passes') end)()\n");
  assert_string_equal(global(host, "ok"), "false");
  assert_non_null(strstr(global(host, "message"), "catga.sleep"));
  assert_string_equal(global(host, "inside"), "passes");
}

static void stop_loop(struct cg_runtime *runtime, void *arg) {
  (void)arg;
  uv_stop(runtime->loop);
}

/* Nothing is stopped, closed or awaited: what the host frees must not be touched afterwards. */
static void a_runtime_is_freed_with_everything_under_way(void **state) {
  (void)state;
  static struct host other;
  struct host *host = &other;
  init_host(host);
  host->runtime->on_exit = stop_loop;
  run(host, "local native = require 'catga.native.task'\n"
            "local clocks = require 'catga.native.clock'\n"
            "local stores = require 'catga.native.store'\n"
            "clock, later = clocks.virtual(0), clocks.system()\n"
            "store = stores.open { clock = clock, manual = true }\n"
            "stream = store:stream('s', true)\n"
            "started = 0\n"
            "local function go(fn) native.spawn(function() started = started + 1 fn() end) end\n"
            "go(function() clock:sleep(1) end)\n"
            "go(function() coroutine.wrap(function() clock:sleep(2) end)() end)\n"
            "go(function() later:sleep(0) native.park() end)\n"
            "go(function() store:wait_growth(0) end)\n"
            "go(native.park)\n"
            "go(native.settle)\n"
            "clock:after(5, function() end)\n"
            "later:after(3600000, function() end)\n"
            "go(function() store:journal(stream, 'T', 0, '', 'value', 1) end)\n"
            "go(function() store:begin() store:add(stream, -1, 'T', '1')\n"
            "  require 'catga.native.host'.exit() native.park() end)\n");
  assert_string_equal(global(host, "started"), "8");
  cg_runtime_stop(host->runtime);
  uv_run(&host->loop, UV_RUN_NOWAIT);
  cg_runtime_free(host->runtime);
  uv_close((uv_handle_t *)&host->own_timer, NULL);
  uv_run(&host->loop, UV_RUN_DEFAULT);
  assert_int_equal(uv_loop_close(&host->loop), 0);
}

static void a_turn_ends_when_its_last_task_is_dropped(void **state) {
  struct host *host = *state;
  int before = host->own_ticks;
  run(host,
      "local native = require 'catga.native.task'\n"
      "local clock = require 'catga.native.clock'.system()\n"
      "local victim, stop\n"
      "native.spawn(function() native.drop(victim) while not stop do native.yield() end end)\n"
      "native.spawn(function() clock:sleep(10) stop = true clock:close() end)\n"
      "victim = native.spawn(function() end)\n");
  assert_true(host->own_ticks > before);
}

static void runs_ten_thousand_tasks_that_wait(void **state) {
  struct host *host = *state;
  run(host, "local clock = require 'catga.native.clock'.system()\n"
            "local native = require 'catga.native.task'\n"
            "done = 0\n"
            "for i = 1, 10000 do\n"
            "  native.spawn(function() clock:sleep(i % 7) done = done + 1\n"
            "    if done == 10000 then clock:close() end end)\n"
            "end\n");
  assert_string_equal(global(host, "done"), "10000");
}

static void an_error_in_a_task_does_not_end_the_host(void **state) {
  struct host *host = *state;
  host->say.level = CG_SAY_ERROR + 1;
  run(host, "error('on purpose')");
  run(host, "error({})");
  run(host, "after = 'alive'");
  assert_string_equal(global(host, "after"), "alive");
}

static void drops_a_parked_task_and_its_timer(void **state) {
  struct host *host = *state;
  run(host, "local clock = require 'catga.native.clock'.system()\n"
            "local native = require 'catga.native.task'\n"
            "reached = 'no'\n"
            "local task = native.spawn(function() clock:sleep(3600000) reached = 'yes' end)\n"
            "native.yield()\n"
            "dropped = tostring(native.drop(task))\n"
            "clock:close()\n");
  assert_string_equal(global(host, "dropped"), "true");
  assert_string_equal(global(host, "reached"), "no");
}

/* Shapes of a handler that never returns; each must be stopped, compiled or not. */
static const char *const RUNAWAYS[] = {
    "while true do end",
    "repeat until false",
    "for i = 1, math.huge do end",
    "::again:: goto again",
    "local function f() return f() end f()",
    "local t = setmetatable({}, { __index = function(t, k) return k end }) while true do "
    "local _ = t[1] end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(function() error('x') end, function() end) end",
    "while true do pcall(error) end",
    "local co = coroutine.wrap(function() while true do end end) co()",
    "while true do local co = coroutine.create(function() coroutine.yield() end) "
    "coroutine.resume(co) end",
    "table.sort({ 3, 1, 2 }, function(a, b) while true do end end)",
    "('x'):gsub('x', function() while true do end end)",
    "local n = 0 while true do n = (n * 1.5 + 1) % 1000 end",
    "local s = '' while true do s = ('x'):rep(10) end",
};

static void runaway_handlers_are_stopped(void **state) {
#ifdef __SANITIZE_THREAD__
  skip(); /* ThreadSanitizer holds signals back while Lua runs, and the guard lives by one. */
#endif
  struct host *host = *state;
  host->say.level = CG_SAY_ERROR + 1;
  cg_guard_start(host->runtime, DEADLINE_MS);
  for (size_t i = 0; i < sizeof(RUNAWAYS) / sizeof(RUNAWAYS[0]); i++) {
    uint64_t before = host->runtime->guard.stopped_count;
    run(host, RUNAWAYS[i]);
    assert_true(host->runtime->guard.stopped_count > before);
    run(host, "after = 0 for i = 1, 1000 do after = after + 1 end");
    assert_string_equal(global(host, "after"), "1000"); /* The state still works. */
  }
  cg_guard_stop(host->runtime);
}

/* The time of the processor that this program has used: what os.clock tells. */
static uint64_t used_ns(void *arg) {
  (void)arg;
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void waiting_is_not_running_away(void **state) {
  struct host *host = *state;
  struct cg_clock clock = host->runtime->clock;
  host->runtime->clock.mono_ns =
      used_ns; /* A machine that is busy elsewhere makes no difference. */
  cg_guard_start(host->runtime, DEADLINE_MS);
  uint64_t before = host->runtime->guard.stopped_count;
  run(host, "local clock = require 'catga.native.clock'.system()\n"
            "for turn = 1, 8 do\n"
            "  local stop = os.clock() + 0.03\n" /* Busy for a while, then it waits. */
            "  while os.clock() < stop do end\n"
            "  clock:sleep(1)\n"
            "end\n"
            "finished = 'yes'\n"
            "clock:close()\n");
  uint64_t after = host->runtime->guard.stopped_count;
  cg_guard_stop(host->runtime); /* First: a guard that goes on would disturb the next test. */
  host->runtime->clock = clock;
  assert_string_equal(global(host, "finished"), "yes");
  assert_int_equal(after, before);
}

static void the_memory_cap_is_a_lua_error(void **state) {
  struct host *host = *state;
  cg_runtime_set_memory_max(host->runtime, 32u << 20);
  run(host, "local ok, message = pcall(function()\n"
            "  local t = {}\n"
            "  for i = 1, 1e9 do t[i] = ('x'):rep(1024) .. i end\n"
            "end)\n"
            "capped = tostring(message)\n");
  assert_non_null(strstr(global(host, "capped"), "not enough memory"));
  cg_runtime_set_memory_max(host->runtime, 0);
  run(host, "collectgarbage() after = 'alive'");
  assert_string_equal(global(host, "after"), "alive");
}

static void bytecode_is_never_loaded(void **state) {
  struct host *host = *state;
  run(host, "local code = string.dump(function() return 1 end)\n"
            "refused = 0\n"
            "if not loadstring(code) then refused = refused + 1 end\n"
            "if not load(code) then refused = refused + 1 end\n"
            "local sent\n"
            "if not load(function() if not sent then sent = true return code end end) then\n"
            "  refused = refused + 1\n"
            "end\n");
  assert_string_equal(global(host, "refused"), "3");
}

static void the_hosts_own_work_goes_on(void **state) {
  struct host *host = *state;
  int before = host->own_ticks;
  run(host, "local clock = require 'catga.native.clock'.system()\n"
            "clock:sleep(20) clock:close()\n");
  assert_true(host->own_ticks > before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parks_through_pcall_metamethods_iterators_and_coroutines),
      cmocka_unit_test(refuses_to_park_below_a_c_function_with_a_clear_error),
      cmocka_unit_test(a_refused_wait_wakes_nobody_later),
      cmocka_unit_test(a_closed_clock_lets_go_of_who_sleeps),
      cmocka_unit_test(an_abandoned_task_stops_inside_a_coroutine_of_its_own),
      cmocka_unit_test(a_coroutine_that_waits_cannot_be_resumed),
      cmocka_unit_test(a_yield_outside_of_a_coroutine_is_an_error),
      cmocka_unit_test(a_turn_ends_when_its_last_task_is_dropped),
      cmocka_unit_test(a_runtime_is_freed_with_everything_under_way),
      cmocka_unit_test(runs_ten_thousand_tasks_that_wait),
      cmocka_unit_test(an_error_in_a_task_does_not_end_the_host),
      cmocka_unit_test(drops_a_parked_task_and_its_timer),
      cmocka_unit_test(runaway_handlers_are_stopped),
      cmocka_unit_test(waiting_is_not_running_away),
      cmocka_unit_test(the_memory_cap_is_a_lua_error),
      cmocka_unit_test(bytecode_is_never_loaded),
      cmocka_unit_test(the_hosts_own_work_goes_on),
  };
  return cmocka_run_group_tests(tests, open_host, close_host);
}
