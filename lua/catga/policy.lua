--- Policies: what keeps a handler, a step or a call alive and polite when the world is not: retry,
--- timeout, breaker, limiter and so on. See docs/resilience.md.
---
---   catga.policy("payments", { attempts = 5, backoff = "200ms", timeout = "10s" })
---   catga.policies.run("payments", function(order) return charge(order) end, order)
---
--- What other areas of the runtime use is `wrap`. What a policy of a name remembers (open breakers,
--- spent tokens) is shared by all who use that name, and kept over reloads while it is unchanged.
local state = require "catga.state"
local errors = require "catga.error"
local kinds = require "catga.policy.kinds"
local spec = require "catga.policy.spec"

local M = {}

local catch = errors.catch

-- The registry requires what this module is required by.
local function registries() return require "catga.registry" end

--- Where a chain of policies is used.
---@class catga.PolicyScope
---@field app catga.App
---@field name string          for errors: "command Pay", "policy payments"
---@field registry catga.Registry
---@field kind "command"|"query"|"event"|"subscription"|"call"|"step"
---@field idempotent boolean?  it may run twice
---@field counters table<string, integer>

--- A policy that scripts have defined.
---@class catga.PolicyDefinition
---@field name string
---@field at string  file:line
---@field parsed table<string, table|false>

--- Defines a policy by its name.
---@param registry catga.Registry
---@param name string
---@param given table  by kind
function M.define(registry, name, given)
  local at = registries().caller()
  if type(name) ~= "string" or name == "" then
    error(at .. ": catga.policy needs a name (a string that is not empty)", 0)
  end
  registry.policies = registry.policies or {}
  local taken = registry.policies[name]
  if taken then error(("%s: policy %s is defined already, at %s"):format(at, name, taken.at), 0) end
  local parsed = spec.parse(given, ("%s: policy %s"):format(at, name))
  registry.policies[name] = { name = name, at = at, parsed = parsed }
end

-- What a policy of a name says: the script, then catga.lua.
local function sources_of_name(app, registry, name, where)
  local policies = registry.policies or {}
  local found = policies[name]
  if not found then
    local near = registries().suggest(tostring(name), policies)
    error(("%s: no policy is called %s%s"):format(where, tostring(name),
      near and ("; did you mean %s?"):format(near) or ""), 0)
  end
  local list = { { parsed = found.parsed, policy = name,
    from = ("policy %s, %s"):format(name, found.at) } }
  local file = app.settings.policies[name]
  if file then list[2] = { parsed = file.parsed, policy = name, from = "catga.lua" } end
  return list
end

