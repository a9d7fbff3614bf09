--- The functions of an aggregate's class: `Order.load(id)` and the like. The class comes first; it
--- is not given by scripts.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local tasks = require "catga.task"
local times = require "catga.time"
local running = require "catga.face".running
local fold = require "catga.aggregate.fold"
local history = require "catga.aggregate.history"
local instances = require "catga.aggregate.instance"
local snapshots = require "catga.aggregate.snapshot"
local difference = require "catga.aggregate.difference"

local M = {}

local ID_BYTES_MAX = 800 -- A stream's name has up to 1024.
local PAUSE_MS_MAX = 64  -- Between the attempts of update.

local function refuse(class, level, text, ...)
  error(("aggregate %s: " .. text):format(class.name, ...), level + 1)
end

-- The id of an aggregate; raises at the caller of the verb when it is none.
local function check_id(class, verb, id)
  if type(id) == "string" and id ~= "" and #id <= ID_BYTES_MAX then return end
  refuse(class, 3, "%s: the id is a string of 1 to %d bytes, got %s", verb, ID_BYTES_MAX,
    type(id) == "string" and ("one of %d"):format(#id) or type(id) .. " " .. tostring(id))
end

-- What the options of load ask for; raises at the caller of load.
local function check_until(class, opts)
  if opts == nil then return nil end
  if type(opts) ~= "table" then refuse(class, 3, "load: the options are a table") end
  for name in pairs(opts) do
    if name ~= "version" and name ~= "at" then
      refuse(class, 3, "load: unknown option \"%s\"; there are version and at", tostring(name))
    end
  end
  local version, at = opts.version, opts.at
  if version ~= nil and at ~= nil then refuse(class, 3, "load: either a version or a time") end
  if version ~= nil and (type(version) ~= "number" or version % 1 ~= 0 or version < -1) then
    refuse(class, 3, "load: a version is a whole number from 0 (-1: before the first event), "
      .. "not %s", tostring(version))
  end
  if at == nil then return version and { version = version } end
  local ms, fault = times.parse(at, "at")
  if not ms then refuse(class, 3, "load: %s", fault) end
  return { at = ms }
end

local function past_of(upto)
  if not upto then return nil end
  return ("it was loaded as it was %s, to be looked at; load it without a version or time"):format(
    upto.version and ("at version %d"):format(upto.version) or "at an earlier time")
end

-- Reads an aggregate.
local function load(app, class, id, upto)
  local walk, err = history.read(app, class, id, upto)
  if not walk then return nil, err end
  return instances.new(walk, past_of(upto))
end

local function check_attempts(class, app, opts)
  for name in pairs(opts or {}) do
    if name ~= "attempts" then
      refuse(class, 3, "update: unknown option \"%s\"; there is attempts", tostring(name))
    end
  end
  local attempts = opts and opts.attempts or app.settings.update_attempts
  if type(attempts) ~= "number" or attempts % 1 ~= 0 or attempts < 1 then
    refuse(class, 3, "update: attempts is a whole number from 1, not %s", tostring(attempts))
  end
  return attempts
end

-- One attempt of update: whether it is over, and what it gives.
local function attempt(app, class, id, fn)
  local order, err = load(app, class, id)
  if not order then return true, nil, err end
  local ok, value, fault = xpcall(fn, errors.catch, order)
  if not ok then error(value, 0) end
  if value == nil and fault ~= nil then return true, nil, fault end
  local version
  version, err = order:save()
  if version then return true, value == nil and true or value end
  return err.code ~= "conflict", nil, err
end

-- The same, taking back what was staged in the open unit when it has failed.
local function attempt_or_nothing(app, class, id, fn)
  local unit = state[1].unit
  local n, after = 0, 0
  if unit then n, after = unit:mark() end
  local function finish(ok, ...)
    local is_over, value, err = ...
    unit = state[1].unit
    if unit and (not ok or value == nil and err ~= nil) then unit:take_back(n, after) end
    if not ok then error((...), 0) end
    return is_over, value, err
  end
  return finish(pcall(attempt, app, class, id, fn))
end

local function update(app, class, id, fn, attempts)
  local conflict
  for count = 1, attempts do
    if count > 1 then -- Others who met the same conflict must not come again at the same time.
      local most = math.min(2 ^ (count - 1), PAUSE_MS_MAX)
      tasks.wait(app.clock.sleep, app.clock, math.ceil(math.random() * most))
    end
    local is_over, value, err = attempt_or_nothing(app, class, id, fn)
    if is_over then return value, err end
    conflict = err
  end
  return nil, errors.new("conflict", ("aggregate %s-%s: %d attempts to update it met another "
    .. "change each time; the last: %s"):format(class.name, id, attempts, conflict.message),
    { retryable = true })
end

-- Applies events that are given, as they would be read.
local function from_history(class, events, id)
  local walk = { class = class, id = id, stream = class.name .. "-" .. id, version = -1, base = -1,
    bytes = 0, state = fold.initial(class, id) }
  local list = {}
  for i, event in ipairs(events) do
    if type(event) ~= "table" or type(event.type) ~= "string" then
      refuse(class, 3, "from_history: event %d needs a type", i)
    end
    local text, err = json.encode(event.data == nil and {} or event.data)
    if not text then refuse(class, 3, "from_history: event %d: %s", i, err.message) end
    walk.version = event.version or walk.version + 1
    list[i] = { type = event.type, data = json.decode(text), version = walk.version }
  end
  fold.apply(class, walk.state, fold.ctx(id, walk.stream), list)
  return instances.new(walk)
end

local function diff(app, class, id, from, to)
  local list = {}
  for i, version in ipairs { from, to } do
    local walk, err = history.read(app, class, id, { version = version })
    if not walk then return nil, err end
    list[i] = walk.state
  end
  return difference.between(list[1], list[2])
end

--- Loads an aggregate: the newest snapshot, then the events after it, those included that the
--- open unit of work has staged. One without events is new. May yield.
---@param class catga.AggregateClass
---@param id string
---@param opts { version: integer?, at: string|number? }?  its state at a version, or at a time
---  ("2026-01-01T00:00:00Z", or Unix ms); such a one takes no commands
---@return catga.Aggregate? aggregate
---@return catga.Error? err  "not_found": there is no such version
function M.load(class, id, opts)
  local app = running(class.name .. ".load", "load it in a step")
  check_id(class, "load", id)
  local upto = check_until(class, opts)
  return load(app, class, id, upto)
end

--- Loads an aggregate, calls fn with it, and saves; once more from the start on a conflict. When
--- fn returns nil and an error, nothing is saved and they are returned. May yield.
---@param class catga.AggregateClass
---@param id string
---@param fn fun(aggregate: catga.Aggregate): any, any
---@param opts { attempts: integer? }?  default: the setting update_attempts
---@return any value  what fn returned, true for nil
---@return catga.Error? err  of fn; "conflict": all attempts met one
function M.update(class, id, fn, opts)
  local app = running(class.name .. ".update", "update it in a step")
  check_id(class, "update", id)
  if type(fn) ~= "function" then refuse(class, 2, "update(id, fn): fn is %s", type(fn)) end
  return update(app, class, id, fn, check_attempts(class, app, opts))
end

--- Makes an aggregate out of events, without the store.
---@param class catga.AggregateClass
---@param events { type: string, data: any }[]
---@param id string?  without one it cannot be saved
---@return catga.Aggregate
function M.from_history(class, events, id)
  running(class.name .. ".from_history", "do it in a step")
  if type(events) ~= "table" then refuse(class, 2, "from_history: a list of events") end
  if id ~= nil then check_id(class, "from_history", id) end
  return from_history(class, events, id or "")
end

--- What changed from one version to another. May yield.
---@param class catga.AggregateClass
---@param id string
---@param from integer  -1: before the first event
---@param to integer
---@return { path: string, before: any, after: any }[]? changes
---@return catga.Error? err
function M.diff(class, id, from, to)
  local app = running(class.name .. ".diff", "do it in a step")
  check_id(class, "diff", id)
  check_until(class, { version = from == nil and "nil" or from })
  check_until(class, { version = to == nil and "nil" or to })
  return diff(app, class, id, from, to)
end

--- Drops the snapshots of an aggregate; the next load reads all its events. May yield.
---@param class catga.AggregateClass
---@param id string
function M.drop_snapshot(class, id)
  running(class.name .. ".drop_snapshot", "do it in a step")
  check_id(class, "drop_snapshot", id)
  snapshots.drop(class, id)
end

return M
