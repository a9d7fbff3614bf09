--- Attacks on what outlives the program: stops in every state, damaged journals, clocks that step
--- back, memory; each spec tries to lose something, or to stop the recovery of others.
local testing = require "catga.testing"
local catga = require "catga"
local tasks = require "catga.native.task"

local HOUR = 3600000
local START_MS = 1767225600000 -- Where virtual clocks start.

-- An app of one process P; `define(P)` fills it in.
local function definition(define)
  return function() define(catga.process "P") end
end

local function app_of(define, opts) return assert(testing.app(definition(define), opts)) end

local function said(app, text)
  for _, line in ipairs(app.lines) do
    if line:find(text, 1, true) then return true end
  end
  return false
end

local function append(app, stream, type, data, flags)
  app:call(function()
    local store = app.app.store
    store:begin()
    local json = catga.json.encode(data)
    assert(store:add(store:stream(stream, true), -1, type, json, nil, flags or 0))
    local _, after = assert(store:commit())
    assert(store:wait(after - 1))
  end)
end

-- A new data directory; who takes it removes it.
local function data_directory()
  local path = os.tmpname()
  os.remove(path)
  return path
end

describe("a stop", function()
  local states = {
    sleeping = function(self) self:sleep("1h") end,
    ["in a step that waits"] = function(self)
      self:step("wait", function() catga.sleep("2s") end)
    end,
    ["in a pause between attempts"] = function(self)
      self:step("flaky", function()
        if self:now() < START_MS + HOUR then error("not yet") end
        return "at last"
      end)
    end,
    ["in a step that never ends"] = function(self)
      self:step("wait", function()
        if self:now() < START_MS + HOUR then catga.sleep("20s") end
      end)
    end,
  }
  for name, wait in pairs(states) do
    it("with a process " .. name .. " loses nothing and lets nobody wait", function()
      local runs = 0
      local define = definition(function(P)
        function P:execute()
          self:before()
          wait(self)
          return self:after()
        end
        function P:before() runs = runs + 1 end
        function P:after() return "after" end
      end)
      local live = tasks.counts()
      local dir = data_directory()
      local app = assert(testing.app(define, { data = dir }))
      local outcome
      catga.spawn(function() outcome = { catga.run("P", "x") } end)
      app:advance("1s")
      assert(app:stop())
      tasks.settle()
      assert.equal("closed", outcome[2].code)
      assert.equal(live, (tasks.counts()))
      local again = assert(testing.app(define, { data = dir, start = START_MS + 2 * HOUR }))
      local status, result = again:wait("x")
      assert.equal("completed", status)
      assert.equal("after", result)
      assert.equal(1, runs)
      again:stop()
      os.execute("rm -rf " .. dir)
    end)
  end
end)

describe("a journal", function()
  local function define(P)
    function P:execute()
      self:a()
      self:sleep("1h")
      return self:a()
    end
    function P:a() return "a" end
  end

  it("that is damaged stops its process alone, with a clear error", function()
    local app = app_of(define)
    app:start("P", "good")
    app:settle()
    local start = { name = "P", run = 1, engine = 1, code = "", input = "x" }
    local OPENS = 3
    append(app, "Process-no start", "ProcessStepCompleted", { op = 1, step = "a" }, OPENS)
    append(app, "Process-no data", "ProcessStarted", 7, OPENS)
    append(app, "Process-no op", "ProcessStarted", start, OPENS)
    append(app, "Process-no op", "ProcessStepCompleted", { step = "a", result = 1 })
    append(app, "Process-no set", "ProcessStarted", start, OPENS)
    append(app, "Process-no set", "ProcessTimerFired", { op = 2, fired = true })
    append(app, "Process-gap", "ProcessStarted", start, OPENS)
    append(app, "Process-gap", "ProcessStepCompleted", { op = 3, step = "a", result = 1 })
    append(app, "Process-unknown", "ProcessStarted", start, OPENS)
    append(app, "Process-unknown", "SomethingElse", "odd")
    append(app, "Process-class", "ProcessStarted", { name = "Gone", run = 1 }, OPENS)
    append(app, "Other", "ProcessStarted", start, OPENS)
    app = assert(app:crash())
    assert.equal("completed", (app:wait("good")))
    assert.equal("completed", (app:wait("unknown")))
    for _, id in ipairs { "no start", "no data", "no op", "class" } do
      local status, _, err = app:wait(id)
      assert.equal("stopped", status)
      assert.is_string(err.message)
      assert.is_true(said(app, "process " .. id .. " cannot go on"), id)
    end
    for _, id in ipairs { "no set", "gap" } do
      local status, _, err = app:wait(id)
      assert.equal("diverged", status)
      assert.equal("diverged", err.code)
    end
    local _, err = app:start("P", "no data")
    assert.equal("damaged", err.code)
    app:stop()
  end)

  it("cannot be forged by appending to its stream", function()
    local app = app_of(define)
    app:start("P", "x")
    local ok, err = app:call(function()
      return catga.events.append("Process-x", { { type = "ProcessStepCompleted",
        data = { op = 3, step = "a", result = "forged" } } })
    end)
    assert.is_nil(ok)
    assert.equal("invalid", err.code)
    assert.equal("a", select(2, app:wait("x")))
    app:stop()
  end)

  it("of a step that was tried and is no longer asked for is diverged", function()
    local app = app_of(function(P)
      P.settings = { pay = { backoff = "1h" } }
      function P:execute() return self:pay() end
      function P:pay() error("no answer") end
    end)
    app:start("P", "x")
    app:settle()
    app = assert(app:crash(nil, definition(function(P)
      function P:execute() return "early" end
    end)))
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    local result, err = app:run("P", "x")
    assert.is_nil(result)
    assert.equal("diverged", err.code)
    app:stop()
  end)

  it("that diverges inside a coroutine of the body, below a pcall, goes no step further", function()
    local ran = false
    local app = app_of(function(P)
      function P:execute()
        self:a()
        self:sleep("1h")
      end
      function P:a() return "a" end
    end)
    app:start("P", "x")
    app:settle()
    app = assert(app:crash(nil, definition(function(P)
      function P:execute()
        pcall(coroutine.wrap(function() pcall(self.b, self) end))
        ran = true
        self:b()
      end
      function P:b() ran = true end
    end)))
    app:settle()
    assert.equal("diverged", app.app:process("x").status)
    assert.is_false(ran)
    app:stop()
  end)
end)

