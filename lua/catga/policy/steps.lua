--- Policies of steps: `P.settings.charge = { policy = "payments" }`, or in catga.lua
--- processes.P.steps.charge = { policy = ... }.
---
--- Retry and timeout become the step's own, journaled attempts and their time limit; the other
--- kinds stand around each attempt, inside its unit of work. What the step or catga.lua says of
--- attempts, timeout and backoff goes before the policy.
local policy = require "catga.policy"
local kinds = require "catga.policy.kinds"

local M = {}

-- What stands around an attempt of a step.
local AROUND = { authorize = true, order_by = true, breaker = true, limiter = true,
  bulkhead = true, lock = true, chaos = true }
local OWN = { retry = true, timeout = true }

local function check(effective, where)
  for _, name in ipairs(kinds.ORDER) do
    if effective[name] and not (AROUND[name] or OWN[name]) then
      error(("%s: a step cannot have %s; put it into what the step calls (see "
        .. "docs/resilience.md)"):format(where, name), 0)
    end
  end
end

-- The function of a step under its policies; keys look at the first argument behind self.
local function guard_of(class, step, effective, name)
  local owner = ("step %s of process %s"):format(step.name, class.name)
  local scope = { app = class.app, registry = class.registry, name = owner, kind = "step",
    counters = policy.counters(class.registry, owner) }
  local chain
  for i = #kinds.ORDER, 1, -1 do
    local kind = kinds.ORDER[i]
    if AROUND[kind] and effective[kind] then
      chain = policy.layer(scope, class.registry, kind, effective[kind], chain or policy.call)
    end
  end
  if not chain then return nil end
  step.policy_scope = scope
  return function(fn)
    return function(...)
      local frame = { ... }
      frame.n, frame.fn, frame.name = select("#", ...), fn, step.name
      frame.attempt, frame.sent, frame.policy = 1, 0, name
      return chain(frame[2], frame)
    end
  end
end

local function parse(given, where, at)
  if given == nil then return {} end
  if type(given) == "string" then return { policy = given, at = at } end
  return { parsed = policy.parse(given, where), at = at }
end

--- Gives a step the policies of its settings. Raises.
---@param class catga.ProcessClass
---@param step catga.Step
---@param own table   settings of the script
---@param file table  of catga.lua
function M.settle(class, step, own, file)
  local given = own.policy
  local where = ("process %s: settings.%s"):format(class.name, step.name)
  local script = parse(given, where, where)
  local over = file.policy ~= nil and parse(file.policy, ("catga.lua: processes.%s.steps.%s")
    :format(class.name, step.name)) or nil
  local effective, name = policy.effective(class.app, class.registry, where, script, over)
  if not effective then return end
  check(effective, where)
  step.policies, step.policy = effective, name
  local retry, timeout = effective.retry, effective.timeout
  if timeout and not (own.timeout or file.timeout) then step.timeout_ms = timeout.p.after end
  if retry and not step.at_most_once then
    if not (own.attempts or file.attempts) then step.attempts = retry.p.attempts end
    local backoff = own.backoff or file.backoff
    if not backoff then
      step.backoff_ms, step.retry = retry.p.backoff, retry.p
    end
  end
  step.guard = guard_of(class, step, effective, name)
end

-- The smaller timeout wins, and attempts of a command are off in a step.
local function look(class, step, entry)
  local where = ("process %s: step %s sends the command of that name (%s), "):format(class.name,
    step.name, entry.at)
  local timeout = entry.policies.timeout
  if timeout and timeout.p.after > step.timeout_ms then
    class.app:say("warn", where .. ("whose timeout of %d ms is never reached: that of the step is "
      .. "%d ms"):format(timeout.p.after, step.timeout_ms))
  end
  local retry = entry.policies.retry
  if retry and retry.p.attempts > 1 then
    class.app:say("warn", where .. ("whose %d attempts are off in a step: only the step's own "
      .. "count, which are %d"):format(retry.p.attempts, step.attempts))
  end
end

--- Says where a step and the command that it sends contradict each other; for steps that have
--- settings and the name of a command.
---@param class catga.ProcessClass
function M.warn(class)
  local names = {}
  for _, settings in ipairs { class.face.settings or {}, class.overrides } do
    for name in pairs(settings) do names[name] = true end
  end
  for _, name in ipairs(require("catga.registry").sorted_names(names)) do
    local entry = class.registry.handlers[name]
    if entry and entry.policies and not class.steps[name] then
      look(class, class:implicit_step(name), entry)
    end
  end
end

return M
