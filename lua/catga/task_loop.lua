--- The body of every pooled coroutine: runs what it is given, reports what escapes, starts over.
local host = require "catga.native.host"
local sandbox = require "catga.sandbox"

local M = {}

local yield = coroutine.yield

local function describe(failure)
  if type(failure) == "string" then return debug.traceback(failure, 2) end
  return failure
end

-- A table keeps room for every key it was ever given, also for nil: only what is set is cleared.
local FIELDS = { "unit", "in_unit", "ctx", "limit", "interrupt", "timer", "timed_out", "pure",
  "timed", "in_wait", "holds", "awaits" }

local function clear(task)
  if task.at_end then
    local at_end = task.at_end
    task.at_end, task.ending = nil, nil
    at_end()
  end
  task.app, task.process, task.flow = nil, nil, nil
  for i = 1, #FIELDS do
    local field = FIELDS[i]
    if task[field] ~= nil then task[field] = nil end
  end
end

--- Makes the loop. Called once by the scheduler with the marks that yields begin with.
---@param park_mark userdata a yield that parks the task
---@param idle_mark userdata a yield that frees the coroutine
---@param abandon_mark userdata a yield that ends the task
---@return fun(task: catga.Task, fn: function, ...)
function M.new(park_mark, idle_mark, abandon_mark)
  sandbox.pass_parks(park_mark, abandon_mark)
  local function loop(task, fn, ...)
    local ok, failure = xpcall(fn, describe, ...)
    if not ok then
      if task.process then
        task.process:crashed(failure)
      else
        host.say("error", tostring(failure))
      end
    end
    clear(task)
    return loop(task, yield(idle_mark))
  end
  return function(...)
    sandbox.own(coroutine.running())
    return loop(...)
  end
end

return M
