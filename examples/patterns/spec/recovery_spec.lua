--- The pattern in recovery.lua: caught, or failed and tried again.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

describe("recovery", function()
  it("goes on after what it catches, and from the failed step when it is retried", function()
    local is_down = true
    patterns.with("recovery", function(app, reopen)
      local _, err = app:run("Import", { id = "i" })
      assert.equal("failed", err.status)
      app = reopen()
      is_down = false
      assert.equal(1, app:send("RetryImports", {}))
      app:settle()
      assert.same({ stored = 3, announced = false, why = "nobody_listens" },
        (select(2, app:wait("i"))))
      local fetched = 0
      for _, record in ipairs(app:journal("i")) do
        if record.data.step == "fetch" then fetched = fetched + 1 end
      end
      assert.equal(1, fetched)
    end, { stubs = { StoreRows = function(cmd)
      if is_down then error("the database is down") end
      return #cmd.rows
    end } })
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("recovery", "Import", { id = "i" })
    patterns.survives("recovery", "Import", { id = "i" }, { stubs = { StoreRows = function()
      return nil, catga.error("full")
    end }, ends = "failed" })
  end)
end)
