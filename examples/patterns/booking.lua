--- Booking: hotel, flight and car of a trip at the same time, then the bill. Whatever fails, what
--- was booked is given back, last booking first.
local catga = require "catga"

local Trip = catga.process "Trip"

function Trip:execute(trip)
  local booked = self:all("bookings", {
    hotel = function() return self:book("hotel", trip.id) end,
    flight = function() return self:book("flight", trip.id) end,
    car = function() return self:book("car", trip.id) end,
  })
  booked.bill = self:charge(trip.card, trip.cents)
  return booked
end

function Trip:book(what, trip_id)
  return self:send("Book", { what = what, trip_id = trip_id })
end

function Trip:compensate_book(_, what, trip_id)
  self:send("CancelBooking", { what = what, trip_id = trip_id })
end

function Trip:charge(card, cents) -- With `at_most_once` in its settings: rather no bill than two.
  if card == "expired" then error(catga.error("card_expired")) end
  return { card = card, cents = cents }
end

local function note(type, cmd)
  assert(catga.events.append("Trip-" .. cmd.trip_id, { { type = type, data = cmd } }))
  return cmd.what .. " of " .. cmd.trip_id
end

catga.command("Book", function(cmd) return note("Booked", cmd) end)
catga.command("CancelBooking", function(cmd) return note("BookingCancelled", cmd) end)
