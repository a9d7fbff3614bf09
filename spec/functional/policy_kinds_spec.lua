--- The single kinds of policies, on a clock that is turned by hand.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, settings)
  app = assert(testing.app(define, { settings = settings }))
  return app
end

local function status_of(owner, kind)
  return app.app.registry.policy_memory[owner .. "/" .. kind].instance:status()
end

-- Starts a send; the handle's `done`, `value`, `err` and `time` tell what came of it.
local function begin(name, data, opts)
  local handle = {}
  local tasks = require "catga.task"
  tasks.spawn(app.app, function()
    local mediator = app.app.mediator
    local kind = app.app.registry.handlers[name].kind
    handle.value, handle.err = mediator:send(kind, name, data or {}, mediator.outside(opts))
    handle.done, handle.time = true, app.clock:mono()
  end)
  return handle
end

local function types_of(stream)
  local events = app:call(function() return catga.events.read(stream) end)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return list
end

local function append(stream, kind)
  assert(catga.events.append(stream, { { type = kind, data = {} } }))
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

describe("a limiter", function()
  it("with a token bucket lets a burst through, then goes steadily", function()
    open(function()
      catga.command { name = "C", limiter = { rate = 10, per = "1s", burst = 3 },
        handle = function() return true end }
    end)
    for _ = 1, 3 do assert.is_true(app:send("C", {})) end
    local _, err = app:send("C", {})
    assert.same({ "rate_limited", true, 100 }, { err.code, err.retryable, err.retry_after_ms })
    app:advance("99ms")
    _, err = app:send("C", {})
    assert.equal(1, err.retry_after_ms)
    app:advance("1ms")
    assert.is_true(app:send("C", {}))
    app:advance("10s")
    assert.equal(3, status_of("command C", "limiter").left)
    assert.equal(2, status_of("command C", "limiter").refused)
  end)

  it("that may wait lets each go in its turn, each key for itself", function()
    open(function()
      catga.command { name = "C", limiter = { rate = 1, per = "1s", wait = "5s", key = "user" },
        handle = function() return true end }
    end)
    local handles = {}
    for i = 1, 4 do handles[i] = begin("C", { user = "a" }) end
    local other = begin("C", { user = "b" })
    app:advance("10s")
    local start = handles[1].time
    assert.same({ 0, 1000, 2000, 3000, 0 }, { 0, handles[2].time - start, handles[3].time - start,
      handles[4].time - start, other.time - start })
    local _, err = app:send("C", {})
    assert.equal("invalid", err.code)
  end)

  it("does not let who gave up waiting take a turn from others", function()
    open(function()
      catga.command { name = "C", limiter = { rate = 1, per = "1s", wait = "5s" },
        total_timeout = "500ms", handle = function() return true end }
      catga.command { name = "D", policy = "none", handle = function() return true end }
      catga.policy("none", {})
    end)
    assert.is_true(app:send("C", {}))
    local _, err = app:send("C", {})
    assert.equal("timeout", err.code)
    app:advance("500ms")
    assert.is_true(app:send("C", {}))
  end)

  it("keeps its memory over a reload while it is the same", function()
    local function define(rate)
      return function()
        catga.command { name = "C", limiter = { rate = rate, per = "1h" },
          handle = function() return true end }
      end
    end
    local loader = require "catga.loader"
    open(define(2))
    app:send("C", {})
    app:send("C", {})
    app.app.registry = assert(loader.from_function(app.app, define(2)))
    assert.equal("rate_limited", select(2, app:send("C", {})).code)
    assert.is_nil(loader.from_function(app.app, function() error("broken") end))
    assert.equal("rate_limited", select(2, app:send("C", {})).code)
    app.app.registry = assert(loader.from_function(app.app, define(3)))
    assert.is_true(app:send("C", {}))
  end)
end)

