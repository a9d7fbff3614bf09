--- The pattern in sequences.lua: branches with steps one after the other.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local SHIFT = { id = "s", workers = { "ann", "bob", "cid" }, tasks = { "wash", "dry" } }

it("sequences: run side by side, also after a kill at every record", function()
  patterns.with("sequences", function(app)
    assert.same({ "ann 7", "bob 7", "cid 7" }, app:run("Shift", SHIFT))
  end)
  patterns.survives("sequences", "Shift", SHIFT)
end)
