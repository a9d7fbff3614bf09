--- Per-key order: one message at a time for one key, in the order in which they came, with all
--- their attempts; messages of other keys run beside them.
---
--- A nested message keeps its key until the outermost unit of work has ended, because only then is
--- done what it did. A message that is sent while its own task has the key already goes on.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local gates = require "catga.policy.gate"
local keys = require "catga.policy.keys"
local raw_next = require "catga.sandbox".raw.next

local M = {}

M.fields = {
  key = { "key" },
  queue = { "count", 1000, 0, 1000000 }, -- messages of one key that wait; then they are refused
  wait = { "duration", "1m" },           -- how long at most
}
M.short = "key"
M.memory = {}

-- A function or the name of a field is the key.
function M.check(p)
  if not p.key then error("order_by needs a key, such as \"order_id\"", 0) end
end

---@class catga.KeyOrder
local Order = {}
Order.__index = Order

---@param app catga.App
function M.new(app)
  return setmetatable({ app = app, gates = {}, owners = {}, refused = 0 }, Order)
end

--- Somebody has left: a gate that nobody uses is forgotten.
---@param key any
---@param gate catga.Gate
---@param was_in boolean?  not one that waited
function Order:leave(key, gate, was_in)
  if was_in then self.owners[key] = nil end
  if gate.inside == 0 and self.gates[key] == gate then
    self.gates[key] = nil
  end
end

--- How many keys are in use.
---@return table
function Order:status()
  local running, waiting = 0, 0
  for _, gate in raw_next, self.gates do
    running, waiting = running + 1, waiting + gate.waiting
  end
  return { keys = running, waiting = waiting, refused = self.refused }
end

--- Takes a key for the running task.
---@param key any
---@param p table
---@return catga.Hold? place
---@return catga.Error|"full"|"late" why
function Order:enter(key, p)
  local gate = self.gates[key]
  if not gate then
    gate = gates.new(1)
    self.gates[key] = gate
  end
  local place, why = gate:enter(self.app, p.queue, p.wait, self, key)
  if place then
    self.owners[key] = state[1]
  elseif gate.inside == 0 then
    self:leave(key, gate)
  end
  return place, why
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param order catga.KeyOrder
---@param scope catga.PolicyScope
function M.layer(inner, p, order, scope)
  local what = scope.name .. ": order_by"
  return function(data, ctx)
    local key, err = keys.of(p.key, data, ctx, what)
    if err then return nil, err end
    local task = state[1]
    if order.owners[key] == task then return inner(data, ctx) end
    local place, why = order:enter(key, p)
    if not place then
      if errors.is(why) then return nil, why end
      order.refused = order.refused + 1
      return nil, errors.new("busy", ("%s: %s of the key %s"):format(scope.name, why == "late"
        and "it waited too long behind others" or p.queue .. " others wait already", tostring(key)),
        { retryable = true, is_refusal = true })
    end
    local is_nested = task.in_unit or task.limit
    local value, failure = inner(data, ctx)
    if not is_nested then
      tasks.unhold(task, place)
      place:release()
    end
    return value, failure
  end
end

return M
