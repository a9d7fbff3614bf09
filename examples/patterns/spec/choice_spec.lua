--- The pattern in choice.lua: one way, or several.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("choice", function()
  it("goes one way, or all those that were asked for", function()
    patterns.with("choice", function(app)
      assert.equal("apples ordered", app:run("Basket", { id = "1", fruit = "apple" }))
      assert.same({ apple = "apples ordered", banana = "bananas ordered" },
        app:run("Basket", { id = "2", fruit = { "apple", "banana" } }))
      local _, err = app:run("Basket", { id = "3", fruit = "brick" })
      assert.equal("no_such_fruit", err.code)
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("choice", "Basket", { id = "1", fruit = "banana" })
    patterns.survives("choice", "Basket", { id = "1", fruit = { "apple", "banana" } })
  end)
end)
