--- Routes: which rule takes a message, where it goes, and when.
local testing = require "catga.testing"
local catga = require "catga"

local app

local function open(define, opts) app = assert(testing.app(define, opts)) end

after_each(function()
  if app then app:stop() end
  app = nil
end)

-- The data of the events of a stream.
local function data_of(stream)
  local list = {}
  for i, event in ipairs(app:call(catga.events.read, stream, { max = 10000 })) do
    list[i] = event.data
  end
  return list
end

local function publish(kind, data)
  assert(app:publish(kind, data))
  app:settle()
end

describe("a route", function()
  it("sends what its conditions take, transformed, to a topic", function()
    open(function()
      catga.route("OrderCreated"):when(function(m) return m.amount > 1000 end)
        :filter(function(m) return m.customer_id end, "no customer")
        :transform(function(m) return { id = m.id, total = m.amount } end)
        :to("high-value-orders")
    end)
    publish("OrderCreated", { id = 1, amount = 500, customer_id = "c" })
    publish("OrderCreated", { id = 2, amount = 1500, customer_id = "c" })
    publish("OrderCreated", { id = 3, amount = 2500 })
    assert.same({ { id = 2, total = 1500 } }, data_of "$type-high-value-orders")
  end)
end)
