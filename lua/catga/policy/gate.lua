--- A gate with places: so many may be inside, others wait in the order in which they came. What
--- bulkheads, per-key order and the local kind of locks stand on.
local state = require "catga.state"
local tasks = require "catga.task"
local waits = require "catga.policy.waits"

local M = {}

---@class catga.Gate
---@field max integer
---@field inside integer
---@field waiting integer
local Gate = {}
Gate.__index = Gate

---@param max integer  how many may be inside at the same time
---@return catga.Gate
function M.new(max) return setmetatable({ max = max, inside = 0, waiting = 0 }, Gate) end

-- What a task holds that is inside or waits.
local Place = {}
Place.__index = Place

-- Lets the first one in that still waits.
local function let_in(gate)
  while gate.first do
    local place = gate.first
    gate.first = place.next
    if not gate.first then gate.last = nil end
    if waits.wake(place, true) then
      gate.waiting = gate.waiting - 1
      return
    end
  end
  gate.inside = gate.inside - 1
end

-- Forgets those at the front that wait no more.
local function trim(gate)
  while gate.first and gate.first.is_over do gate.first = gate.first.next end
  if not gate.first then gate.last = nil end
end

function Place:release()
  local gate = self.gate
  local was_in = self.is_in or self.result
  if was_in then
    let_in(gate)
  elseif not self.is_over then
    self.is_over = true
    gate.waiting = gate.waiting - 1
    trim(gate)
  end
  local keeper = self.keeper
  if keeper then keeper:leave(self.key, gate, was_in) end
end

--- Enters, or waits for a place. The task holds it until `tasks.let_go`. May yield.
---@param app catga.App
---@param queue integer  how many may wait
---@param ms number      how long to wait at most; 0: not at all
---@param keeper table?  whose leave(key, gate, was_in) is called when somebody has left
---@param key any
---@return catga.Hold? place
---@return catga.Error|"full"|"late" why
---@return number waited
function Gate:enter(app, queue, ms, keeper, key)
  local task = state[1]
  local place = setmetatable({ gate = self, keeper = keeper, key = key }, Place)
  if self.inside < self.max then
    self.inside, place.is_in = self.inside + 1, true
    tasks.hold(task, place)
    return place, nil, 0
  end
  if self.waiting >= queue or ms <= 0 then return nil, "full", 0 end
  self.waiting = self.waiting + 1
  if self.last then self.last.next = place else self.first = place end
  self.last = place
  tasks.hold(task, place)
  local start = app.clock:mono()
  local result, err = waits.park(app, place, ms)
  if result then
    place.is_in = true
    return place, nil, app.clock:mono() - start
  end
  self.waiting = self.waiting - 1
  tasks.unhold(task, place)
  trim(self)
  return nil, err or "late", 0
end

return M
