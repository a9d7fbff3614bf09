--- The pattern in subscription.lua: billed month by month.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local CUSTOMER = { id = "c", trial = "14d", periods = 3, days = 30, cents = 1000 }
local HASTY = { id = "h", trial = "1h", periods = 2, days = 1, cents = 1000 }
local START, DAY = 1767225600000, 86400000

describe("subscription", function()
  it("bills every month to its end", function()
    patterns.with("subscription", function(app)
      assert.same({ billed = 3000, ended = "over" }, app:run("Subscription", CUSTOMER))
      assert.same({ "Welcome", "Bill", "Bill", "Bill", "Goodbye" }, patterns.types(app, "Mail-c"))
      assert.equal(START + 104 * DAY, app.clock:now())
    end)
  end)

  it("is cancelled in the trial or later, and bills a new price from the next month on", function()
    patterns.with("subscription", function(app)
      app:start("Subscription", CUSTOMER)
      patterns.signal(app, "c", "change", { cancel = true })
      assert.same({ billed = 0, ended = "in the trial" }, (select(2, app:wait("c"))))
    end)
    patterns.with("subscription", function(app, reopen)
      app:start("Subscription", CUSTOMER)
      app:advance("20d")
      patterns.signal(app, "c", "change", { cents = 500 })
      app = reopen()
      app:advance("25d")
      patterns.signal(app, "c", "change", { cancel = true })
      assert.same({ billed = 1500, ended = "cancelled" }, (select(2, app:wait("c"))))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("subscription", "Subscription", HASTY)
    patterns.survives("subscription", "Subscription", HASTY, { drive = function(app, id)
      app:advance("2h")
      patterns.signal(app, id, "change", { cents = 500 }, { id = "1" })
      app:advance("24h")
      patterns.signal(app, id, "change", { cancel = true }, { id = "2" })
    end, same = false })
  end)
end)
