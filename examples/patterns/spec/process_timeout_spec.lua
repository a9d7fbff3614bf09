--- The pattern in process_timeout.lua: a seat is free again in time.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("timeout of a process", function()
  it("frees the seat after its time, or the time that the start says", function()
    patterns.with("process_timeout", function(app)
      app:send("Reserve", { id = "1", seat = "A1" })
      app:send("Reserve", { id = "2", seat = "A2", vip = true })
      app:advance("20m")
      assert.same({ "Held", "Freed" }, patterns.types(app, "Seat-A1"))
      assert.same({ "Held" }, patterns.types(app, "Seat-A2"))
      patterns.signal(app, "2", "paid", 700)
      assert.same({ seat = "A2", paid = 700 }, (select(2, app:wait("2"))))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("process_timeout", "Reservation", { id = "1", seat = "A1" },
      { ends = "compensated" })
    patterns.survives("process_timeout", "Reservation", { id = "1", seat = "A1" },
      { drive = function(app, id) patterns.signal(app, id, "paid", 700, { id = "p" }) end })
  end)
end)
