--- Calling functions of scripts that run on every read (upcasters, apply functions): what would
--- have an effect, or give something else each time, is refused while they run.
local state = require "catga.state"
local errors = require "catga.error"

local M = {}

local function leave(task, before, ...)
  if task then task.pure = before end
  return ...
end

--- Calls a function as xpcall does.
---@param what string  what runs, for errors: "an upcaster"
---@param fn function
---@param ... any
---@return boolean ok
---@return any ...  its results, or a catga.Error
function M.call(what, fn, ...)
  local task = state[1]
  local before = task and task.pure
  if task then task.pure = what end
  return leave(task, before, xpcall(fn, errors.catch, ...))
end

return M
