--- The pattern in mutex.lua: one at a time, whoever is killed.
local catga = require "catga"
local testing = require "catga.testing"
local patterns = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "support.lua")

local function accounts()
  local cents = 100 -- An account that can only be read and written.
  return { ReadAccount = function() return cents end,
    WriteAccount = function(cmd)
      cents = cmd.cents
      return cents
    end }
end

local function define()
  patterns.define("mutex")()
  for name, fn in pairs(accounts()) do catga.command(name, fn) end
end

describe("mutex", function()
  it("lets one after the other in", function()
    local app = assert(testing.app(define))
    for i = 1, 4 do app:start("Withdrawal", { id = "w" .. i, account = "a", cents = i }) end
    local least = 100
    for i = 1, 4 do
      local _, left = app:wait("w" .. i)
      least = math.min(least, left)
    end
    assert.equal(90, least)
    assert.equal(1767225600000 + 4 * 5000, app.clock:now())
    app:stop()
  end)

  it("goes on when one that has the lock is gone", function()
    local app = assert(testing.app(define))
    app:start("Withdrawal", { id = "w1", account = "a", cents = 1 })
    app:advance("1s")
    app:start("Withdrawal", { id = "w2", account = "a", cents = 2 })
    assert.is_true(app:call(catga.processes.kill, "w1"))
    assert.equal(98, select(2, app:wait("w2")))
    assert.equal(1767225600000 + 65000, app.clock:now())
    app:stop()
  end)

  it("comes to the same end after a kill at every record", function()
    patterns.survives(function()
      patterns.define("mutex")()
      catga.command("ReadAccount", function() return 100 end)
      catga.command("WriteAccount", function(cmd) return cmd.cents end)
    end, "Withdrawal", { id = "w", account = "a", cents = 1 })
  end)
end)
