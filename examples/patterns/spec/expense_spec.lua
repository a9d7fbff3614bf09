--- The pattern in expense.lua: reported, decided, paid.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function decide(decision)
  return function(app)
    local events = app:call(catga.events.read, "Expense-e")
    app:send("Decide", { callback = events[2].data.callback, decision = decision })
  end
end

describe("expense", function()
  it("is paid when it is small or approved, else refused", function()
    for decision, result in pairs { approved = "paid", rejected = "refused" } do
      patterns.with("expense", function(app)
        assert.equal("paid", app:run("Expense", { id = "small", cents = 900 }))
        app:start("Expense", { id = "e", cents = 90000 })
        app:settle()
        decide(decision)(app)
        assert.equal(result, select(2, app:wait("e")))
        assert.equal("refused", app:run("Expense", { id = "late", cents = 90000 }))
      end)
    end
  end)

  it("comes to the same end after a kill at every record", function()
    for _, decision in ipairs { "approved", "rejected" } do
      patterns.survives("expense", "Expense", { id = "e", cents = 90000 },
        { drive = decide(decision) })
    end
  end)
end)