describe("a breaker", function()
  local fails, takes
  local function define(breaker)
    return function()
      fails, takes = false, nil
      catga.command { name = "C", breaker = breaker, handle = function(cmd)
        if takes then catga.sleep(takes) end
        if cmd.code then return nil, catga.error(cmd.code) end
        if fails then error("down") end
        return true
      end }
    end
  end

  it("opens by the rate of failures, refuses, probes, and closes", function()
    open(define { failure_rate = 50, window = 4, min_calls = 4, open = "10s", probes = 2 })
    app:send("C", {})
    app:send("C", {})
    fails = true
    app:send("C", {})
    assert.equal("closed", status_of("command C", "breaker").state)
    app:send("C", {})
    assert.equal("open", status_of("command C", "breaker").state)
    local _, err = app:send("C", {})
    assert.same({ "circuit_open", true, 10000 }, { err.code, err.retryable, err.retry_after_ms })
    app:advance("10s")
    assert.equal("half_open", status_of("command C", "breaker").state)
    app:send("C", {})
    fails = false
    app:send("C", {}) -- One of two probes has failed: 50 percent.
    assert.equal("open", status_of("command C", "breaker").state)
    app:advance("10s")
    app:send("C", {})
    app:send("C", {})
    assert.equal("closed", status_of("command C", "breaker").state)
  end)

  it("opens by the rate of slow calls; a wait for a place is not slowness", function()
    open(define { slow = "100ms", slow_rate = 50, window = "10s", min_calls = 2 })
    takes = "100ms"
    app:send("C", {})
    app:send("C", {})
    assert.equal(0, status_of("command C", "breaker").slow)
    takes = "101ms"
    app:send("C", {})
    assert.equal("closed", status_of("command C", "breaker").state)
    app:send("C", {})
    assert.equal("open", status_of("command C", "breaker").state)
  end)

  it("does not count what the caller did wrong", function()
    open(define { window = 2, min_calls = 2 })
    for _ = 1, 5 do app:send("C", { code = "rejected" }) end
    assert.equal("closed", status_of("command C", "breaker").state)
  end)

  it("lets no more probes through than it says; one that is dropped is none", function()
    open(define { window = 1, min_calls = 1, open = "1s", probes = 1 })
    fails = true
    app:send("C", {})
    app:advance("1s")
    fails, takes = false, "10s"
    local probe = begin("C")
    app:settle()
    assert.equal("circuit_open", select(2, app:send("C", {})).code)
    app:advance("500ms")
    for _, task in ipairs(require("catga.native.task").live()) do
      if task.ctx and task.ctx.name == "C" then require("catga.task").drop(task) end
    end
    takes = nil
    assert.is_nil(probe.done)
    assert.is_true(app:send("C", {}))
    assert.equal("closed", status_of("command C", "breaker").state)
  end)

  it("is waited for by a retry, unless that takes too long", function()
    local calls = 0
    open(function()
      catga.policy("bank", { breaker = { window = 1, min_calls = 1, open = "5s", probes = 1 } })
      catga.command { name = "C", policy = "bank", attempts = 3, backoff = "1s", handle = function()
        calls = calls + 1
        if calls == 1 then error("down") end
        return true
      end }
      catga.command { name = "Impatient", policy = "bank",
        retry = { attempts = 5, backoff = "1s", max_backoff = "2s" },
        handle = function() return true end }
    end)
    local start = app.clock:mono()
    assert.is_true(app:send("C", {}))
    assert.is_true(app.clock:mono() - start >= 5000)
    calls = 0
    begin("C")
    app:settle()
    local _, err = app:send("Impatient", {})
    assert.equal("circuit_open", err.code)
  end)
end)

