--- main.lua - a process of many rounds: rounds a second, and what a wake costs after a restart.
---
--- BENCH_PHASE is "run" (BENCH_ROUNDS rounds, then it waits) or "wake" (from the take-up of the
--- process to its end). catga.lua asks for durability "os": one round waits for the one before.
local catga = require "catga"
local clocks = require "catga.native.clock"
local state = require "catga.state"

local rounds = tonumber(os.getenv("BENCH_ROUNDS") or 1000000)
local phase = os.getenv("BENCH_PHASE") or "run"
local seen = 0

local Long = catga.process "Long"

function Long:execute()
  local first = self:first()
  return self:loop({ n = 0 }, function(state_before)
    seen = seen + 1
    if state_before.n == rounds then return nil, { n = self:receive("go"), first = first } end
    return { n = state_before.n + 1 }
  end)
end

function Long:first() return "first" end -- luacheck: ignore self

catga.main(function()
  local clock = clocks.system()
  local begin = clock:mono()
  if phase == "run" then
    assert(catga.start("Long", "x"))
    while seen <= rounds do catga.sleep("20ms") end
    print(("loop rounds: %.0f a second"):format(rounds / (clock:mono() - begin) * 1000))
  else
    assert(catga.processes.signal("x", "go", 5))
    local status = catga.processes.wait("x")
    print(("wake after %d rounds: %.2f ms, %s, %d rounds gone through"):format(rounds,
      clock:mono() - begin, status, seen))
    local store = state[1].app.store
    print(("journal of the loop: %d records"):format(store:count(store:stream("Process-x"))))
  end
  clock:close()
  catga.exit(0)
end)
