--- Durable waiting in the body of a process.
local journal = require "catga.process.journal"
local strands = require "catga.process.strand"

local M = {}

local TIMER = { name = "sleep", heads = {}, quoted = '"sleep"' }

local function sleep(p, op, ms)
  local key = strands.key_of(p, op)
  local recorded = p.history and journal.recorded(p, op, "timer", "sleep")
  if recorded and recorded.done then return strands.take_turn(p, recorded, "timer sleep") end
  strands.go_live(p, "timer sleep", key)
  local due = recorded and recorded.due or p.app.clock:now() + ms
  if not recorded then
    journal.must_write(p, "ProcessTimerSet", 0, journal.head_of(TIMER, key), "due", due)
  end
  strands.nap(p, due)
  journal.must_write(p, "ProcessTimerFired", 0, journal.head_of(TIMER, key), "fired", true)
  if p.halt then strands.checkpoint(p) end
end

--- The durable timer of self:sleep. May yield.
---@param p catga.Instance
---@param ms number
function M.sleep(p, ms)
  local op = strands.begin(p, "self:sleep")
  return strands.operate(p, sleep, p, op, ms)
end

return M
