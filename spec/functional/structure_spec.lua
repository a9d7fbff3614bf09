--- Processes and their surroundings: children, timeouts, cancel, kill, pause, retry, skip, tags.
local testing = require "catga.testing"
local catga = require "catga"

local START = 1767225600000
local HOUR = 3600000

local app
local calls = {}

local function called(name) calls[#calls + 1] = name end

local function open(fill, opts)
  calls = {}
  app = assert(testing.app(fill, opts))
  return app
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function call(fn, ...) return app:call(fn, ...) end

local function status_of(id)
  return call(function() return catga.processes.get(id).status end)
end

-- Runs fn as a task of the app beside the spec.
local function beside(fn)
  local out = {}
  require("catga.task").spawn(app.app, function() out.result = { fn() } end)
  app:settle()
  return out
end

describe("a child", function()
  local function family(opts)
    return function()
      local Parent = catga.process "Parent"
      function Parent:execute(input)
        self:mark("parent")
        local a = self:start("Child", { id = "a", seconds = 5 }, opts)
        local b = self:run("Child", { id = "b", seconds = 2 })
        if input.fails then error(catga.error("refused")) end
        if input.leaves then return { b = b } end
        return { a = a:wait(), b = b, id = a.id }
      end
      function Parent.mark(_, name) called("mark " .. name) return name end
      function Parent.compensate_mark(_, name) called("undo " .. name) end
      local Child = catga.process "Child"
      function Child:execute(input)
        self:claim(input.id)
        self:sleep(input.seconds .. "s")
        return "child " .. input.id
      end
      function Child.claim(_, name) called("claim " .. name) return name end
      function Child.compensate_claim(_, name) called("unclaim " .. name) end
    end
  end

  it("is a process of its own, whose result its parent gets", function()
    open(family())
    assert.same({ a = "child a", b = "child b", id = "p/2" }, app:run("Parent", { id = "p" }))
    local child = call(catga.processes.get, "p/2")
    assert.equal("completed", child.status)
    assert.equal("p", child.parent)
    assert.equal(START + 5000, app.clock:now())
  end)

  it("comes to the same end after a kill at every record", function()
    assert.is_nil((testing.chaos(family(), "Parent", { id = "p" })))
    assert.is_nil((testing.chaos(family(), "Parent", { id = "p", fails = true })))
    assert.is_nil((testing.chaos(family(), "Parent", { id = "p", leaves = true })))
  end)

  it("is cancelled before its parent is undone, when the parent fails", function()
    open(family())
    local _, err = app:run("Parent", { id = "p", fails = true })
    assert.equal("compensated", err.status)
    assert.same({ "mark parent", "claim a", "claim b", "unclaim a", "undo parent" }, calls)
    assert.equal("cancelled", status_of "p/2")
  end)

  it("is cancelled when its parent ends without it, or goes on when it is to be abandoned",
    function()
      open(family())
      assert.same({ b = "child b" }, app:run("Parent", { id = "p", leaves = true }))
      assert.equal("cancelled", status_of "p/2")
      app:stop()
      open(family { on_end = "abandon", id = "mine" })
      assert.same({ b = "child b" }, app:run("Parent", { id = "p", leaves = true }))
      assert.equal("waiting", status_of "mine")
      assert.equal("child a", select(2, app:wait("mine")))
    end)

  it("that is killed tells its parent", function()
    open(family())
    app:start("Parent", { id = "p" })
    app:settle()
    assert.is_true(call(catga.processes.kill, "p/3"))
    app:settle()
    assert.equal("compensated", status_of "p")
  end)

  it("gives its error to its parent", function()
    open(function()
      local Parent = catga.process "Parent"
      function Parent:execute()
        local ok, err = pcall(function() self:run("Child", {}) end)
        local value, late = self:start("Slow", {}):wait { timeout = "1s" }
        return { ok = ok, code = err.code, status = err.status, value = value, late = late.code,
          unknown = select(2, pcall(function() self:run("Chld", {}) end)).code,
          again = select(2, pcall(function() self:start("Slow", {}, { id = self.id }) end)).code }
      end
      local Child = catga.process "Child"
      function Child.execute() error(catga.error("broken")) end
      local Slow = catga.process "Slow"
      function Slow:execute() self:sleep("1h") end
    end)
    assert.same({ ok = false, code = "broken", status = "failed", late = "timeout",
      unknown = "unknown_process", again = "conflict" }, app:run("Parent", { id = "p" }))
  end)
end)

describe("a child that is killed", function()
  it("is over for its parent, also when that is not in memory", function()
    open(function()
      local Parent = catga.process "Parent"
      function Parent:execute()
        local value, err = self:start("Child", {}, { id = "c" }):wait()
        return { value = value, code = err.code, status = err.status }
      end
      local Child = catga.process "Child"
      function Child:execute() self:receive("never") end
    end, { settings = { process_idle = "1s" } })
    app:start("Parent", { id = "p" })
    app:advance("1m")
    assert.equal(0, app.app.engine.active_count)
    assert.is_true(call(catga.processes.kill, "c"))
    assert.same({ code = "killed", status = "killed" }, (select(2, app:wait("p"))))
  end)
end)

describe("a process with a timeout", function()
  local function define()
    local P = catga.process "P"
    P.options = { timeout = "1h", tags = function(input) return { customer = input.customer } end }
    function P:execute()
      self:mark()
      pcall(function() self:sleep("5h") end)
      return "done"
    end
    function P.mark() called "mark" end
    function P.compensate_mark() called "undo" end
  end

  it("is undone when its time has passed, whatever its body catches", function()
    open(define)
    local _, err = app:run("P", { id = "x" })
    assert.equal("timeout", err.code)
    assert.equal("compensated", err.status)
    assert.same({ "mark", "undo" }, calls)
    assert.equal(START + HOUR, app.clock:now())
  end)

  it("has the one that its start says, also after a restart", function()
    open(define)
    call(catga.start, "P", { id = "x" }, { timeout = "2h" })
    app = assert(app:crash())
    local status = app:wait("x")
    assert.equal("compensated", status)
    assert.equal(START + 2 * HOUR, app.clock:now())
    assert.is_nil((testing.chaos(define, "P", { id = "x" })))
  end)

  it("lets the attempt that runs end before it undoes", function()
    open(function()
      local P = catga.process "P"
      P.options = { timeout = "5s" }
      function P:execute() self:long() return 1 end
      function P.long()
        catga.sleep("10s")
        called "long"
      end
      function P.compensate_long() called "undo long" end
    end)
    local _, err = app:run("P", "x")
    assert.equal("compensated", err.status)
    assert.same({ "long", "undo long" }, calls)
  end)
end)

describe("catga.processes.kill", function()
  it("ends a process and its children where they stand", function()
    open(function()
      local P = catga.process "P"
      function P:execute()
        self:mark()
        self:start("Q", {}, { id = "q" })
        self:all("x", { function() self:sleep("1h") end, function() self:long() end })
      end
      function P.mark() called "mark" end
      function P.compensate_mark() called "undo" end
      function P.long() catga.sleep("30m") end
      local Q = catga.process "Q"
      function Q:execute() self:sleep("1h") end
    end)
    app:start("P", "x")
    app:settle()
    local waits = beside(function() return catga.processes.wait("x") end)
    assert.is_true(call(catga.processes.kill, "x", { reason = "enough" }))
    app:settle()
    assert.equal("killed", waits.result[1])
    assert.equal("killed", status_of "x")
    assert.equal("killed", status_of "q")
    assert.same({ "mark" }, calls)
    assert.equal("ended", select(2, call(catga.processes.kill, "x")).code)
    assert.equal("not_found", select(2, call(catga.processes.kill, "y")).code)
    app = assert(app:crash())
    assert.equal("killed", (app:wait("x")))
  end)
end)

describe("catga.processes.pause", function()
  local function define()
    local P = catga.process "P"
    function P:execute()
      self:one()
      self:sleep("1s")
      self:two()
      return "done"
    end
    function P.one() called "one" end
    function P.two() called "two" end
  end

  it("holds a process until it is resumed, also over a restart", function()
    open(define)
    app:start("P", "x")
    app:settle()
    assert.is_true(call(catga.processes.pause, "x", { reason = "maintenance" }))
    app:advance("10s")
    assert.equal("paused", status_of "x")
    assert.same({ "one" }, calls)
    app = assert(app:crash())
    app:advance("10s")
    assert.equal("paused", status_of "x")
    assert.same({ "one" }, calls)
    assert.is_true(call(catga.processes.resume, "x"))
    assert.equal("done", select(2, app:wait("x")))
    assert.same({ "one", "two" }, calls)
  end)

  it("does not hold a cancel up", function()
    open(define)
    app:start("P", "x")
    app:settle()
    call(catga.processes.pause, "x")
    app:advance("10s")
    assert.is_true(call(catga.processes.cancel, "x"))
    assert.equal("cancelled", status_of "x")
  end)
end)

describe("catga.processes.retry", function()
  local is_down
  local function define()
    local P = catga.process "P"
    P.settings = { call = { attempts = 2, backoff = "1s" } }
    function P:execute()
      local first = self:one()
      local results = self:all("x", {
        a = function() return self:call("a") end,
        b = function() return self:two() end,
      })
      results.first, results.last = first, self:three()
      return results
    end
    function P.one() called "one" return "one" end
    function P.two() called "two" return "two" end
    function P.three() called "three" return "three" end
    function P.call(_, name)
      called "call"
      if is_down then error("the wire is down") end
      return name
    end
  end

  it("goes on from the step that failed", function()
    is_down = true
    open(define)
    local _, err = app:run("P", "x")
    assert.equal("failed", err.status)
    assert.equal("conflict", select(2, call(catga.processes.resume, "x")) and "conflict")
    assert.is_true(call(catga.processes.retry, "x"))
    assert.equal("failed", (app:wait("x"))) -- Still down: with new attempts.
    assert.same({ "one", "call", "two", "call", "call", "call" }, calls)
    is_down, calls = false, {}
    assert.is_true(call(catga.processes.retry, "x"))
    local _, result = app:wait("x")
    assert.same({ a = "a", b = "two", first = "one", last = "three" }, result)
    assert.same({ "call", "three" }, calls)
    assert.equal("conflict", select(2, call(catga.processes.retry, "x")).code)
    app = assert(app:crash(app:position() - 1))
    assert.same(result, (select(2, app:wait("x"))))
  end)

  it("keeps what other branches have done, also behind the failure and over several retries",
    function()
      is_down = true
      local downs = { a = true, b = true, c = true }
      open(function()
        local P = catga.process "P"
        P.settings = { try = { attempts = 1 } }
        function P:execute()
          local r = self:all("x", {
            a = function() self:sleep("1s") return self:try("a") end,
            b = function() self:sleep("1s") return self:try("b") end,
            slow = function() return self:slow() end,
          })
          r.c = self:try("c")
          return r
        end
        function P.try(_, name)
          called(name)
          if downs[name] then error("down") end
          return name
        end
        function P.slow()
          catga.sleep("10s")
          called "slow"
          return "slow"
        end
      end)
      assert.equal("failed", select(2, app:run("P", "x")).status)
      downs.a, downs.b = false, false
      assert.is_true(call(catga.processes.retry, "x"))
      assert.equal("failed", (app:wait("x")))
      downs.c = false
      assert.is_true(call(catga.processes.retry, "x"))
      assert.same({ a = "a", b = "b", c = "c", slow = "slow" }, (select(2, app:wait("x"))))
      local count = {}
      for _, name in ipairs(calls) do count[name] = (count[name] or 0) + 1 end
      assert.equal(1, count.slow)
      assert.is_true(count.a <= 2 and count.b <= 2)
      assert.equal(2, count.c)
      app = assert(app:crash(app:position() - 1))
      assert.same({ a = "a", b = "b", c = "c", slow = "slow" }, (select(2, app:wait("x"))))
    end)

  it("undoes what is left when an undo has failed", function()
    is_down = true
    open(function()
      local P = catga.process "P"
      P.settings = { a = { attempts = 1 }, b = { attempts = 1 } }
      function P:execute()
        self:a()
        self:b()
        error(catga.error("refused"))
      end
      function P.a() end
      function P.b() end
      function P.compensate_a() if is_down then error("down") end called "undo a" end
      function P.compensate_b() called "undo b" end
    end)
    assert.equal("compensation_failed", select(2, app:run("P", "x")).status)
    is_down = false
    assert.is_true(call(catga.processes.retry, "x"))
    assert.equal("compensated", (app:wait("x")))
    assert.same({ "undo b", "undo a" }, calls)
  end)

  it("gives a step that failed a result by skip", function()
    is_down = true
    open(define)
    app:run("P", "x")
    assert.equal("conflict", select(2, call(catga.processes.skip, "x", 1, "given")).code)
    assert.is_true(call(catga.processes.skip, "x", "2.1.1", "given"))
    local _, result = app:wait("x")
    assert.same({ a = "given", b = "two", first = "one", last = "three" }, result)
  end)

  it("gives a step that waits for another attempt a result by skip", function()
    is_down = true
    open(function()
      define()
      local Q = catga.process "Q"
      Q.settings = { call = { attempts = 5, backoff = "1h" } }
      function Q:execute() return self:call() end
      function Q.call() error("down") end
    end)
    app:start("Q", "q")
    app:settle()
    call(catga.spawn, function() catga.processes.skip("q", 1, { n = 5 }) end)
    app:settle()
    assert.equal(START, app.clock:now())
    assert.same({ n = 5 }, (select(2, app:wait("q"))))
  end)
end)

describe("tags of processes", function()
  it("are given at the start, by the class, or changed by the body; lists are filtered by them",
    function()
      open(function()
        local P = catga.process "P"
        P.options = { tags = function(input)
          return { customer = input.customer, kind = "order" }
        end }
        function P:execute(input)
          self:tag { stage = "paid", kind = catga.null }
          if input.waits then self:sleep("1h") end
        end
      end)
      call(catga.start, "P", { id = "1", customer = "ann" }, { tags = { urgent = true } })
      call(catga.start, "P", { id = "2", customer = "bob", waits = true })
      app:settle()
      local function ids(tags)
        local list = {}
        for _, p in ipairs(call(catga.processes.list, { tags = tags })) do
          list[#list + 1] = p.id
        end
        table.sort(list)
        return list
      end
      for _ = 1, 2 do
        assert.same({ "1", "2" }, ids { stage = "paid" })
        assert.same({ "1" }, ids { customer = "ann" })
        assert.same({ "1" }, ids { urgent = true, stage = "paid" })
        assert.same({}, ids { kind = "order" })
        app = assert(app:crash())
        app:settle()
      end
      local _, err = call(catga.start, "P", { id = "3" }, { tags = { x = {} } })
      assert.equal("invalid", err.code)
    end)

  it("that are wrong are the same error on a replay", function()
    assert.is_nil((testing.chaos(function()
      local P = catga.process "P"
      function P:execute()
        local _, err = pcall(function() self:tag { x = {} } end)
        local _, second = pcall(function()
          self:all("two", { function() self:approval("a") end, function() self:approval("a") end })
        end)
        return { err.code, second.code, self:step("after", function() return 1 end) }
      end
    end, "P", "x")))
  end)
end)
