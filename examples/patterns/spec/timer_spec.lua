--- The pattern in timer.lua: who waits too long is told.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("timer", function()
  local function making(takes)
    return { stubs = { MakeOrder = function(cmd)
      catga.sleep(takes)
      return "order " .. cmd.id
    end } }
  end

  it("tells nobody when the work is quick, and the customer once when it is not", function()
    patterns.with("timer", function(app)
      assert.same({ made = "order 1", told = false }, app:run("SlowOrder", { id = "1" }))
      app:advance("2h")
      assert.same({}, patterns.types(app, "Mail-1"))
    end, making "10m")
    patterns.with("timer", function(app)
      assert.same({ made = "order 1", told = true }, app:run("SlowOrder", { id = "1" }))
      assert.same({ "DelayMailed" }, patterns.types(app, "Mail-1"))
    end, making "3h")
  end)

  it("comes to the same end after a kill at every record", function()
    for _, takes in ipairs { "10m", "3h" } do
      local opts = making(takes)
      opts.same = false -- A second attempt may have been quicker than the timer.
      patterns.survives("timer", "SlowOrder", { id = "1" }, opts)
    end
  end)
end)