describe("the clock", function()
  it("that was stepped back while a process sleeps only makes it sleep longer", function()
    local app = app_of(function(P)
      function P:execute()
        self:sleep("1h")
        return self:now()
      end
    end)
    app:start("P", "x")
    app:settle()
    local due = app:journal("x")[2].data.due
    app.clock:step_back(2 * HOUR)
    app:advance("1h")
    assert.equal("running", app.app:process("x").status == "waiting" and "running")
    local _, now = app:wait("x")
    assert.is_true(now >= due)
    app:stop()
  end)

  it("that jumps forward while a process sleeps wakes it within a minute", function()
    local app = app_of(function(P)
      function P:execute()
        self:sleep("24h")
        return "awake"
      end
    end)
    app:start("P", "x")
    app:settle()
    app.clock:step_forward(25 * HOUR)
    app:advance("61s")
    assert.equal("completed", app.app:process("x").status)
    app:stop()
  end)

  it("stepped back over a restart gives no id twice, and overdue timers fire", function()
    local define = function(P)
      function P:execute()
        local id = self:new_id()
        self:sleep("1h")
        return { id, self:new_id() }
      end
    end
    local app = app_of(define)
    app:start("P", "x")
    app:settle()
    local first = app:journal("x")[2].data.result
    local earlier = assert(testing.app(definition(define), { memory = app:snapshot(),
      start = START_MS - HOUR }))
    local later = assert(testing.app(definition(define), { memory = app:snapshot(),
      start = START_MS + 9 * HOUR }))
    for _, again in ipairs { earlier, later } do
      local status, ids = again:wait("x")
      assert.equal("completed", status)
      assert.equal(first, ids[1])
      assert.are_not.equal(ids[1], ids[2])
      assert.is_true(#ids[2] > #ids[1] or #ids[2] == #ids[1] and ids[2] > ids[1])
    end
    assert.equal(START_MS + 9 * HOUR, later.clock:now())
    earlier:stop()
    later:stop()
    app:stop()
  end)
end)

describe("memory", function()
  it("a thousand apps leave nothing behind", function()
    local function round()
      local app = app_of(function(P)
        function P:execute()
          self:step("a", function() return 1 end)
          self:sleep("1h")
        end
      end)
      app:start("P", "x")
      app:settle()
      app:kill()
    end
    for _ = 1, 10 do round() end
    collectgarbage()
    local live, refs, idle = tasks.counts()
    local held = refs - 2 * (live + idle)
    for _ = 1, 1000 do round() end
    collectgarbage()
    local live_after, refs_after, idle_after = tasks.counts()
    assert.equal(live, live_after)
    assert.is_true(refs_after - 2 * (live_after + idle_after) <= held)
  end)

  it("a collector under pressure takes nothing that a waiting process needs", function()
    local pause = collectgarbage("setpause", 1)
    local app = app_of(function(P)
      function P:execute(input)
        local total = 0
        for n = 1, 5 do
          total = total + self:add(n)
          self:sleep("1s")
        end
        return { total = total, id = input.id }
      end
      function P:add(n)
        catga.sleep("1ms")
        return n
      end
    end)
    local ids = {}
    for i = 1, 50 do ids[i] = "p" .. i end
    local results = app:call(function()
      return catga.map(ids, function(id) return catga.run("P", { id = id }) end)
    end)
    collectgarbage("setpause", pause)
    for i = 1, 50 do assert.same({ total = 15, id = ids[i] }, results[i]) end
    app:stop()
  end)
end)
