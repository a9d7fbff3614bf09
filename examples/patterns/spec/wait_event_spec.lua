--- The pattern in wait_event.lua: paid in time, or not.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function pay(app, id)
  app:call(catga.events.append, "Invoice-" .. id, {
    { type = "InvoicePaid", data = { order = id, cents = 500 } } }, { expect = "none" })
end

describe("wait for an event", function()
  it("ships when the invoice is paid, and reminds when it is not", function()
    patterns.with("wait_event", function(app)
      app:start("Shipment", { id = "1" })
      app:settle()
      pay(app, "2")
      pay(app, "1")
      assert.same({ shipped = "parcel 1", cents = 500 }, (select(2, app:wait("1"))))
      assert.same({ shipped = false, reminded = "reminder for 3" },
        app:run("Shipment", { id = "3" }))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("wait_event", "Shipment", { id = "1" }, { drive = pay })
    patterns.survives("wait_event", "Shipment", { id = "1" })
  end)
end)
