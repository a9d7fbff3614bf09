--- A message whose id or key was handled already gets the stored outcome; its effect is there once.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local tasks = require "catga.task"
local catga = require "catga"

local app, calls, pauses

local function define()
  catga.command("Pay", function(cmd)
    calls = calls + 1
    assert(catga.events.append("Paid", { { type = "Paid", data = cmd } }))
    if cmd.pause then catga.sleep(cmd.pause) end
    if cmd.fail then return nil, catga.error("refused") end
    return cmd.result
  end)
  catga.command { name = "Always", idempotent = true, handle = function(cmd)
    calls = calls + 1
    return cmd.n
  end }
  catga.command("Race", function(cmd)
    calls = calls + 1
    local mine = calls
    assert(catga.events.append("Paid", { { type = "Paid", data = cmd } }))
    if pauses[mine] then catga.sleep(pauses[mine]) end
    return mine
  end)
  catga.query("Ask", function()
    calls = calls + 1
    return calls
  end)
  catga.command("Both", function(cmd)
    local first = catga.send("Race", { n = cmd.n }, { key = "same" })
    local second, err = catga.send("Race", { n = cmd.n }, { key = "same" })
    return { first = first, second = second, code = err and err.code }
  end)
end

local function paid_count()
  return #app:call(function() return catga.events.read("Paid") end)
end

before_each(function()
  calls, pauses = 0, {}
  app = assert(testing.app(define))
end)

after_each(function()
  app:stop()
  app = nil
end)

