--- self:all, self:any and self:map: branches of a process, live, after a kill at every record, and
--- when one of them fails.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000
local LATER = START + 60000 -- The clock after a restart.

-- Calls of outside effects, which a kill does not take back.
local calls = {}

local tries = {} -- Of the flaky step, by process.

local function called(name) calls[#calls + 1] = name end

local function count(name)
  local n = 0
  for _, call in ipairs(calls) do
    if call == name then n = n + 1 end
  end
  return n
end

local app

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

describe("self:all", function()
  it("runs branches at the same time and gives their results by name", function()
    open(function(P)
      function P:execute()
        local before = self:now()
        local r = self:all("both", {
          slow = function() self:sleep("10s") return self:give("slow") end,
          slower = function() self:sleep("12s") return self:give("slower") end,
          none = function() return nil end,
        })
        r.took = self:now() - before
        return r
      end
      function P.give(_, what) return what end
    end)
    local result = app:run("P", "x")
    assert.same({ slow = "slow", slower = "slower", took = 12000 }, result)
    local joined = app:journal("x")
    joined = joined[#joined - 1]
    assert.equal("ProcessBranchesJoined", joined.type)
    assert.same({ op = 1, kind = "all", name = "both", ["nil"] = true }, joined.data)
  end)

  it("takes branches by position, and none at all", function()
    open(function(P)
      function P:execute()
        local nothing = self:all("none", {})
        local two = self:all("two", { function() return "a" end, function() return "b" end })
        return { nothing = next(nothing) == nil, two = two }
      end
    end)
    assert.same({ nothing = true, two = { "a", "b" } }, app:run("P", "x"))
  end)

  it("numbers the operations of each branch, and keys of their commands", function()
    local keys = {}
    open(function(P)
      catga.command("Note", function(_, ctx)
        keys[#keys + 1] = ctx.key
        return true
      end)
      function P:execute()
        self:send("Note", {})
        self:all("a", {
          function() self:send("Note", {}) self:send("Note", {}) end,
          function()
            self:all("b", { function() self:send("Note", {}) end })
            self:send("Note", {})
          end,
        })
        self:send("Note", {})
      end
    end)
    app:run("P", "x")
    table.sort(keys)
    assert.same({ "x/1/1/1", "x/1/2.1.1/1", "x/1/2.1.2/1", "x/1/2.2.1.1.1/1", "x/1/2.2.2/1",
      "x/1/3/1" }, keys)
  end)

  it("lets branches settle when one fails, then raises its error and undoes what is done",
    function()
      open(function(P)
        P.settings = { fails = { attempts = 1 } }
        function P:execute()
          self:first()
          return self:all("both", {
            bad = function() self:sleep("1s") return self:fails() end,
            good = function()
              self:second()
              self:long()
              self:never()
            end,
            waits = function() self:sleep("10h") end,
          })
        end
        for _, name in ipairs { "first", "second", "never" } do
          P[name] = function() called(name) return name end
          P["compensate_" .. name] = function() called("undo " .. name) end
        end
        function P.long()
          called "long"
          catga.sleep("5s")
          called "long has ended"
        end
        function P.compensate_long() called "undo long" end
        function P.fails() error(catga.error("refused")) end
      end)
      local result, err = app:run("P", "x")
      assert.is_nil(result)
      assert.equal("refused", err.code)
      assert.equal("compensated", err.status)
      assert.same({ "first", "second", "long", "long has ended", "undo long", "undo second",
        "undo first" }, calls)
      assert.equal(START + 5000, app.clock:now())
    end)

  it("can be caught by the body", function()
    open(function(P)
      function P:execute()
        local ok, err = pcall(function()
          self:all("x", { function() self:sleep("1h") end, function() error("broken") end })
        end)
        return { ok = ok, broken = err.message:find("broken", 1, true) ~= nil, after = self:ok() }
      end
      function P.ok() return "ok" end
    end)
    assert.same({ ok = false, broken = true, after = "ok" }, app:run("P", "x"))
  end)

  it("refuses what it cannot run", function()
    local wrong = {
      ["needs a name and a table of functions"] = function(self) self:all("x") end,
      ["branch 1 must be a function, got number"] = function(self) self:all("x", { 5 }) end,
      ["has no branch that could succeed"] = function(self) self:any("x", {}) end,
      ["max is a whole number from 1"] = function(self) self:map({}, print, { max = 0 }) end,
      ["unknown option most"] = function(self) self:map({}, print, { most = 1 }) end,
      ["needs a list and a function"] = function(self) self:map({}) end,
      ["called inside a step"] = function(self)
        self:step("s", function() self:all("x", {}) end)
      end,
    }
    for text, fn in pairs(wrong) do
      open(function(P)
        P.settings = { s = { attempts = 1 } }
        function P:execute() fn(self) end
      end)
      local _, err = app:run("P", "x")
      assert.truthy(err.message:find(text, 1, true), err.message)
      assert.truthy(err.message:find("branches_spec.lua:%d+", 1), err.message)
      app:stop()
    end
    app = nil
  end)
end)

describe("self:any", function()
  local function define(P)
    function P:execute(input)
      local result, key = self:any("first", {
        a = function() self:claim("a") self:sleep(input.a) return self:done("a") end,
        b = function() self:claim("b") self:sleep(input.b) return self:done("b") end,
        c = function() error(catga.error("c_fails")) end,
      })
      return { result = result, key = key, after = self:after() }
    end
    function P.claim(_, name) called("claim " .. name) return name end
    function P.compensate_claim(_, result) called("undo " .. result) end
    function P.done(_, name) return name end
    function P.after() called("after") return true end
  end

  it("gives the first that succeeds, and undoes the others before it goes on", function()
    open(define)
    assert.same({ result = "b", key = "b", after = true },
      app:run("P", { id = "x", a = "10s", b = "5s" }))
    assert.same({ "claim a", "claim b", "undo a", "after" }, calls)
    assert.equal(START + 5000, app.clock:now())
  end)

  it("raises when none succeeds, with everything undone", function()
    open(function(P)
      function P:execute()
        local ok, err = pcall(function()
          self:any("x", {
            function() self:claim("a") error(catga.error("one")) end,
            function() return nil, catga.error("two") end,
          })
        end)
        return { ok = ok, code = err.code, message = err.message, claims = self:after() }
      end
      function P.claim(_, name) called("claim " .. name) return name end
      function P.compensate_claim(_, result) called("undo " .. result) end
      function P.after() return #calls end
    end)
    local result = app:run("P", "x")
    assert.equal("none_succeeded", result.code)
    assert.truthy(result.message:find("2: two: two", 1, true), result.message)
    assert.same({ "claim a", "undo a" }, calls)
  end)
end)

describe("self:map", function()
  it("runs so many items at the same time, and gives results by position", function()
    local running, most = 0, 0
    open(function(P)
      function P:execute(n)
        local items = {}
        for i = 1, n.n do items[i] = i end
        return self:map(items, function(item, place)
          assert(item == place)
          return self:work(item)
        end, { max = 3, name = "work" })
      end
      function P.work(_, item)
        running = running + 1
        most = math.max(most, running)
        catga.sleep("1s")
        running = running - 1
        return item * 2
      end
    end)
    assert.same({ 2, 4, 6, 8, 10, 12, 14 }, app:run("P", { id = "x", n = 7 }))
    assert.equal(3, most)
  end)

  it("begins no more items when one has failed", function()
    open(function(P)
      P.settings = { work = { attempts = 1 } }
      function P:execute()
        return self:map({ 1, 2, 3, 4, 5 }, function(item) return self:work(item) end, { max = 2 })
      end
      function P.work(_, item)
        called(tostring(item))
        if item == 2 then error(catga.error("bad")) end
        catga.sleep("1s")
        return item
      end
      function P.compensate_work(_, result, item) called("undo " .. item .. tostring(result)) end
    end)
    local _, err = app:run("P", "x")
    assert.equal("bad", err.code)
    assert.same({ "1", "2", "undo 11" }, calls)
  end)
end)

describe("a process with branches that is killed", function()
  local function shared(P)
    P.settings = { flaky = { attempts = 3, backoff = "1s" } }
    function P:execute(input)
      local trace = {} -- Shared by all branches: their order must be the same on replay.
      local function add(what) trace[#trace + 1] = what end
      self:first()
      local r = self:all("work", {
        a = function()
          add("a1" .. self:one("a1"))
          self:sleep("3s")
          add("a2" .. self:one("a2") .. math.random(1000))
          return "a"
        end,
        b = function()
          local inner = self:map({ 5, 6, 7 }, function(item)
            add("b" .. self:one("b" .. item))
            self:sleep(item .. "s")
            add("B" .. item)
            return item
          end, { max = 2 })
          add("map")
          return inner
        end,
        c = function()
          local _, key = self:any("race", {
            x = function() self:claim("x") self:sleep("2s") add("x") return 1 end,
            y = function() self:claim("y") self:sleep("4s") add("y") return 2 end,
          })
          add("won " .. key)
          return { self:flaky(input), key }
        end,
      })
      r.trace, r.random = trace, math.random(1e6)
      self:last()
      if input.refuse then error(catga.error("refused")) end
      return r
    end
    for _, name in ipairs { "first", "last" } do
      P[name] = function() called(name) return name end
      P["compensate_" .. name] = function() called("undo " .. name) end
    end
    function P.one(_, name) called(name) return "." end
    function P.compensate_one(_, _, name) called("undo " .. name) end
    function P.claim(_, name) called("claim " .. name) return name end
    function P.compensate_claim(_, _, name) called("undo claim " .. name) end
    function P.flaky(_, input)
      tries[input.id] = (tries[input.id] or 0) + 1
      if tries[input.id] < 3 then error("the wire is down") end
      return "up"
    end
  end

  local function define() shared(catga.process "P") end

  local function done_steps(records, position)
    local done = {}
    for _, record in ipairs(records) do
      if record.position < position and record.type == "ProcessStepCompleted" then
        done[#done + 1] = record.data
      end
    end
    return done
  end

  -- What a run of the whole journal again gives, all answered from it.
  local function replayed(whole)
    local again = assert(testing.app(define,
      { memory = whole:snapshot(whole:position() - 1), start = LATER + 60000 }))
    local status, result = again:wait("x")
    local lines = table.concat(again.lines, "\n")
    again:stop()
    return status, result, lines
  end

  it("goes on to its end from every record, with the same order of its branches", function()
    tries = {}
    local whole = assert(testing.app(define))
    local expected = assert(whole:run("P", { id = "x" }))
    assert.equal("y", expected.c[2] == "x" and "y" or "?")
    local records = whole:journal("x")
    for position = 2, whole:position() - 1 do
      calls = {}
      local again = assert(testing.app(define,
        { memory = whole:snapshot(position), start = LATER }))
      local status, result, err = again:wait("x")
      assert.equal("completed", status, ("killed at %d: %s"):format(position, tostring(err)))
      for _, data in ipairs(done_steps(records, position)) do
        local name = data.args and data.args[1] or data.step
        assert.equal(0, count(name), ("killed at %d: %s ran again"):format(position, name))
      end
      local _, same, lines = replayed(again)
      assert.same(result, same, ("killed at %d: %s"):format(position, lines))
      again:stop()
    end
    whole:stop()
  end)

  it("undoes everything that was done, once, in reverse, from every record", function()
    tries = {}
    local whole = assert(testing.app(define))
    local _, failure = whole:run("P", { id = "x", refuse = true })
    assert.equal("compensated", failure.status)
    for position = 2, whole:position() - 1 do
      calls = {}
      local again = assert(testing.app(define,
        { memory = whole:snapshot(position), start = LATER }))
      local status, _, err = again:wait("x")
      assert.equal("compensated", status)
      assert.equal("refused", err.code)
      local undone, completed = {}, {}
      for _, record in ipairs(again:journal("x")) do
        if record.type == "ProcessStepCompensated" then
          assert.is_nil(undone[record.data.op], "undone twice")
          undone[record.data.op] = true
        elseif record.type == "ProcessStepCompleted"
          and record.data.step ~= "flaky" then
          completed[#completed + 1] = record.data.op
        end
      end
      for _, op in ipairs(completed) do
        assert.is_true(undone[op], ("killed at %d: %s was not undone"):format(position, op))
      end
      again:stop()
    end
    whole:stop()
  end)
end)