--- What holds in the end for who names a policy, says something himself, or is spoken of in
--- catga.lua. Raises.
---@param app catga.App
---@param registry catga.Registry
---@param where string
---@param own { policy: string?, parsed: table?, at: string? }
---@param file { policy: string?, parsed: table }?  what catga.lua says of it
---@return table<string, catga.PolicyKind>? effective
---@return string? policy  the name it uses
function M.effective(app, registry, where, own, file)
  local name = file and file.policy or own.policy
  local sources = name and sources_of_name(app, registry, name, where) or {}
  if own.parsed then sources[#sources + 1] = { parsed = own.parsed, from = own.at } end
  if file and file.parsed then
    sources[#sources + 1] = { parsed = file.parsed, from = "catga.lua" }
  end
  return spec.merge(sources, where), name
end

--- Raises for a kind that cannot be used there.
---@param effective table<string, catga.PolicyKind>
---@param scope catga.PolicyScope
---@param where string
function M.check_use(effective, scope, where)
  for _, name in ipairs(kinds.ORDER) do
    local one = effective[name]
    if one then
      local kind = kinds.of(name)
      local fault = kind.uses and not kind.uses[scope.kind]
        and ("a %s cannot have %s"):format(scope.kind, name)
        or kind.refuse and kind.refuse(one.p, scope, effective)
      if fault then
        error(("%s: %s (%s)"):format(where, fault, kind.why or "see docs/resilience.md"), 0)
      end
    end
  end
end

-- What decides whether memory can be kept.
local function signature(kind, p)
  local parts = {}
  for i, name in ipairs(kind.memory or {}) do parts[i] = name .. "=" .. tostring(p[name]) end
  return table.concat(parts, ",")
end

-- What a generation remembers, and the one before it.
local function memory_of(registry)
  local memory = registry.policy_memory
  if not memory then
    memory = {}
    registry.policy_memory = memory
  end
  return memory
end

--- What a kind remembers under an owner's name: that of the generation before while its parameters
--- are the same.
---@param scope catga.PolicyScope
---@param registry catga.Registry
---@param owner string  "policy payments", "command Pay"
---@param name string   of the kind
---@param p table
---@return any instance
function M.instance(scope, registry, owner, name, p)
  local kind = kinds.of(name)
  if not kind.new then return nil end
  local memory = memory_of(registry)
  local key, sign = owner .. "/" .. name, signature(kind, p)
  local found = memory[key]
  if not found then
    local before = registry.memory_before and registry.memory_before[key]
    found = before and before.sign == sign and before
      or { sign = sign, kind = name, owner = owner, instance = kind.new(scope.app, p, owner) }
    memory[key] = found
  end
  return found.instance
end

--- Counters of a user of policies; kept over reloads.
---@param registry catga.Registry
---@param owner string
---@return table<string, integer>
function M.counters(registry, owner)
  local memory = memory_of(registry)
  local key = owner .. "/counters"
  local found = memory[key] or registry.memory_before and registry.memory_before[key]
    or { owner = owner, counters = {} }
  memory[key] = found
  return found.counters
end

--- Puts one kind around a closure.
---@param scope catga.PolicyScope
---@param registry catga.Registry
---@param name string  of the kind
---@param one catga.PolicyKind
---@param inner fun(data: any, ctx: table): any, any
---@return fun(data: any, ctx: table): any, any
function M.layer(scope, registry, name, one, inner)
  local owner = one.policy and "policy " .. one.policy or scope.name
  local instance = M.instance(scope, registry, owner, name, one.p)
  return kinds.of(name).layer(inner, one.p, instance, scope)
end

-- Calls the function of a frame; what a failed call has staged in the open unit is taken back.
local function call(_, frame)
  local task = state[1]
  local unit = task.unit
  local n, after = 0, 0
  if unit then n, after = unit:mark() end
  local ok, value, err = xpcall(frame.fn, catch, unpack(frame, 1, frame.n))
  if ok and (value ~= nil or err == nil) then return value end
  if task.unit then task.unit:take_back(n, after) end
  if ok then return nil, errors.from(err) end
  return nil, value
end

--- What stands in the middle of a chain around a function; parse checks a specification.
M.call, M.parse = call, spec.parse

local function chain_of(scope, registry, effective)
  local run = call
  for i = #kinds.ORDER, 1, -1 do
    local name = kinds.ORDER[i]
    local one = effective[name]
    if one then run = M.layer(scope, registry, name, one, run) end
  end
  return run
end

-- A closure with the function's own arguments; it has the whole chain around it.
local function caller_of(chain, name)
  return function(fn, ...)
    local frame = { ... }
    frame.n, frame.fn, frame.name, frame.attempt, frame.sent = select("#", ...), fn, name, 1, 0
    return chain(frame[1], frame)
  end
end

-- The chain of a policy with a name, made once a generation.
local function named_chain(app, registry, name, opts)
  local found = registry.policies and registry.policies[name]
  local is_plain = not (opts and (opts.idempotent or opts.kind))
  if found and is_plain and found.caller then return found.caller end
  local where = "policy " .. tostring(name)
  local effective = M.effective(app, registry, where, { policy = name })
  local scope = { app = app, registry = registry, name = where, kind = opts and opts.kind or "call",
    idempotent = opts and opts.idempotent, counters = M.counters(registry, where) }
  if effective then M.check_use(effective, scope, where) end
  local caller = caller_of(chain_of(scope, registry, effective or {}), where)
  if is_plain then found.caller = caller end
  return caller
end

--- A function under a policy: the same arguments, one value, or nil and an error: what it raises
--- too. It may yield. Call it when all scripts are loaded (a policy of a name must be there).
---@param app catga.App
---@param given string|table|nil  name of a policy, or one without a name, or none at all
---@param fn function
---@param opts { name: string?, idempotent: boolean?, registry: catga.Registry? }?  name: of what is
---  called, for errors and for what a policy without a name remembers; idempotent: it may run twice
---@return function wrapped
function M.wrap(app, given, fn, opts)
  if given == nil then return fn end
  local registry = opts and opts.registry or app.registry
  local caller
  if type(given) == "string" then
    caller = named_chain(app, registry, given, opts)
  else
    local name = opts and opts.name or "a call at " .. registries().caller()
    local effective = M.effective(app, registry, name, {
      parsed = spec.parse(given, name), at = name })
    local scope = { app = app, registry = registry, name = name, kind = "call",
      idempotent = opts and opts.idempotent, counters = M.counters(registry, name) }
    if not effective then return fn end
    M.check_use(effective, scope, name)
    caller = caller_of(chain_of(scope, registry, effective), name)
  end
  return function(...) return caller(fn, ...) end
end

--- Calls a function under a policy of a name. May yield.
---@param app catga.App
---@param name string
---@param fn function
---@return any value
---@return catga.Error? err  also what the function raised; raises when there is no such policy
function M.run(app, name, fn, ...)
  if type(fn) ~= "function" then error("catga.policies.run needs a function", 3) end
  return named_chain(app, app.registry, name)(fn, ...)
end

return M
