--- The pattern in update.lua: a running process is changed.
local testing = require "catga.testing"
local catga = require "catga"

local FLOW = debug.getinfo(1, "S").source:match("^@(.*/)spec/") .. "update.lua"

local function define() dofile(FLOW) end

local function change(app, by, key)
  return app:send("ChangeCounter", { id = "c", by = by, key = key })
end

local function changes_while_it_runs()
  local app = assert(testing.app(define))
  app:start("Counter", "c")
  assert.equal(5, change(app, 5, "1"))
  assert.equal("invalid", select(2, change(app, 0, "2")).code)
  app = assert(app:crash())
  assert.equal(5, change(app, 5, "1")) -- The same one again: its answer.
  assert.equal(8, change(app, 3, "3"))
  app:call(catga.processes.signal, "c", "done", true)
  assert.equal(8, select(2, app:wait("c")))
  app:stop()
end

local function survives()
  assert.is_nil((testing.chaos(define, "Counter", "c", { drive = function(app, id)
    change(app, 5, "1")
    change(app, 3, "2")
    app:call(catga.processes.signal, id, "done", true, { id = "d" })
  end })))
end

describe("update", function()
  it("changes a process and gives the answer, or why not", function()
    changes_while_it_runs()
  end)

  it("comes to the same end after a kill at every record", function()
    survives()
  end)
end)
