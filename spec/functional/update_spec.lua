--- Updates of a running process: validated, recorded, run as strands of their own, answered once;
--- with branches, cancel, kill, pause, timeouts, and a kill at every record.
local testing = require "catga.testing"
local tasks = require "catga.task"
local catga = require "catga"

local app
local calls

local function define_with(fill)
  return function()
    local P = catga.process "P"
    fill(P)
  end
end

local function open(fill, opts)
  calls = {}
  app = assert(testing.app(define_with(fill), opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function called(name) calls[#calls + 1] = name end
local function update(...) return app:call(catga.processes.update, ...) end
local function ask(...) return app:call(catga.processes.query, ...) end

-- Sends an update in a task beside the spec: a table that gets its outcome.
local function sent(one, ...)
  local out = {}
  local function take(value, err)
    out.is_done, out.value, out.code = true, value, err and err.code
  end
  tasks.spawn(one.app, function(...) take(catga.processes.update(...)) end, ...)
  return out
end

local function begin(...)
  local out = sent(app, ...)
  app:settle()
  return out
end

local function types(id)
  local list = {}
  for i, record in ipairs(app:journal(id)) do list[i] = record.type:gsub("^Process", "") end
  return list
end

local function order(P)
  function P:execute()
    self.address, self.changes = "old", {}
    self:step("pack", function() return 1 end)
    self:receive("go", { timeout = "10h" })
    self:step("ship", function() return 1 end)
    return { address = self.address, changes = self.changes }
  end
  function P.updates:change_address(value)
    local fee = self:fee(value)
    self.address = value
    self.changes[#self.changes + 1] = fee
    return { fee = fee, address = self.address }
  end
  P.validators.change_address = function(self, value)
    if self.address == value then return nil, catga.error("same", "it is there already") end
    return true
  end
  function P.fee(_, value)
    called("fee " .. value)
    if value == "moon" then error(catga.error("too_far")) end
    return #value
  end
  function P.updates.fails() error("plainly wrong") end
  function P.updates.nothing() return nil end
  function P.updates.cannot() return print end
  function P.updates:slow(value)
    self:sleep(value)
    self.changes[#self.changes + 1] = value
    return value
  end
  function P.queries:address() return self.address end
end

describe("an update", function()
  it("runs its handler, which may call steps and set fields, and gives its result", function()
    open(order)
    app:start("P", "x")
    app:settle()
    assert.same({ fee = 4, address = "new!" }, (update("x", "change_address", "new!")))
    assert.equal("new!", ask("x", "address"))
    app:call(catga.processes.signal, "x", "go", 1)
    local _, result = app:wait("x")
    assert.same({ address = "new!", changes = { 4 } }, result)
    assert.same({ "Started", "StepCompleted", "WaitStarted", "UpdateAccepted", "StepCompleted",
      "UpdateCompleted", "Signalled", "WaitCompleted", "StepCompleted", "Completed" }, types("x"))
    assert.equal("u1.1", app:journal("x")[5].data.op)
    app = assert(app:crash())
    assert.equal("new!", ask("x", "address"))
    assert.equal("same", app:call(catga.processes.replay, "x").verdict)
    assert.same({ "fee new!" }, calls)
  end)

  it("is refused by its validator without a record", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local before = app:position()
    local _, err = update("x", "change_address", "old")
    assert.same({ "same", "it is there already" }, { err.code, err.message })
    local code = function(...) return select(2, update(...)).code end
    assert.equal("unknown_update", code("x", "change_adress", 1))
    assert.equal("not_found", code("y", "change_address", 1))
    assert.equal("invalid", code("x", "change_address", "a", { id = "" }))
    assert.equal("invalid", code("x", "change_address", print))
    assert.equal(before, app:position())
  end)

  it("cannot be changed by its validator, nor change anything through it", function()
    local validator
    open(function(P)
      order(P)
      P.validators.nothing = function(self, value) return validator(self, value) end
    end)
    app:start("P", "x")
    app:settle()
    local before = app:position()
    for text, fn in pairs {
      ["self.address is set in validator nothing"] = function(self) self.address = 1 end,
      ["self:step in validator nothing"] = function(self) self:step("x", print) end,
      ["process x refuses update nothing"] = function() return false end,
      ["catga.now in validator nothing"] = function() return catga.now() end,
    } do
      validator = fn
      local _, err = update("x", "nothing")
      assert.truthy(err.message:find(text, 1, true), err.message)
    end
    assert.equal(before, app:position())
    validator = function(_, value) value.a = 2 return true end
    assert.is_nil((update("x", "nothing", { a = 1 })))
    assert.same({ a = 1 }, app:journal("x")[4].data.value)
  end)

  it("may fail, and the process goes on", function()
    open(order)
    app:start("P", "x")
    app:settle()
    assert.equal("too_far", select(2, update("x", "change_address", "moon")).code)
    assert.equal("error", select(2, update("x", "fails")).code)
    assert.truthy(table.concat(app.lines, "\n"):find("plainly wrong", 1, true))
    local value, err = update("x", "cannot")
    assert.is_nil(value)
    assert.truthy(err.message:find("a function cannot be stored", 1, true))
    assert.same({ nil, nil }, { update("x", "nothing") })
    local status, result = app:wait("x")
    assert.same({ "completed", "old" }, { status, result.address })
  end)

  it("with an id is done once, whoever asks again and when", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local expected = { fee = 1, address = "a" }
    for _ = 1, 2 do assert.same(expected, (update("x", "change_address", "a", { id = "1" }))) end
    local first = begin("x", "slow", "1h", { id = "2" })
    local second = begin("x", "slow", "1h", { id = "2" })
    assert.equal("conflict", select(2, update("x", "fails", 1, { id = "2" })).code)
    update("x", "fails", 1, { id = "3" })
    app = assert(app:crash())
    assert.is_nil(first.is_done)
    assert.is_nil(second.is_done)
    assert.same(expected, (update("x", "change_address", "a", { id = "1" })))
    assert.equal("error", select(2, update("x", "fails", 1, { id = "3" })).code)
    assert.equal("1h", (update("x", "slow", "1h", { id = "2" })))
    app:wait("x")
    assert.same(expected, (update("x", "change_address", "a", { id = "1" })))
    assert.equal("ended", select(2, update("x", "change_address", "b", { id = "4" })).code)
    app = assert(app:crash())
    assert.same(expected, (update("x", "change_address", "a", { id = "1" })))
    assert.same({ "fee a" }, calls)
  end)

  it("answers all who wait for the same one, each with a value of its own", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local first = begin("x", "change_address", "a", { id = "1" })
    local second = begin("x", "change_address", "a", { id = "1" })
    assert.same(first.value, second.value)
    assert.are_not.equal(first.value, second.value)
  end)

  it("that runs when the body ends is waited for; one behind that is refused", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local slow = begin("x", "slow", "5h")
    app:call(catga.processes.signal, "x", "go", 1)
    app:settle()
    assert.equal("ended", select(2, update("x", "nothing")).code)
    local start = app.clock:now()
    local _, result = app:wait("x")
    assert.equal(start + 5 * 3600000, app.clock:now())
    assert.equal("5h", slow.value)
    assert.same({ "5h" }, result.changes)
  end)

  it("ends at its next operation when the body fails, and is undone with it", function()
    open(function(P)
      function P:execute()
        self:receive("go")
        error(catga.error("broken"))
      end
      function P.updates:long()
        self:mark("before")
        self:sleep("9h")
        self:mark("after")
      end
      function P.mark(_, name) called(name) end
      function P.compensate_mark(_, _, name) called("undo " .. name) end
    end)
    app:start("P", "x")
    app:settle()
    local long = begin("x", "long")
    app:call(catga.processes.signal, "x", "go", 1)
    app:settle()
    assert.equal("ended", long.code)
    assert.equal("compensated", (app:wait("x")))
    assert.same({ "before", "undo before" }, calls)
  end)

  it("ends with a process that is cancelled, killed or out of time", function()
    for what, fn in pairs {
      cancelled = function() app:call(catga.processes.cancel, "x") end,
      killed = function() app:call(catga.processes.kill, "x") end,
      compensated = function() app:advance("2h") end,
      failed = function() app:advance("2h") end,
    } do
      open(function(P)
        order(P)
        P.options = { timeout = "1h" }
        if what == "compensated" or what == "cancelled" then
          function P.compensate_fee() called "undo" end
        end
      end)
      app:start("P", "x")
      app:settle()
      local slow = begin("x", "slow", "5h")
      update("x", "change_address", "a")
      fn()
      app:settle()
      assert.equal("ended", slow.code)
      assert.equal(what, (app:wait("x")))
      assert.equal(what == "compensated" or what == "cancelled", calls[#calls] == "undo")
      app:stop()
    end
    app = nil
  end)

  it("ends with a process that is cancelled at its end, when only updates run", function()
    for _, name in ipairs { "slow", "works" } do
      open(function(P)
        order(P)
        function P.compensate_pack() called "undo" end
        function P.pack() return 1 end
        function P:execute()
          self.changes = {}
          self:pack()
          self:receive("go")
        end
        function P.updates:works() self:work() end
        function P.work() catga.sleep("10s") called "worked" end
      end)
      app:start("P", "x")
      app:settle()
      local out = begin("x", name, "1h")
      app:call(catga.processes.signal, "x", "go", 1)
      app:settle()
      assert.is_nil(out.is_done)
      assert.is_true(app:call(catga.processes.cancel, "x"))
      assert.equal("cancelled", (app:wait("x")))
      assert.equal("ended", out.code)
      assert.same(name == "works" and { "worked", "undo" } or { "undo" }, calls)
      app:stop()
    end
    app = nil
  end)

  it("holds while the process is paused", function()
    open(order)
    app:start("P", "x")
    app:settle()
    app:call(catga.processes.pause, "x")
    local held = begin("x", "change_address", "a")
    app:advance("1h")
    assert.is_nil(held.is_done)
    assert.same({}, calls)
    app:call(catga.processes.resume, "x")
    app:settle()
    assert.equal("a", held.value.address)
  end)

  it("comes to a process whose body runs one step after the other", function()
    open(function(P)
      function P:execute()
        self.seen, self.n = {}, 0
        for i = 1, 300 do
          self:step("s", function() return i end)
          self.seen[i] = self.n
        end
        return self.seen
      end
      function P.updates:count()
        self.n = self.n + 1
        local before = self:step("u", function() return true end)
        return before and self.n
      end
    end)
    app:start("P", "x")
    local list = {}
    for i = 1, 40 do
      for _ = 1, i % 7 do require("catga.native.task").yield() end
      list[i] = sent(app, "x", "count")
    end
    local _, result = app:wait("x")
    for i = 1, 40 do assert.is_true(list[i].is_done) end
    for i = 1, 5 do -- The replay from anywhere sees what was seen live.
      local position = math.floor(app:position() * i / 6)
      local again = assert(testing.app(app.source, { memory = app:snapshot(position) }))
      again:wait("x")
      local all = app:journal("x")
      for k, record in ipairs(again:journal("x")) do
        if record.position >= position then break end
        assert.equal(all[k].id, record.id)
      end
      again:stop()
    end
    app = assert(app:crash(app:position() - 1))
    assert.same(result, (select(2, app:wait("x"))))
    assert.equal("same", app:call(catga.processes.replay, "x").verdict)
  end)

  it("may wait for all that a body may wait for", function()
    local function fill(P)
      function P:execute()
        self:receive("end")
        return self.got
      end
      function P.updates:ask()
        local promise = self:promise()
        self.told = promise.id
        local child = self:run("Child", {})
        self.got = { promise:wait(), self:approval("fine").approved, child,
          (self:wait_event("Paid").data), self:receive("more") }
        self:tag { asked = true }
        return self.got
      end
      function P.queries:told() return self.told end
      local Child = catga.process "Child"
      function Child:execute() self:sleep("1s") return self.id end
    end
    open(fill)
    app:start("P", "x")
    app:settle()
    begin("x", "ask", nil, { id = "1" })
    app:advance("2s")
    local id = ask("x", "told")
    assert.truthy(id:find("^u1%.1~%x+~x$"))
    assert.is_true(app:call(catga.promises.resolve, id, "kept"))
    app = assert(app:crash())
    begin("x", "ask", nil, { id = "1" })
    assert.is_true(app:call(catga.processes.approve, "x", "fine"))
    app:settle()
    app:publish("Paid", { n = 1 })
    app:settle()
    app = assert(app:crash())
    local out = begin("x", "ask", nil, { id = "1" })
    app:call(catga.processes.signal, "x", "more", 5)
    app:settle()
    local expected = { "kept", true, "x/u1.2", { n = 1 }, 5 }
    assert.same(expected, out.value)
    assert.same({ asked = true }, app:call(catga.processes.get, "x").tags)
    app:call(catga.processes.signal, "x", "end", 1)
    assert.same(expected, (select(2, app:wait("x"))))
    assert.equal("same", app:call(catga.processes.replay, "x").verdict)
  end)

  it("that waits when the app stops is told so, and goes on after the next start", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local slow = begin("x", "slow", "5h", { id = "1" })
    local memory = app:snapshot()
    local source = app.source
    app:stop()
    assert.is_true(slow.is_done)
    assert.is_nil(slow.value)
    assert.equal("closed", slow.code)
    app = assert(testing.app(source, { memory = memory }))
    assert.equal("5h", (update("x", "slow", "5h", { id = "1" })))
  end)

  it("sees no difference between a process that is taken up for it and one in memory", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local p = app.app.engine.active.x
    app.app.engine:let_go(p, catga.error("test")) -- As when its log could not take a record.
    require("catga.native.task").drop(p.task)
    assert.equal("a", update("x", "change_address", "a").address)
    assert.equal("a", ask("x", "address"))
  end)

  it("may be sent by a handler and by a step, also of the process itself", function()
    open(function(P)
      order(P)
      function P:execute()
        self.changes = {}
        self.address = self:step("tell", function()
          return assert(catga.processes.update("x", "change_address", "mine", { id = "1" }))
        end).address
        return self.address
      end
      catga.command("Move", function(cmd)
        return catga.processes.update(cmd.id, "change_address", cmd.to)
      end)
    end)
    assert.equal("mine", (app:run("P", "x")))
    app:start("P", "y")
    app:settle()
    local _, err = app:send("Move", { id = "x", to = "z" })
    assert.equal("ended", err.code)
    app:stop()
    open(function(P)
      function P.execute() return catga.processes.update("x", "a", 1) end
    end)
    _, err = app:run("P", "x")
    assert.truthy(err.message:find("update in a step", 1, true), err.message)
  end)

  it("keeps its process in memory while it runs, not afterwards", function()
    open(order)
    app:start("P", "x")
    app:settle()
    local active = app.app.engine.active
    local slow = begin("x", "slow", "1h")
    app:advance("30m")
    assert.truthy(active.x)
    app:advance("31m")
    assert.equal("1h", slow.value)
    app:advance("1m")
    assert.is_nil(active.x)
    assert.equal("old", ask("x", "address")) -- Out of a replay, which leaves it where it is.
    assert.is_nil(active.x)
    assert.equal("a", update("x", "change_address", "a").address)
    assert.truthy(active.x)
    app:advance("1m")
    assert.is_nil(active.x)
    assert.equal("a", ask("x", "address"))
    local status = app:wait("x")
    assert.equal("completed", status)
  end)

  it("with a timer of its own is not forgotten when many processes are left out at a start",
    function()
      local function fill(P)
        function P:execute()
          self:receive("go")
          self:sleep("9h")
        end
        function P.updates:slow(value)
          self:sleep(value)
          self:step("done", function() called "done" end)
        end
      end
      local settings = { processes_cached_max = 1 }
      open(fill, { settings = settings })
      for _, id in ipairs { "x", "y", "z" } do app:start("P", id) end
      app:settle()
      begin("x", "slow", "1h")
      app:advance("1s") -- It was taken up for it.
      app:call(catga.processes.signal, "x", "go", 1)
      app:settle()
      local records = app:journal("x")
      assert.equal(2, records[#records].data.op)
      app = assert(app:crash())
      app:advance("61m")
      assert.same({ "done" }, calls)
    end)

  it("and queries work on a declared process", function()
    app = assert(testing.app(function()
      local P = catga.process("P"):step("a", function() return 1 end):sleep("2h")
        :step("b", function() return 2 end)
      function P.updates:set(value)
        self.level = self:step("own", function() return value end)
        return self.level
      end
      function P.queries:level() return self.level end
    end))
    app:start("P", "x")
    app:settle()
    assert.equal(5, (update("x", "set", 5)))
    assert.equal(5, (ask("x", "level")))
    local found = app:call(catga.processes.locals, "x")
    assert.truthy(found.strands[1].frames[1].at:find("update_spec.lua:%d+"))
    assert.equal("timer sleep", found.strands[1].waits_for)
    assert.equal("completed", (app:wait("x")))
    local verdict = app:call(catga.processes.replay, "x")
    assert.equal("same", verdict.verdict)
    assert.equal(5, (ask("x", "level")))
  end)

  it("counts a step of its handler that was under way at a kill as in doubt", function()
    open(function(P)
      local attempts = {}
      function P:execute()
        self:receive("go")
        error(catga.error("broken"))
      end
      function P.updates:work() return pcall(function() self:mark("x") end) end
      function P.mark(self)
        self:send("Do", {})
        attempts[#attempts + 1] = true
        if #attempts > 1 then error(catga.error("refused")) end
        catga.sleep("10s")
      end
      function P.compensate_mark(_, result) called("undo " .. tostring(result)) end
      catga.command("Do", function(_, ctx) called("attempt " .. ctx.attempt .. " " .. ctx.key) end)
    end)
    app:start("P", "x")
    app:settle()
    begin("x", "work")
    app = assert(app:crash())
    app:settle()
    app:call(catga.processes.signal, "x", "go", 1)
    assert.equal("compensated", (app:wait("x")))
    assert.same({ "attempt 1 x/1/u1.1/1", "attempt 2 x/1/u1.1/1", "undo nil" }, calls)
  end)

  it("diverges when its handler is gone, or does something else", function()
    open(order)
    app:start("P", "x")
    app:settle()
    update("x", "change_address", "a")
    local function without(P)
      order(P)
      P.updates.change_address, P.validators.change_address = nil, nil
    end
    local function other(P)
      order(P)
      function P.updates:change_address() return self:step("other", function() return 1 end) end
    end
    local function less(P)
      order(P)
      function P.updates.change_address() return 1 end
    end
    for fill, at in pairs { [without] = "u1", [other] = "u1.1", [less] = "u1.1" } do
      app = assert(app:crash(nil, define_with(fill)))
      app:settle()
      local found = app:call(catga.processes.replay, "x")
      assert.same({ "diverged", at }, { found.verdict, found.op })
      assert.equal("diverged", (app:wait("x")))
    end
    app = assert(app:crash(nil, define_with(order)))
    assert.equal("completed", (app:wait("x")))
  end)
end)
