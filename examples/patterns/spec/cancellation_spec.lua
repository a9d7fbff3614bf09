--- The pattern in cancellation.lua: cancelled or too late, it cleans up.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local JOB = { id = "j", machine = "m", parts = 3 }

describe("cancellation", function()
  it("gives the machine back when it is done", function()
    patterns.with("cancellation", function(app)
      assert.equal("done", app:run("Job", JOB))
      assert.same({ "Taken", "GivenBack" }, patterns.types(app, "Machine-m"))
    end)
  end)

  it("cleans up when it is cancelled, and when its time is over", function()
    patterns.with("cancellation", function(app)
      app:start("Job", JOB)
      app:advance("90m")
      assert.is_true(app:call(catga.processes.cancel, "j"))
      assert.equal("cancelled", patterns.status(app, "j"))
      assert.same({ "Taken", "CleanedUp" }, patterns.types(app, "Machine-m"))
      local _, err = app:run("Job", { id = "long", machine = "n", parts = 10000 })
      assert.equal("timeout", err.code)
      assert.same({ "Taken", "CleanedUp" }, patterns.types(app, "Machine-n"))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("cancellation", "Job", JOB)
    patterns.survives("cancellation", "Job", JOB, { drive = function(app, id)
      app:call(catga.processes.cancel, id)
    end, ends = "cancelled" })
  end)
end)
