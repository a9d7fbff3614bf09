--- Entity: a process for each cart, for as long as it lives; it takes its messages one by one, in
--- the order in which they came. Opening a cart that is open changes nothing.
local catga = require "catga"

local Cart = catga.process "Cart"

local ACT = {}
function ACT.add(state, message)
  state.items[message.item] = (state.items[message.item] or 0) + message.count
end
function ACT.remove(state, message) state.items[message.item] = nil end

function Cart:execute()
  return self:loop({ items = {} }, function(state)
    local message = self:receive("message", { timeout = "7d" })
    if not message then return nil, { ended = "left behind" } end
    if message.act == "checkout" then
      return nil, { ended = "bought", order = self:place_order(state.items) }
    end
    ACT[message.act](state, message)
    return state
  end)
end

function Cart:place_order(items)
  local list = {}
  for item, count in pairs(items) do list[#list + 1] = count .. " " .. item end
  table.sort(list)
  return table.concat(list, ", ")
end

catga.command("Tell", function(cmd)
  if not ACT[cmd.act] and cmd.act ~= "checkout" then return nil, catga.error("unknown_act") end
  return catga.processes.signal(cmd.cart, "message", cmd, { id = cmd.key })
end)
catga.command("OpenCart", function(cmd) return catga.start("Cart", cmd.cart) end)
