--- Timeout of a process: whatever it is at when its time has come, it is ended and undone; the
--- start may say another time than the class.
local catga = require "catga"

local Reservation = catga.process "Reservation"

Reservation.options = { timeout = "15m" }

function Reservation:execute(reservation)
  self:hold_seat(reservation.seat)
  local paid = self:receive("paid")
  return { seat = reservation.seat, paid = paid }
end

local function note(seat, type)
  assert(catga.events.append("Seat-" .. seat, { { type = type } }))
end

function Reservation:hold_seat(seat) note(seat, "Held") end
function Reservation:compensate_hold_seat(_, seat) note(seat, "Freed") end

catga.command("Reserve", function(cmd) -- VIPs have an hour.
  return catga.start("Reservation", cmd, cmd.vip and { timeout = "1h" } or nil)
end)
