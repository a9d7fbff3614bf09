--- The unit of work: all of it or nothing, also when the program dies between any two records.
local testing = require "catga.testing"
local native_task = require "catga.native.task"
local tasks = require "catga.task"
local catga = require "catga"

local app

local function open(define, opts)
  app = assert(testing.app(define, opts))
  return app
end

local function count_of(some_app, stream)
  return #some_app:call(catga.events.read, stream, { max = 1000 })
end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- A transfer is one record in each of two streams; its outcome is kept under its key.
local function define()
  catga.command("Transfer", function(cmd)
    assert(catga.events.append("Account-" .. cmd.from, { { type = "Withdrawn" } }))
    assert(catga.events.append("Account-" .. cmd.to, { { type = "Paid" }, { type = "Noted" } }))
    assert(catga.publish("Transferred", cmd))
    if cmd.pause then catga.sleep(cmd.pause) end
    if cmd.fail then return nil, catga.error("refused") end
    if cmd.crash then error("crash") end
    return true
  end)
end

describe("a unit of work", function()
  it("is there as a whole or not at all, after a kill at every position", function()
    open(define)
    for n = 1, 3 do assert(app:send("Transfer", { from = "a", to = "b" }, { key = "k" .. n })) end
    local seen = {}
    for position = 1, app:position() do
      local after = assert(testing.app(define, { memory = app:snapshot(position) }))
      local whole = count_of(after, "Account-a")
      assert.equal(2 * whole, count_of(after, "Account-b"))
      assert.equal(whole, count_of(after, "$type-Transferred"))
      local known = 0
      for n = 1, 3 do
        local stream = after.app.store:stream("$outcome-Transfer-k" .. n)
        if stream then known = known + after.app.store:count(stream) end
      end
      assert.equal(whole, known)
      seen[whole] = true
      after:stop()
    end
    assert.same({ [0] = true, true, true, true }, seen)
  end)

  it("of a handler that fails stores nothing", function()
    open(define)
    local before = app:position()
    for _, how in ipairs { "fail", "crash" } do
      assert.is_nil((app:send("Transfer", { from = "a", to = "b", [how] = true })))
      assert.equal(before, app:position())
      assert.equal(0, count_of(app, "Account-a"))
    end
  end)

  it("is seen by nobody else before its commit", function()
    open(define)
    local during
    app:call(function()
      local transfer = catga.spawn(function()
        return catga.send("Transfer", { from = "a", to = "b", pause = "10ms" })
      end)
      catga.sleep("5ms")
      during = #catga.events.read("Account-a")
      assert.is_true(transfer:wait())
    end)
    assert.equal(0, during)
    assert.equal(1, count_of(app, "Account-a"))
  end)

  it("that nothing was staged in commits nothing", function()
    open(function() catga.command("Nothing", function() return "done" end) end)
    local before = app.app.store:stats().commit_count
    assert.equal("done", app:send("Nothing", {}))
    assert.equal(before, app.app.store:stats().commit_count)
  end)

  it("is durable when the send returns, and delivered only then", function()
    local delivered, answer = 0, nil
    open(function()
      define()
      catga.on("Transferred", function() delivered = delivered + 1 end)
    end, { manual = true })
    tasks.spawn(app.app, function()
      answer = app.app.mediator:send("command", "Transfer", { from = "a", to = "b" })
    end)
    for _ = 1, 5 do native_task.yield() end
    local early = { answer = answer, delivered = delivered }
    app.app.store:turn()
    app:settle()
    assert.same({ delivered = 0 }, early)
    assert.is_true(answer)
    assert.equal(1, delivered)
  end)

  it("that is too large for the log is an error", function()
    open(function()
      catga.command("Fill", function()
        local text = ("x"):rep(2 ^ 18)
        for i = 1, 10 do
          local ok, err = catga.events.append("S-" .. i, { { type = "Filled", data = text } })
          if not ok then return nil, err end
        end
        return true
      end)
    end, { settings = { segment_size = "1MiB" } })
    local value, err = app:send("Fill", {})
    assert.is_nil(value)
    assert.equal("limit", err.code)
    assert.equal(0, count_of(app, "S-1"))
    assert.is_true(app:publish("Small", {}))
  end)

  it("that meets too much to be written waits for it", function()
    open(define, { manual = true, settings = { pending_max = "1KiB" } })
    local ended = 0
    for _ = 1, 20 do
      tasks.spawn(app.app, function()
        assert(app.app.mediator:send("command", "Transfer", { from = "a", to = "b" }))
        ended = ended + 1
      end)
    end
    for _ = 1, 1000 do
      native_task.yield()
      app.app.store:turn()
      app.clock:advance(1)
      app.clock:fire()
      if ended == 20 then break end
    end
    assert.equal(20, ended)
  end)

  it("of a step holds what the step staged and that it is done", function()
    local function define_steps()
      define()
      local P = catga.process "P"
      function P:execute()
        self:move()
        self:send("Transfer", { from = "a", to = "b" })
      end
      function P.move()
        assert(catga.events.append("Account-a", { { type = "Withdrawn" } }))
        assert(catga.events.append("Account-b", { { type = "Paid" }, { type = "Noted" } }))
        return catga.publish("Transferred", {})
      end
    end
    open(define_steps)
    app:run("P", "x")
    for position = 2, app:position() do
      local after = assert(testing.app(define_steps, { memory = app:snapshot(position) }))
      assert.equal("completed", (after:wait("x")))
      assert.equal(2, count_of(after, "Account-a"))
      assert.equal(4, count_of(after, "Account-b"))
      assert.equal(2, count_of(after, "$type-Transferred"))
      after:stop()
    end
  end)
end)

describe("after the commit", function()
  it("records of the runtime itself are not delivered as events", function()
    local seen = {}
    open(function()
      for _, name in ipairs { "CommandHandled", "ProcessStarted", "ProcessCompleted", "Mine" } do
        catga.on(name, function() seen[#seen + 1] = name end)
      end
      local P = catga.process "P"
      function P.execute() return 1 end
      catga.command("Begin", function()
        catga.events.append("S", { { type = "Mine" } })
        return catga.start("P", "x")
      end)
    end)
    assert.equal("x", app:send("Begin", {}, { key = "k" }))
    app:settle()
    assert.same({ "Mine" }, seen)
  end)

  it("an event handler is a unit of its own", function()
    open(function()
      define()
      catga.on("Transferred", function()
        catga.events.append("Mails", { { type = "Sent" } })
        error("no mail")
      end)
      catga.on("Transferred", function() catga.events.append("Ledger", { { type = "Booked" } }) end)
    end)
    assert(app:send("Transfer", { from = "a", to = "b" }))
    app:settle()
    assert.equal(0, count_of(app, "Mails"))
    assert.equal(1, count_of(app, "Ledger"))
    assert.equal(1, count_of(app, "Account-a"))
  end)
end)
