--- The pattern in entity.lua: a process that takes messages.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local MESSAGES = {
  { act = "add", item = "pear", count = 2 },
  { act = "add", item = "fig", count = 1 },
  { act = "add", item = "pear", count = 3 },
  { act = "remove", item = "fig" },
  { act = "checkout" },
}

local function tell(app, cart)
  app:send("OpenCart", { cart = cart })
  for i, message in ipairs(MESSAGES) do
    local cmd = { cart = cart, key = "m" .. i }
    for field, value in pairs(message) do cmd[field] = value end
    app:send("Tell", cmd)
  end
end

describe("entity", function()
  it("takes its messages one by one, over restarts", function()
    patterns.with("entity", function(app, reopen)
      tell(app, "c")
      app = reopen()
      assert.same({ ended = "bought", order = "5 pear" }, (select(2, app:wait("c"))))
      assert.equal("unknown_act", select(2, app:send("Tell", { cart = "c", act = "burn" })).code)
      assert.equal("ended", select(2, app:send("Tell", { cart = "c", act = "add" })).code)
    end)
  end)

  it("ends when nothing comes for a week", function()
    patterns.with("entity", function(app)
      assert.same({ ended = "left behind" }, app:run("Cart", "c"))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("entity", "Cart", "c", { drive = tell })
  end)
end)
