--- The pattern in saga.lua: money moves, or is back where it was.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("saga", function()
  it("moves the money", function()
    patterns.with("saga", function(app)
      assert.same({ moved = 5 }, app:run("Transfer", { id = "1", from = "a", to = "b", cents = 5 }))
      assert.same({ "Moved" }, patterns.types(app, "Account-b"))
    end)
  end)

  it("gives it back when the deposit is refused", function()
    patterns.with("saga", function(app)
      local _, err = app:run("Transfer", { id = "1", from = "a", to = "closed", cents = 5 })
      assert.equal("account_closed", err.code)
      assert.equal("compensated", err.status)
      assert.same({ "Moved", "Moved" }, patterns.types(app, "Account-a"))
      assert.same({}, patterns.types(app, "Account-closed"))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    for to, status in pairs { b = "completed", closed = "compensated" } do
      patterns.survives("saga", "Transfer", { id = "1", from = "a", to = to, cents = 5 },
        { ends = status })
    end
  end)
end)
