--- floor.lua - the processes of the bare floor, see bench/c/floor.c: plain LuaJIT coroutines.
---
--- record(id, version, type, name, value) encodes one record and yields until it is durable;
--- take() gives the number of the next process, or nil when all are taken.
local record, take = ... -- luacheck: ignore

local steps = {}

function steps.reserve_inventory(_, order_id)
  return { reservation_id = "R" .. order_id }
end

function steps.process_payment(_, order_id, amount)
  return { transaction_id = "T" .. order_id, amount = amount }
end

function steps.create_shipment(_, order_id)
  return { tracking = "S" .. order_id }
end

local Order = {}
Order.__index = Order

for name, fn in pairs(steps) do
  Order[name] = function(self, ...)
    local ok, result = pcall(fn, self, ...)
    if not ok then error(result, 0) end
    local version = self.version + 1
    self.version = version
    record(self.id, version, "ProcessStepCompleted", name, result)
    return result
  end
end

local function execute(self, order)
  local inventory = self:reserve_inventory(order.order_id, order.items)
  local payment = self:process_payment(order.order_id, order.amount)
  local shipment = self:create_shipment(order.order_id, order.address)
  return {
    order_id = order.order_id, inventory_id = inventory.reservation_id,
    payment_id = payment.transaction_id, shipment_id = shipment.tracking,
  }
end

local function run(number)
  local id = "o" .. number
  local order = { order_id = id, items = { 1, 2, 3 }, amount = 99.5, address = "12 High St" }
  local self = setmetatable({ id = id, version = 0 }, Order)
  record(id, 0, "ProcessStarted", "OrderProcess", order)
  local ok, result = pcall(execute, self, order)
  if not ok then error(result, 0) end
  record(id, self.version + 1, "ProcessCompleted", "OrderProcess", result)
end

--- The body of every coroutine: one process after the other.
return function()
  local number = take()
  while number do
    run(number)
    number = take()
  end
end
