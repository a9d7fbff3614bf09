--- Wait for an event: the process goes on when something is in the log that others have put there;
--- who appends it need not know of the process.
local catga = require "catga"

local Shipment = catga.process "Shipment"

function Shipment:execute(shipment)
  local paid, err = self:wait_event("InvoicePaid", { order = shipment.id }, { timeout = "14d" })
  if err then return { shipped = false, reminded = self:remind(shipment.id) } end
  return { shipped = self:ship(shipment.id), cents = paid.data.cents }
end

function Shipment:remind(id) return "reminder for " .. id end

function Shipment:ship(id) return "parcel " .. id end
