--- The pattern in updatable_timer.lua: the alarm rings when it was set to last.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local START, HOUR = 1767225600000, 3600000

describe("updatable timer", function()
  it("rings when it is due", function()
    patterns.with("updatable_timer", function(app)
      assert.same({ due = START + HOUR, rang = true },
        app:run("Alarm", { id = "a", due = START + HOUR }))
      assert.equal(START + HOUR, app.clock:now())
    end)
  end)

  it("is set later and earlier by signals", function()
    patterns.with("updatable_timer", function(app)
      app:start("Alarm", { id = "a", due = START + HOUR })
      app:advance("30m")
      patterns.signal(app, "a", "set", { due = START + 10 * HOUR })
      app:advance("2h")
      assert.same({}, patterns.types(app, "Alarm-a"))
      patterns.signal(app, "a", "set", { due = START + 3 * HOUR })
      app:advance("30m")
      assert.same({ "Rang" }, patterns.types(app, "Alarm-a"))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("updatable_timer", "Alarm", { id = "a", due = START + HOUR }, {
      drive = function(app, id)
        for i = 2, 3 do
          patterns.signal(app, id, "set", { due = START + i * HOUR }, { id = "s" .. i })
        end
      end, same = false }) -- Down for hours it may be too late for what comes last.
  end)
end)
