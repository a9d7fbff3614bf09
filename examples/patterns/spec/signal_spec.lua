--- The pattern in signal.lua: signals in any order, once each.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local PARTS = { { "engine", "V8" }, { "paint", "red" }, { "frame", "steel" } }

local function deliver(app, id, last)
  for i = 1, last or #PARTS do
    app:send("DeliverPart", { assembly = id, kind = PARTS[i][1], name = PARTS[i][2],
      delivery = "d" .. i })
  end
end

describe("signal", function()
  it("takes signals in its own order, however they come", function()
    patterns.with("signal", function(app)
      app:start("Assembly", "car")
      deliver(app, "car", 2)
      assert.equal("waiting", patterns.status(app, "car"))
      deliver(app, "car") -- The first two again: ignored.
      assert.equal("steel with V8, red", select(2, app:wait("car")))
    end)
  end)

  it("does without the last one when it is late", function()
    patterns.with("signal", function(app)
      app:start("Assembly", "car")
      patterns.signal(app, "car", "frame", "steel")
      patterns.signal(app, "car", "engine", "V8")
      assert.equal("steel with V8, white", select(2, app:wait("car")))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("signal", "Assembly", "car", { drive = deliver })
  end)
end)
