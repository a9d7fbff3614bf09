--- What the functions of the public face have in common: when they may be called.
local state = require "catga.state"
local registries = require "catga.registry"
local sandbox = require "catga.sandbox"

local M = {}

--- The generation of scripts that is being loaded; raises when none is.
---@param what string  the function, for the error
---@return catga.Registry
function M.loading(what)
  local registry = state.loading
  if not registry then
    error(("%s: %s registers things and belongs at the top level of a script: it cannot be "
      .. "called while the app runs"):format(registries.caller(), what), 0)
  end
  return registry
end

--- The app of the running task; raises at the caller of the function that asks, while scripts load,
--- and where the call would be repeated on every replay or read.
---@param what string     the function, for the error
---@param instead string  what to do in the body of a process
---@param level integer?  where it raises, as for error; default 3
---@return catga.App
function M.running(what, instead, level)
  level = level or 3
  local task = state[1]
  if not task or not task.app or state.loading then
    error(what .. " can only be called while the app runs; nothing runs while scripts load", level)
  end
  if task.pure then
    local hint = task.pure == sandbox.PROJECTING
      and "; react to events with catga.on(type, { durable = name }, handler)" or ""
    error(("%s in %s, %s and must not have effects%s"):format(what, task.pure,
      sandbox.why(task.pure), hint), level)
  end
  if task.flow then
    error(("%s in the body of a process would run again on every replay; %s"):format(what,
      instead), level)
  end
  return task.app
end

--- The app of the running task, for what reaches outside of the log: files, the network, programs,
--- locks. As `running`, with the advice that fits.
---@param what string      the function, for the error
---@param level integer?   where it raises, as for error; default 3
---@return catga.App
function M.effect(what, level)
  local app = M.running(what, "call it in a step: self:step(\"name\", function() ... end)",
    (level or 3) + 1)
  return app -- No tail call: the level counts this function.
end

return M
