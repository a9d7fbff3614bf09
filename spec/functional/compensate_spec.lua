--- P:compensate: one undo for the whole process, in the place of those of its steps.
local testing = require "catga.testing"
local catga = require "catga"

local app
local calls = {}

local function open(fill, opts)
  calls = {}
  app = assert(testing.app(fill, opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- A process of three steps; the last fails unless the input says "fine"; more(P, input) changes it.
local function order(more)
  return function()
    catga.command("Refund", function(cmd, ctx)
      calls[#calls + 1] = "refund " .. ctx.key
      return cmd
    end)
    local P = catga.process "P"
    function P:execute(input)
      self:reserve(input.id, nil, 3)
      self:charge(input.amount)
      self:ship(input)
      return "done"
    end
    function P.reserve(_, id) return { reserved = id } end
    function P.charge() end
    function P.ship(_, input)
      if not input.fine then error(catga.error("no_van")) end
    end
    function P:compensate(failed_step, completed)
      calls[#calls + 1] = { failed_step = failed_step, completed = completed }
      self:send("Refund", { count = #completed })
    end
    if more then more(P) end
  end
end

local COMPLETED = {
  { step = "charge", args = { 5 } },
  { step = "reserve", result = { reserved = "a" }, args = { "a", nil, 3 } },
}

local function records_of(id, type)
  local list = {}
  for _, record in ipairs(app:journal(id)) do
    if record.type == type then list[#list + 1] = record.data end
  end
  return list
end

describe("the undo of a whole process", function()
  it("gets the step that failed and what was completed, last first", function()
    open(order())
    local _, err = app:run("P", { id = "a", amount = 5 })
    assert.equal("compensated", err.status)
    assert.equal("no_van", err.code)
    assert.same({ { failed_step = "ship", completed = COMPLETED }, "refund a/1/0/undo/1" }, calls)
    assert.same("ship", records_of("a", "ProcessCompensationStarted")[1].failed_step)
    assert.same({ { op = 0, step = "compensate", ["nil"] = true, ops = { 2, 1 } } },
      records_of("a", "ProcessStepCompensated"))
  end)

  it("is not called when all goes well, or nothing was done", function()
    open(order())
    assert.equal("done", app:run("P", { id = "a", amount = 5, fine = true }))
    app:stop()
    open(order(function(P) function P.reserve() error(catga.error("none")) end end))
    local _, err = app:run("P", { id = "a" })
    assert.equal("failed", err.status)
    assert.same({}, calls)
  end)

  it("knows no failed step when the body itself fails, or the process is cancelled", function()
    open(order(function(P)
      function P:execute(input)
        self:charge(input.amount)
        pcall(self.ship, self, input)
        error(catga.error("own"))
      end
    end))
    app:run("P", { id = "a", amount = 5 })
    assert.same({ failed_step = nil, completed = { COMPLETED[1] } }, calls[1])
    app:stop()
    open(order(function(P)
      function P:execute(input)
        self:charge(input.amount)
        self:sleep("1h")
      end
    end))
    app:start("P", { id = "b", amount = 5 })
    app:settle()
    assert.is_true(app:call(catga.processes.cancel, "b"))
    assert.same({ failed_step = nil, completed = { COMPLETED[1] } }, calls[1])
    assert.equal("cancelled", app:wait("b"))
  end)

  it("names the step also when its error goes through pcall or branches", function()
    open(order(function(P)
      function P:execute(input)
        self:charge(input.amount)
        self:all("both", { a = function() self:sleep("1s") self:ship(input) end })
      end
    end))
    app:run("P", { id = "a", amount = 5 })
    assert.equal("ship", calls[1].failed_step)
  end)

  it("is told of steps in doubt", function()
    open(order(function(P)
      P.settings = { ship = { timeout = "5s", attempts = 1 } }
      function P:ship() self:sleep("1m") end
    end))
    app:run("P", { id = "a", amount = 5 })
    assert.same({ step = "ship", args = { { id = "a", amount = 5 } }, in_doubt = true },
      calls[1].completed[1])
    assert.equal(3, #calls[1].completed)
  end)

  it("is tried again, with the same key, and can fail", function()
    local failures = 0
    open(order(function(P)
      P.settings = { compensate = { attempts = 4 } }
      function P:compensate()
        self:send("Refund", {})
        failures = failures + 1
        error("wire")
      end
    end))
    local _, err = app:run("P", { id = "a", amount = 5 })
    assert.equal("compensation_failed", err.status)
    assert.truthy(err.message:find("undo of step compensate failed", 1, true), err.message)
    assert.equal(4, failures)
    assert.equal(4, #records_of("a", "ProcessCompensationAttemptFailed"))
    for i = 1, 4 do assert.equal("refund a/1/0/undo/1", calls[i]) end
  end)

  it("can be tried again when it has failed", function()
    local is_down = true
    open(order(function(P)
      function P:compensate(failed_step, completed)
        calls[#calls + 1] = { failed_step, #completed }
        if is_down then error(catga.error("down")) end
      end
    end))
    local _, err = app:run("P", { id = "a", amount = 5 })
    assert.equal("compensation_failed", err.status)
    is_down = false
    assert.is_true(app:call(catga.processes.retry, "a"))
    assert.equal("compensated", app:wait("a"))
    assert.same({ { "ship", 2 }, { "ship", 2 } }, calls)
  end)

  it("comes to the same end after a kill at every record", function()
    calls = {}
    local fault, kills = testing.chaos(order(), "P", { id = "a", amount = 5 })
    assert.is_nil(fault)
    assert.is_true(kills >= 5)
    for _, call in ipairs(calls) do
      if type(call) == "table" then
        -- A kill before the failure is journaled leaves the step in doubt.
        if call.completed[1].in_doubt then table.remove(call.completed, 1) end
        assert.same({ failed_step = "ship", completed = COMPLETED }, call)
      end
    end
  end)

  it("goes on after a kill between two attempts", function()
    open(order(function(P)
      local tries = 0
      function P:compensate(failed_step, completed)
        calls[#calls + 1] = { failed_step = failed_step, completed = completed }
        tries = tries + 1
        if tries == 1 then error("wire") end
      end
    end))
    app:start("P", { id = "a", amount = 5 })
    app:settle()
    assert.equal(1, #calls)
    app = assert(app:crash())
    assert.equal("compensated", (app:wait("a")))
    assert.same(calls[1], calls[2])
    assert.same({ failed_step = "ship", completed = COMPLETED }, calls[2])
  end)

  it("undoes the branches that have not won, and later the others, each once", function()
    local function define()
      local P = catga.process "P"
      function P:execute(input)
        self:mark("before")
        self:any("first", {
          fast = function() self:mark("fast") self:sleep("1s") return "fast" end,
          slow = function() self:mark("slow") self:sleep("1h") return "slow" end,
        })
        if input.fails then error(catga.error("own")) end
      end
      function P.mark(_, name) return name end
      function P:compensate(failed_step, completed) -- luacheck: ignore
        local names = {}
        for i, one in ipairs(completed) do names[i] = one.result end
        calls[#calls + 1] = table.concat(names, " ")
      end
    end
    open(define)
    app:run("P", { id = "a", fails = true })
    assert.same({ "slow", "fast before" }, calls)
    assert.same({ 2, 0 }, { records_of("a", "ProcessStepCompensated")[1].op,
      records_of("a", "ProcessStepCompensated")[2].op })
    assert.is_nil((testing.chaos(define, "P", { id = "a", fails = true })))
    assert.is_nil((testing.chaos(define, "P", { id = "b" })))
  end)

  it("cannot stand beside the undo of a step", function()
    local _, err = testing.app(order(function(P) function P.compensate_charge() end end))
    assert.truthy(err.message:find("compensate_spec.lua:%d+: process P has both compensate"),
      err.message)
    assert.truthy(err.message:find("compensate_charge", 1, true))
  end)

  it("is a function", function()
    local _, err = testing.app(order(function(P) P.compensate = "all" end))
    assert.truthy(err.message:find("compensate_spec.lua:%d+: process P: compensate must be a "
      .. "function: function P:compensate%(failed_step, completed%)"), err.message)
  end)
end)
