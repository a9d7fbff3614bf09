--- The pattern in split_merge.lua: chunks side by side.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local INPUT = { id = "c", words = { "elephant", "is", "ox", "and", "bee" } }

it("split and merge: counts chunks side by side, also after a kill at every record", function()
  patterns.with("split_merge", function(app)
    assert.same({ total = 18, chunks = 3, first = 2 }, app:run("Count", INPUT))
  end)
  patterns.survives("split_merge", "Count", INPUT, { same = false })
end)
