--- The pattern in early_return.lua: the answer first, the rest later.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("early return", function()
  it("gives its result while the rest goes on", function()
    patterns.with("early_return", function(app)
      assert.same({ number = "T5", accepted = true },
        app:run("Transaction", { id = "t", cents = 5 }))
      assert.equal(1767225600000, app.clock:now())
      assert.equal("waiting", patterns.status(app, "settlement-t"))
      assert.equal("T5 settled", select(2, app:wait("settlement-t")))
    end)
  end)

  it("starts nothing when it is refused", function()
    patterns.with("early_return", function(app)
      assert.equal("no_amount", select(2, app:run("Transaction", { id = "t", cents = 0 })).code)
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("early_return", "Transaction", { id = "t", cents = 5 })
    patterns.survives("early_return", "Settlement", { id = "s", number = "T5", accepted = true })
  end)
end)
