--- Reading one stream: by versions, to a time, of some types; without what retention hides.
local state = require "catga.state"
local json = require "catga.native.json"
local metadata = require "catga.events.metadata"
local present_all = require "catga.event".present_all

local M = {}

local PAGE = 1000        -- Events read at once when some are left out.
local LOOK_MAX = 100000  -- Events looked at in one call.

--- What to read.
---@class catga.StreamQuery
---@field from integer?       version to begin with
---@field to integer?         last version (backward: the lowest)
---@field until_time number?  Unix ms: nothing later
---@field max integer
---@field backward boolean?
---@field types table<string, true>?
---@field type_prefix string?

local function staged_metadata(op)
  if not (op.schema or op.extra) then return nil end
  local fields = { schema = op.schema }
  for name, value in pairs(op.extra or {}) do fields[name] = value end
  return fields
end

-- Events that the unit has staged for a stream, with the versions they will get.
local function staged_events(unit, store, stream, name, now)
  local list = {}
  local version = store:count(stream)
  for i = 1, unit.n do
    local op = unit.ops[i]
    if op.stream == stream then
      list[#list + 1] = { stream = name, type = op.type, data = json.decode(op.plain or op.data),
        version = version, time = now, metadata = staged_metadata(op) }
      version = version + 1
    end
  end
  return list
end

--- The first version from `low` on whose event is later than a time; `high` when there is none.
--- Times grow with versions; where the clock was set back it is one of the places that fit.
---@param store catga.Store
---@param stream integer
---@param ms number
---@param low integer
---@param high integer  behind the last one
---@return integer? version
---@return catga.Error? err
function M.find_later(store, stream, ms, low, high)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local list, err = store:read(stream, middle, 1)
    if not list then return nil, err end
    local event = list[1]
    if not event or event.version >= high then
      high = middle
    elseif event.time > ms then
      high = middle
    else
      low = event.version + 1
    end
  end
  return low
end

-- The versions that may be shown, [low, high): of `count` stored, `total` with the staged ones.
local function bounds(app, unit, name, stream, count, total, query)
  local first, since = metadata.window(app, unit, name, total)
  if not first then return nil, since end
  local low, high = math.min(first, total), total
  local err
  if since and low < count then
    low, err = M.find_later(app.store, stream, since - 1, low, count)
    if not low then return nil, err end
  end
  if query.until_time and low < count then
    local later
    later, err = M.find_later(app.store, stream, query.until_time, low, count)
    if not later then return nil, err end
    if later < count or app.clock:now() > query.until_time then high = later end
  end
  return low, high
end

local function is_wanted(query, event)
  return (not query.types or query.types[event.type])
    and (not query.type_prefix
      or event.type:sub(1, #query.type_prefix) == query.type_prefix)
end

-- Stored events from version `at` on, to `stop` (both included), into `list`. Gives the version to
-- go on with. Filters look at events as they are presented: upcasters rename and drop them.
local function read_stored(app, stream, query, list, at, stop)
  local filters = query.types or query.type_prefix
  local step = query.backward and -1 or 1
  local looked = 0
  while #list < query.max and (stop - at) * step >= 0 and looked < LOOK_MAX do
    local want = filters and PAGE or query.max - #list
    local page, err = app.store:read(stream, at, math.min(want, (stop - at) * step + 1),
      query.backward)
    if not page then return nil, err end
    if #page == 0 then return stop + step end
    looked, at = looked + #page, page[#page].version + step
    for _, event in ipairs(present_all(app, page)) do
      if (stop - event.version) * step < 0 then break end -- Those wanted were scavenged.
      if is_wanted(query, event) then
        if #list == query.max then return event.version end
        list[#list + 1] = event
      end
    end
  end
  return at
end

local function take_staged(query, list, staged, low, high)
  local first, last, step = 1, #staged, 1
  if query.backward then first, last, step = #staged, 1, -1 end
  for i = first, last, step do
    local event = staged[i]
    if event.version >= low and event.version <= high and is_wanted(query, event) then
      if #list == query.max then return event.version end
      list[#list + 1] = event
    end
  end
end

-- Reads the versions from `low` to `high`, both included; the staged ones are the newest.
local function read_range(app, stream, query, staged, low, high)
  local list = {}
  local count = app.store:count(stream)
  local next_version, err
  if query.backward then
    next_version = take_staged(query, list, staged, low, high)
    if next_version then return list, next_version end
    next_version, err = read_stored(app, stream, query, list, math.min(high, count - 1), low)
    if not next_version then return nil, err end
    return list, next_version >= low and next_version or nil
  end
  local stop = math.min(high, count - 1)
  next_version, err = read_stored(app, stream, query, list, low, stop)
  if not next_version then return nil, err end
  if next_version <= stop then return list, next_version end
  return list, take_staged(query, list, staged, low, high)
end

--- Reads a stream.
---@param name string
---@param query catga.StreamQuery
---@return table[]? events
---@return integer|catga.Error|nil next  version to go on `from`, nil: that is all; or the error
function M.stream(name, query)
  local task = state[1]
  local app, unit = task.app, task.unit and task.unit:refresh()
  local stream = app.store:stream(name)
  local count = stream and app.store:count(stream) or 0
  local staged = stream and unit and staged_events(unit, app.store, stream, name, app.clock:now())
    or {}
  local total = count + #staged
  present_all(app, staged)
  local low, high = bounds(app, unit, name, stream, count, total, query)
  if not low then return nil, high end
  high = high - 1
  if query.backward then
    high = math.min(high, query.from or high)
    low = math.max(low, query.to or low)
  else
    low = math.max(low, query.from or low)
    high = math.min(high, query.to or high)
  end
  if low > high then return {} end
  return read_range(app, stream, query, staged, low, high)
end

return M
