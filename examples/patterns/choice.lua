--- Choice: one of several ways (exclusive), or as many of them as the input says (multi).
local catga = require "catga"

local Basket = catga.process "Basket"

local FRUIT = { apple = "order_apples", banana = "order_bananas" }

function Basket:execute(order)
  if type(order.fruit) == "string" then
    local step = FRUIT[order.fruit]
    if not step then error(catga.error("no_such_fruit", order.fruit)) end
    return self[step](self)
  end
  local branches = {}
  for _, fruit in ipairs(order.fruit) do
    branches[fruit] = function() return self[FRUIT[fruit]](self) end
  end
  return self:all("fruit", branches)
end

function Basket:order_apples() return "apples ordered" end

function Basket:order_bananas() return "bananas ordered" end
