--- Bulkhead: so many calls at the same time, so many that wait for a place; others are refused.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local gates = require "catga.policy.gate"
local keys = require "catga.policy.keys"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

M.fields = {
  max = { "count", nil, 1, 1000000 },    -- that run
  queue = { "count", 0, 0, 1000000 },    -- that wait
  wait = { "duration", "30s" },          -- how long at most
  key = { "key" },                       -- each value has places of its own
}
M.short = "max"
M.memory = { "max" }

function M.check(p)
  if not p.max then error("bulkhead needs max, such as { max = 10, queue = 100 }", 0) end
end

---@class catga.Bulkhead
local Bulkhead = {}
Bulkhead.__index = Bulkhead

---@param app catga.App
---@param p table
---@return catga.Bulkhead
function M.new(app, p)
  return setmetatable({ app = app, max = p.max, gates = {}, refused = 0 }, Bulkhead)
end

--- The gate of a key; those through which nobody goes are not kept.
---@param key any
---@return catga.Gate
function Bulkhead:gate(key)
  local gate = self.gates[key]
  if not gate then
    gate = gates.new(self.max)
    self.gates[key] = gate
  end
  return gate
end

--- Forgets a gate that nobody uses.
---@param key any
---@param gate catga.Gate
function Bulkhead:leave(key, gate)
  if gate.inside == 0 and gate.waiting == 0 and self.gates[key] == gate then
    self.gates[key] = nil
  end
end

--- How full it is.
---@return table
function Bulkhead:status()
  local running, waiting = 0, 0
  for _, gate in raw_pairs(self.gates) do
    running, waiting = running + gate.inside, waiting + gate.waiting
  end
  return { max = self.max, running = running, waiting = waiting, refused = self.refused }
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param bulkhead catga.Bulkhead
---@param scope catga.PolicyScope
function M.layer(inner, p, bulkhead, scope)
  local app, counters, key_fn = scope.app, scope.counters, p.key
  local what = scope.name .. ": bulkhead.key"
  counters.bulkhead_full = counters.bulkhead_full or 0

  local function refuse(why)
    if errors.is(why) then return nil, why end
    counters.bulkhead_full = counters.bulkhead_full + 1
    bulkhead.refused = bulkhead.refused + 1
    return nil, errors.new("bulkhead_full", ("%s: %d run and %s; raise max or queue of its "
      .. "bulkhead, or send less"):format(scope.name, bulkhead.max, why == "late"
        and "no place came free in time" or p.queue .. " wait already"),
      { retryable = true, is_refusal = true })
  end

  return function(data, ctx)
    local key, err = ""
    if key_fn then
      key, err = keys.of(key_fn, data, ctx, what)
      if err then return nil, err end
    end
    local task = state[1]
    local gate = bulkhead:gate(key)
    local place, why, waited = gate:enter(app, p.queue, p.wait, bulkhead, key)
    if not place then
      bulkhead:leave(key, gate)
      return refuse(why)
    end
    if waited > 0 then ctx.waited = (ctx.waited or 0) + waited end
    local value, failure = inner(data, ctx)
    tasks.unhold(task, place)
    place:release()
    return value, failure
  end
end

return M
