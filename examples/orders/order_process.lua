--- An order from reservation to delivery. Each method is a step: once it is done it never runs
--- again. When a step fails for good, the steps before it are undone, last first.
local catga = require "catga"
local money = require "money"

local EXPRESS_ABOVE = money.pounds(1000)

local OrderProcess = catga.process "OrderProcess"

function OrderProcess.process_id(order) return "order-" .. order.id end

---@param order { id: string, date: string, customer_id: string, amount_milli: integer }
function OrderProcess:execute(order)
  self:reserve_inventory(order)
  local payment = self:process_payment(order)
  local shipment
  if order.amount_milli > EXPRESS_ABOVE then
    shipment = self:ship_express(order)
  else
    shipment = self:ship(order)
  end
  self:complete(order)
  return { order_id = order.id, payment_id = payment.payment_id, tracking = shipment.tracking }
end

-- What the events of an order say.
local function facts(order)
  return { order_id = order.id, customer_id = order.customer_id, month = order.date:sub(1, 7),
    amount_milli = order.amount_milli }
end

function OrderProcess:reserve_inventory(order)
  return self:send("ReserveInventory", { order_id = order.id })
end

function OrderProcess:compensate_reserve_inventory(_, order)
  self:send("ReleaseInventory", facts(order))
end

function OrderProcess:process_payment(order)
  return self:send("ProcessPayment", { order_id = order.id, amount_milli = order.amount_milli })
end

function OrderProcess:compensate_process_payment(_, order)
  self:send("RefundPayment", { order_id = order.id, amount_milli = order.amount_milli })
end

function OrderProcess:ship(order)
  return self:send("ShipOrder", { order_id = order.id })
end

function OrderProcess:ship_express(order)
  return self:send("ShipExpress", { order_id = order.id })
end

function OrderProcess:complete(order)
  self:send("CompleteOrder", facts(order))
end
