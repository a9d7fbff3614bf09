--- The testing kit's scenarios of aggregates: what passes, and what a failure says.
local testing = require "catga.testing"
local catga = require "catga"

local app
local counter = 0

local function define()
  local Order = catga.aggregate "Order"
  function Order.initial() return { status = "none", total = 0 } end
  function Order.apply.OrderCreated(state, event)
    state.status, state.customer = "created", event.customer
  end
  function Order.apply.LineAdded(state, event) state.total = state.total + event.amount end
  function Order.apply.Odd(state)
    counter = counter + 1
    state.odd = counter
  end
  function Order:create(customer)
    if self.state.status ~= "none" then return nil, catga.error("exists") end
    self:raise("OrderCreated", { customer = customer })
    return self.id
  end
  function Order:add(sku, amount)
    self:raise("LineAdded", { sku = sku, amount = amount })
    if amount > 100 then return nil, catga.error("too_much") end
  end
  function Order:odd() self:raise "Odd" end
  function Order:pause() catga.sleep "1h" self:raise("LineAdded", { amount = 1 }) end
end

local function order() return testing.aggregate "Order" end

-- What a function raises.
local function failure(fn)
  local ok, message = pcall(fn)
  assert.is_false(ok)
  return tostring(message)
end

local CREATED = { "OrderCreated", { customer = "Ann" } }

before_each(function() app = assert(testing.app(define)) end)
after_each(function() app:stop() end)

describe("a scenario", function()
  it("passes when all is as expected", function()
    order():when("create", "Ann"):expect { CREATED }:expect_value("1")
      :expect_state { status = "created", customer = "Ann", total = 0 }
    order():given({ CREATED, { type = "LineAdded", data = { amount = 2 } } }, "7")
      :when(function(o)
        assert.equal("7", o.id)
        return o:add("A", 5)
      end)
      :expect { { "LineAdded", { amount = 5, sku = "A" } } }
      :expect_state(function(state) return state.total == 7 end)
    order():given { CREATED }:when("create", "Bob"):expect_error "exists"
    order():when("add", "A", 5):expect { { "LineAdded", function(d) return d.amount == 5 end } }
    order():when(function() end):expect {}
    order():when(function() error "a bug" end):expect_error "error"
    app:aggregate("Order"):when "pause":expect { { "LineAdded", { amount = 1 } } }
    assert.is_nil(app.app.store:stream("Order-1"))
  end)

  it("fails when other events were raised", function()
    local message = failure(function()
      order():given { CREATED }:when("add", "A", 5):expect { { "LineAdded", { amount = 6 } } }
    end)
    assert.matches("^spec/unit/testing_aggregate_spec.lua:%d+: expected other events:\n"
      .. "  1  LineAdded {\"amount\":6}\nraised were:\n  1  LineAdded {\"amount\":5,\"sku\":\"A\"}",
      message)
    assert.matches("raised were:\n  1  ", failure(function()
      order():when("add", "A", 5):expect {}
    end))
    assert.matches("raised were:\n  none", failure(function()
      order():when(function() end):expect { CREATED }
    end))
    assert.matches("%(a function%)", failure(function()
      order():when("add", "A", 5):expect { { "LineAdded", function() return false end } }
    end))
    assert.matches("expected other", failure(function()
      order():when("add", "A", 5):expect { { "Other", { amount = 5, sku = "A" } } }
    end))
  end)

  it("fails when the command fails or succeeds against what is expected", function()
    assert.matches("the command failed: exists", failure(function()
      order():given { CREATED }:when("create", "x"):expect {}
    end))
    assert.matches("the command failed: error: .*a bug", failure(function()
      order():when(function() error "a bug" end):expect {}
    end))
    assert.matches("expected the error exists; the command succeeded", failure(function()
      order():when("create", "x"):expect_error "exists"
    end))
    assert.matches("expected the error nope; it was exists", failure(function()
      order():given { CREATED }:when("create", "x"):expect_error "nope"
    end))
    assert.matches("the command failed, but it had raised events:\n  1  LineAdded",
      failure(function() order():when("add", "A", 500):expect_error "too_much" end))
    assert.matches("there is no command crate", failure(function()
      order():when("crate", "x"):expect {}
    end))
  end)

  it("fails when value or state are others", function()
    assert.matches("expected the value \"2\"; it was \"1\"", failure(function()
      order():when("create", "x"):expect_value "2"
    end))
    assert.matches("expected the state {}\nit is {\"status\":\"none\",\"total\":0}",
      failure(function() order():when(function() end):expect_state {} end))
    assert.matches("the state is not as expected: {", failure(function()
      order():when(function() end):expect_state(function() return false end)
    end))
  end)

  it("fails when apply gives something else the second time", function()
    assert.matches("the same events give another state when they are applied again", failure(
      function() order():when "odd":expect { { "Odd" } } end))
  end)

  it("says what is missing", function()
    assert.matches("say first what is done", failure(function() order():expect {} end))
    assert.matches("no aggregate is called Ordr; did you mean Order", failure(function()
      testing.aggregate "Ordr"
    end))
    assert.matches("event 1 is { \"Type\", data }", failure(function() order():given { {} } end))
    assert.matches("a list of events", failure(function() order():given "x" end))
    assert.matches("there is no Order.apply.Strange", failure(function()
      order():given { { "Strange" } }:when(function() end)
    end))
  end)
end)
