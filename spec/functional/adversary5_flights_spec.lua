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
