--- Callers that wait for the answer of another one.
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

-- Starts a send; the handle tells what came of it.
local function begin(name, data)
  local handle = {}
  tasks.spawn(app.app, function()
    local kind = app.app.registry.handlers[name].kind
    handle.value, handle.err = app.app.mediator:send(kind, name, data or {})
    handle.done = true
  end)
  return handle
end

describe("a message that is deduplicated", function()
  local function define()
    catga.command { name = "Pay", deduplicate = "id", handle = function()
      catga.sleep("1s")
      assert(catga.events.append("Done", { { type = "Paid", data = {} } }))
      local answer = {}
      answer.itself = answer
      return answer
    end }
    catga.command("Order", function() return catga.send("Pay", { id = "a" }) end)
  end

  for _, name in ipairs { "Pay", "Order" } do
    it("is done once also when its answer cannot be copied, by " .. name, function()
      open(define)
      local first, second = begin(name, { id = "a" }), name == "Pay" and begin(name, { id = "a" })
      app:advance("1m")
      assert.equal("table", type(first.value))
      if second then
        assert.is_true(second.done)
        assert.equal("invalid", second.err.code)
      end
      local third = begin("Pay", { id = "a" })
      app:advance("1m")
      assert.equal("invalid", third.err.code)
      assert.equal(1, #app:call(catga.events.read, "Done"))
    end)
  end
end)

describe("a message that is deduplicated inside a unit of work", function()
  local calls

  local function run(order)
    calls = 0
    open(function()
      catga.command { name = "Pay", deduplicate = "id", handle = function()
        calls = calls + 1
        assert(catga.events.append("Done", { { type = "Paid", data = {} } }))
        return calls
      end }
      catga.command("Fail", function()
        assert(catga.send("Pay", { id = "a" }))
        error("down")
      end)
      catga.command("Order", order)
    end)
    local value = app:send("Order", {})
    return value, #app:call(catga.events.read, "Done")
  end

  it("is handled once in it", function()
    local value, count = run(function()
      assert(catga.send("Pay", { id = "a" }))
      return catga.send("Pay", { id = "a" })
    end)
    assert.equal(1, value)
    assert.equal(1, count)
  end)

  it("is handled again when the first one was taken back", function()
    local value, count = run(function()
      catga.send("Fail", {})
      return catga.send("Pay", { id = "a" })
    end)
    assert.equal(2, value)
    assert.equal(1, count)
  end)
end)

describe("callers that wait for each other", function()
  local function define(fields)
    local function make(name, other, register)
      local one = { name = name, handle = function(message)
        catga.sleep("1s")
        if message.depth == 0 then return 1 end
        local send = register == catga.query and catga.ask or catga.send
        return send(other, { id = message.id, depth = message.depth - 1 })
      end }
      for field, value in pairs(fields) do one[field] = value end
      register(one)
    end
    return make
  end

  it("get their answers from queries that are cached", function()
    open(function()
      local make = define { cache = { ttl = "1m", key = "id" } }
      make("A", "B", catga.query)
      make("B", "C", catga.query)
      make("C", "A", catga.query)
    end)
    local list = {}
    for i, name in ipairs { "A", "B", "C" } do list[i] = begin(name, { id = 1, depth = 5 }) end
    app:advance("1m")
    for i = 1, 3 do
      assert.is_true(list[i].done)
      assert.equal(1, list[i].value, tostring(list[i].err))
    end
  end)

  it("are told when they are deduplicated", function()
    open(function()
      local make = define { deduplicate = "id" }
      make("A", "B", catga.command)
      make("B", "A", catga.command)
    end)
    local a, b = begin("A", { id = 1, depth = 5 }), begin("B", { id = 1, depth = 5 })
    app:advance("1m")
    assert.is_true(a.done and b.done)
    assert.equal("would_deadlock", a.err.code)
    local again = begin("A", { id = 1, depth = 1 })
    app:advance("1m")
    assert.equal(1, again.value)
  end)

  it("are told when they load entries of a cache", function()
    open(function()
      local function load(name, other)
        catga.command(name, function()
          return catga.cache("c"):get_or(name, function()
            catga.sleep("1s")
            return catga.send(other, {})
          end)
        end)
      end
      load("A", "B")
      load("B", "A")
    end)
    local a, b = begin("A"), begin("B")
    app:advance("1m")
    assert.is_true(a.done and b.done)
    assert.equal("would_deadlock", (a.err or b.err).code)
  end)
end)
