--- The pattern in pick_first.lua: the quickest answer; the others are undone.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("pick first", function()
  it("takes the quickest answer and gives back what the others have reserved", function()
    patterns.with("pick_first", function(app)
      assert.same({ offer = "offer of quick", from = "quick" }, app:run("Quote", { id = "q" }))
      assert.same({ "Reserved", "Reserved", "Released" }, patterns.types(app, "Quote-q"))
      assert.equal(1767225600000 + 5000, app.clock:now())
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("pick_first", "Quote", { id = "q" })
  end)
end)
