--- Waiting in a process: signals, approvals, promises, events; early, late, twice, in time or not,
--- and after a kill at every record.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000
local HOUR = 3600000

local app

local function define_with(fill)
  return function()
    local P = catga.process "P"
    fill(P)
  end
end

local function open(fill, opts)
  app = assert(testing.app(define_with(fill), opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function call(fn, ...) return app:call(fn, ...) end

describe("self:receive", function()
  local function two(P)
    function P:execute()
      local first = self:receive("go")
      local second, err = self:receive("go", { timeout = "1h" })
      return { first = first, second = second, code = err and err.code, now = self:now() }
    end
  end

  it("waits for a signal, and keeps those that come early, in order", function()
    open(two)
    app:start("P", "x")
    assert.equal("waiting", call(function() return catga.processes.get("x").status end))
    call(function()
      for i = 1, 2 do assert(catga.processes.signal("x", "go", { n = i })) end
    end)
    local _, result = app:wait("x")
    assert.same({ first = { n = 1 }, second = { n = 2 }, now = START }, result)
  end)

  it("gives nil and an error when the time has passed", function()
    open(two)
    app:start("P", "x")
    call(catga.processes.signal, "x", "go", true)
    local _, result = app:wait("x")
    assert.same({ first = true, code = "timeout", now = START + HOUR }, result)
  end)

  it("ignores a signal whose id was there before, also after a restart", function()
    open(two)
    app:start("P", "x")
    for _ = 1, 3 do
      assert.is_true(call(catga.processes.signal, "x", "go", "once", { id = "s1" }))
    end
    app = assert(app:crash())
    assert.is_true(call(catga.processes.signal, "x", "go", "once", { id = "s1" }))
    local _, result = app:wait("x")
    assert.same("timeout", result.code)
  end)

  it("takes the signal when it came before the time, however late the process looks", function()
    open(two)
    app:start("P", "x")
    call(function()
      assert(catga.processes.signal("x", "go", 1))
      assert(catga.processes.signal("x", "go", 2))
    end)
    local position -- What the process made of the second signal is lost.
    for _, record in ipairs(app:journal("x")) do
      if record.type == "ProcessSignalled" then position = record.position end
    end
    local memory = app:snapshot(position + 1)
    app:kill()
    app = assert(testing.app(define_with(two), { memory = memory,
      start = START + 10 * HOUR }))
    local _, result = app:wait("x")
    assert.equal(2, result.second)
  end)

  it("joins the unit of work of the handler that sends the signal", function()
    open(function(P)
      two(P)
      catga.command("Go", function(cmd)
        assert(catga.processes.signal("x", "go", cmd.n))
        assert(catga.events.append("S", { { type = "Sent" } }))
        if cmd.fails then return nil, catga.error("no") end
      end)
    end)
    app:start("P", "x")
    assert.equal("no", select(2, app:send("Go", { n = 1, fails = true })).code)
    app:send("Go", { n = 2 })
    local position = app:position()
    assert.equal(position - 1, app:journal("x")[#app:journal("x")].position)
    local _, result = app:wait("x")
    assert.equal(2, result.first)
  end)

  it("is refused for a process that is not there or has ended", function()
    open(function(P)
      function P.execute() return 1 end
    end)
    app:run("P", "x")
    assert.equal("ended", select(2, call(catga.processes.signal, "x", "go")).code)
    assert.equal("not_found", select(2, call(catga.processes.signal, "y", "go")).code)
    assert.equal("invalid", select(2, call(catga.processes.signal, "x", "")).code)
  end)

  it("comes to the same end after a kill at every record", function()
    assert.is_nil((testing.chaos(define_with(function(P)
      function P:execute()
        local got = {}
        self:all("x", {
          function() got[#got + 1] = self:receive("a") end,
          function() got[#got + 1] = self:receive("b", { timeout = "1h" }) or "late" end,
          function() self:step("s", function() return 1 end) got[#got + 1] = self:receive("a") end,
        })
        return got
      end
    end), "P", "x", { same = false, drive = function(one)
      for i = 1, 2 do
        one:call(catga.processes.signal, "x", "a", i, { id = "a" .. i })
        one:settle()
      end
    end })))
  end)
end)

describe("self:approval", function()
  local function two_of(P)
    function P:execute()
      local answer, err = self:approval("budget", { timeout = "24h", quorum = 2,
        approvers = { "ann", "bob", "eve" }, form = { limit = "number?" } })
      if err then return { code = err.code } end
      return answer
    end
  end

  it("needs so many of those who may approve", function()
    open(two_of)
    app:start("P", "x")
    local function approve(by, values)
      return call(catga.processes.approve, "x", "budget", values, { by = by })
    end
    assert.equal("forbidden", select(2, approve("mallory")).code)
    assert.equal("forbidden", select(2, approve()).code)
    assert.equal("validation", select(2, approve("ann", { limit = "much" })).code)
    assert.is_true(approve("ann", { limit = 5 }))
    assert.is_true(approve("ann")) -- Twice the same one is one.
    assert.equal("waiting", call(function() return catga.processes.get("x").status end))
    assert.is_true(approve("eve"))
    local _, result = app:wait("x")
    assert.same({ approved = true, by = { "ann", "eve" }, values = { limit = 5 } }, result)
  end)

  it("is over with the first who rejects", function()
    open(two_of)
    app:start("P", "x")
    call(catga.processes.approve, "x", "budget", nil, { by = "ann" })
    assert.is_true(call(catga.processes.reject, "x", "budget", { by = "bob", reason = "too much" }))
    local _, result = app:wait("x")
    assert.same({ approved = false, by = { "bob" }, values = {}, reason = "too much" }, result)
  end)

  it("says what is waited for when it is something else", function()
    open(two_of)
    app:start("P", "x")
    app:settle()
    local _, err = call(catga.processes.approve, "x", "other", nil, { by = "ann" })
    assert.equal("not_found", err.code)
    assert.truthy(err.message:find("it waits for budget", 1, true))
  end)

  it("ends after its time", function()
    open(two_of)
    app:start("P", "x")
    assert.same({ code = "timeout" }, (select(2, app:wait("x"))))
    assert.equal(START + 24 * HOUR, app.clock:now())
  end)

  it("comes to the same end after a kill at every record", function()
    assert.is_nil((testing.chaos(define_with(function(P)
      function P:execute()
        local first = self:approval("a", { approvers = { "ann" } })
        local second = self:approval("a", { quorum = 2 })
        return { first, second }
      end
    end), "P", "x", { drive = function(one)
      one:call(catga.processes.approve, "x", "a", { n = 1 }, { by = "ann", id = "1" })
      one:settle()
      one:call(catga.processes.approve, "x", "a", { n = 2 }, { by = "bob", id = "2" })
      one:call(catga.processes.approve, "x", "a", { n = 3 }, { by = "cid", id = "3" })
    end })))
  end)

  it("refuses what makes no sense", function()
    local wrong = {
      ["quorum is a whole number from 1"] = { quorum = 0 },
      ["2 must approve, but there are 1 approvers"] = { quorum = 2, approvers = { "a" } },
      ["approvers is a list of 1 to 1000 names"] = { approvers = {} },
      ["unknown option qorum"] = { qorum = 1 },
      ["is no duration"] = { timeout = "soon" },
    }
    for text, opts in pairs(wrong) do
      open(function(P)
        function P:execute() self:approval("a", opts) end
      end)
      local _, err = app:run("P", "x")
      assert.truthy(err.message:find(text, 1, true), err.message)
      assert.truthy(err.message:find("waits_spec.lua:%d+"), err.message)
      app:stop()
    end
    app = nil
  end)
end)

describe("self:promise", function()
  local function asks(P)
    function P:execute()
      local promise = self:promise()
      self:step("tell", function() P.told = promise.id end)
      local value, err = promise:wait { timeout = "2h" }
      return { value = value, code = err and err.code }
    end
  end

  local class
  local function define()
    class = catga.process "P"
    asks(class)
  end

  it("is kept from outside, once", function()
    app = assert(testing.app(define))
    app:start("P", "x")
    app:settle()
    local id = class.told
    assert.truthy(id:find("^1~%x+~x$"))
    assert.equal("not_found", select(2, call(catga.promises.resolve, "1~00~x", 1)).code)
    assert.is_true(call(catga.promises.resolve, id, { paid = 5 }))
    local _, result = app:wait("x")
    assert.same({ value = { paid = 5 } }, result)
    assert.equal("ended", select(2, call(catga.promises.resolve, id, 1)).code)
  end)

  it("is kept once", function()
    open(function(P)
      function P:execute()
        P.id = self:promise().id
        self:sleep("1h")
      end
      class = P
    end)
    app:start("P", "x")
    app:settle()
    assert.is_true(call(catga.promises.reject, class.id, catga.error("refused")))
    assert.equal("conflict", select(2, call(catga.promises.resolve, class.id, 2)).code)
  end)

  it("may fail, and may come too late", function()
    app = assert(testing.app(define))
    app:start("P", "x")
    app:settle()
    assert.is_true(call(catga.promises.reject, class.told, catga.error("refused")))
    assert.same({ code = "refused" }, (select(2, app:wait("x"))))
    app:start("P", "y")
    assert.same({ code = "timeout" }, (select(2, app:wait("y"))))
  end)

  it("comes to the same end after a kill at every record", function()
    assert.is_nil((testing.chaos(define, "P", "x", { same = false, drive = function(one)
      for _, record in ipairs(one:journal("x")) do
        if record.type == "ProcessPromiseMade" then
          one:call(catga.promises.resolve, record.data.id, "kept")
        end
      end
    end })))
  end)
end)

describe("self:wait_event", function()
  local function waits(P)
    function P:execute(input)
      local event, err = self:wait_event("Paid", { order = input.id }, { timeout = "1h" })
      if not event then return { code = err.code } end
      local big = self:wait_event("Paid", function(data) return data.amount > 100 end)
      return { event = event.data, stream = event.stream, big = big.data }
    end
  end

  local function pay(order, amount)
    return app:publish("Paid", { order = order, amount = amount })
  end

  it("takes the first event behind its beginning that matches", function()
    open(waits)
    pay("x", 1)
    app:start("P", { id = "x" })
    app:settle()
    pay("y", 2)
    pay("x", 3)
    pay("x", 50)
    app:settle()
    pay("z", 101)
    local _, result = app:wait("x")
    assert.same({ event = { order = "x", amount = 3 }, stream = "$type-Paid",
      big = { order = "z", amount = 101 } }, result)
  end)

  it("misses no event while the program is down or the process is slow", function()
    open(waits)
    app:start("P", { id = "x" })
    app:settle()
    local position = app:position()
    pay("x", 3)
    app = assert(app:crash(position))
    pay("x", 4)
    pay("x", 200)
    app = assert(app:crash())
    local _, result = app:wait("x")
    assert.same({ order = "x", amount = 4 }, result.event)
    assert.same({ order = "x", amount = 200 }, result.big)
  end)

  it("ends after its time, and fails with its match", function()
    open(waits)
    app:start("P", { id = "x" })
    assert.same({ code = "timeout" }, (select(2, app:wait("x"))))
    app:stop()
    open(function(P)
      function P:execute()
        local ok, err = pcall(function()
          return self:wait_event("Paid", function(data) return data.amount > "much" end)
        end)
        return { ok = ok, message = err.message }
      end
    end)
    app:start("P", "x")
    app:settle()
    pay("x", 1)
    local _, result = app:wait("x")
    assert.truthy(result.message:find("waits_spec.lua:%d+: attempt to compare"), result.message)
  end)

  it("serves many processes", function()
    open(waits)
    for i = 1, 200 do app:start("P", { id = "p" .. i }) end
    app:settle()
    for i = 200, 1, -1 do pay("p" .. i, i) end
    app:settle()
    pay("all", 1000)
    for i = 1, 200 do
      local _, result = app:wait("p" .. i)
      assert.equal(i, result.event.amount)
      assert.equal(i > 100 and result.big.amount or 1000, result.big.amount)
    end
  end)
end)
