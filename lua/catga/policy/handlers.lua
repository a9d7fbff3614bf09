--- Policies of handlers: what scripts and catga.lua say of a message, settled when all are loaded.
---
--- catga.lua: policies = { ProcessPayment = { attempts = 5 }, payments = { timeout = "5s" } }, by
--- the name of a message or of a policy. What it says goes before what scripts say.
local policy = require "catga.policy"
local spec = require "catga.policy.spec"
local kinds = require "catga.policy.kinds"

local M = {}

-- The registry requires what this module is required by.
local function registries() return require "catga.registry" end

-- Splits what names a policy from what says something itself.
local function split(given, where)
  local name = given.policy
  if type(name) == "table" then
    error(("%s.policy: name a policy here, or write its kinds beside it"):format(where), 0)
  elseif name ~= nil and (type(name) ~= "string" or name == "") then
    error(("%s: policy is the name of one, or a table"):format(where), 0)
  end
  local rest = {}
  for key, value in pairs(given) do
    if key ~= "policy" then rest[key] = value end
  end
  return name, spec.parse(rest, where)
end

local PLAIN = { "name", "input", "handle", "idempotent", "policy" }

-- A slip may also be one in a field that is no policy.
local function check_fields(fields, where)
  local names = kinds.names()
  for field in pairs(fields) do
    if field ~= "policy" and not names[field] then
      for _, name in ipairs(PLAIN) do names[name] = true end
      local near = registries().suggest(tostring(field), names)
      error(("%s: unknown field \"%s\"%s; it may have %s"):format(where, tostring(field),
        near and ("; did you mean %s?"):format(near) or "",
        table.concat(registries().sorted_names(names), ", ")), 0)
    end
  end
end

--- Do the options of an event handler speak of policies only?
---@param opts table
---@return boolean
function M.are_policies(opts)
  local names = kinds.names()
  for field in pairs(opts) do
    if field ~= "policy" and not names[field] then return false end
  end
  return next(opts) ~= nil
end

--- Checks the policies that a handler is given; raises.
---@param given table    fields of the handler: policy = "name" or table, timeout, attempts, ...
---@param where string   for errors
---@param at string      file:line
---@return { policy: string?, parsed: table, at: string } own
function M.own(given, where, at)
  local fields = {}
  for key, value in pairs(given) do
    if key ~= "policy" or type(value) ~= "table" then fields[key] = value end
  end
  if type(given.policy) == "table" then
    for key, value in pairs(given.policy) do
      if fields[key] ~= nil then
        error(("%s: %s is there twice, beside policy and in it"):format(where, tostring(key)), 0)
      end
      fields[key] = value
    end
  end
  check_fields(fields, where)
  local name, parsed = split(fields, where)
  return { policy = name, parsed = parsed, at = at }
end

--- Checks `policies` of catga.lua as far as that can be done before the scripts are loaded; raises.
---@param given any
---@return table<string, { policy: string?, parsed: table }>
function M.check_file(given)
  if type(given) ~= "table" then error("policies must be a table by name", 0) end
  local checked = {}
  for name, one in pairs(given) do
    local where = "policies." .. tostring(name)
    if type(one) ~= "table" then error(where .. " must be a table of policies", 0) end
    local used, parsed = split(one, where)
    checked[name] = { policy = used, parsed = parsed }
  end
  return checked
end

-- Every name of catga.lua is that of a message, or of a policy.
local function check_names(registry, file)
  local policies, names = registry.policies or {}, {}
  for _, list in ipairs { registry.handlers, registry.events, policies } do
    for name in pairs(list) do names[name] = true end
  end
  for _, name in ipairs(registries().sorted_names(file)) do
    if not names[name] then
      local near = registries().suggest(tostring(name), names)
      error(("catga.lua: policies.%s: no message and no policy is called so%s"):format(
        tostring(name), near and ("; did you mean %s?"):format(near) or ""), 0)
    end
    if policies[name] and (registry.handlers[name] or registry.events[name]) then
      error(("catga.lua: policies.%s: both a message and a policy (%s) are called so; rename the "
        .. "policy"):format(name, policies[name].at), 0)
    end
    if policies[name] and file[name].policy then
      error(("catga.lua: policies.%s: a policy cannot be based on another one"):format(name), 0)
    end
  end
