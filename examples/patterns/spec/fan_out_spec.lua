--- The pattern in fan_out.lua: a child a region.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function campaign(...) return { id = "c", regions = { ... } } end

describe("fan out", function()
  it("runs the regions side by side and adds up", function()
    patterns.with("fan_out", function(app)
      assert.equal(9, app:run("Campaign", campaign("north", "west")))
      assert.equal(1767225600000 + 3600000, app.clock:now())
    end)
  end)

  it("cancels the others and undoes all when one fails", function()
    patterns.with("fan_out", function(app)
      local _, err = app:run("Campaign", campaign("nowhere", "west"))
      assert.equal("region_failed", err.code)
      for _, name in ipairs { "nowhere", "west" } do
        assert.same({ "Rented", "Returned" }, patterns.types(app, "Region-" .. name))
      end
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("fan_out", "Campaign", campaign("north", "west"))
    patterns.survives("fan_out", "Campaign", campaign("nowhere", "west"), { ends = "failed",
      facts = false })
  end)
end)
