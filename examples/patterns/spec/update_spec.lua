--- The pattern in update.lua: a running process is changed.
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function change(app, by, key)
  return app:send("ChangeCounter", { id = "c", by = by, key = key })
end

describe("update", function()
  it("changes a process and gives the answer, or why not", function()
    patterns.with("update", function(app, reopen)
      app:start("Counter", "c")
      assert.equal(5, change(app, 5, "1"))
      assert.equal("invalid", select(2, change(app, 0, "2")).code)
      app = reopen()
      assert.equal(5, change(app, 5, "1")) -- The same one again: its answer.
      assert.equal(8, change(app, 3, "3"))
      patterns.signal(app, "c", "done", true)
      assert.equal(8, select(2, app:wait("c")))
    end)
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives("update", "Counter", "c", { drive = function(app, id)
      change(app, 5, "1")
      change(app, 3, "2")
      patterns.signal(app, id, "done", true, { id = "d" })
    end })
  end)
end)
