--- The pattern in booking.lua: a trip is booked, or nothing of it is.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function trip(card) return { id = "t", card = card, cents = 90000 } end

describe("booking", function()
  it("books everything and bills it", function()
    patterns.with("booking", function(app)
      local booked = app:run("Trip", trip "good")
      assert.same({ hotel = "hotel of t", flight = "flight of t", car = "car of t",
        bill = { card = "good", cents = 90000 } }, booked)
    end)
  end)

  it("gives back what was booked when the card is refused, or the car is not there", function()
    patterns.with("booking", function(app)
      local _, err = app:run("Trip", trip "expired")
      assert.equal("card_expired", err.code)
      assert.same({ "Booked", "Booked", "Booked", "BookingCancelled", "BookingCancelled",
        "BookingCancelled" }, patterns.types(app, "Trip-t"))
    end)
    patterns.with("booking", function(app)
      local _, err = app:run("Trip", trip "good")
      assert.equal("compensated", err.status)
      assert.equal("no_car", err.code)
    end, { stubs = { Book = function(cmd)
      if cmd.what == "car" then return nil, catga.error("no_car") end
      return cmd.what
    end } })
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("booking", "Trip", trip "good")
    patterns.survives("booking", "Trip", trip "expired", { ends = "compensated" })
  end)
end)
