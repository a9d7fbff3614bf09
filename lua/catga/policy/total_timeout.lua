--- Time limit over all attempts and the pauses between them. Who has committed in time has
--- succeeded; an attempt that comes to its end later is not committed.
local state = require "catga.state"
local finish = require "catga.policy.timeout".finish

local M = {}

M.fields = { after = { "duration", nil, 1 } }
M.short = "after"

function M.check(p)
  if not p.after then error("total_timeout needs a duration, such as \"1m\"", 0) end
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param _ nil
---@param scope catga.PolicyScope
function M.layer(inner, p, _, scope)
  local ms, counters = p.after, scope.counters
  local what = scope.name .. " took longer, with all its attempts, than its total_timeout"
  counters.timeouts = counters.timeouts or 0
  return function(data, ctx)
    local task = state[1]
    local limit = { ms = ms, outer = task.timed, what = what }
    task.timed = limit
    local value, err = inner(data, ctx)
    finish(task, limit)
    if limit.failure and value == nil and err ~= nil then
      counters.timeouts = counters.timeouts + 1
      return nil, limit.failure
    end
    return value, err
  end
end

--- Inside the unit of work: what is done too late is not committed.
---@param inner fun(data: any, ctx: table): any, any
---@return fun(data: any, ctx: table): any, any
function M.inside(inner)
  return function(data, ctx)
    local value, err = inner(data, ctx)
    local limit = state[1].timed
    while limit do
      if limit.failure then return nil, limit.failure end
      limit = limit.outer
    end
    return value, err
  end
end

return M
