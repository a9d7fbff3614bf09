--- The public face of policies while the app runs.
local policy = require "catga.policy"
local running = require "catga.face".running

local M = {}

--- Calls a function under a policy. Inside a step its retries are off: only the step's own attempts
--- count. May yield.
---@param name string   of the policy; raises when there is none
---@param fn function
---@param ... any       its arguments; keys of the policy look at the first
---@return any value
---@return catga.Error? err  what the function gave or raised, or why the policy refused
function M.run(name, fn, ...)
  return policy.run(running("catga.policies.run", "call it in a step"), name, fn, ...)
end

return M
