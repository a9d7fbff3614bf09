--- The commands of the shop. Their effects are events in the order's own stream, staged with the
--- step that sends the command: however often a step is attempted, its events are there once.
local catga = require "catga"
local money = require "money"

local PAYMENT_MAX = money.pounds(10000) -- Above it the bank refuses; trying again would not help.

-- How an order ended, as an event in its stream.
local function record(event_type, facts)
  return catga.events.append("Order-" .. facts.order_id, { { type = event_type, data = facts } })
end

catga.command {
  name = "ReserveInventory",
  input = { order_id = "string" },
  handle = function(cmd) return { reservation_id = "R-" .. cmd.order_id } end,
}

-- Undo of ReserveInventory: the goods are free again and the order is over.
catga.command {
  name = "ReleaseInventory",
  input = { order_id = "string", customer_id = "string", month = "string",
    amount_milli = "integer" },
  handle = function(cmd) return record("OrderRefused", cmd) end,
}

catga.command {
  name = "ProcessPayment",
  input = { order_id = "string", amount_milli = "integer" },
  handle = function(cmd)
    if cmd.amount_milli > PAYMENT_MAX then
      return nil, catga.error("payment_refused", ("%s pounds are above the limit of %s")
        :format(money.format(cmd.amount_milli), money.format(PAYMENT_MAX)))
    end
    return { payment_id = "P-" .. cmd.order_id }
  end,
}

-- Gives money back: for a returned invoice, and as the undo of ProcessPayment.
catga.command {
  name = "RefundPayment",
  input = { order_id = "string", amount_milli = "integer" },
  handle = function(cmd) return { refund_id = "F-" .. cmd.order_id } end,
}

catga.command {
  name = "ShipOrder",
  input = { order_id = "string" },
  handle = function(cmd) return { tracking = "STD-" .. cmd.order_id } end,
}

catga.command {
  name = "ShipExpress",
  input = { order_id = "string" },
  handle = function(cmd) return { tracking = "EXP-" .. cmd.order_id } end,
}

catga.command {
  name = "CompleteOrder",
  input = { order_id = "string", customer_id = "string", month = "string",
    amount_milli = "integer" },
  handle = function(cmd) return record("OrderCompleted", cmd) end,
}

catga.command {
  name = "CompleteRefund",
  input = { order_id = "string", customer_id = "string", month = "string",
    amount_milli = "integer" },
  handle = function(cmd) return record("OrderRefunded", cmd) end,
}
