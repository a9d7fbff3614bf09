--- Behaviors: what wraps handlers, in one checked order.
---
--- Outermost first: logging, policies around the unit of work, the unit of work, its timeout,
--- idempotency, validation, then the app's own in the order in which they were registered, unless
--- `before` or `after` name another one, or a kind of policy. Policies keep the order of
--- lua/catga/policy/kinds.lua among each other.
local errors = require "catga.error"
local unit_of = require "catga.unit".of
local state = require "catga.state"
local INTERNAL = require "catga.flags".INTERNAL
local inbox = require "catga.lazy".module "catga.inbox"
local protected = require "catga.protected".call
local lazy = require "catga.lazy"
local kinds = lazy.module "catga.policy.kinds"
local policy = lazy.module "catga.policy"
local total_timeout = lazy.module "catga.policy.total_timeout"
local lock = lazy.module "catga.policy.lock"
local batch = lazy.module "catga.policy.batch"

local M = {}

-- Policies have the ranks between logging and idempotency.
local RANK = { logging = 0, idempotency = 1000, validation = 1001 }
local OWN_RANK = 1002
local KINDS = { command = true, query = true, event = true }

local function logging(app, entry, inner)
  return function(data, ctx)
    local start = app.clock:mono()
    local value, err = inner(data, ctx)
    local ms = app.clock:mono() - start
    if value == nil and err ~= nil then
      app:say("warn", ("%s %s failed after %.1f ms: %s"):format(entry.kind, entry.name, ms,
        tostring(errors.from(err))))
    else
      app:say("info", ("%s %s done in %.1f ms"):format(entry.kind, entry.name, ms))
    end
    return value, err
  end
end

-- A message whose key was handled already gets the stored outcome; else the outcome is staged with
-- what the handler does, in a stream of its own that must be as it was found.
local function idempotency(app, entry, inner)
  local prefix
  return function(data, ctx)
    if not (entry.idempotent or ctx.has_key) then
      local value, err = inner(data, ctx) -- No tail call: a trace of LuaJIT has few of them.
      return value, err
    end
    prefix = prefix or inbox.prefix(entry.name)
    local name = prefix .. ctx.key
    local hash = ctx.has_key and (ctx.data_hash or inbox.hash(data)) or nil
    ctx.data_hash = hash -- The data may be changed by what runs, and again after a conflict.
    local found, fault = inbox.find(app, name)
    if not found then return nil, fault end
    fault = found.is_known and inbox.differs(found, hash, entry.name, ctx.key)
    if fault then return nil, fault end
    if found.is_handled then return found.value end
    local unit = unit_of(state[1])
    local n, after = unit:mark()
    local value, err = inner(data, ctx)
    if value == nil and err ~= nil then return nil, err end
    local version
    version, fault = unit:append(name, { { type = "CommandHandled",
      data = { value = value, hash = hash, id = found.id } } }, found.expect, INTERNAL)
    if version then return value end
    if fault.code ~= "conflict" then return nil, fault end
    unit:take_back(n, after) -- Another one with this key was faster.
    found, fault = inbox.find(app, name)
    if not found then return nil, fault end
    if found.is_handled then return found.value end
    return nil, errors.new("conflict", ("command %s: another message with the key \"%s\" came "
      .. "meanwhile"):format(entry.name, ctx.key), { retryable = true })
  end
end

local SHIPPED = { logging = logging, idempotency = idempotency }

--- Checks one registration.
---@param name string
---@param fn function?
---@param opts { only: string?, before: string?, after: string? }?
---@param at string
---@return table behavior
function M.define(name, fn, opts, at)
  opts = opts or {}
  if type(name) ~= "string" or name == "" then error(at .. ": a behavior needs a name", 0) end
  if type(fn) ~= "function" and (fn ~= nil or not RANK[name]) then
    error(("%s: behavior %s needs a function(message, ctx, next); shipped ones are logging,"
      .. " idempotency and validation"):format(at, name), 0)
  end
  if fn ~= nil and RANK[name] then
    error(("%s: %s is a shipped behavior; choose another name"):format(at, name), 0)
  end
  if not RANK[name] and kinds.RANK[name] then
    error(("%s: behavior %s: that is the name of a policy, which has its place already; choose "
      .. "another name, and before = \"%s\" or after = \"%s\""):format(at, name, name, name), 0)
  end
  for option, value in pairs(opts) do
    if option ~= "only" and option ~= "before" and option ~= "after" then
      error(("%s: behavior %s: unknown option \"%s\"; there are only, before and after")
        :format(at, name, tostring(option)), 0)
    end
    if option == "only" and not KINDS[value] then
      error(("%s: behavior %s: only is \"command\", \"query\" or \"event\"")
        :format(at, name), 0)
    end
  end
  return { name = name, fn = fn, only = opts.only, before = opts.before, after = opts.after,
    at = at, rank = RANK[name] or OWN_RANK }
