--- The public face of policies while the app runs.
local policy = require "catga.policy"
local running = require "catga.face".running
local errors = require "catga.error"
local explain = require "catga.lazy".module "catga.policy.explain"

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

--- What policies remember: breakers, tokens, places, kept answers; those with a name, and those of
--- single messages, steps and calls.
---@return { name: string, kinds: table[], counters: table<string, integer> }[]
function M.list()
  return explain.policies(running("catga.policies.list", "look in a step"))
end

--- The same of one: "payments", "command Pay", or the name of a message.
---@param name string
---@return table? one
---@return catga.Error? err  "not_found"
function M.show(name)
  return explain.policy(running("catga.policies.show", "look in a step"), name)
end

--- What one kind of it remembers: catga.policies.status("payments", "breaker").state
---@param name string
---@param kind string
---@return table? status
---@return catga.Error? err  "not_found"
function M.status(name, kind)
  local one, err = explain.policy(running("catga.policies.status", "look in a step"), name)
  if not one then return nil, err end
  for _, of in ipairs(one.kinds) do
    if of.kind == kind then return of.status end
  end
  return nil, errors.new("not_found", ("%s remembers nothing of %s"):format(one.name,
    tostring(kind)))
end

return M
