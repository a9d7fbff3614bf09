--- Behaviors: what wraps handlers, in one checked order.
---
--- Outermost first: logging, idempotency, validation, then the app's own in the order in which they
--- were registered, unless `before` or `after` name another.
local errors = require "catga.error"
local unit_of = require "catga.unit".of
local state = require "catga.state"

local M = {}

local INTERNAL = 8 -- Record flag: bookkeeping.

local RANK = { logging = 1, idempotency = 2, validation = 3 }
local OWN_RANK = 4
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

-- The outcome that the stream of a key holds, or that the open unit has staged for it; the first
-- result tells whether there is one. May yield.
local function find_outcome(app, name)
  local stream = app.store:stream(name)
  if not stream then return false end
  local unit = state[1].unit
  for i = 1, unit and unit.n or 0 do
    local op = unit.ops[i]
    if op.stream == stream then return true, app.json.decode(op.data).value end
  end
  if app.store:count(stream) == 0 then return false end
  local events, err = app.store:read(stream, 0, 1)
  if not events then return true, nil, err end
  local ok, fault = app.store:wait(events[1].position) -- It may not be durable yet.
  if not ok then return true, nil, fault end
  return true, events[1].data.value
end

-- A message whose key was handled already gets the stored outcome; else the outcome is staged with
-- what the handler does, in a stream of its own that must be new.
local function idempotency(app, entry, inner)
  -- A hyphen ends the name.
  local prefix = "$outcome-" .. entry.name:gsub("[%%-]", { ["%"] = "%25", ["-"] = "%2D" }) .. "-"
  return function(data, ctx)
    if not (entry.idempotent or ctx.has_key) then return inner(data, ctx) end
    local name = prefix .. ctx.key
    local is_known, outcome, fault = find_outcome(app, name)
    if is_known then return outcome, fault end
    local unit = unit_of(state[1])
    local n, after = unit:mark()
    local value, err = inner(data, ctx)
    if value == nil and err ~= nil then return nil, err end
    local version
    version, fault = unit:append(name, { { type = "CommandHandled", data = { value = value } } },
      "none", INTERNAL)
    if version then return value end
    if fault.code ~= "conflict" then return nil, fault end
    unit:take_back(n, after) -- Another one with this key was faster.
    return select(2, find_outcome(app, name))
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
  if fn == nil and not RANK[name] then
    error(("%s: behavior %s needs a function(message, ctx, next); shipped ones are logging,"
      .. " idempotency and validation"):format(at, name), 0)
  end
  if fn ~= nil and RANK[name] then
    error(("%s: %s is a shipped behavior; choose another name"):format(at, name), 0)
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

local function place_of(ordered, name)
  for i, behavior in ipairs(ordered) do
    if behavior.name == name then return i end
  end
end

local function check_neighbours(ordered)
  for i, behavior in ipairs(ordered) do
    local before = behavior.before and place_of(ordered, behavior.before)
    local after = behavior.after and place_of(ordered, behavior.after)
    local missing = behavior.before and not before and behavior.before
      or behavior.after and not after and behavior.after
    if missing then
      error(("%s: behavior %s is to stand next to %s, which does not exist")
        :format(behavior.at, behavior.name, missing), 0)
    end
    if before and before < i or after and after > i then
      error(("%s: behavior %s cannot stand %s %s: the order contradicts itself"):format(behavior.at,
        behavior.name, before and "before" or "after", behavior.before or behavior.after), 0)
    end
  end
end

--- Puts behaviors into their order, outermost first. Raises on duplicates and contradictions.
---@param list table[]
---@return table[] ordered
function M.order(list)
  local ordered, seen = {}, {}
  local all = { M.define("idempotency", nil, nil, "?"), M.define("validation", nil, nil, "?") }
  for _, behavior in ipairs(list) do
    if behavior.name == "logging" or not behavior.rank or behavior.rank == OWN_RANK then
      all[#all + 1] = behavior
    end
  end
  for i, behavior in ipairs(all) do
    if seen[behavior.name] then
      error(("%s: behavior %s is registered already, at %s"):format(behavior.at, behavior.name,
        seen[behavior.name].at), 0)
    end
    seen[behavior.name] = behavior
    behavior.turn = i
  end
  table.sort(all, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    return a.turn < b.turn
  end)
  for _, behavior in ipairs(all) do
    local place = #ordered + 1
    local before = behavior.before and place_of(ordered, behavior.before)
    if before then place = before end
    table.insert(ordered, place, behavior)
  end
  -- Those that follow a later one move behind it.
  for _, behavior in ipairs(all) do
    local at = behavior.after and place_of(ordered, behavior.after)
    local own = place_of(ordered, behavior.name)
    if at and own < at then
      table.remove(ordered, own)
      table.insert(ordered, at, behavior)
    end
  end
  check_neighbours(ordered)
  return ordered
end

local function wrap_own(behavior, inner)
  local fn = behavior.fn
  return function(data, ctx)
    return fn(data, ctx, function() return inner(data, ctx) end)
  end
end

local function wrap_validation(check, inner)
  return function(data, ctx)
    local fault = check(data)
    if fault then return nil, fault end
    return inner(data, ctx)
  end
end

--- Composes one handler with its behaviors into a straight closure.
---@param app catga.App
---@param entry catga.Entry
---@param ordered table[]
---@param check (fun(data: any): catga.Error?)?  compiled schema
---@return fun(data: any, ctx: catga.Ctx): any, any
function M.compose(app, entry, ordered, check)
  local run = entry.handle
  for i = #ordered, 1, -1 do
    local behavior = ordered[i]
    if behavior.only == nil or behavior.only == entry.kind then
      if behavior.name == "validation" then
        if check then run = wrap_validation(check, run) end
      elseif behavior.name == "idempotency" then
        if entry.kind == "command" then run = idempotency(app, entry, run) end
      elseif SHIPPED[behavior.name] then
        run = SHIPPED[behavior.name](app, entry, run)
      else
        run = wrap_own(behavior, run)
      end
    end
  end
  return run
end

return M
