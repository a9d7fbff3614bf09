--- The meaning of replay: processes killed at every record of their journal go on to the same end,
--- no completed step runs again, undo is in reverse, changed code is told from recorded code.
local testing = require "catga.testing"
local catga = require "catga"

-- Calls of outside effects, which a kill does not take back.
local calls = {}
-- How often the flaky step was called, by order; a kill does not take it back either.
local tries = {}

local function called(name, ctx_or_key)
  local key = type(ctx_or_key) == "table" and ctx_or_key.key or ctx_or_key
  calls[#calls + 1] = { name = name, key = key }
end

local function count(name)
  local n = 0
  for _, call in ipairs(calls) do
    if call.name == name then n = n + 1 end
  end
  return n
end

-- A flow with everything in it: steps with and without undo, a command, retry, pcall around a step
-- that fails, journaled time and randomness, a durable timer, pairs over a map.
local function define()
  catga.command("Reserve", function(cmd, ctx)
    called("Reserve", ctx)
    return { reservation = "R" .. cmd.order_id }
  end)
  catga.command("Release", function(cmd, ctx)
    called("Release", ctx)
    return { released = cmd.reservation }
  end)
  catga.command("Refuse", function(_, ctx)
    called("Refuse", ctx)
    return nil, catga.error("refused", "not today")
  end)
  local P = catga.process "Everything"
  P.settings = { flaky = { attempts = 3, backoff = "1s" } }
  function P:execute(order)
    local reservation = self:reserve(order.id, nil, "x")
    local tolerated, refusal = pcall(function() return self:send("Refuse", {}) end)
    local flaky = self:flaky(order.id)
    self:sleep("10s")
    local keys = {}
    for key in pairs(order.lines) do keys[#keys + 1] = key end
    local stamp = self:step("stamp", function() return { at = self:now() > 0, n = #keys } end)
    if order.refuse then self:send("Refuse", {}) end
    return { reservation = reservation.reservation, tolerated = tolerated, code = refusal.code,
      flaky = flaky, keys = keys, stamp = stamp, now = self:now(), uuid = self:uuid(),
      random = math.random(1, 1000), id = type(self:new_id()) }
  end
  function P:reserve(id) return self:send("Reserve", { order_id = id }) end
  function P:compensate_reserve(result, id, nothing, x)
    assert(nothing == nil and x == "x", "arguments keep their places")
    return self:send("Release", { reservation = result and result.reservation, order_id = id })
  end
  function P:flaky(id)
    called("flaky", id)
    tries[id] = (tries[id] or 0) + 1
    if tries[id] < 3 then error("the wire is down") end
    return "up"
  end
  function P:compensate_stamp() called("unstamp", "unstamp") end
end

local ORDER = { id = "o1", lines = { b = 1, a = 2, c = 3 } }
local REFUSED = { id = "o2", lines = {}, refuse = true }

local function types_of(app, id)
  local list = {}
  for i, record in ipairs(app:journal(id)) do list[i] = record.type end
  return list
end

local SAME = { "reservation", "tolerated", "code", "flaky", "keys", "stamp", "uuid", "random",
  "id" }
local LATER = 1767225600000 + 60000 -- The clock after a restart.

local function reopen(whole, position)
  calls = {}
  return assert(testing.app(define, { memory = whole:snapshot(position), start = LATER }))
end

-- What is wrong after a kill at `position` of the run that ends well; nil: nothing.
local function fault_of_forward_kill(whole, expected, position)
  local app = reopen(whole, position)
  local done = {}
  for _, record in ipairs(app:journal("o1")) do
    if record.position < position and record.type == "ProcessStepCompleted" then
      done[record.data.step] = true
    end
  end
  local status, result = app:wait("o1")
  app:stop()
  if status ~= "completed" then return "it ended " .. status end
  for _, field in ipairs(SAME) do
    if catga.json.encode({ expected[field] }) ~= catga.json.encode({ result[field] }) then
      return "another result in " .. field
    end
  end
  for step, name in pairs { reserve = "Reserve", flaky = "flaky" } do
    if done[step] and count(name) > 0 then return "completed step " .. step .. " ran again" end
  end
end

local function fault_of_forward_kills()
  tries = {}
  local whole = assert(testing.app(define))
  local expected = whole:run("Everything", ORDER)
  for position = 2, whole:position() - 1 do
    local fault = fault_of_forward_kill(whole, expected, position)
    if fault then
      whole:stop()
      return fault .. " after a kill at " .. position
    end
  end
  whole:stop()
end

local function undone(app)
  local list = {}
  for _, record in ipairs(app:journal("o2")) do
    if record.type == "ProcessStepCompensated" then list[#list + 1] = record.data.step end
  end
  return table.concat(list, " ")
end

-- What is wrong with the undoing, killed at every record or not at all; nil: nothing.
local function fault_of_undo_kills()
  tries = {}
  local whole = assert(testing.app(define))
  local _, err = whole:run("Everything", REFUSED)
  local fault = err.status ~= "compensated" and "it ended " .. err.status
    or err.code ~= "refused" and "another error, " .. err.code
    or undone(whole) ~= "stamp reserve" and "undone in the order " .. undone(whole) or nil
  for position = 2, whole:position() - 1 do
    if fault then break end
    local app = reopen(whole, position)
    local status = app:wait("o2")
    fault = status ~= "compensated" and "it ended " .. status
      or undone(app) ~= "stamp reserve" and "undone in the order " .. undone(app)
      or count("Release") > 1 and "released twice in one life" or nil
    app:stop()
  end
  whole:stop()
  return fault
end

describe("a process", function()
  before_each(function() calls, tries = {}, {} end)

  it("runs to its end, with the result as the journal has it", function()
    local app = assert(testing.app(define))
    local result, err = app:run("Everything", ORDER)
    assert.is_nil(err)
    assert.same({ "a", "b", "c" }, result.keys)
    assert.equal("refused", result.code)
    assert.equal(3, count("flaky"))
    local records = app:journal("o1")
    assert.same(result, records[#records].data.result)
    app:stop()
  end)

  it("killed at every record, ends the same and runs no completed step again", function()
    assert.is_nil(fault_of_forward_kills())
  end)

  it("killed at every record while it undoes, undoes each step once, in reverse", function()
    assert.is_nil(fault_of_undo_kills())
  end)

  it("gives every attempt of a step the same key, also after a crash", function()
    local whole = assert(testing.app(define))
    whole:run("Everything", ORDER)
    local key = "o1/1/1/1"
    assert.equal(key, calls[1].key)
    local records = whole:journal("o1")
    calls = {}
    local app = assert(testing.app(define, { memory = whole:snapshot(records[1].position + 1) }))
    app:wait("o1")
    assert.same({ name = "Reserve", key = key }, calls[1])
    app:stop()
    whole:stop()
  end)

  it("tells handlers after a crash that an attempt may have been made", function()
    local attempts = {}
    local function app_of()
      catga.command("Charge", function(_, ctx) attempts[#attempts + 1] = ctx.attempt return {} end)
      local P = catga.process "P"
      function P:execute() return self:send("Charge", {}) end
    end
    local app = assert(testing.app(app_of))
    app:run("P", "a")
    local again = assert(testing.app(app_of, { memory = app:snapshot(2) }))
    again:wait("a")
    assert.same({ 1, 2 }, attempts)
    again:stop()
    app:stop()
  end)
end)

describe("a step", function()
  before_each(function() calls = {} end)

  local function app_with(fn)
    return assert(testing.app(function()
      local P = catga.process "P"
      fn(P)
    end))
  end

  it("times out, is undoing without a result, and the body sees the error", function()
    local undoing
    local app = app_with(function(P)
      P.settings = { slow = { timeout = "1s", attempts = 2, backoff = "1s" } }
      function P:execute() return self:slow("arg") end
      function P:slow() self:sleep("1h") end
      function P:compensate_slow(result, arg) undoing = { result = result, arg = arg } end
    end)
    local result, err = app:run("P", "t")
    assert.is_nil(result)
    assert.equal("timeout", err.code)
    assert.equal("compensated", err.status)
    assert.same({ arg = "arg" }, undoing)
    local failed = app:journal("t")[2].data
    assert.is_true(failed.in_doubt)
    app:stop()
  end)

  it("is tried again only when the error is retryable", function()
    local attempts = 0
    local app = app_with(function(P)
      function P:execute() return self:pay() end
      function P:pay()
        attempts = attempts + 1
        error(catga.error("declined", "no money"))
      end
    end)
    local _, err = app:run("P", "x")
    assert.equal("declined", err.code)
    assert.equal("failed", err.status)
    assert.equal(1, attempts)
    app:stop()
  end)

  it("journals every failed attempt with its error and the time of the next", function()
    local app = app_with(function(P)
      P.settings = { pay = { attempts = 3, backoff = "2s" } }
      function P:execute() return self:pay() end
      function P:pay() error("wire") end
    end)
    app:run("P", "x")
    local failed = {}
    for _, record in ipairs(app:journal("x")) do
      if record.type == "ProcessStepFailed" then failed[#failed + 1] = record.data end
    end
    assert.equal(3, #failed)
    assert.is_number(failed[1].retry_at)
    assert.is_true(failed[3].final)
    assert.truthy(failed[1].error.message:find("wire", 1, true))
    app:stop()
  end)

  it("cannot write to self", function()
    local app = app_with(function(P)
      function P:execute()
        self.kept = 1
        return self:write()
      end
      function P:write() self.kept = 2 end
    end)
    local _, err = app:run("P", "x")
    assert.truthy(err.message:find("read%-only"))
    app:stop()
  end)

  it("called inside a step is a plain call", function()
    local app = app_with(function(P)
      function P:execute() return self:outer() end
      function P:outer() return self:inner() + 1 end
      function P:inner() return 1 end
    end)
    assert.equal(2, app:run("P", "x"))
    assert.same({ "ProcessStarted", "ProcessStepCompleted", "ProcessCompleted" },
      types_of(app, "x"))
    app:stop()
  end)

  it("outside of a process is an error that names it", function()
    local outside
    local app = app_with(function(P)
      outside = P
      function P:execute() return 1 end
      function P:pay() return 1 end
    end)
    local ok, message = pcall(outside.pay, {})
    assert.is_false(ok)
    assert.truthy(message:find("step pay of process P is called outside of a process", 1, true))
    app:stop()
  end)

  it("keeps nil, null, empty arrays and numbers apart in arguments and results", function()
    local got
    local app = app_with(function(P)
      function P:execute()
        local r = self:make(nil, catga.null, 0.1, 2 ^ 53)
        if r.list[1] == nil and r.null == catga.null then self:fail() end
        return r
      end
      function P:make(...)
        local n = select("#", ...)
        return { list = catga.json.empty_array, null = catga.null, n = n, tenth = 0.1 }
      end
      function P:compensate_make(result, ...)
        got = { n = select("#", ...), ... }
        got.result = result
      end
      function P:fail() error(catga.error("stop")) end
    end)
    app:run("P", "x")
    assert.equal(4, got.n)
    assert.is_nil(got[1])
    assert.equal(catga.null, got[2])
    assert.equal(0.1, got[3])
    assert.equal(2 ^ 53, got[4])
    assert.equal("[]", catga.json.encode(got.result.list))
    app:stop()
  end)

  it("whose result cannot be stored fails with the path", function()
    for _, case in ipairs {
      { function() return { items = { 1, { callback = print } } } end, "result.items[2].callback" },
      { function()
        local t = {}
        t.self = t
        return t
      end, "result.self" },
    } do
      local app = app_with(function(P)
        function P:execute() return self:make() end
        P.make = case[1]
      end)
      local _, err = app:run("P", "x")
      assert.truthy(err.message:find(case[2], 1, true), err.message)
      app:stop()
    end
  end)

  it("that may run at most once raises in_doubt after a crash", function()
    local attempts = 0
    local function define_once()
      local P = catga.process "P"
      P.settings = { charge = { at_most_once = true } }
      function P:execute()
        local ok, err = pcall(self.charge, self)
        return { ok = ok, code = not ok and err.code or nil }
      end
      function P:charge()
        attempts = attempts + 1
        return "paid"
      end
    end
    local app = assert(testing.app(define_once))
    assert.is_true(app:run("P", "x").ok)
    local started = app:journal("x")[2]
    assert.equal("ProcessStepStarted", started.type)
    local again = assert(testing.app(define_once, { memory = app:snapshot(started.position + 1) }))
    local _, result = again:wait("x")
    assert.same({ ok = false, code = "in_doubt" }, result)
    assert.equal(1, attempts)
    again:stop()
    app:stop()
  end)
end)

describe("staged effects", function()
  it("are committed with the step's completion: exactly once at every kill", function()
    local function define_staged()
      catga.command("Note", function(cmd)
        return assert(catga.events.append("Notes", { { type = "Noted", data = { n = cmd.n } } }))
      end)
      local P = catga.process "P"
      function P:execute()
        for n = 1, 3 do self:send("Note", { n = n }) end
        return "done"
      end
    end
    local whole = assert(testing.app(define_staged))
    whole:run("P", "x")
    for position = 2, whole:position() do
      local app = assert(testing.app(define_staged, { memory = whole:snapshot(position) }))
      app:wait("x")
      local notes = app:call(function() return catga.events.read("Notes") end)
      assert.equal(3, #notes)
      for n = 1, 3 do assert.equal(n, notes[n].data.n) end
      app:stop()
    end
    whole:stop()
  end)
end)

describe("changed code", function()
  local function version(body)
    return function()
      local P = catga.process "P"
      P.execute = body
      function P:a() return "a" end
      function P:b() return "b" end
      function P:c() return "c" end
    end
  end
  local original = version(function(self)
    self:a()
    self:b()
    self:sleep("1h")
    return self:c()
  end)

  local function crash_into(body)
    local app = assert(testing.app(original))
    app:start("P", "x")
    app:settle()
    return assert(app:crash(nil, version(body)))
  end

  it("that asks for another step stops the process as diverged, with file and line", function()
    local app = crash_into(function(self)
      self:a()
      self:c()
      return "changed"
    end)
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    local records = app:journal("x")
    local detail = records[#records].data.detail
    assert.equal("step b", detail.recorded)
    assert.equal("step c", detail.asked)
    assert.truthy(detail.at:find("replay_spec.lua:%d+"))
    app:stop()
  end)

  it("cannot be hidden by a pcall in the body", function()
    local app = crash_into(function(self)
      self:a()
      pcall(self.c, self)
      return "swallowed"
    end)
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    app:stop()
  end)

  it("that ends earlier than recorded is diverged too, and is not undoing", function()
    local app = crash_into(function(self)
      self:a()
      return "early"
    end)
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    app:stop()
  end)

  it("that is put back lets a diverged process go on", function()
    local app = crash_into(function(self) return self:c() end)
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    app = assert(app:crash(nil, original))
    assert.equal("completed", (app:wait("x")))
    app:stop()
  end)
end)

describe("starting", function()
  local function define_one()
    local P = catga.process "P"
    function P.process_id(input) return input.key end
    function P:execute(input) return { n = input.n } end
  end

  it("the same id with the same input is the same run, with another input a conflict", function()
    local app = assert(testing.app(define_one))
    assert.same({ n = 1 }, app:run("P", { key = "k", n = 1 }))
    assert.same({ n = 1 }, app:run("P", { n = 1, key = "k" }))
    local result, err = app:run("P", { key = "k", n = 2 })
    assert.is_nil(result)
    assert.equal("conflict", err.code)
    app:stop()
  end)

  it("inside a unit of work is staged, and waiting for it there is an error", function()
    local app = assert(testing.app(function()
      define_one()
      catga.command("Begin", function(cmd)
        local id = catga.start("P", { key = "staged", n = cmd.n })
        if cmd.fail then return nil, catga.error("no") end
        if cmd.wait then return catga.run("P", { key = "waited", n = 1 }) end
        return id
      end)
    end))
    assert.equal("staged", app:send("Begin", { n = 1 }))
    app:settle()
    assert.equal("completed", app.app:process("staged").status)
    local _, err = app:send("Begin", { n = 2, wait = true })
    assert.equal("would_deadlock", err.code)
    app:stop()
  end)

  it("by a handler that fails starts nothing", function()
    local app = assert(testing.app(function()
      define_one()
      catga.command("Begin", function()
        catga.start("P", { key = "never", n = 1 })
        return nil, catga.error("no")
      end)
    end))
    app:send("Begin", {})
    app:settle()
    assert.is_nil((app.app:process("never")))
    app:stop()
  end)
end)

describe("cancelling", function()
  it("abandons the body, where no pcall can swallow it, and undoes what was done", function()
    local after, undoing = false, 0
    local app = assert(testing.app(function()
      local P = catga.process "P"
      function P:execute()
        self:a()
        pcall(function() self:sleep("1h") end)
        after = true
      end
      function P:a() return "a" end
      function P:compensate_a() undoing = undoing + 1 end
    end))
    app:start("P", "x")
    app:settle()
    app:call(function() return app.app.engine:cancel("x") end)
    assert.equal("cancelled", app.app:process("x").status)
    assert.is_false(after)
    assert.equal(1, undoing)
    app:stop()
  end)
end)

describe("a planted bug", function()
  local journal = require "catga.process.journal"
  local undo = require "catga.process.undo"

  it("'completed step run again' is caught by the forward kills", function()
    local recorded = journal.recorded
    journal.recorded = function(p, op, kind, name)
      local entry = recorded(p, op, kind, name)
      return entry and kind ~= "step" and entry or nil
    end
    finally(function() journal.recorded = recorded end)
    local fault = fault_of_forward_kills()
    assert.truthy(fault and fault:find("ran again", 1, true), fault)
  end)

  it("'undo order' is caught by the undo kills", function()
    local list = undo.list
    undo.list = function(...)
      local turned = {}
      for _, item in ipairs(list(...)) do table.insert(turned, 1, item) end
      return turned
    end
    finally(function() undo.list = list end)
    local fault = fault_of_undo_kills()
    assert.truthy(fault and fault:find("undone in the order reserve stamp", 1, true), fault)
  end)
end)
