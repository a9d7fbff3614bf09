/* replay_test.c - the journal of a flow is the same, byte for byte, in every fresh Lua state.
 *
 * LuaJIT seeds its string hash anew in each state, so the order of pairs differs between states:
 * what a flow journals must not. Each round makes a runtime, runs a flow half way, crashes, replays
 * it to its end, and hashes the stored bytes of every record of its journal. */
#include <lauxlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "bind/bind.h"
#include "bind/bind_store.h"

#define STATES 1000
#define STATES_SHORT 200 /* Of the longer flow, in a short run. */

static const char PLAIN[] =
    "local testing = require 'catga.testing'\n"
    "local catga = require 'catga'\n"
    "local function define()\n"
    "  catga.command('Price', function(cmd) return { sku = cmd.sku, price = #cmd.sku * 0.1 } end)\n"
    "  local P = catga.process 'Mix'\n"
    "  function P:execute(order)\n"
    "    local seen, sum = {}, 0\n"
    "    for sku, n in pairs(order.lines) do\n"
    "      local priced = self:send('Price', { sku = sku })\n"
    "      sum = sum + priced.price * n\n"
    "      seen[#seen + 1] = sku\n"
    "    end\n"
    "    self:sleep('5s')\n"
    "    self:step('note', function() return { seen = seen, sum = sum, big = 2 ^ 53 } end)\n"
    "    return { seen = seen, sum = sum, at = self:now(), uuid = self:uuid(),\n"
    "      random = math.random(1000000), first = next(order.lines), time = os.time() }\n"
    "  end\n"
    "end\n"
    "local lines = {}\n"
    "for i = 1, 40 do lines['sku' .. i] = i end\n"
    "local app = assert(testing.app(define))\n"
    "assert(app:start('Mix', { id = 'one', lines = lines }))\n"
    "app:settle()\n"
    "app = assert(app:crash(20))\n"
    "assert(app:wait('one') == 'completed')\n"
    "tested_store = app.app.store\n"
    "finished = true\n";

static const char BRANCHES[] =
    "local testing = require 'catga.testing'\n"
    "local catga = require 'catga'\n"
    "local function define()\n"
    "  local P = catga.process 'Mix'\n"
    "  function P:execute(order)\n"
    "    local seen = {}\n"
    "    local r = self:all('work', {\n"
    "      lines = function()\n"
    "        return self:map({ 3, 1, 2, 5 }, function(n)\n"
    "          for sku in pairs(order.lines) do seen[#seen + 1] = self:note(sku .. n) end\n"
    "          self:sleep(n .. 's')\n"
    "          seen[#seen + 1] = n\n"
    "          return math.random(1000)\n"
    "        end, { max = 2 })\n"
    "      end,\n"
    "      race = function()\n"
    "        local _, key = self:any('race', {\n"
    "          a = function() self:claim('a') self:sleep('4s') return 1 end,\n"
    "          b = function() self:claim('b') return self:receive('go') end,\n"
    "          c = function() self:claim('c') self:sleep('1h') end })\n"
    "        return key\n"
    "      end,\n"
    "      rounds = function()\n"
    "        return self:loop(1, function(n)\n"
    "          self:sleep('2s')\n"
    "          if n == 4 then return nil, self:random() end\n"
    "          return n + 1\n"
    "        end)\n"
    "      end })\n"
    "    r.seen, r.at = seen, self:now()\n"
    "    error(catga.error('refused', catga.json.encode(r)))\n"
    "  end\n"
    "  function P.note(_, what) return what end\n"
    "  function P.claim(_, what) return what end\n"
    "  function P.compensate_claim(_, what) return what end\n"
    "end\n"
    "local lines = {}\n"
    "for i = 1, 10 do lines['sku' .. i] = i end\n"
    "local app = assert(testing.app(define))\n"
    "assert(app:start('Mix', { id = 'one', lines = lines }))\n"
    "app:settle()\n"
    "app = assert(app:crash(20))\n"
    "app:advance('3s')\n"
    "app = assert(app:crash())\n"
    "assert(app:call(catga.processes.signal, 'one', 'go', 'now', { id = 's' }))\n"
    "assert(app:wait('one') == 'compensated')\n"
    "tested_store = app.app.store\n"
    "finished = true\n";

/* CRC of the stored bytes of the flow's journal. */
static uint32_t journal_crc(lua_State *L) {
  lua_getglobal(L, "finished");
  assert_true(lua_toboolean(L, -1));
  lua_getglobal(L, "tested_store");
  struct cg_bind_store *store = cg_bind_check_store(L, -1);
  cg_store_stream stream;
  assert_int_equal(cg_store_find(store->store, "Process-one", 11, false, &stream, NULL), CG_OK);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  uint32_t crc = 0;
  uint64_t count = cg_store_count(store->store, stream);
  assert_true(count > 40);
  for (uint64_t version = 0; version < count; version++) {
    struct cg_record record;
    struct cg_err err;
    assert_int_equal(cg_store_read(store->store, stream, version, buf, &record, &err), CG_OK);
    crc = cg_crc32c(crc, record.type, record.type_size);
    crc = cg_crc32c(crc, record.data, record.data_size);
    crc = cg_crc32c(crc, &record.time_ms, sizeof(record.time_ms));
    crc = cg_crc32c(crc, &record.id, sizeof(record.id));
  }
  cg_buf_unref(buf);
  lua_pop(L, 2);
  return crc;
}

static uint32_t run_in_fresh_state(const char *flow) {
  struct cg_say say = {.fd = 2, .level = CG_SAY_INFO};
  struct cg_runtime_options options = {.say = &say, .bindings = cg_bind_open};
  struct cg_runtime *runtime;
  struct cg_err err;
  assert_int_equal(cg_runtime_new(&runtime, &options, &err), CG_OK);
  lua_State *L = runtime->L;
  assert_int_equal(luaL_loadbufferx(L, flow, strlen(flow), "=flow", "t"), 0);
  cg_task_spawn(runtime, L, 0);
  uv_run(runtime->loop, UV_RUN_DEFAULT);
  uint32_t crc = journal_crc(L);
  cg_runtime_stop(runtime);
  cg_runtime_free(runtime);
  return crc;
}

static void journals_are_the_same_bytes_in_every_state(void **state) {
  (void)state;
  uint32_t expected = run_in_fresh_state(PLAIN);
  for (int round = 1; round < STATES; round++)
    assert_int_equal(run_in_fresh_state(PLAIN), expected);
}

static void and_so_are_those_of_branches(void **state) {
  (void)state;
  const char *states = getenv("CATGA_SEEDS");
  int count = states != NULL ? STATES : STATES_SHORT;
  uint32_t expected = run_in_fresh_state(BRANCHES);
  for (int round = 1; round < count; round++)
    assert_int_equal(run_in_fresh_state(BRANCHES), expected);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(journals_are_the_same_bytes_in_every_state),
      cmocka_unit_test(and_so_are_those_of_branches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
