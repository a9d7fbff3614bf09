-- The process of examples/embed: it asks the C program for prices, durably, once for each item.
local catga = require "catga"

local Order = catga.process "Order"

function Order:execute(order)
  local total = 0
  for _, item in ipairs(order.items) do
    total = total + self:send("Price", { item = item }).cents
  end
  return { id = order.id, cents = total }
end
