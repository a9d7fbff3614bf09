--- The pattern in promise.lua: kept, refused, or nothing.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function callback(app)
  local requests = app:call(catga.events.read, "Requests")
  return requests[#requests].data.callback
end

local function answer(fields)
  return function(app)
    fields.callback = callback(app)
    app:send("PaymentCallback", fields)
  end
end

local CASES = {
  { { receipt = "R1" }, { receipt = "R1" } },
  { { refused = "no_cover" }, { state = "refused", why = "no_cover" } },
}

describe("promise", function()
  it("is kept or refused from outside, or not in time", function()
    for _, case in ipairs(CASES) do
      patterns.with("promise", function(app)
        app:start("Payment", { id = "p" })
        app:settle()
        answer(case[1])(app)
        assert.same(case[2], (select(2, app:wait("p"))))
      end)
    end
    patterns.with("promise", function(app)
      assert.same({ state = "unknown" }, app:run("Payment", { id = "p" }))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    for _, case in ipairs(CASES) do
      patterns.survives("promise", "Payment", { id = "p" }, { drive = answer(case[1]) })
    end
    patterns.survives("promise", "Payment", { id = "p" })
  end)
end)
