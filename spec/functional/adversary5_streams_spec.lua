--- Streams beside units of work, handlers and the outbox.
local testing = require "catga.testing"
local tasks = require "catga.task"
local catga = require "catga"

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(define, opts)
  app = assert(testing.app(define, opts))
end

local function count(stream) return #(app:call(catga.events.read, stream) or {}) end

describe("an unstored event for a stream whose buffer is full and fails", function()
  local heard, got, calls

  local function define()
    heard, got, calls = 0, 0, 0
    catga.stream("Q", { qos = 0, buffer = 1, overflow = "fail", name = "full" })
      :each(function() catga.sleep("10s") end)
    catga.stream("Q", { qos = 0, buffer = 10, name = "wide" }):each(function() got = got + 1 end)
    catga.command { name = "Pay", attempts = 3, handle = function()
      calls = calls + 1
      for i = 1, 5 do assert(catga.publish("Q", { i = i }, { qos = 0 })) end
      assert(catga.enqueue("Note", {}))
      assert(catga.publish("Paid", {}))
      return 1
    end }
    catga.on("Paid", function() heard = heard + 1 end)
    catga.command("Note", function()
      assert(catga.events.append("Notes", { { type = "Noted", data = {} } }))
    end)
  end

  it("does not fail the unit of work that has committed, nor keep others from it", function()
    open(define)
    local answer
    tasks.spawn(app.app, function()
      answer = { app.app.mediator:send("command", "Pay", {}) }
    end)
    app:settle()
    assert.same({ 1 }, answer)
    assert.equal(1, calls)
    assert.equal(1, heard)
    assert.equal(5, got)
    assert.equal(1, count "Notes")
    assert.equal(1, count "$type-Paid")
    assert.truthy(table.concat(app.lines, "\n"):find("stream full is full", 1, true))
  end)

  it("fails a publish outside of a unit, when the others have it", function()
    open(define)
    local failure
    app:call(function()
      for i = 1, 5 do
        local ok, err = pcall(catga.publish, "Q", { i = i }, { qos = 0 })
        if not ok then failure = err end
      end
    end)
    assert.equal("limit", failure.code)
    assert.equal(5, got)
  end)
end)

describe("a circle of a route and a stream", function()
  it("ends as one of routes alone does, with a dead letter", function()
    open(function()
      catga.route("A", { name = "r" }):to("B")
      catga.stream("B", { durable = "s" }):to("A")
    end)
    app:publish("A", {})
    app:advance("1m")
    local letters = app:call(catga.dead_letters.list)
    assert.equal(1, #letters)
    assert.equal("route_loop", letters[1].reason.code)
    assert.equal(17, count "$type-A")
  end)

  it("ends when a command is between them", function()
    open(function()
      catga.route("A", { name = "r" }):to("B")
      catga.command { name = "Send", idempotent = true, handle = function()
        return (catga.publish("A", {}))
      end }
      catga.stream("B", { durable = "s" }):each(function() assert(catga.send("Send", {})) end)
    end)
    app:publish("A", {})
    app:advance("1m")
    assert.equal("route_loop", app:call(catga.dead_letters.list)[1].reason.code)
  end)
end)
