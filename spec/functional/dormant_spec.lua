--- Processes that wait and are not in memory: they come back when they are due, or when something
--- comes for them, also after a restart.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000
local HOUR = 3600000

local app
local woken = {}

local function define()
  local P = catga.process "P"
  function P:execute(input)
    local first = self:first(input.id)
    if input.signal then
      return { self:receive("go", { timeout = "5h" }) or "timeout", first }
    elseif input.approval then
      return self:approval("ok", { approvers = { "ann" } })
    elseif input.loop then
      return self:loop(1, function(n)
        self:sleep("1h")
        woken[#woken + 1] = { id = input.id, at = self:now(), due = START + n * HOUR }
        if n == 3 then return nil, "looped" end
        return n + 1
      end)
    end
    self:sleep(input.seconds .. "s")
    woken[#woken + 1] = { id = input.id, at = self:wake_time(), due = START + input.seconds * 1000 }
    return first
  end
  function P.first(_, id) return "first " .. id end
  function P.wake_time() return app.clock:now() end
  local Limited = catga.process "Limited"
  Limited.options = { timeout = "2h" }
  function Limited:execute()
    self:step("mark", function() return 1 end)
    self:receive("never")
  end
  function Limited.compensate_mark() woken[#woken + 1] = "undone" end
end

local function open(settings)
  woken = {}
  app = assert(testing.app(define, { settings = settings }))
end

after_each(function()
  app:stop()
  app = nil
end)

local function in_memory() return app.app.engine.active_count end

local function call(fn, ...) return app:call(fn, ...) end

local function start_all(count, make)
  app:call(function()
    for i = 1, count do assert(catga.start("P", make(i))) end
  end)
  app:settle()
end

local function check_woken(count)
  assert.equal(count, #woken)
  for i, one in ipairs(woken) do
    assert.is_true(one.at >= one.due, "early")
    assert.is_true(i == 1 or one.due >= woken[i - 1].due, "out of order")
  end
end

describe("a process that waits", function()
  it("leaves memory after process_idle, and comes back when it is due", function()
    open()
    start_all(100, function(i) return { id = tostring(i), seconds = 100 + i } end)
    assert.equal(100, in_memory())
    app:advance("15s")
    assert.equal(0, in_memory())
    app:advance("135s")
    assert.equal(50, #woken)
    app:advance("1h")
    check_woken(100)
    local _, result = app:wait("100")
    assert.equal("first 100", result)
  end)

  it("leaves memory at once when too many wait", function()
    open { processes_cached_max = 10 }
    start_all(300, function(i) return { id = tostring(i), seconds = 100 + i % 7 } end)
    assert.is_true(in_memory() <= 10, in_memory())
    app:advance("1h")
    check_woken(300)
  end)

  it("is not taken up by a restart before it is due", function()
    open { processes_cached_max = 10 }
    start_all(300, function(i) return { id = tostring(i), seconds = 100 + i % 50 } end)
    app = assert(app:crash())
    app:settle()
    assert.is_true(in_memory() <= 10, in_memory())
    assert.equal("waiting", call(function() return catga.processes.get("7").status end))
    assert.equal(300, #call(function()
      return catga.processes.list { status = "waiting", max = 1000 }
    end))
    app:advance("1h")
    check_woken(300)
  end)

  it("fires what became due while the program was down, in order", function()
    open { processes_cached_max = 10 }
    start_all(50, function(i) return { id = tostring(i), seconds = 200 - i } end)
    local memory = app:snapshot()
    app:kill()
    app = assert(testing.app(define, { settings = { processes_cached_max = 10 }, memory = memory,
      start = START + HOUR }))
    app:advance("1ms")
    check_woken(50)
  end)

  it("comes back for a signal, an approval, a cancel, a pause", function()
    open { process_idle = "1s" }
    start_all(4, function(i)
      return { id = tostring(i), signal = i ~= 2, approval = i == 2 }
    end)
    for _ = 1, 2 do
      app:advance("1m")
      assert.equal(0, in_memory())
      app = assert(app:crash())
      app:advance("1m")
      assert.equal(0, in_memory())
    end
    assert.is_true(call(catga.processes.signal, "1", "go", "now"))
    assert.same({ "now", "first 1" }, (select(2, app:wait("1"))))
    assert.equal("forbidden", select(2, call(catga.processes.approve, "2", "ok")).code)
    assert.is_true(call(catga.processes.approve, "2", "ok", { n = 1 }, { by = "ann" }))
    assert.same({ approved = true, by = { "ann" }, values = { n = 1 } }, (select(2, app:wait("2"))))
    assert.is_true(call(catga.processes.cancel, "3"))
    assert.equal("cancelled", (app:wait("3")))
    assert.is_true(call(catga.processes.pause, "4"))
    app:advance("10h")
    assert.equal("paused", call(function() return catga.processes.get("4").status end))
    assert.is_true(call(catga.processes.resume, "4"))
    assert.same({ "timeout", "first 4" }, (select(2, app:wait("4"))))
  end)

  it("leaves memory in the rounds of a loop, too", function()
    open { processes_cached_max = 1 }
    start_all(20, function(i) return { id = tostring(i), loop = true } end)
    assert.is_true(in_memory() <= 1, in_memory())
    app:advance("90m")
    assert.is_true(in_memory() <= 1, in_memory())
    app = assert(app:crash())
    app:settle()
    assert.is_true(in_memory() <= 1, in_memory())
    app:advance("5h")
    check_woken(60)
  end)

  it("is ended by its timeout while it is not in memory", function()
    for _, restarts in ipairs { false, true } do
      open { processes_cached_max = 1, process_idle = "1s" }
      call(function()
        for i = 1, 3 do assert(catga.start("Limited", "l" .. i)) end
      end)
      app:advance("10s")
      assert.equal(0, in_memory())
      if restarts then app = assert(app:crash()) end
      app:advance("3h")
      assert.same({ "undone", "undone", "undone" }, woken)
      if not restarts then app:stop() end
    end
  end)

  it("stays while somebody waits for its end", function()
    open { process_idle = "1s" }
    start_all(1, function() return { id = "1", seconds = 1000 } end)
    local outcome
    require("catga.task").spawn(app.app, function() outcome = { catga.processes.wait("1") } end)
    app:advance("10m")
    assert.equal(1, in_memory())
    app:advance("10m")
    assert.equal("completed", outcome[1])
  end)
end)
