--- An order with lines: the aggregate that the specs of aggregates share.
---
---   local define_order = dofile "spec/support/order.lua"
---   local app = testing.app(define_order(function(Order) ... end))
local catga = require "catga"

--- A function that defines the order.
---@param more (fun(Order: table))?  called with it, to add to it or to remember it
---@return fun()
return function(more)
  return function()
    local Order = catga.aggregate "Order"
    function Order.initial() return { status = "none", lines = {}, total = 0 } end
    function Order.apply.OrderCreated(order, event)
      order.status, order.customer = "created", event.customer
    end
    function Order.apply.LineAdded(order, event)
      order.lines[#order.lines + 1] = event
      order.total = order.total + event.amount
    end
    function Order.apply.OrderShipped(order) order.status = "shipped" end
    function Order:create(cmd)
      if self.state.status ~= "none" then return nil, catga.error("exists", "it is there") end
      self:raise("OrderCreated", { customer = cmd.customer })
      return self.id
    end
    function Order:add(sku, amount)
      if self.state.status ~= "created" then return nil, catga.error("not_open") end
      self:raise("LineAdded", { sku = sku, amount = amount })
    end
    function Order:ship() self:raise "OrderShipped" end
    if more then more(Order) end
  end
end
