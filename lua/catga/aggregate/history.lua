--- Reading an aggregate back: its newest snapshot, then the events after it.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local native_task = require "catga.native.task"
local presenter = require "catga.event"
local metadata = require "catga.events.metadata"
local fold = require "catga.aggregate.fold"
local snapshots = require "catga.aggregate.snapshot"

local M = {}

local PAGE = 500 -- Events read and applied before other tasks get their turn.

--- How far to read.
---@class catga.Until
---@field version integer?  up to this version
---@field at number?        Unix ms: up to the last event that is not later

--- What was read.
---@class catga.Walk
---@field class catga.AggregateClass
---@field id string
---@field stream string
---@field state table
---@field version integer        of the last event seen; -1: none
---@field base integer           version that it began with: of the snapshot, or before all events
---@field base_time number?      time of that snapshot, else of the first event
---@field bytes integer          of the events since; counted only when a snapshot rule asks for it
---@field event_id string?       id of the last stored event
---@field key string|false|nil    of the person whose data is in the state; false: of several
---@field is_staged boolean?     events were applied that the open unit has staged

-- Applies one page of stored events; true: the end that was asked for is reached.
local function take(app, walk, ctx, events, until_ms)
  local is_end = false
  for i, event in ipairs(events) do
    if until_ms and event.time > until_ms then
      for last = #events, i, -1 do events[last] = nil end
      is_end = true
      break
    end
    if event.version ~= walk.version + 1 then
      error(errors.new("truncated", ("stream %s has no event of version %d any more, and no "
        .. "snapshot stands in for it: the state of %s %s cannot be made"):format(walk.stream,
        walk.version + 1, walk.class.name, walk.id)), 0)
    end
    walk.version, walk.event_id = event.version, event.id
    walk.base_time = walk.base_time or event.time
  end
  presenter.present_all(app, events)
  for _, event in ipairs(events) do
    if event.personal and not event.forgotten then snapshots.saw_key(walk, event.personal) end
  end
  local rules = walk.class.snapshots
  if rules and rules.bytes then
    for _, event in ipairs(events) do walk.bytes = walk.bytes + #(json.encode(event.data) or "") end
  end
  fold.apply(walk.class, walk.state, ctx, events)
  return is_end
end

-- Applies the stored events behind walk.version.
local function read_stored(app, walk, ctx, upto)
  local last = upto and upto.version or math.huge
  while walk.version < last do
    local number = app.store:stream(walk.stream)
    if not number or walk.version + 1 >= app.store:count(number) then return true end
    local events, err = app.store:read(number, walk.version + 1,
      math.min(PAGE, last - walk.version))
    if not events then return nil, err end
    local count = #events
    if count == 0 or take(app, walk, ctx, events, upto and upto.at) then return true end
    if count == PAGE and native_task.can_park() then native_task.yield() end
  end
  return true
end

-- Applies what the open unit of work has staged for the stream.
local function take_staged(app, walk, ctx)
  local unit = state[1].unit and state[1].unit:refresh()
  local number = unit and unit.n > 0 and app.store:stream(walk.stream)
  if not number then return end
  local events = {}
  for i = 1, unit.n do
    local op = unit.ops[i]
    if op.stream == number then
      walk.version, walk.is_staged = walk.version + 1, true
      snapshots.saw_key(walk, op.key)
      events[#events + 1] = { stream = walk.stream, type = op.type, version = walk.version,
        data = json.decode(op.plain or op.data),
        metadata = op.schema and { schema = op.schema } or nil }
    end
  end
  presenter.present_all(app, events)
  fold.apply(walk.class, walk.state, ctx, events)
end

-- Begins with the newest snapshot that fits, else with the initial state.
local function begin(app, class, id, upto)
  local walk = { class = class, id = id, stream = class.name .. "-" .. id, version = -1, base = -1,
    bytes = 0 }
  local unit = state[1].unit and state[1].unit:refresh()
  local first, err = metadata.beginning(app, unit, walk.stream)
  if not first then return nil, err end
  local snapshot, text
  if class.snapshots then snapshot, text = snapshots.find(app, class, id, upto) end
  if not snapshot or snapshot.version < first then
    walk.state = fold.initial(class, id)
    walk.version, walk.base = first - 1, first - 1
    return walk
  end
  walk.state, walk.version, walk.base = json.decode(text), snapshot.version,
    snapshot.version
  walk.key = snapshot.key
  walk.base_time, walk.event_id = snapshot.time, snapshot.event
  return walk
end

-- The error for a version that the walk did not end at.
local function no_version(walk, version)
  if walk.version > version then
    return errors.new("not_found", ("stream %s was deleted behind version %d: what was before that "
      .. "is not shown"):format(walk.stream, walk.version))
  end
  return errors.new("not_found", ("stream %s has no version %d; its newest is %s"):format(
    walk.stream, version, walk.version < 0 and "none" or tostring(walk.version)))
end

--- Reads the events of an aggregate and makes its state. Raises for faults of the scripts. May
--- yield.
---@param app catga.App
---@param class catga.AggregateClass
---@param id string
---@param upto catga.Until?  default: all, with what the open unit of work has staged
---@return catga.Walk? walk
---@return catga.Error? err  "not_found": there is no such version; "deleted", "corrupt", ...
function M.read(app, class, id, upto)
  local walk, err = begin(app, class, id, upto)
  if not walk then return nil, err end
  local ctx = fold.ctx(id, walk.stream)
  local ok
  ok, err = read_stored(app, walk, ctx, upto)
  if not ok then return nil, err end
  if not upto then take_staged(app, walk, ctx) end
  if upto and upto.version and walk.version ~= upto.version then
    return nil, no_version(walk, upto.version)
  end
  if class.snapshots and not (upto or walk.is_staged) then snapshots.after_load(app, walk) end
  return walk
end

return M
