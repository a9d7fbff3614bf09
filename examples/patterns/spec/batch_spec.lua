--- The pattern in batch.lua: pages of records, a bounded number at a time.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("batch", function()
  it("goes through all pages, four records at the same time", function()
    patterns.with("batch", function(app)
      assert.same({ done = 25, sum = 650 }, app:run("Batch", { id = "b", records = 25, page = 10 }))
      assert.equal(1767225600000 + (3 + 3 + 2) * 1000, app.clock:now())
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("batch", "Batch", { id = "b", records = 11, page = 4 })
  end)
end)
