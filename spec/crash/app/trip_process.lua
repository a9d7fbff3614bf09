--- A process that is always undone, so that undo meets every kind of kill: three steps, then a
--- refusal, then the three undone, last first.
local catga = require "catga"

catga.command("Book", function(cmd) return { booking = cmd.what } end)
catga.command("CancelBooking", function(cmd) return { cancelled = cmd.booking } end)
catga.command("PayTrip", function() return nil, catga.error("refused", "no trip is ever paid") end)

local TripProcess = catga.process "TripProcess"

function TripProcess.process_id(trip) return trip.id end

function TripProcess:execute()
  self:book("flight")
  self:book("hotel")
  self:book("car")
  self:pay()
end

function TripProcess:book(what) return self:send("Book", { what = what }) end

function TripProcess:compensate_book(booked)
  self:send("CancelBooking", { booking = booked.booking })
end

function TripProcess:pay() self:send("PayTrip", {}) end
