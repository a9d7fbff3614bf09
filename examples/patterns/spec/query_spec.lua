--- The pattern in query.lua: how far a running process is.
local testing = require "catga.testing"
local catga = require "catga"

local FLOW = debug.getinfo(1, "S").source:match("^@(.*/)spec/") .. "query.lua"
local RECIPE = { id = "soup", steps = { "cut", "boil", "salt" } }

local function define() dofile(FLOW) end

local function answers_while_it_runs()
  local app = assert(testing.app(define))
  app:start("Cooking", RECIPE)
  for done = 1, 3 do
    app:settle()
    assert.same({ done = done, of = 3 }, app:ask("HowFar", { id = "soup" }))
    app = assert(app:crash())
    assert.same({ done = done, of = 3 }, app:ask("HowFar", { id = "soup" }))
    app:advance("10m")
  end
  assert.equal("ready", select(2, app:wait("soup")))
  assert.same({ done = 3, of = 3 }, app:ask("HowFar", { id = "soup" })) -- Also when it has ended.
  assert.equal("not_found", select(2, app:ask("HowFar", { id = "stew" })).code)
  app:stop()
end

local function survives()
  assert.is_nil((testing.chaos(define, "Cooking", RECIPE, { drive = function(app)
    app:call(catga.processes.query, "soup", "progress")
  end })))
end

describe("query", function()
  it("tells how far a process is, also after a restart and when it has ended", function()
    answers_while_it_runs()
  end)

  it("comes to the same end after a kill at every record", function()
    survives()
  end)
end)
