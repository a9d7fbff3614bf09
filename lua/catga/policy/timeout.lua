--- Timeout of one attempt: when it has passed, the wait of what runs is cancelled and raises, and
--- whatever the attempt comes to, it has failed; what it staged is taken back.
---
--- The time counts from the first wait of the attempt on: what computes for long without waiting is
--- stopped by handler_timeout. An attempt that does not wait costs no timer.
local state = require "catga.state"
local errors = require "catga.error"
local protected = require "catga.protected".call

local M = {}

M.fields = { after = { "duration", nil, 1 } }
M.short = "after"

function M.check(p)
  if not p.after then error("timeout needs a duration, such as \"5s\"", 0) end
end

local catch = errors.catch

--- Ends a limit: its timer, and its place in the task.
---@param task catga.Task
---@param limit catga.Limit
function M.finish(task, limit)
  task.timed, limit.is_over = limit.outer, true
  if limit.timer then
    task.app.clock:cancel(limit.timer)
    limit.timer = nil
  end
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param _ nil
---@param scope catga.PolicyScope
function M.layer(inner, p, _, scope)
  local ms, what, counters = p.after, scope.name .. " took longer than its timeout", scope.counters
  local finish = M.finish
  counters.timeouts = counters.timeouts or 0
  return function(data, ctx)
    local task = state[1]
    local limit = { ms = ms, outer = task.timed, what = what }
    task.timed = limit
    local ok, value, err = xpcall(protected, catch, inner, data, ctx)
    finish(task, limit)
    if limit.failure then
      counters.timeouts = counters.timeouts + 1
      return nil, limit.failure
    end
    if ok then return value, err end
    return nil, value
  end
end

return M
