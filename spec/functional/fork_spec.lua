--- Forks: a new process with the recorded outcomes of another one, up to an operation.
local testing = require "catga.testing"
local tasks = require "catga.task"
local catga = require "catga"

local START = 1767225600000

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
local function fork(...) return app:call(catga.processes.fork, ...) end
local function signal(...) assert(app:call(catga.processes.signal, ...)) end

local function order(P, last)
  P.options = { tags = { kind = "order" } }
  function P:execute(input)
    local out = { id = self.id, input = input, random = { math.random(1e9) } }
    out.first = self:one(1)
    catga.json.encode { self:now() }
    out.at = { self:now(), os.time() }
    out.got = { self:receive("go"), self:receive("go") }
    out.random[2] = self:random()
    self:sleep("1h")
    out.both = self:all("both", {
      function() out.random[3] = math.random(1e9) return self:one(2) end,
      function() self:sleep("5s") return self:now() end,
    })
    out.last = last and last(self) or self:one(3)
    out.random[4] = self:uuid()
    return out
  end
  function P.one(_, n)
    called(n)
    return { n = n }
  end
  function P.compensate_one(_, _, n) called("undo " .. n) end
end

describe("a fork", function()
  local function begin()
    app:start("P", { id = "x" })
    app:settle()
    signal("x", "go", "a")
    signal("x", "other", 1)
    signal("x", "go", "b")
  end

  it("has the outcomes of the first one up to an operation, with times and random numbers",
    function()
      open(order)
      begin()
      app:advance("2h")
      local _, first = app:wait("x")
      app:advance("50d")
      for op = 0, 6 do
        calls = {}
        local id = assert(fork("x", op, { id = "fork" .. op }))
        assert.equal("fork" .. op, id)
        if op < 3 then
          app:settle()
          signal(id, "go", op < 2 and "a" or "b")
          signal(id, "go", "b")
        end
        local status, result = app:wait(id)
        assert.equal("completed", status)
        assert.equal(id, result.id)
        assert.same(first.got, result.got)
        assert.same({ first.random[1], first.random[2], first.random[3], first.random[4] },
          result.random)
        assert.equal(op > 0, result.at[1] == first.at[1])
        assert.equal(op >= 5, result.both[2] == first.both[2])
        assert.same(({ [0] = { 1, 2, 3 }, { 2, 3 }, { 2, 3 }, { 2, 3 }, { 2, 3 }, { 3 }, {} })[op],
          calls)
        local process = app:call(catga.processes.get, id)
        assert.same({ id = "x", op = op }, process.forked_from)
        assert.same({ kind = "order" }, process.tags)
        app = assert(app:crash())
        assert.equal("same", app:call(catga.processes.replay, id).verdict)
      end
    end)

  it("of a failed process goes on with a script that was mended, and with another input",
    function()
      open(function(P)
        order(P, function(self)
          return self:step("pay", function() error(catga.error("refused")) end)
        end)
      end)
      begin()
      local status = app:wait("x")
      assert.equal("compensated", status)
      app = assert(app:crash(nil, define_with(function(P)
        order(P, function(self) return self:step("pay", function() return "paid" end) end)
      end)))
      local id = assert(fork("x", 5, { input = { id = "other" } }))
      local _, result = app:wait(id)
      assert.equal("paid", result.last)
      assert.same({ id = "other" }, result.input)
      assert.same({ 1, 2, "undo 2", "undo 1" }, calls)
    end)

  it("goes on where a running process waits: same time, and what has come stays", function()
    open(order)
    begin()
    app:advance("20m")
    local id = assert(fork("x", 4))
    assert.equal(START, app:journal(id)[#app:journal(id)].data.at)
    local _, result = app:wait(id)
    assert.same({ "a", "b" }, result.got)
    assert.equal(START + 3605000, app.clock:now())
    app:start("P", { id = "y" })
    app:settle()
    signal("y", "go", 1)
    local second = assert(fork("y", 1))
    app:settle()
    signal(second, "go", 2)
    app:settle()
    assert.equal("waiting", app:call(catga.processes.get, second).status)
    signal(second, "go", 3)
    assert.same({ 2, 3 }, (select(2, app:wait(second))).got)
  end)

  it("makes no step of a branch or an attempt its own that had not ended", function()
    open(function(P)
      P.settings = { once = { at_most_once = true }, often = { attempts = 5, backoff = "1h" } }
      function P:execute()
        return self:all("both", {
          function() return self:once() end,
          function() self:step("done", function() called "done" return 1 end)
            return self:often() end,
        })
      end
      function P.once() called "once" catga.sleep("20s") return 1 end
      function P.often()
        called "often"
        if #calls < 5 then error("again") end
        return 2
      end
    end)
    app:start("P", "x")
    app:settle()
    assert.same({ "once", "done", "often" }, calls)
    local id = assert(fork("x", 1))
    app:settle()
    assert.same({ "once", "done", "often", "often", "once" }, calls)
    assert.same({ 1, 2 }, (select(2, app:wait(id))))
  end)

  it("leaves children to the first process, and promises get ids of its own", function()
    open(function(P)
      function P:execute()
        local child = self:start("Child", { id = "c" })
        local promise = self:promise()
        self:step("tell", function() P.told = promise.id end)
        if self:receive("leave", { timeout = "1s" }) then return "left" end
        return { child:wait(), promise:wait() }
      end
      P.updates.note = function(self, value) self.note = value return value end
      function P.queries:note() return self.note end
      local Child = catga.process "Child"
      function Child:execute() self:sleep("1h") return "child" end
    end)
    app:start("P", "x")
    app:settle()
    assert.equal("n", (app:call(catga.processes.update, "x", "note", "n", { id = "1" })))
    local id = assert(fork("x", 4, { id = "y" }))
    local other = assert(fork("x", 4, { id = "z" }))
    app:settle()
    assert.equal("n", (app:call(catga.processes.query, id, "note")))
    assert.equal("n", (app:call(catga.processes.update, id, "note", "m", { id = "1" })))
    signal(other, "leave", true)
    assert.equal("left", (select(2, app:wait(other))))
    assert.equal("waiting", app:call(catga.processes.get, "x/1").status)
    local promise
    for _, record in ipairs(app:journal("y")) do
      if record.type == "ProcessPromiseMade" then promise = record.data.id end
    end
    assert.truthy(promise:find("~y$"))
    assert.is_true(app:call(catga.promises.resolve, promise, "kept"))
    assert.same({ "child", "kept" }, (select(2, app:wait("y"))))
  end)

  it("takes updates over in the middle of things, and is the same after a kill at every record",
    function()
      local function fill(P)
        function P:execute()
          self.log = { "began" }
          self:step("a", function() return 1 end)
          self:sleep("1h")
          self.log[#self.log + 1] = "slept"
          self:step("b", function() return 1 end)
          self:sleep("1h")
          return self.log
        end
        function P.updates:add(value)
          self.log[#self.log + 1] = self:step("one", function() return value end)
          self:sleep("90m")
          self.log[#self.log + 1] = self:step("two", function() return value .. "!" end)
        end
      end
      open(fill)
      app:start("P", "x")
      app:settle()
      tasks.spawn(app.app, function() catga.processes.update("x", "add", "u") end)
      app:settle()
      local before = app:position()
      fork("x", 2, { id = "y" })
      local _, expected = app:wait("y")
      assert.same({ "began", "u", "slept", "u!" }, expected)
      local first = #app:journal("y")
      assert.truthy(first > 5)
      for position = before, app:position() - 1 do
        local again = assert(testing.app(define_with(fill), { memory = app:snapshot(position),
          start = START + 3600000 * 9 }))
        local records = again:journal("y")
        assert.truthy(#records == 0 or #records >= 5) -- The copies are one commit.
        if #records > 0 then
          local status, result = again:wait("y")
          assert.same({ "completed", 4 }, { status, #result })
          assert.equal("same", again:call(catga.processes.replay, "y").verdict)
        end
        again:stop()
      end
    end)

  it("of a process that was tried again leaves out what no longer counts", function()
    local fails = true
    open(function(P)
      function P:execute()
        local a = self:step("a", function() return "a" end)
        local b = self:step("b", function()
          if fails then error(catga.error("refused")) end
          return "b"
        end)
        return { a, b, self:step("c", function() return "c" end) }
      end
    end)
    app:run("P", "x")
    fails = false
    assert(app:call(catga.processes.retry, "x"))
    app:wait("x")
    local id = assert(fork("x", 2))
    assert.same({ "a", "b", "c" }, (select(2, app:wait(id))))
    assert.equal(5, #app:journal(id))
  end)

  it("takes over loops, large values, and values that JSON cannot hold", function()
    open(function(P)
      P.options = { serializer = "binary" }
      function P:execute(input)
        local big = self:step("big", function() called "big" return ("x"):rep(3e5) end)
        local odd = self:step("odd", function() called "odd" return { [3] = "three" } end)
        local total = self:loop(0, function(n, round)
          if round == 1200 then return nil, n end
          if round % 400 == 0 then self:receive("more") end
          return n + 1
        end)
        return { #big, odd[3], total, #input.text, self:step("last", function() return 1 end) }
      end
    end)
    app:start("P", { id = "x", text = ("y"):rep(2e5) })
    app:settle()
    for i = 1, 2 do signal("x", "more", i) app:settle() end
    local _, first = app:wait("x")
    assert.same({ 300000, "three", 1199, 200000, 1 }, first)
    for op = 2, 4 do
      local id = assert(fork("x", op, { id = "f" .. op }))
      app:settle()
      if op == 2 then
        for i = 1, 2 do signal(id, "more", i) app:settle() end
      end
      assert.same(first, (select(2, app:wait(id))))
      app = assert(app:crash())
      assert.equal("same", app:call(catga.processes.replay, id).verdict)
    end
    assert.same({ "big", "odd" }, calls)
  end)

  it("of a fork of a fork is still the same", function()
    open(order)
    begin()
    app:advance("3h")
    local _, first = app:wait("x")
    for i = 1, 3 do
      app:advance("1d")
      fork(i == 1 and "x" or "f" .. (i - 1), 6, { id = "f" .. i })
      local _, result = app:wait("f" .. i)
      result.id, result.random[4] = first.id, first.random[4]
      assert.same(first, result)
    end
  end)

  it("is refused with what is wrong", function()
    open(order)
    begin()
    app:settle()
    local function code(...) return select(2, fork(...)).code end
    assert.equal("invalid", code("x", 5))
    assert.equal("invalid", code("x", -1))
    assert.equal("invalid", code("x", "one"))
    assert.equal("not_found", code("y", 1))
    assert.equal("exists", code("x", 1, { id = "x" }))
    assert.equal("invalid", code("x", 1, { id = "" }))
    app:stop()
    open(function(P)
      P.settings = { a = { attempts = 5, backoff = "1h" } }
      function P:execute() return self:a() end
      function P.a() error("again") end
    end)
    app:start("P", "x")
    app:settle()
    local _, err = fork("x", 1)
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find("step a, has not ended; fork it at 0", 1, true))
    app:stop()
    open(function(P)
      function P:execute()
        for i = 1, 12 do self:step("a", function() return ("x"):rep(1e5) .. i end) end
      end
    end, { settings = { segment_size = "1MiB", blob_size = "900KiB" } })
    app:run("P", "x")
    _, err = fork("x", 12)
    assert.equal("limit", err.code)
    assert.truthy(err.message:find("process x cannot be forked at 12: a commit with", 1, true))
    assert(fork("x", 5))
  end)
end)