describe("a bulkhead", function()
  it("lets so many run, so many wait in their order, and refuses others", function()
    local order = {}
    open(function()
      catga.command { name = "C", bulkhead = { max = 2, queue = 2 }, handle = function(cmd)
        order[#order + 1] = cmd.n
        catga.sleep("1s")
        return cmd.n
      end }
    end)
    local handles = {}
    for n = 1, 5 do handles[n] = begin("C", { n = n }) end
    app:settle()
    assert.same({ max = 2, running = 2, waiting = 2, refused = 1 },
      status_of("command C", "bulkhead"))
    assert.equal("bulkhead_full", handles[5].err.code)
    app:advance("3s")
    assert.same({ 1, 2, 3, 4 }, order)
    assert.same({ max = 2, running = 0, waiting = 0, refused = 1 },
      status_of("command C", "bulkhead"))
  end)

  it("bounds the wait, and a place is free again after whatever end", function()
    open(function()
      catga.command { name = "C", bulkhead = { max = 1, queue = 9, wait = "2s" }, timeout = "5s",
        handle = function(cmd)
          if cmd.raise then error("down") end
          catga.sleep(cmd.sleep or "1ms")
          return true
        end }
    end)
    begin("C", { sleep = "1h" })
    local late = begin("C")
    app:advance("2s")
    assert.truthy(late.err.message:find("no place came free in time", 1, true))
    local dropped = begin("C")
    app:settle()
    for _, task in ipairs(require("catga.native.task").live()) do
      if task.ctx and task.ctx.name == "C" then require("catga.task").drop(task) end
    end
    app:settle()
    assert.is_nil(dropped.done)
    assert.same({ 0, 0 }, { status_of("command C", "bulkhead").running,
      status_of("command C", "bulkhead").waiting })
    app:send("C", { raise = true })
    app:send("C", { sleep = "1h" })
    assert.is_true(app:send("C", {}))
  end)
end)

describe("order by a key", function()
  it("runs one at a time for a key, others beside, retries included", function()
    local log = {}
    open(function()
      catga.command { name = "C", order_by = "id", attempts = 2, backoff = "1s",
        handle = function(cmd, ctx)
          log[#log + 1] = cmd.id .. cmd.n
          catga.sleep("1s")
          if cmd.n == 1 and cmd.id == "a" and ctx.attempt == 1 then error("again") end
          return true
        end }
    end)
    begin("C", { id = "a", n = 1 })
    begin("C", { id = "a", n = 2 })
    begin("C", { id = "b", n = 1 })
    begin("C", { id = "a", n = 3 })
    app:advance("20s")
    assert.equal("a1 b1 a1 a2 a3", table.concat(log, " "))
    assert.same({ keys = 0, waiting = 0, refused = 0 }, status_of("command C", "order_by"))
  end)

  it("of a nested message holds until the whole unit is committed", function()
    local log = {}
    open(function()
      catga.command { name = "Inner", order_by = "id", handle = function(cmd)
        log[#log + 1] = "inner" .. cmd.n .. " sees " .. #assert(catga.events.read("S"))
        append("S", "Event")
        return true
      end }
      catga.command("Outer", function(cmd)
        assert(catga.send("Inner", { id = 1, n = cmd.n }))
        assert(catga.send("Inner", { id = 1, n = cmd.n .. "again" }))
        catga.sleep("1s")
        log[#log + 1] = "outer" .. cmd.n
        return true
      end)
    end)
    begin("Outer", { n = 1 })
    begin("Outer", { n = 2 })
    app:advance("5s")
    assert.same({ "inner1 sees 0", "inner1again sees 1", "outer1", "inner2 sees 2",
      "inner2again sees 3", "outer2" }, log)
  end)

  it("of what a step sends holds until the step is committed", function()
    local inside, most = 0, 0
    open(function()
      catga.command { name = "Inner", order_by = "id", handle = function()
        append("S", "Event")
        return true
      end }
      local P = catga.process "P"
      function P:execute() return self:work() end
      function P:work()
        self:send("Inner", { id = 1 })
        inside = inside + 1
        most = math.max(most, inside)
        catga.sleep("1s")
        inside = inside - 1
        return true
      end
    end)
    for i = 1, 3 do app:start("P", "p" .. i) end
    app:advance("10s")
    assert.equal(1, most)
    assert.equal("completed", app:wait("p3"))
    assert.equal(0, status_of("command Inner", "order_by").keys)
  end)
end)

describe("a lock", function()
  it("lets one run; the next has a higher fencing token", function()
    local tokens, inside, most = {}, 0, 0
    open(function()
      for _, name in ipairs { "A", "B" } do
        catga.command { name = name, policy = "shared", handle = function(_, ctx)
          tokens[#tokens + 1] = ctx.fencing_token
          inside = inside + 1
          most = math.max(most, inside)
          catga.sleep("1s")
          inside = inside - 1
          return true
        end }
      end
      catga.policy("shared", { lock = { key = function() return "one" end, wait = "1m" } })
    end)
    begin("A")
    begin("B")
    begin("A")
    app:advance("1m")
    assert.equal(1, most)
    assert.is_true(#tokens == 3 and tokens[1] < tokens[2] and tokens[2] < tokens[3])
    assert.same({ held = 0, waiting = 0 }, status_of("policy shared", "lock"))
  end)

  it("that is lost does not commit; who waits too long is refused", function()
    open(function()
      catga.command { name = "C", lock = { key = "id", ttl = "1s", wait = "500ms" },
        handle = function(cmd)
          append("S", "Event" .. cmd.n)
          catga.sleep(cmd.sleep)
          return true
        end }
    end)
    local first = begin("C", { id = 1, n = 1, sleep = "5s" })
    local refused = begin("C", { id = 1, n = 2, sleep = "1ms" })
    app:advance("600ms")
    assert.equal("locked", refused.err.code)
    local second = begin("C", { id = 1, n = 3, sleep = "1ms" })
    app:advance("10s")
    assert.is_true(second.value)
    assert.equal("lock_lost", first.err.code)
    assert.same({ "Event3" }, types_of("S"))
  end)
end)

describe("a fallback around a breaker", function()
  it("answers what is refused", function()
    open(function()
      catga.query { name = "Q", breaker = { window = 1, min_calls = 1 }, fallback = "old",
        handle = function() error("down") end }
    end)
    assert.equal("old", app:ask("Q", {}))
    assert.equal("old", app:ask("Q", {}))
    assert.equal(1, status_of("query Q", "breaker").refused)
  end)
end)
