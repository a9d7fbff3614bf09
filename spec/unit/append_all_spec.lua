--- Appends to several streams as one: atomic, and on conditions on streams that are not written.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function define()
  catga.command("Run", function(cmd, ctx) return cmd.fn(ctx) end)
  catga.command("Nested", function(cmd) return cmd.nested() end)
end

local function run(fn, ...) return app:call(fn, ...) end

-- Runs a function inside a unit of work.
local function in_unit(fn)
  return run(function()
    local value, err = app.app.mediator:send("command", "Run", { fn = fn })
    assert(value ~= nil or err == nil, err)
    return value
  end)
end

local function one(stream, expect, ...)
  local events = {}
  for i, name in ipairs { ... } do events[i] = { type = name, data = { name = name } } end
  return { stream = stream, events = events[1] and events or { { type = "New" } }, expect = expect }
end

local function put(stream, count)
  for _ = 1, count or 1 do assert(run(catga.events.append, stream, { { type = "Before" } })) end
end

local function count_of(stream, some_app)
  return #(some_app or app):call(catga.events.read, stream, { max = 1000 })
end

before_each(function() app = assert(testing.app(define)) end)

after_each(function() app:stop() end)

describe("append_all", function()
  it("stores all or nothing, after a kill at every position", function()
    put("C")
    for n = 0, 2 do
      assert(run(catga.events.append_all, { one("A", nil, "X", "Y"), one("B"), one("A", nil, "Z") },
        { conditions = { C = 0 } }))
      assert.equal(3 * (n + 1), count_of("A"))
    end
    local seen = {}
    for position = 1, app:position() do
      local after = assert(testing.app(define, { memory = app:snapshot(position) }))
      local whole = count_of("B", after)
      assert.equal(3 * whole, count_of("A", after))
      seen[whole] = true
      after:stop()
    end
    assert.same({ [0] = true, true, true, true }, seen)
  end)

  it("gives the version of each append's last event", function()
    put("B", 2)
    local list = { one("A", "none", "X", "Y"), one("B", 1), one("A", 1, "Z") }
    assert.same({ { stream = "A", version = 1 }, { stream = "B", version = 2 },
      { stream = "A", version = 2 } }, run(catga.events.append_all, list))
    assert.equal(3, count_of("B"))
  end)

  it("stages nothing when one of them is a conflict, and keeps what was staged before", function()
    local list = { one("A", "none"), one("B", 0) }
    local before = app:position()
    local results, err = run(catga.events.append_all, list)
    assert.is_nil(results)
    assert.equal("conflict", err.code)
    assert.equal(before, app:position())
    in_unit(function()
      assert(catga.events.append("Kept", { { type = "New" } }))
      assert.is_nil((catga.events.append_all(list)))
      assert.equal(0, #catga.events.read("A"))
      return true
    end)
    assert.equal(0, count_of("A"))
    assert.equal(1, count_of("Kept"))
  end)

  it("is seen by reads of its unit, and by nobody else before the commit", function()
    local seen
    app:call(function()
      local task = catga.spawn(function()
        return catga.send("Run", { fn = function()
          assert(catga.events.append_all { one("A"), one("B") })
          seen = #catga.events.read("A") + #catga.events.read("B")
          catga.sleep("10ms")
          return true
        end })
      end)
      catga.sleep("5ms")
      assert.equal(0, #catga.events.read("A") + #catga.events.read("B"))
      assert.is_true(task:wait())
    end)
    assert.equal(2, seen)
    assert.equal(1, count_of("B"))
  end)

  it("refuses streams that scripts do not write, and conditions on what is written", function()
    local before = app:position()
    for _, case in ipairs {
      { { { one("A"), one("$type-A") } }, "the runtime's own" },
      { { { one("A"), one("Process-1") } }, "the runtime's own" },
      { { { one("A") }, { conditions = { A = 1 } } }, "stream A is written by this append" },
      { { { one("A") }, { conditions = { C = -1 } } }, "expect is a version" },
      { { { one("A") }, { conditions = { C = "new" } } }, "expect is a version" },
      { { { one("A"), { stream = "B", events = { {} } } } }, "event 1 of the append to B" },
    } do
      local result, err = run(catga.events.append_all, unpack(case[1]))
      assert.is_nil(result)
      assert.equal("invalid", err.code)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
    assert.equal(before, app:position())
  end)

  it("refuses an event with a field that would be lost, in any of the appends", function()
    local result, err = run(catga.events.append_all, {
      { stream = "A", events = { { type = "X" } } },
      { stream = "A", events = { { type = "X", metadata = {} } } },
    })
    assert.is_nil(result)
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("has the field \"metadata\"", 1, true), err.message)
  end)

  it("called wrongly raises", function()
    local many = {}
    for i = 1, 1001 do many[i] = one("A") end
    for _, case in ipairs {
      { {}, "a list of 1 to 1000 appends" },
      { { {} }, "a list of 1 to 1000 appends" },
      { { many }, "a list of 1 to 1000 appends" },
      { { { 5 } }, "append 1 is a table" },
      { { { one("A"), { events = {} } } }, "append 2: the stream is a string" },
      { { { { stream = "A", events = {} } } }, "append 1: a list of at least one event" },
      { { { { stream = "A", event = {} } } }, "unknown option \"event\"" },
      { { { one("A") }, { condition = {} } }, "unknown option \"condition\"" },
      { { { one("A") }, { conditions = 5 } }, "conditions is a table" },
      { { { one("A") }, { conditions = { "A" } } }, "conditions is a table" },
    } do
      local ok, err = pcall(run, catga.events.append_all, unpack(case[1], 1, 2))
      assert.is_false(ok)
      assert.truthy(err.message:find(case[2], 1, true), err.message)
    end
  end)
end)

describe("a condition", function()
  for _, case in ipairs {
    -- events there before, condition, does it hold
    { 0, "any", true }, { 2, "any", true }, { 0, "none", true }, { 1, "none", false },
    { 0, "exists", false }, { 1, "exists", true }, { 0, 0, false }, { 1, 0, true },
    { 1, 1, false }, { 2, 0, false }, { 2, 1, true },
  } do
    local there, expect, holds = unpack(case, 1, 3)
    local conditions = { C = expect, D = "none" }
    it(("of %s on %d events %s"):format(tostring(expect), there,
      holds and "holds" or "is a conflict"), function()
      put("C", there)
      local result, err = run(catga.events.append_all, { one("A") }, { conditions = conditions })
      assert.equal(holds, result ~= nil)
      assert.equal(holds and 1 or 0, count_of("A"))
      if holds then return end
      assert.equal("conflict", err.code)
      assert.is_true(err.retryable)
      assert.truthy(err.message:find("stream C: expected " .. tostring(expect), 1, true))
    end)

    it(("of %s in a unit that has staged the last of %d events %s"):format(tostring(expect), there,
      holds and "holds" or "is a conflict"), function()
      put("C", there - 1)
      local runs = 0
      local is_held = in_unit(function()
        runs = runs + 1
        if there > 0 then assert(catga.events.append("C", { { type = "Staged" } })) end
        return (catga.events.append_all({ one("A") }, { conditions = conditions })) ~= nil
      end)
      assert.equal(1, runs)
      assert.equal(holds, is_held)
      assert.equal(holds and 1 or 0, count_of("A"))
      assert.equal(there, count_of("C"))
    end)
  end

  it("makes no stream of a name that it finds nothing under", function()
    local count = app.app.store:place_count()
    assert(run(catga.events.append_all, { one("A") }, { conditions = { C = "none" } }))
    assert.equal(count + 1, app.app.store:place_count())
  end)

  -- Sends a unit whose condition is broken by another task while it sleeps.
  local function race(fn)
    return app:call(function()
      local task = catga.spawn(function() return catga.send("Run", { fn = fn }) end)
      catga.sleep("5ms")
      assert(catga.events.append("Price", { { type = "Changed" } }))
      return assert(task:wait())
    end)
  end

  it("that no longer holds at the commit runs the unit again", function()
    put("Price")
    local runs = 0
    race(function()
      runs = runs + 1
      local version = #catga.events.read("Price") - 1
      assert(catga.events.append_all({ one("Order") }, { conditions = { Price = version } }))
      if runs == 1 then catga.sleep("10ms") end
      return true
    end)
    assert.equal(2, runs)
    assert.equal(1, count_of("Order"))
  end)

  it("goes with the nested handler that failed", function()
    put("Price")
    local runs = 0
    race(function()
      runs = runs + 1
      assert(catga.events.append("Order", { { type = "New" } }))
      assert.is_nil((catga.send("Nested", { nested = function()
        assert(catga.events.append_all({ one("Inner") }, { conditions = { Price = 0 } }))
        error("no")
      end })))
      catga.sleep("10ms")
      return true
    end)
    assert.equal(1, runs)
    assert.equal(0, count_of("Inner"))
    assert.equal(1, count_of("Order"))
  end)

  it("of a nested handler is one of the whole unit", function()
    put("Price")
    local runs = 0
    race(function()
      runs = runs + 1
      local version = #catga.events.read("Price") - 1
      local opts = { conditions = { Price = version } }
      assert(catga.send("Nested", { nested = function()
        return assert(catga.events.append_all({ one("Inner") }, opts))
      end }))
      if runs == 1 then catga.sleep("10ms") end
      return true
    end)
    assert.equal(2, runs)
    assert.equal(1, count_of("Inner"))
  end)

  it("of a step that no longer holds runs the step again, and its events are there once", function()
    local attempts = 0
    app:stop()
    app = assert(testing.app(function()
      define()
      local P = catga.process "P"
      function P:execute() return self:order() end
      function P.order()
        attempts = attempts + 1
        local version = #catga.events.read("Price") - 1
        assert(catga.events.append_all({ one("Order"), one("Ledger") },
          { conditions = { Price = version } }))
        if attempts == 1 then catga.sleep("10ms") end
        return version
      end
    end))
    put("Price")
    local result = app:call(function()
      catga.start("P", "x")
      catga.sleep("5ms")
      assert(catga.events.append("Price", { { type = "Changed" } }))
      return catga.run("P", "x")
    end)
    assert.equal(2, attempts)
    assert.equal(1, result)
    assert.equal(1, count_of("Order"))
    assert.equal(1, count_of("Ledger"))
  end)
end)
