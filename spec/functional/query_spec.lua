--- Questions to a process: running, waiting, ended, not in memory; and the replay that only looks.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local catga = require "catga"

local app
local calls

local function open(fill, opts)
  calls = {}
  app = assert(testing.app(function()
    local P = catga.process "P"
    fill(P)
  end, opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function ask(id, name, args) return app:call(catga.processes.query, id, name, args) end
local function replay(id) return app:call(catga.processes.replay, id) end

local function order(P)
  function P:execute(input)
    self.stage, self.lines = "began", {}
    for i = 1, 3 do
      self.lines[i] = self:pack(i)
      self.stage = "packed " .. i
    end
    self.address = self:receive("address", { timeout = "2h" })
    self.stage = "addressed"
    if input.fails then error(catga.error("refused")) end
    self:sleep("1h")
    self.stage = "done"
    return { stage = self.stage }
  end
  function P.pack(_, i)
    calls[#calls + 1] = i
    return { line = i, at = catga.now() }
  end
  P.compensate_pack = function() calls[#calls + 1] = "undo" end
  function P.queries:progress(args)
    return { stage = self.stage, count = #(self.lines or {}), id = self.id, args = args }
  end
  function P.queries:lines() return self.lines end
  function P.queries.nothing() return nil end
  function P.queries.refuses() return nil, catga.error("private", "not for you") end
end

describe("a query", function()
  it("sees what the body has set on self, at every stage", function()
    open(order)
    app:start("P", { id = "x" })
    app:settle()
    assert.same({ stage = "packed 3", count = 3, id = "x", args = { a = 1 } },
      ask("x", "progress", { a = 1 }))
    app:call(catga.processes.signal, "x", "address", "here")
    assert.equal("addressed", ask("x", "progress").stage)
    app:wait("x")
    local before = app:position()
    assert.equal("done", ask("x", "progress").stage)
    assert.same({ 1, 2, 3 }, calls) -- No step ran again,
    assert.equal(before, app:position()) -- nothing was recorded,
    assert.is_nil(app.clock:next()) -- no timer is left.
  end)

  it("gives copies", function()
    open(order)
    app:start("P", { id = "x" })
    app:settle()
    ask("x", "lines")[1].line = "changed"
    assert.equal(1, ask("x", "lines")[1].line)
    assert.is_nil((ask("x", "nothing")))
  end)

  it("answers for a process that was recovered, failed, was cancelled or killed", function()
    open(order)
    for _, id in ipairs { "failed", "cancelled", "killed", "waits" } do
      app:start("P", { id = id, fails = id == "failed" })
    end
    app:settle()
    app:call(catga.processes.signal, "failed", "address", "here")
    app:call(catga.processes.cancel, "cancelled")
    app:call(catga.processes.kill, "killed")
    assert.equal("compensated", (app:wait("failed")))
    app = assert(app:crash())
    local count = #calls
    assert.equal("addressed", ask("failed", "progress").stage)
    assert.equal("packed 3", ask("cancelled", "progress").stage)
    assert.equal("packed 3", ask("killed", "progress").stage)
    assert.equal("packed 3", ask("waits", "progress").stage)
    assert.equal(count, #calls)
  end)

  it("leaves no task behind", function()
    open(order)
    app:start("P", { id = "x" })
    app:settle()
    app:call(catga.processes.kill, "x")
    app:settle()
    local before = native_task.counts()
    for _ = 1, 10 do ask("x", "progress") end
    assert.equal(before, (native_task.counts()))
  end)

  it("looks at processes with branches that have ended, or are in the middle of something",
    function()
      open(function(P)
        function P:execute()
          self.order = {}
          local function add(what) self.order[#self.order + 1] = what end
          self:any("race", {
            function() self:step("fast", function() return 1 end) add "fast" return 1 end,
            function()
              add "slow"
              self:sleep("1h")
              add "never"
            end,
          })
          self:map({ 1, 2, 3, 4 }, function(n)
            self:step("s", function() return n end)
            add(n)
            if n == 3 then self:receive("go") add "went" end
          end, { max = 2 })
          add "joined"
          self:sleep("1d")
          return self.order
        end
        function P.queries:order() return self.order end
      end)
      app:start("P", "x")
      app:settle()
      local live = ask("x", "order")
      assert.same({ "slow", "fast", 1, 2, 3, 4 }, live)
      app:call(catga.processes.kill, "x")
      assert.same(live, ask("x", "order"))
      app:start("P", "y")
      app:settle()
      app:call(catga.processes.signal, "y", "go")
      local _, result = app:wait("y")
      assert.equal("joined", result[#result])
      assert.same(result, ask("y", "order"))
      assert.equal("same", replay("y").verdict)
    end)

  it("tells what is wrong", function()
    open(order)
    app:start("P", { id = "x" })
    app:settle()
    local function code_of(...)
      local value, err = ask(...)
      assert.is_nil(value)
      return err.code, err.message
    end
    assert.equal("not_found", code_of("y", "progress"))
    assert.equal("not_found", code_of(nil, "progress"))
    local code, message = code_of("x", "progres")
    assert.equal("unknown_query", code)
    assert.truthy(message:find("did you mean progress?", 1, true))
    assert.equal("private", code_of("x", "refuses"))
  end)

  it("refuses what has an effect, waits, or gives something else each time", function()
    local wrong = {
      ["self.x is set in query q of process P: self is read%-only"] = function(self) self.x = 1 end,
      ["self:step in query q of process P"] = function(self) self:step("s", function() end) end,
      ["self:own in query q of process P"] = function(self) self:own() end,
      ["catga.send in query q of process P"] = function() catga.send("X", {}) end,
      ["catga.sleep in query q of process P"] = function() catga.sleep("1s") end,
      ["catga.events.append in query q"] = function() catga.events.append("S", {}) end,
      ["catga.processes.query in query q"] = function() catga.processes.query("x", "q") end,
      ["os.time in query q of process P"] = function() os.time() end,
      ["io.open in query q of process P"] = function() io.open("/tmp/x") end,
      ["result: a function cannot be stored"] = function() return print end,
      ["cannot wait below a C function"] = function() native_task.park() end,
    }
    local q
    open(function(P)
      function P:execute()
        self.list = { { 1 } }
        self:sleep("1h")
      end
      function P.own() end
      function P.queries:q() return q(self) end
      function P.queries:list() return self.list end
    end)
    app:start("P", "x")
    app:settle()
    for text, fn in pairs(wrong) do
      q = fn
      local value, err = ask("x", "q")
      assert.is_nil(value)
      assert.truthy(err.message:find(text), err.message)
    end
    q = function(self) self.list[1][1] = 2 self.list[2] = 3 return self.list end
    assert.same({ { 2 }, 3 }, ask("x", "q"))
    assert.same({ { 1 } }, ask("x", "list"))
  end)

  it("has a bound for what it replays", function()
    open(order, { settings = { process_replay_max = 5 } })
    app:start("P", { id = "x" })
    app:settle()
    assert.equal("packed 3", ask("x", "progress").stage) -- In memory.
    app:wait("x")
    assert.equal("limit", select(2, ask("x", "progress")).code)
    assert.equal("limit", select(2, replay("x")).code)
  end)

  it("must be a function, which is checked when scripts are loaded", function()
    for text, fill in pairs {
      ["queries.a must be a function, got number"] = function(P) P.queries.a = 1 end,
      ["queries must be a table of functions"] = function(P) P.queries = 1 end,
      ["updates.a must be a function"] = function(P) P.updates.a = {} end,
      ["validators.a is for an update that does not exist"] = function(P)
        function P.validators.a() end
      end,
    } do
      local none, err = testing.app(function()
        local P = catga.process "P"
        function P.execute() end
        fill(P)
      end)
      assert.is_nil(none)
      assert.truthy(err.message:find(text, 1, true), err.message)
    end
  end)
end)

describe("the replay of a journal", function()
  it("says that the script does the same, and where an unfinished process stands", function()
    open(order)
    app:start("P", { id = "x" })
    app:settle()
    local found = replay("x")
    assert.equal("same", found.verdict)
    assert.equal(1, #found.strands)
    assert.equal(4, found.strands[1].op)
    assert.equal("signal address", found.strands[1].waits_for)
    assert.truthy(found.strands[1].at:find("query_spec.lua:%d+$"))
    app:wait("x")
    local before = app:position()
    found = replay("x")
    assert.same({ "same", before, 0 }, { found.verdict, app:position(), #found.strands })
  end)

  local function fill(name, result, more)
    return function()
      local P = catga.process "P"
      function P:execute()
        self[name](self)
        if more then self:step(more, function() end) end
        if result == "error" then error(catga.error("broken")) end
        return result
      end
      function P.one() return 1 end
      function P.two() return 1 end
    end
  end

  it("says where another script differs, of processes that run and that have ended", function()
    for _, case in ipairs {
      { fill("one", 1), fill("two", 1), "step one", "step two" },
      { fill("one", 1), fill("one", 2), "the result 1", "the result 2" },
      { fill("one", 1), fill("one", 1, "new"), "the end of execute", "step new" },
      { fill("one", 1, "new"), fill("one", 1), "step new", "the end of execute" },
      { fill("one", 1), fill("one", "error"), "the end of execute", "the error broken: broken" },
      { fill("one", "error"), fill("one", 1), "the end of execute by an error",
        "its end with a result" },
      { fill("one", "error"), fill("one", "error") },
    } do
      app = assert(testing.app(case[1]))
      app:run("P", "x")
      app = assert(app:crash(nil, case[2]))
      local before = app:position()
      local found = replay("x")
      assert.same({ case[3], case[4] }, { found.expected, found.asked })
      assert.equal(case[3] and "diverged" or "same", found.verdict)
      assert.truthy(not case[3] or found.at:find("query_spec.lua:%d+$"))
      assert.equal(before, app:position())
      app:stop()
    end
    app = nil
  end)

  it("looks at a process that has diverged as well", function()
    app = assert(testing.app(fill("one", 1)))
    app:run("P", "x")
    app = assert(app:crash(3, fill("two", 1)))
    assert.equal("diverged", (app:wait("x")))
    local found = replay("x")
    assert.same({ "diverged", 1, "step one", "step two" },
      { found.verdict, found.op, found.expected, found.asked })
    assert.equal("diverged", select(2, ask("x", "q")).code)
  end)
end)
