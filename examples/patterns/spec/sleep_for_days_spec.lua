--- The pattern in sleep_for_days.lua: a mail a month, over restarts.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("sleep for days", function()
  it("mails every 30 days until it is enough, over restarts", function()
    patterns.with("sleep_for_days", function(app, reopen)
      app:start("Reminder", { id = "r" })
      for mails = 1, 4 do
        app:settle()
        assert.equal(mails, #patterns.types(app, "Mail-r"))
        app:advance("15d")
        app = reopen()
        app:advance("15d")
      end
      patterns.signal(app, "r", "enough", true)
      assert.equal(5, select(2, app:wait("r")))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("sleep_for_days", "Reminder", { id = "r" }, { drive = function(app, id)
      patterns.signal(app, id, "enough", true, { id = "1" })
    end })
  end)
end)
