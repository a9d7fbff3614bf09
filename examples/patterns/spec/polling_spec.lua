--- The pattern in polling.lua: three ways to wait for what nobody announces.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local asked

local function after(count)
  return { stubs = { JobState = function(cmd)
    asked = asked + 1
    return asked > count and cmd.job .. " done"
  end }, reset = function() asked = 0 end, same = false }
end

describe("polling", function()
  for how, result in pairs { often = "j done", attempts = "j done",
    seldom = "j done in round 4" } do
    it(how .. " comes to the answer, also after a kill at every record", function()
      asked = 0
      patterns.with("polling", function(app)
        assert.equal(result, app:run("Poll", { id = "p", job = "j", how = how }))
        assert.equal(4, asked)
      end, after(3))
      patterns.survives("polling", "Poll", { id = "p", job = "j", how = how }, after(3))
    end)
  end
end)
