--- Attacks on the beginning and the end of work: starts, time limits and cancels that meet each
--- other; each spec tries to start something twice, to lose it, or to leave somebody waiting.
local testing = require "catga.testing"
local catga = require "catga"
local tasks = require "catga.native.task"

local HOUR = 3600000

-- An app of one process P; `define(P)` fills it in.
local function definition(define)
  return function() define(catga.process "P") end
end

local function app_of(define, opts) return assert(testing.app(definition(define), opts)) end

local function types_of(app, id)
  local list = {}
  for i, record in ipairs(app:journal(id)) do list[i] = record.type end
  return list
end

describe("starting", function()
  it("by 100 tasks at once is one run", function()
    local runs = 0
    local app = app_of(function(P)
      function P:execute() return self:count() end
      function P:count()
        runs = runs + 1
        catga.sleep("1s")
        return runs
      end
    end)
    local results = app:call(function()
      local list = {}
      for i = 1, 100 do list[i] = i end
      return catga.map(list, function() return catga.run("P", "same") end, { max = 100 })
    end)
    for i = 1, 100 do assert.equal(1, results[i]) end
    assert.equal(1, runs)
    app:stop()
  end)

  it("the same id while the log is behind is one run", function()
    local app = app_of(function(P)
      function P:execute() return self:count() end
      function P:count() return "counted" end
    end, { manual = true, settings = { pending_max = "1B" } })
    local store = app.app.store
    local ids = {}
    for i = 1, 3 do
      catga.spawn(function() ids[i] = catga.start("P", "same") end)
    end
    catga.spawn(function() catga.events.append("Other", { { type = "Noise" } }) end)
    for _ = 1, 200 do
      tasks.yield()
      store:turn()
      app.clock:advance(1)
      app.clock:fire()
    end
    assert.same({ "same", "same", "same" }, ids)
    assert.same({ "ProcessStarted", "ProcessStepCompleted", "ProcessCompleted" },
      types_of(app, "same"))
    app:stop()
  end)

  it("in a unit of work that meets a conflict is one run, with one event", function()
    local handled, units = 0, 0
    local app = assert(testing.app(function()
      catga.on("Begun", function() handled = handled + 1 end)
      catga.command("Begin", function()
        units = units + 1
        assert(catga.events.append("S", { { type = "Begun" } }, { expect = units - 2 >= 0 and 0
          or "none" }))
        assert(catga.start("P", "one"))
        if units == 1 then -- Another one is faster.
          catga.spawn(function()
            catga.events.append("S", { { type = "Faster" } })
          end):wait()
        end
        return units
      end)
      local P = catga.process "P"
      function P:execute() return self:step("a", function() return 1 end) end
    end))
    assert.equal(2, app:send("Begin", {}))
    app:settle()
    assert.equal(1, handled)
    assert.same({ "ProcessStarted", "ProcessStepCompleted", "ProcessCompleted" },
      types_of(app, "one"))
    app:stop()
  end)

  it("twice in one unit of work with different inputs is a conflict", function()
    local app = assert(testing.app(function()
      catga.command("Begin", function()
        assert(catga.start("P", { id = "one", n = 1 }))
        assert(catga.start("P", { id = "one", n = 1 }))
        local id, err = catga.start("P", { id = "one", n = 2 })
        return { id = id, code = err.code }
      end)
      local P = catga.process "P"
      function P:execute(input) return input.n end
    end))
    assert.same({ code = "conflict" }, app:send("Begin", {}))
    assert.equal(1, select(2, app:wait("one")))
    app:stop()
  end)

  it("in a unit of work gives the body the time that its journal has", function()
    local function define()
      catga.command("Begin", function()
        catga.start("P", "one")
        catga.sleep("10s") -- The commit is later than the call.
      end)
      local P = catga.process "P"
      function P:execute()
        local now = self:now()
        self:sleep("1s")
        return now
      end
    end
    local app = assert(testing.app(define))
    app:send("Begin", {})
    local _, live = app:wait("one")
    local again = assert(testing.app(define, { memory = app:snapshot(2) }))
    local _, replayed = again:wait("one")
    assert.equal(app:journal("one")[1].time, live)
    assert.equal(live, replayed)
    again:stop()
    app:stop()
  end)

  it("and waiting in the same unit of work is an error, not a wait for ever", function()
    local app = assert(testing.app(function()
      catga.command("Begin", function()
        catga.start("P", "one")
        return catga.processes.wait("one")
      end)
      local P = catga.process "P"
      function P:execute() return 1 end
    end))
    local _, err = app:send("Begin", {})
    assert.equal("would_deadlock", err.code)
    app:stop()
  end)

  it("and waiting for the end where nothing can wait leaves no wake-up behind", function()
    local app = app_of(function(P)
      function P:execute() self:sleep("1s") end
    end)
    local slept
    app:start("P", "x")
    catga.spawn(function()
      for _, wait in ipairs { catga.processes.wait, function() catga.spawn(tostring):wait() end } do
        assert(not pcall(table.sort, { 2, 1 }, function() return wait("x") end))
      end
      local start = app.clock:mono()
      catga.sleep("1h")
      slept = app.clock:mono() - start
    end)
    app:advance("2h")
    assert.equal("completed", app.app:process("x").status)
    assert.equal(HOUR, slept)
    app:stop()
  end)

  it("keeps ids apart that are near each other", function()
    local app = app_of(function(P)
      function P:execute() return self.id end
    end)
    assert.equal("9007199254740991", app:run("P", { id = 9007199254740991 }))
    assert.equal("9007199254740990", app:run("P", { id = 9007199254740990 }))
    assert.equal("1767225600000123", app:run("P", { id = 1767225600000123 }))
    assert.equal("a/b", app:run("P", "a/b"))
    assert.equal("注文-1", app:run("P", "注文-1"))
    assert.equal(("x"):rep(512), app:run("P", ("x"):rep(512)))
    for _, id in ipairs { "", ("x"):rep(513), "a\0b", "a\nb", "\255\254", 2 ^ 54, 0 / 0, true } do
      local started, err = app:start("P", { id = id })
      assert.is_nil(started)
      assert.equal("invalid", err.code)
    end
    app:stop()
  end)

  it("gives commands of different processes different keys, also with slashes in ids", function()
    local seen = {}
    local app = assert(testing.app(function()
      catga.command { name = "Inner", idempotent = true, handle = function(_, ctx)
        seen[#seen + 1] = ctx.key
        return {}
      end }
      catga.command("Outer", function() return catga.send("Inner", {}) end)
      local P = catga.process "P"
      function P:execute(input)
        if input.nested then return self:send("Outer", {}) end
        return self:send("Inner", {})
      end
    end))
    assert(app:run("P", { id = "a", nested = true }))
    assert(app:run("P", { id = "a/1" }))
    assert.equal(2, #seen)
    assert.are_not.equal(seen[1], seen[2])
    app:stop()
  end)
end)

describe("a time limit", function()
  it("that passes in a step that swallows it still ends the step, once", function()
    local waits = 0
    local app = app_of(function(P)
      P.settings = { slow = { timeout = "1s", attempts = 1 } }
      function P:execute()
        local ok, err = pcall(self.slow, self)
        return { ok = ok, code = err.code, after = self:after() }
      end
      function P:slow()
        for _ = 1, 5 do
          waits = waits + 1
          pcall(catga.sleep, "1h")
        end
        return "never mind"
      end
      function P:after() return "went on" end
    end)
    assert.same({ ok = false, code = "timeout", after = "went on" }, app:run("P", "x"))
    assert.equal(5, waits)
    app:stop()
  end)

  it("leaves no timer behind that stops a later attempt", function()
    local state = require "catga.state"
    local limits = require "catga.task"
    local clock = require "catga.native.clock".virtual(0)
    local step = { name = "s", timeout_ms = 5 }
    local task = state[1]
    local before = { app = task.app, limit = task.limit }
    task.app, task.limit = { clock = clock }, step
    -- The limit fires; its task is ready, and the attempt ends before that task runs.
    limits.wait(function() end)
    clock:advance(5)
    clock:fire()
    limits.end_limit(task)
    limits.wait(function() end) -- The next attempt of the same step.
    tasks.yield()
    local is_hit = task.timed_out
    limits.end_limit(task)
    task.app, task.limit = before.app, before.limit
    clock:close()
    assert.is_nil(is_hit)
  end)
end)

describe("cancelling", function()
  it("while the end of a sleep is journaled undoes what was done", function()
    local undone = 0
    local app = app_of(function(P)
      function P:execute()
        self:a()
        pcall(self.sleep, self, "1s")
        error("the body ends badly")
      end
      function P:a() return "a" end
      function P:compensate_a() undone = undone + 1 end
    end, { manual = true })
    local store = app.app.store
    local function turn()
      for _ = 1, 5 do
        tasks.yield()
        store:turn()
        tasks.yield()
      end
    end
    catga.spawn(function() catga.start("P", "x") end)
    turn()
    app.clock:advance(1000)
    app.clock:fire()
    tasks.yield()
    tasks.yield() -- The record is under way.
    local is_over
    catga.spawn(function()
      app.app.engine:cancel("x")
      is_over = true
    end)
    for _ = 1, 5 do turn() end
    assert.is_true(is_over)
    assert.equal("cancelled", app.app:process("x").status)
    assert.equal(1, undone)
    app:stop()
  end)

  it("between attempts undoes a step that timed out before, without a result", function()
    local undone
    local app = app_of(function(P)
      P.settings = { slow = { timeout = "1s", attempts = 5, backoff = "1h" } }
      function P:execute() return self:slow("arg") end
      function P:slow() catga.sleep("1h") end
      function P:compensate_slow(result, arg) undone = { result = result, arg = arg } end
    end)
    app:start("P", "x")
    app:advance("2s")
    app:call(function() app.app.engine:cancel("x") end)
    assert.equal("cancelled", app.app:process("x").status)
    assert.same({ arg = "arg" }, undone)
    app:stop()
  end)

  it("after a crash undoes the step that may have been under way", function()
    local undone
    local function define(P)
      P.settings = { pay = { attempts = 5, backoff = "1h" } }
      function P:execute() return self:pay("card") end
      function P:pay() error("no answer") end
      function P:compensate_pay(result, card) undone = { result = result, card = card } end
    end
    local app = app_of(define)
    app:start("P", "x")
    app:settle() -- One attempt has failed; the crash may fall into the next.
    app = assert(app:crash())
    app:call(function() app.app.engine:cancel("x") end)
    assert.equal("cancelled", app.app:process("x").status)
    assert.same({ card = "card" }, undone)
    app:stop()
  end)

  it("a process that has just been started does not fail", function()
    local app = app_of(function(P)
      function P:execute() return self:a() end
      function P:a() return "a" end
    end, { manual = true })
    local over
    catga.spawn(function() catga.start("P", "x") end)
    catga.spawn(function() over = app.app.engine:cancel("x") end)
    for _ = 1, 20 do
      tasks.yield()
      app.app.store:turn()
    end
    assert.is_true(over)
    assert.equal("cancelled", app.app:process("x").status)
    app:stop()
  end)
end)
