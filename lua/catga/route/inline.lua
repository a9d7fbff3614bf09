--- Inline routes: they run in the unit of work that publishes, when the event is staged. What they
--- send is part of that unit; when one fails, so does the append.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local sinks = require "catga.route.sink"

local M = {}

local function run_set(unit, set, op)
  local task, app = state[1], unit.app
  if not set.inline_index:knows(op.type) then return end
  local ctx = op.ctx
  local event = { type = op.type, data = json.decode(op.plain or op.data), stream = op.name,
    ctx = ctx, hops = ctx and ctx.hops, split = op.extra and op.extra.split,
    time = app.clock:now() }
  local entry = ctx and ctx.entry or { name = "routes " .. set.name, kind = "event", app = app,
    registry = set.registry, counter = { calls = 0, failures = 0 } }
  local sink = sinks.new { app = app, entry = entry, set = set.name }
  local rules = set.inline_index:find(event.type, event.data)
  for i = 1, #rules do
    sink:begin()
    local outer = task.ctx
    local ok, taken = xpcall(rules[i].run, errors.catch, event.data, event, sink)
    task.ctx = outer
    if not ok then
      sinks.add(rules[i], "failed")
      error(taken, 0)
    end
    if taken and set.mode == "first" then break end
  end
end

local function run(unit, staged)
  for i = 1, #staged do
    for _, set in pairs(unit.app.registry.routes.sets) do
      if set.inline[1] then run_set(unit, set, staged[i]) end
    end
  end
end

--- Runs the inline rules for events that were just staged; takes all back when one fails. May
--- yield.
---@param unit catga.Unit
---@param staged catga.Staged[]  the last ones of the unit
---@return boolean? ok
---@return catga.Error? err
function M.run(unit, staged)
  local task = state[1]
  local outer, was_in_unit = task.unit, task.in_unit
  local n, after = unit:mark()
  if not (was_in_unit or task.limit) then -- Else who has opened the unit lets go.
    unit.held_from = unit.held_from or task.holds and #task.holds or 0
  end
  task.unit, task.in_unit = unit, true -- Commands that rules send join it.
  local ok, failure = xpcall(run, errors.catch, unit, staged)
  task.unit, task.in_unit = outer, was_in_unit
  if ok then return true end
  unit:take_back(n - #staged, after)
  unit:let_go()
  return nil, failure
end

return M