end

local function by_rank(a, b)
  if a.rank ~= b.rank then return a.rank < b.rank end
  return a.turn < b.turn
end

-- Kinds of policies that stand somewhere in the order: those in use, and those that a behavior is
-- to stand next to. With the first of them comes the unit of work.
local function places_of(list, used)
  local names = {}
  for name in pairs(used or {}) do names[name] = true end
  for _, behavior in ipairs(list) do
    for _, side in ipairs { "before", "after" } do
      local name = behavior[side]
      if name and not RANK[name] and kinds.RANK[name] then names[name] = true end
    end
  end
  if next(names) == nil then return {} end
  local places = {}
  for _, name in ipairs(kinds.ORDER) do
    if names[name] or name == "unit" then
      places[#places + 1] = { name = name, at = "?", rank = kinds.RANK[name], is_place = true }
    end
  end
  return places
end

-- All behaviors by name, those that are always there included, and as a list by rank.
local function gather(list, used)
  local all, by_name = {}, {}
  local function add(behavior)
    local other = by_name[behavior.name]
    if other then
      error(("%s: behavior %s is registered already, at %s"):format(behavior.at, behavior.name,
        other.at), 0)
    end
    by_name[behavior.name], all[#all + 1] = behavior, behavior
    behavior.turn = #all
  end
  for _, behavior in ipairs(list) do add(behavior) end
  for _, name in ipairs { "idempotency", "validation" } do
    if not by_name[name] then add(M.define(name, nil, nil, "?")) end
  end
  for _, place in ipairs(places_of(list, used)) do add(place) end
  table.sort(all, by_rank)
  return all, by_name
end

-- What each one must come behind, and the place that it takes: its own, or that of the first one
-- that it is to stand before.
local function constrain(all, by_name)
  local behind, place = {}, {}
  local last
  for i, behavior in ipairs(all) do
    behind[behavior], place[behavior] = {}, i
    if behavior.is_place then -- Policies keep their order.
      if last then behind[behavior][last] = true end
      last = behavior
    end
  end
  local unit = by_name.unit and by_name.unit.is_place and by_name.unit
  for _, name in ipairs { "idempotency", "validation" } do
    if unit then behind[by_name[name]][unit] = true end
  end
  for _, behavior in ipairs(all) do
    for _, side in ipairs { "before", "after" } do
      local name = behavior[side]
      local other = name and by_name[name]
      if name and not other then
        error(("%s: behavior %s is to stand next to %s, which does not exist"):format(behavior.at,
          behavior.name, tostring(name)), 0)
      end
      if other and side == "before" then behind[other][behavior] = true end
      if other and side == "after" then behind[behavior][other] = true end
    end
  end
  for _ = 1, #all do -- A chain has no more links.
    for _, behavior in ipairs(all) do
      local other = by_name[behavior.before]
      if other then place[behavior] = math.min(place[behavior], place[other]) end
    end
  end
  return behind, place
end

--- Puts behaviors into their order, outermost first. Raises on duplicates and contradictions.
---@param list table[]
---@param used table<string, true>?  kinds of policies that some handler has
---@return table[] ordered  kinds of policies have `is_place`
function M.order(list, used)
  local all, by_name = gather(list, used)
  local behind, place = constrain(all, by_name)
  local ordered = {}
  while #all > 0 do
    local best
    for i, behavior in ipairs(all) do
      if next(behind[behavior]) == nil and (not best or place[behavior] < place[all[best]]) then
        best = i
      end
    end
    if not best then
      local first = all[1]
      for _, behavior in ipairs(all) do
        if behavior.before or behavior.after then first = behavior break end
      end
      error(("%s: behavior %s cannot stand %s %s: the order contradicts itself"):format(first.at,
        first.name, first.before and "before" or "after", first.before or first.after), 0)
    end
    local chosen = table.remove(all, best)
    ordered[#ordered + 1] = chosen
    for _, others in pairs(behind) do others[chosen] = nil end
  end
  return ordered
end

-- The closure of one behavior around one handler. Each is compiled from text, and so a function of
-- its own: LuaJIT stops a trace that meets the same function too often, or too many tail calls.
-- What a behavior calls as `next()` is a table, because LuaJIT does not compile the making of a
-- closure, nor what is around it. It belongs to one message, so it may be kept and called later.
local OWN = [[
local fn, inner, setmetatable = ...
local next = { __call = function(self)
  local value, err = inner(self[1], self[2])
  return value, err
end }
return function(data, ctx)
  local value, err = fn(data, ctx, setmetatable({ data, ctx }, next))
  return value, err
end]]

local function wrap_own(behavior, inner)
  return assert(loadstring(OWN, "=behavior " .. behavior.name))(behavior.fn, inner, setmetatable)
end

-- Around policies: what it raises must not pass them by.
local function wrap_own_outside(behavior, inner)
  local run, catch = wrap_own(behavior, inner), errors.catch
  return function(data, ctx)
    local ok, value, err = xpcall(protected, catch, run, data, ctx)
    if ok then return value, err end
    return nil, value
  end
end

local function wrap_validation(check, inner)
  return function(data, ctx)
    local fault = check(data)
    if fault then return nil, fault end
    local value, err = inner(data, ctx)
    return value, err
  end
end

-- Puts one behavior around a closure, or leaves it as it is.
local function wrap(app, entry, behavior, check, is_outside, run)
  if behavior.only ~= nil and behavior.only ~= entry.kind then return run end
  if behavior.name == "validation" then return check and wrap_validation(check, run) or run end
  if behavior.name == "idempotency" then
    return entry.kind == "command" and idempotency(app, entry, run) or run
  end
  if SHIPPED[behavior.name] then return SHIPPED[behavior.name](app, entry, run) end
  return (is_outside and wrap_own_outside or wrap_own)(behavior, run)
end

-- What of an attempt's unit of work policies have to say at its end.
local function wrap_unit(entry, run)
  local effective = entry.policies
  if not effective then return run end
  if effective.lock then run = lock.inside(run, entry.scope) end
  if effective.total_timeout then run = total_timeout.inside(run) end
  return run
end

-- Handlers that get lists: what a batch does inside its unit of work, and the handler of one
-- message alone.
local function handler_of(entry)
  local effective = entry.policies
  if not (effective and effective.batch) then return entry.handle end
  local run = entry.handle
  for _, name in ipairs { "chaos", "timeout" } do
    if effective[name] then
      run = policy.layer(entry.scope, entry.registry, name, effective[name], run)
    end
  end
  entry.run_list = wrap_unit(entry, run)
  return batch.single(entry.handle)
end

-- Around a batch: what each message goes through before it joins one.
local function wrap_members(app, entry, ordered, check, run)
  for i = #ordered, 1, -1 do
    local behavior = ordered[i]
    if behavior.name == "unit" then break end
    if not behavior.is_place and behavior.name ~= "idempotency" then
      run = wrap(app, entry, behavior, check, true, run)
    end
  end
  return run
end

-- The layer of a kind around the unit of work.
local function wrap_outside(app, entry, ordered, check, name, run)
  local one = entry.policies and entry.policies[name]
  if not one then return run end
  run = policy.layer(entry.scope, entry.registry, name, one, run)
  if name == "batch" then return wrap_members(app, entry, ordered, check, run) end
  return run
end

--- Composes one handler with its behaviors into straight closures: entry.run is what one attempt
--- does inside its unit of work; entry.outer, if there is one, what stands around all attempts.
---@param app catga.App
---@param entry catga.Entry
---@param ordered table[]
---@param check (fun(data: any): catga.Error?)?  compiled schema
function M.compose(app, entry, ordered, check)
  local run, is_outside = handler_of(entry), false
  local is_batch = entry.run_list ~= nil -- Its behaviors are around the batch.
  local attempt = app.mediator.attempt
  for i = #ordered, 1, -1 do
    local behavior = ordered[i]
    if behavior.name == "unit" and behavior.is_place then
      entry.run, run, is_outside = wrap_unit(entry, run), attempt, true
    elseif behavior.is_place then
      run = wrap_outside(app, entry, ordered, check, behavior.name, run)
    elseif is_outside or not is_batch or behavior.name == "idempotency" then
      run = wrap(app, entry, behavior, check, is_outside, run)
    end
  end
  if not is_outside then
    entry.run = run
  elseif run ~= attempt then
    entry.outer = run
  end
end

return M