describe("a repeated key", function()
  it("gives the stored outcome and runs nothing, whatever the outcome is", function()
    for i, result in ipairs { { a = { 1, 2.5, catga.null } }, "text", 0.1, true, false,
      catga.null } do
      calls = 0
      local opts = { key = "k" .. i }
      assert.same(result, app:send("Pay", { result = result }, opts))
      assert.same(result, app:send("Pay", { result = result }, opts))
      assert.equal(1, calls)
    end
    calls = 0
    assert.is_nil(app:send("Pay", {}, { key = "nil" }))
    local value, err = app:send("Pay", {}, { key = "nil" })
    assert.is_nil(value)
    assert.is_nil(err)
    assert.equal(1, calls)
  end)

  it("may be the message's id", function()
    assert.equal(1, app:send("Race", { n = 1 }, { id = "m1" }))
    assert.equal(1, app:send("Race", { n = 1 }, { id = "m1" }))
    assert.equal(1, calls)
  end)

  it("with other data is a conflict, in whatever order the fields come", function()
    local data = { a = 1, b = { "x", { c = catga.null, d = {} } }, e = 0.1, f = "1" }
    assert.equal(1, app:send("Race", data, { key = "k" }))
    local again = app.app.json.decode('{"f":"1","e":0.1,"b":["x",{"d":{},"c":null}],"a":1}')
    assert.equal(1, app:send("Race", again, { key = "k" }))
    for _, change in ipairs {
      function(d) d.a = 2 end, function(d) d.f = 1 end, function(d) d.b[1] = "y" end,
      function(d) d.b[2].c = nil end, function(d) d.b[2].d = { 1 } end, function(d) d.g = 1 end,
      function(d) d.b[3] = catga.null end, function(d) d.e = 0.10000000000000002 end,
    } do
      local other = app.app.json.decode(app.app.json.encode(again))
      change(other)
      local value, err = app:send("Race", other, { key = "k" })
      assert.is_nil(value)
      assert.equal("conflict", err.code)
      assert.is_false(err.retryable)
      assert.matches("used before with other data", err.message)
    end
    app = assert(app:crash())
    assert.equal("conflict", select(2, app:send("Race", { a = 2 }, { key = "k" })).code)
    assert.equal(1, calls)
  end)

  it("is known within inbox_window", function()
    app:stop()
    app = assert(testing.app(define, { settings = { inbox_window = "2h" } }))
    assert.equal(1, app:send("Race", {}, { key = "k" }))
    app:advance("119m")
    assert.equal(1, app:send("Race", {}, { key = "k" }))
    app:advance("2m")
    assert.equal(2, app:send("Race", { other = true }, { key = "k" }))
    assert.equal(2, app:send("Race", { other = true }, { key = "k" }))
  end)

  it("is counted", function()
    local began = app.clock:now()
    app:send("Race", {}, { key = "a" })
    app:advance("1h")
    app:send("Race", {}, { key = "b" })
    app:call(catga.enqueue, "Race", {}, { key = "c", delay = "1h" })
    assert.same({ count = 3, waiting = 1, oldest = began, window = 7 * 86400000 },
      app:call(catga.inbox.status))
    app:advance("167h")
    assert.equal(2, app:call(catga.inbox.status).count)
  end)

  it("is known after a restart", function()
    app:send("Pay", { result = "once" }, { key = "k" })
    app = assert(app:crash())
    assert.equal("once", app:send("Pay", { result = "once" }, { key = "k" }))
    assert.equal(1, calls)
    assert.equal(1, paid_count())
  end)

  it("of a failed command runs it again", function()
    app:send("Pay", { fail = true }, { key = "k" })
    assert.equal("paid", app:send("Pay", { result = "paid" }, { key = "k" }))
    assert.equal(2, calls)
    assert.equal(1, paid_count())
  end)

  it("is another one for another command or another key", function()
    app:send("Pay", { result = 1 }, { key = "a" })
    app:send("Pay", { result = 1 }, { key = "b" })
    app:send("Always", { n = 1 }, { key = "a" })
    assert.equal(3, calls)
  end)

  it("is not mixed up by names and keys with hyphens", function()
    app:stop()
    app = assert(testing.app(function()
      catga.command("A", function() return "A" end)
      catga.command("A-B", function() return "A-B" end)
    end))
    assert.equal("A", app:send("A", {}, { key = "B-c" }))
    assert.equal("A-B", app:send("A-B", {}, { key = "c" }))
  end)

  it("that comes again while the first is handled has one effect", function()
    for name, both in pairs {
      together = { "10ms", "10ms" }, overtaken = { "100ms", "10ms" }, late = { "10ms", "100ms" },
    } do
      local first, second, first_err, second_err
      local before = paid_count()
      calls, pauses = 0, both
      app:call(function()
        local one = catga.spawn(function()
          first, first_err = catga.send("Race", {}, { key = name })
        end)
        second, second_err = catga.send("Race", {}, { key = name })
        one:wait()
      end)
      assert.is_nil(first_err)
      assert.is_nil(second_err)
      assert.truthy(first)
      assert.equal(first, second)
      assert.equal(before + 1, paid_count())
    end
  end)

  it("in one unit of work has one effect", function()
    assert.same({ first = 1, second = 1 }, app:send("Both", { n = 5 }))
    assert.equal(1, calls)
    assert.equal(1, paid_count())
  end)

  it("is not answered before the first is durable", function()
    local manual = assert(testing.app(define, { manual = true }))
    local answers = {}
    local function send(n)
      answers[n] = manual.app.mediator:send("command", "Race", {},
        manual.app.mediator.outside { key = "k" })
    end
    local handles = {}
    for n = 1, 2 do
      handles[n] = tasks.future()
      tasks.spawn(manual.app, function()
        send(n)
        handles[n]:set()
      end)
    end
    for _ = 1, 5 do native_task.yield() end
    local early = #answers
    while manual.app.store:turn() do native_task.yield() end
    for n = 1, 2 do handles[n]:wait() end
    manual:stop()
    assert.equal(0, early)
    assert.same({ 1, 1 }, answers)
  end)

  it("that is no text of a sensible size is refused", function()
    for _, key in ipairs { 5, true, "", ("x"):rep(513) } do
      local value, err = app:send("Pay", { result = 1 }, { key = key })
      assert.is_nil(value)
      assert.equal("invalid", err.code)
    end
    assert.equal(0, calls)
  end)

  it("of a query means nothing", function()
    app:call(function() return catga.ask("Ask", {}) end)
    app:call(function() return catga.ask("Ask", {}) end)
    assert.equal(2, calls)
  end)
end)

describe("a command with idempotent = true", function()
  it("uses the key of its step, so that a step tried again has the effect once", function()
    app:stop()
    local tries = 0
    app = assert(testing.app(function()
      define()
      local P = catga.process "P"
      P.settings = { pay = { attempts = 3, backoff = "1s" } }
      function P:execute() return self:pay() end
      function P:pay()
        local value = self:send("Always", { n = tries })
        tries = tries + 1
        if tries < 3 then error("wire") end
        return value
      end
    end))
    -- An attempt that fails takes its staged outcome back, so each attempt runs the handler.
    assert.equal(2, app:run("P", "x"))
    assert.equal(3, calls)
  end)

  it("without a key from outside is a message of its own each time", function()
    app:send("Always", { n = 1 })
    app:send("Always", { n = 1 })
    assert.equal(2, calls)
  end)
end)
