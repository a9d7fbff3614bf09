--- The pattern in tags.lua: found by what is said of them.
local catga = require "catga"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function open_tickets(app) return app:ask("OpenTickets", { customer = "ann" }) end

describe("tags", function()
  it("let lists be filtered, also after a restart", function()
    patterns.with("tags", function(app, reopen)
      app:start("Ticket", { id = "1", customer = "ann" })
      app:start("Ticket", { id = "2", customer = "bob" })
      assert.same({ "1" }, open_tickets(app))
      patterns.signal(app, "1", "answer", { text = "42", by = "cid" })
      app:settle()
      assert.same({}, open_tickets(app))
      app = reopen()
      assert.same({}, open_tickets(app))
      assert.equal("42", select(2, app:wait("1")))
      local list = app:call(catga.processes.list, { tags = { state = "closed", by = "cid" } })
      assert.equal("1", list[1].id)
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("tags", "Ticket", { id = "1", customer = "ann" },
      { drive = function(app, id)
        patterns.signal(app, id, "answer", { text = "42", by = "cid" }, { id = "a" })
      end })
  end)
end)
