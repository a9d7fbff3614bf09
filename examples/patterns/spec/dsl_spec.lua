--- The pattern in dsl.lua: flows that are data.
local catga = require "catga"
local testing = require "catga.testing"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local FLOW = { id = "f", vars = { customer = "Ann" }, root = { sequence = {
  { send = "Score", with = { who = "$customer" }, into = "score" },
  { wait = "1h" },
  { when = "score", is = 3, run = { parallel = {
    { send = "Mail", with = { to = "$customer", text = "welcome" }, into = "mail" },
    { sequence = { { wait = "5s" }, { send = "Mail", with = { to = "boss" }, into = "note" } } },
  } } },
  { when = "score", is = 9, run = { send = "Never" } },
} } }

local STUBS = { Score = function(cmd) return #cmd.who end,
  Mail = function(cmd) return "to " .. cmd.to end }

local function define()
  patterns.define("dsl")()
  for name, fn in pairs(STUBS) do catga.command(name, fn) end
end

describe("dsl", function()
  it("runs a flow that its input declares", function()
    local app = assert(testing.app(define))
    assert.same({ customer = "Ann", score = 3, mail = "to Ann", note = "to boss" },
      app:run("Interpreter", FLOW))
    local _, err = app:run("Interpreter", { id = "wrong", root = { sned = "Score" } })
    assert.equal("unknown_node", err.code)
    app:stop()
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives(define, "Interpreter", FLOW)
  end)
end)
