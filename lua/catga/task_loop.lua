--- The body of every pooled coroutine: runs what it is given, reports what escapes, starts over.
local host = require "catga.native.host"
local sandbox = require "catga.sandbox"

local M = {}

local yield = coroutine.yield

local function describe(failure)
  if type(failure) == "string" then return debug.traceback(failure, 2) end
  return failure
end

local function clear(task)
  task.app, task.ctx, task.unit, task.in_unit = nil, nil, nil, nil
  task.flow, task.process, task.limit, task.interrupt = nil, nil, nil, nil
  task.timer, task.timed_out = nil, nil
end

--- Makes the loop. Called once by the scheduler with the marks that yields begin with.
---@param park_mark userdata a yield that parks the task
---@param idle_mark userdata a yield that frees the coroutine
---@return fun(task: catga.Task, fn: function, ...)
function M.new(park_mark, idle_mark)
  sandbox.pass_parks(park_mark)
  local function loop(task, fn, ...)
    local ok, failure = xpcall(fn, describe, ...)
    if not ok then
      if task.process then task.process:crashed(failure) else host.say("error", tostring(failure)) end
    end
    clear(task)
    return loop(task, yield(idle_mark))
  end
  return loop
end

return M
