--- Attacks on steps and bodies: each spec tries to run a completed step again, to make a replay
--- differ, or to end the host from a script.
local testing = require "catga.testing"
local catga = require "catga"
local tasks = require "catga.native.task"

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

describe("a step", function()
  it("may return nothing, false, an empty string, 0 or null, live and replayed", function()
    local function define(P)
      function P:execute()
        local list = {}
        for i = 1, 5 do
          local value = self:give(i)
          list[i] = type(value) .. ":" .. tostring(value == catga.null or value)
        end
        self:sleep("1h")
        return list
      end
      function P:give(i)
        if i == 1 then return nil end
        if i == 2 then return false end
        if i == 3 then return "" end
        if i == 4 then return 0 end
        return catga.null
      end
    end
    local app = app_of(define)
    app:start("P", "x")
    app:settle()
    local again = assert(testing.app(definition(define), { memory = app:snapshot(8) }))
    local _, live = app:wait("x")
    local _, replayed = again:wait("x")
    assert.same({ "nil:nil", "boolean:false", "string:", "number:0", "userdata:true" }, live)
    assert.same(live, replayed)
    again:stop()
    app:stop()
  end)

  it("that raises anything at all fails with an error value, live and replayed", function()
    local function raise(n)
      local cyclic = { code = "cyclic" }
      cyclic.self = cyclic
      if n == 1 then error(nil) end
      if n == 2 then error(false) end
      if n == 3 then error(cyclic) end
      if n == 4 then error({}) end
      if n == 5 then error(setmetatable({}, { __tostring = function() error("no text") end })) end
      if n == 6 then error(setmetatable({}, { __index = function() error("no field") end })) end
      if n == 7 then error(("x"):rep(3000000)) end
      if n == 8 then error("bytes \255\254\0 of no text") end
      if n == 9 then error({ code = "c\255", message = {} }) end
      if n == 10 then error(function() end) end
      if n == 11 then error(setmetatable({ code = "locked" }, { __metatable = false })) end
      local function deep() return deep() + 1 end
      return deep()
    end
    local function define(P)
      P.settings = { raise = { attempts = 1 } }
      function P:execute()
        local list = {}
        for n = 1, 12 do
          local ok, err = pcall(self.raise, self, n)
          list[n] = tostring(ok) .. " " .. err.code .. " " .. err.message
        end
        self:sleep("1h")
        return list
      end
      P.raise = function(_, n) raise(n) end
    end
    local app = app_of(define)
    app:start("P", "x")
    app:settle()
    assert.equal(14, #app:journal("x")) -- Start, 12 failed steps, timer.
    local again = assert(testing.app(definition(define), { memory = app:snapshot() }))
    local _, live = app:wait("x")
    local status, replayed = again:wait("x")
    assert.equal("completed", status)
    assert.same(live, replayed)
    for n = 1, 12 do assert.truthy(live[n]:find("^false %S+ ")) end
    again:stop()
    app:stop()
  end)

  it("that meets a conflict at its commit runs again and uses up no attempt", function()
    local runs = 0
    local app = app_of(function(P)
      P.settings = { note = { attempts = 1 } }
      function P:execute() return self:note() end
      function P:note()
        runs = runs + 1
        local seen = #catga.events.read("S")
        assert(catga.events.append("S", { { type = "Noted" } },
          { expect = seen == 0 and "none" or seen - 1 }))
        if runs == 1 then
          catga.spawn(function() catga.events.append("S", { { type = "Faster" } }) end):wait()
        end
        return runs
      end
    end)
    assert.equal(2, app:run("P", "x"))
    assert.same({ "ProcessStarted", "ProcessStepCompleted", "ProcessCompleted" },
      types_of(app, "x"))
    assert.equal(2, app:call(function() return #catga.events.read("S") end))
    app:stop()
  end)

  it("that may run at most once does not run again for a conflict; it is in doubt", function()
    local runs, undone = 0, nil
    local app = app_of(function(P)
      P.settings = { charge = { at_most_once = true } }
      function P:execute() return self:charge("card") end
      function P:charge()
        runs = runs + 1
        assert(catga.events.append("S", { { type = "Charged" } }, { expect = "none" }))
        catga.spawn(function() catga.events.append("S", { { type = "Faster" } }) end):wait()
        return runs
      end
      function P:compensate_charge(result, card) undone = { result = result, card = card } end
    end)
    local _, err = app:run("P", "x")
    assert.equal("conflict", err.code)
    assert.equal(1, runs)
    assert.same({ card = "card" }, undone)
    app:stop()
  end)

  it("that may run at most once keeps its arguments for the undo over a crash", function()
    local undone
    local function define(P)
      P.settings = { charge = { at_most_once = true } }
      function P:execute() return self:charge("card") end
      function P:charge() return "paid" end
      function P:compensate_charge(result, card) undone = { result = result, card = card } end
    end
    local app = app_of(define)
    app:run("P", "x")
    local again = assert(testing.app(definition(define), { memory = app:snapshot(3) }))
    local status, _, err = again:wait("x")
    assert.equal("compensated", status)
    assert.equal("in_doubt", err.code)
    assert.same({ card = "card" }, undone)
    again:stop()
    app:stop()
  end)

  it("whose arguments for the undo cannot be stored fails before it begins, the same on replay",
    function()
      local runs = 0
      local function define(P)
        function P:execute()
          local ok, err = pcall(self.pay, self, print)
          local after = self:after()
          self:sleep("1h")
          return { ok = ok, message = err.message, after = after }
        end
        function P:pay() runs = runs + 1 end
        function P:compensate_pay() end
        function P:after() return "after" end
      end
      local app = app_of(define)
      app:start("P", "x")
      app:settle()
      local again = assert(testing.app(definition(define), { memory = app:snapshot() }))
      local _, live = app:wait("x")
      local _, replayed = again:wait("x")
      assert.is_false(live.ok)
      assert.same(live, replayed)
      assert.equal(0, runs)
      again:stop()
      app:stop()
    end)

  it("cannot begin below a C function, and the body goes on the same way on replay", function()
    local runs = 0
    local function define(P)
      function P:execute()
        local ok, err = pcall(table.sort, { 2, 1 }, function(a, b) return self:less(a, b) end)
        local after = self:after()
        self:sleep("1h")
        return { ok = ok, message = err, after = after }
      end
      function P:less() runs = runs + 1 end
      function P:after() return "after" end
    end
    local app = app_of(define)
    app:start("P", "x")
    app:settle()
    assert.same({ "ProcessStarted", "ProcessStepCompleted", "ProcessTimerSet" }, types_of(app, "x"))
    local again = assert(testing.app(definition(define), { memory = app:snapshot() }))
    local _, live = app:wait("x")
    local _, replayed = again:wait("x")
    assert.truthy(live.message:find("below a C function", 1, true))
    assert.same(live, replayed)
    assert.equal(0, runs)
    again:stop()
    app:stop()
  end)

  it("cannot be left half way by a coroutine", function()
    local app = app_of(function(P)
      function P:execute()
        local co = coroutine.wrap(function()
          return self:step("outer", function()
            coroutine.yield("out")
            return "in"
          end)
        end)
        local ok, err = pcall(co)
        local in_flow = not pcall(os.remove, "nothing") -- Refused in the body only.
        local again = { pcall(co) }
        self:step("next", function() return 1 end)
        return { ok = ok, err = err, in_flow = in_flow, again = again[1] }
      end
    end)
    local result = app:run("P", "x")
    assert.is_false(result.ok)
    assert.truthy(result.err:find("middle of a step", 1, true))
    assert.is_true(result.in_flow)
    assert.is_false(result.again)
    app:stop()
  end)

  it("in a coroutine of the body is a step as others are", function()
    local runs = 0
    local function define(P)
      function P:execute()
        local producer = coroutine.wrap(function()
          for n = 1, 3 do coroutine.yield(self:make(n)) end
        end)
        coroutine.wrap(function() self:make(0) coroutine.yield() end)() -- Never finished.
        collectgarbage = collectgarbage -- luacheck: ignore
        local sum = producer() + self:make(10) + producer() + self:make(20) + producer()
        self:sleep("1h")
        return sum
      end
      function P:make(n)
        runs = runs + 1
        return n
      end
    end
    local app = app_of(define)
    app:start("P", "x")
    app:settle()
    collectgarbage()
    local again = assert(testing.app(definition(define), { memory = app:snapshot() }))
    local before = runs
    assert.equal(36, select(2, again:wait("x")))
    assert.equal(before, runs)
    assert.equal(36, select(2, app:wait("x")))
    again:stop()
    app:stop()
  end)

  it("whose self is used after its process ended is an error or nothing, never another process",
    function()
      local kept, outcomes = nil, {}
      local app = app_of(function(P)
        function P:execute() return self:spawn() end
        function P:spawn()
          kept = self
          catga.spawn(function()
            catga.sleep("1s")
            outcomes[1] = { pcall(self.other, self) }
            outcomes[2] = { pcall(self.send, self, "X", {}) }
            outcomes[3] = { pcall(self.sleep, self, "1s") }
            outcomes[4] = { self.id == nil }
          end)
          return "spawned"
        end
        function P:other() return "ran" end
      end)
      assert.equal("spawned", app:run("P", "x"))
      app:advance("2s")
      for i = 1, 3 do assert.is_false(outcomes[i][1]) end
      assert.is_true(outcomes[4][1])
      assert.is_nil(kept.id)
      app:stop()
    end)

  it("called a hundred thousand times neither starves others nor is stopped", function()
    local ticks, is_done = 0, false
    local app = app_of(function(P)
      function P:execute()
        local n = 0
        for _ = 1, 100000 do n = self:add(n) end
        return n
      end
      function P:add(n) return n + 1 end
    end)
    catga.spawn(function()
      while not is_done do
        ticks = ticks + 1
        tasks.yield()
      end
    end)
    catga.spawn(function()
      catga.run("P", "x")
      is_done = true
    end)
    app:settle()
    assert.is_true(ticks > 500)
    assert.equal(100000, app.app:process("x").result)
    app:stop()
  end)
end)

describe("the body of a process", function()
  it("sees no address, and walks a table that changes the same way", function()
    local function define(P)
      function P:execute()
        local t, seen = {}, {}
        for i = 1, 50 do t["k" .. i] = i end
        for key, value in pairs(t) do
          seen[#seen + 1] = key
          t[key] = nil
          if value % 3 == 0 then t["new" .. value] = value end
        end
        local key = next(t)
        while key do
          seen[#seen + 1] = key
          t[key] = nil
          key = next(t, key)
        end
        local misuse = { pcall(next, {}, {}) }
        return { seen = seen, left = next(t) == nil, misuse = misuse[1],
          text = ("%s %s %d %s"):format({}, print, 7, tostring(coroutine.create(print))) }
      end
    end
    local app = app_of(define)
    local result = app:run("P", "x")
    assert.equal("table function 7 thread", result.text)
    assert.is_true(result.left)
    assert.is_false(result.misuse)
    local sorted = {}
    for i = 1, 50 do sorted[i] = "k" .. i end
    table.sort(sorted)
    for i = 1, 50 do assert.equal(sorted[i], result.seen[i]) end
    app:stop()
  end)

  it("that yields outside of a coroutine fails, and nobody waits for ever", function()
    local app = app_of(function(P)
      function P:execute() coroutine.yield(1) end
    end)
    local _, err = app:run("P", "x")
    assert.equal("failed", err.status)
    assert.truthy(err.message:find("coroutine.yield", 1, true))
    app:stop()
  end)
end)

describe("undoing", function()
  it("meets a conflict and runs again at once", function()
    local runs = 0
    local app = app_of(function(P)
      P.settings = { a = { attempts = 1 } }
      function P:execute()
        self:a()
        error(catga.error("stop"))
      end
      function P:a() return "a" end
      function P:compensate_a()
        runs = runs + 1
        local seen = #catga.events.read("S")
        assert(catga.events.append("S", { { type = "Undone" } },
          { expect = seen == 0 and "none" or seen - 1 }))
        if runs == 1 then
          catga.spawn(function() catga.events.append("S", { { type = "Faster" } }) end):wait()
        end
      end
    end)
    local _, err = app:run("P", "x")
    assert.equal("compensated", err.status)
    assert.equal(2, app:call(function() return #catga.events.read("S") end))
    app:stop()
  end)

  it("whose undo the scripts no longer have is never passed over in silence", function()
    local function define(with_undo)
      return definition(function(P)
        function P:execute()
          self:a()
          self:sleep("1h")
          error(catga.error("stop"))
        end
        function P:a() return "a" end
        if with_undo then function P:compensate_a() end end
      end)
    end
    local app = assert(testing.app(define(true)))
    app:start("P", "x")
    app:settle()
    app = assert(app:crash(nil, define(false)))
    local status, _, err = app:wait("x")
    assert.equal("compensation_failed", status)
    assert.equal("undo_missing", err.code)
    app:stop()
  end)
end)
