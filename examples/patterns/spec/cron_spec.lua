--- The pattern in cron.lua: every night once.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("cron", function()
  it("reports every night what has come since the last report", function()
    patterns.with("cron", function(app, reopen)
      for i = 1, 3 do app:publish("OrderPlaced", { id = i }) end
      app:advance("24h")
      app = reopen()
      app:publish("OrderPlaced", { id = 4 })
      app:advance("24h")
      local reports = app:call(catga.events.read, "Report-daily")
      assert.equal(2, #reports)
      assert.same({ "2026-01-01T03:00:00Z", 3 }, { reports[1].data.time, reports[1].data.orders })
      assert.same({ "2026-01-02T03:00:00Z", 1 }, { reports[2].data.time, reports[2].data.orders })
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("cron", "Report", { id = "r", kind = "daily", scheduled_time = "now" })
  end)
end)
