--- The pattern in retry.lua: what is tried again and what is not.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function attempts(app, id)
  local count = 0
  for _, record in ipairs(app:journal(id)) do
    if record.type == "ProcessStepFailed" then count = count + 1 end
  end
  return count
end

describe("retry", function()
  it("tries again what may pass, and not what is for good", function()
    patterns.with("retry", function(app)
      assert.equal("cloudy", app:run("Weather", { id = "1", name = "Rome" }).sky)
      assert.equal("no_such_place", app:run("Weather", { id = "2", name = "Atlantis" }).failure)
      assert.equal(1, attempts(app, "2"))
      assert.equal("busy", app:run("Weather", { id = "3", name = "Oz" }).failure)
      assert.equal(5, attempts(app, "3"))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    for _, name in ipairs { "Rome", "Atlantis", "Oz" } do
      patterns.survives("retry", "Weather", { id = "1", name = name })
    end
    local tries
    local stubs = { AskWeather = function()
      tries = tries + 1
      if tries < 4 then error("the wire is down") end
      return "rain"
    end }
    patterns.survives("retry", "Weather", { id = "1", name = "Rome" }, { stubs = stubs,
      reset = function() tries = 2 end })
  end)
end)
