--- Timer: an order that takes too long has its customer told, once; the work goes on.
local catga = require "catga"

local SlowOrder = catga.process "SlowOrder"

SlowOrder.settings = { make = { timeout = "24h" } }

function SlowOrder:execute(order)
  local told = false
  local made = self:any("order", {
    make = function() return self:make(order.id) end,
    late = function()
      self:sleep("30m")
      told = self:tell(order.id)
      error(catga.error("late")) -- It has not made the order: `any` waits for who does.
    end,
  })
  return { made = made, told = told }
end

function SlowOrder:make(id) return self:send("MakeOrder", { id = id }) end

function SlowOrder:tell(id)
  assert(catga.events.append("Mail-" .. id, { { type = "DelayMailed" } }))
  return true
end

catga.command("MakeOrder", function(cmd) return "order " .. cmd.id end)