end

-- What is not wrong, but does not do what it says.
local function warn(app, effective, where)
  local one, all = effective.timeout, effective.total_timeout
  if one and all and one.p.after >= all.p.after then
    app:say("warn", ("%s: timeout (%d ms) is never reached: total_timeout is %d ms"):format(where,
      one.p.after, all.p.after))
  end
  local lock = effective.lock
  if one and lock and lock.p.ttl < one.p.after then
    app:say("warn", ("%s: an attempt may take %d ms (timeout), and loses its lock after %d ms "
      .. "(ttl): then it is not committed"):format(where, one.p.after, lock.p.ttl))
  end
end

-- A subscription has attempts of its own, which are durable.
local function drop_retry(app, effective, where)
  local retry = effective.retry
  if retry and retry.p.attempts > 1 then
    app:say("warn", ("%s: the attempts of its policy are off: those of the subscription count")
      :format(where))
  end
  effective.retry = nil
end

-- Settles one handler, and notes which kinds are in use.
local function resolve(registry, app, entry, used, is_subscription)
  local file = not is_subscription and app.settings.policies[entry.name] or nil
  if not entry.own and not file then return end
  local kind = is_subscription and "subscription" or entry.kind
  local where = ("%s: %s %s"):format(entry.at, kind, entry.name)
  local effective, name = policy.effective(app, registry, where, entry.own or {}, file)
  entry.policy = name
  if not effective then return end
  if is_subscription then drop_retry(app, effective, where) end
  local owner = kind .. " " .. entry.name
  if entry.nth and entry.nth > 1 then owner = ("%s (%d)"):format(owner, entry.nth) end
  entry.policies = effective
  entry.scope = { app = app, registry = registry, name = owner, kind = kind, entry = entry,
    idempotent = entry.kind == "query" or entry.idempotent or nil,
    counters = policy.counters(registry, owner) }
  policy.check_use(effective, entry.scope, where)
  warn(app, effective, where)
  for name_of_kind in pairs(effective) do used[name_of_kind] = true end
end

--- The names of messages and policies that have a kind, such as "command Pay".
---@param registry catga.Registry
---@param kind string
---@return string[]
function M.names_with(registry, kind)
  local found = {}
  local function look(entry)
    if entry.policies and entry.policies[kind] then found[entry.scope.name] = true end
  end
  for _, entry in pairs(registry.handlers) do look(entry) end
  for _, list in pairs(registry.events) do
    for _, entry in ipairs(list) do look(entry) end
  end
  for name, one in pairs(registry.policies or {}) do
    if one.parsed[kind] then found["policy " .. name] = true end
  end
  return registries().sorted_names(found)
end

--- Settles the policies of all handlers; raises on what contradicts itself.
---@param registry catga.Registry
---@param app catga.App
---@return table<string, true> used  kinds that some handler has
function M.resolve(registry, app)
  local file, used = app.settings.policies, {}
  check_names(registry, file)
  for _, name in ipairs(registries().sorted_names(registry.handlers)) do
    resolve(registry, app, registry.handlers[name], used)
  end
  for _, name in ipairs(registries().sorted_names(registry.events)) do
    for _, entry in ipairs(registry.events[name]) do resolve(registry, app, entry, used) end
  end
  for _, definition in pairs(registry.subscriptions) do
    resolve(registry, app, definition.entry, used, true)
  end
  for name in pairs(registry.policies or {}) do -- Also of those that nobody uses.
    policy.effective(app, registry, "policy " .. name, { policy = name })
  end
  return used
end

return M
