--- The pattern in approval.lua: people decide, or do not.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local LARGE = { id = "p", cents = 200000 }

local function approve(app, who, name, values)
  return app:call(catga.processes.approve, "p", name or "purchase", values,
    { by = who, id = who })
end

describe("approval", function()
  it("needs two managers for a large purchase, nobody for a small one", function()
    patterns.with("approval", function(app)
      assert.equal("petty cash", app:run("Purchase", { id = "s", cents = 100 }).budget)
      app:start("Purchase", LARGE)
      assert.equal("forbidden", select(2, approve(app, "eve")).code)
      assert.equal("validation", select(2, approve(app, "ann", nil, {})).code)
      approve(app, "ann", nil, { budget = "IT" })
      approve(app, "cid", nil, { budget = "IT" })
      assert.same({ bought = "p", budget = "IT", by = { "ann", "cid" } },
        (select(2, app:wait("p"))))
    end)
  end)

  it("is over when one says no, and goes to the head after a day", function()
    patterns.with("approval", function(app)
      app:start("Purchase", LARGE)
      app:call(catga.processes.reject, "p", "purchase", { by = "bob", reason = "too dear" })
      local status, _, err = app:wait("p")
      assert.equal("failed", status)
      assert.same({ "rejected", "too dear" }, { err.code, err.message })
    end)
    patterns.with("approval", function(app)
      app:start("Purchase", LARGE)
      app:advance("25h")
      assert.equal("forbidden", select(2, approve(app, "ann", "escalation")).code)
      approve(app, "head", "escalation")
      assert.same({ "head" }, select(2, app:wait("p")).by)
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("approval", "Purchase", LARGE, { drive = function(app)
      for _, who in ipairs { "bob", "cid" } do approve(app, who, nil, { budget = "IT" }) end
    end })
    patterns.survives("approval", "Purchase", LARGE, { drive = function(app)
      app:advance("25h")
      approve(app, "head", "escalation")
    end })
  end)
end)
