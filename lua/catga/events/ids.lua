--- Ids of events: the same event appended twice is stored once.
---
--- An event's own id is kept in its metadata as `event_id`. With an exact `expect` the events
--- behind that version are compared; else the ids of the stream's last events are looked up, as
--- many as the setting append_window says; in memory are at most event_ids_max of all streams.
local errors = require "catga.error"
local json = require "catga.native.json"

local M = {}

local ID_BYTES_MAX = 128
local PAGE = 1000 -- Events read at once.
local EXACT = { none = -1 }

--- The ids of a list of events that is to be appended.
---@param events { id: string? }[]
---@return table<integer, string>|nil ids  by place; nil: none has one
---@return catga.Error? err
function M.of(events)
  local ids, places = nil, {}
  for i = 1, #events do
    local event = events[i]
    local id = type(event) == "table" and event.id or nil
    if id ~= nil then
      if type(id) ~= "string" or id == "" or #id > ID_BYTES_MAX or not json.encode(id) then
        return nil, errors.new("invalid", ("event %d: an id is a string of 1 to %d bytes of UTF-8")
          :format(i, ID_BYTES_MAX))
      end
      if places[id] then
        return nil, errors.new("invalid", ("events %d and %d have the same id \"%s\"")
          :format(places[id], i, id))
      end
      places[id] = i
      ids = ids or {}
      ids[i] = id
    end
  end
  return ids
end

--- Ids of a stream's newest events.
---@class catga.KnownIds
---@field upto integer               versions below it have been looked at
---@field low integer                versions below it are forgotten
---@field of table<string, integer>  id to version
---@field at table<integer, string>  version to id

-- The ids known of a stream. When the newer half of the cache is full it becomes the older half.
local function entry_of(app, name)
  local cache = app.event_ids
  if not cache then
    cache = { newer = {}, older = {}, held = 0 }
    app.event_ids = cache
  end
  local entry = cache.newer[name]
  if entry then return entry, cache end
  entry = cache.older[name] or { upto = 0, low = 0, of = {}, at = {} }
  if cache.held >= app.settings.event_ids_max / 2 then
    cache.older, cache.newer, cache.held = cache.newer, {}, 0
  end
  cache.newer[name] = entry
  cache.older[name] = nil
  for _ in pairs(entry.at) do cache.held = cache.held + 1 end
  return entry, cache
end

-- Forgets the ids of versions below `low`; all that are known lie below entry.upto.
local function forget(entry, low)
  for version = entry.low, math.min(low, entry.upto) - 1 do
    local id = entry.at[version]
    if id and entry.of[id] == version then entry.of[id] = nil end
    entry.at[version] = nil
  end
  entry.low = math.max(entry.low, low)
end

-- Reads what was appended since the ids of the stream were looked at.
local function known_ids(app, name, stream)
  local count = app.store:count(stream)
  local entry, cache = entry_of(app, name)
  local low = math.max(0, count - app.settings.append_window)
  if entry.upto < low then
    entry.of, entry.at, entry.upto, entry.low = {}, {}, low, low
  end
  while entry.upto < count do
    local list, err = app.store:read(stream, entry.upto, math.min(PAGE, count - entry.upto))
    if not list then return nil, err end
    for _, event in ipairs(list) do
      local id = type(event.metadata) == "table" and event.metadata.event_id
      if id then
        entry.of[id], entry.at[event.version] = event.version, id
        cache.held = cache.held + 1
      end
    end
    entry.upto = #list > 0 and list[#list].version + 1 or count
  end
  forget(entry, low)
  return entry.of
end

-- Ids that the unit has staged for the stream, by version, and versions by id.
local function staged_ids(unit, stream, count)
  local at, of = {}, {}
  local version = count
  for i = 1, unit.n do
    local op = unit.ops[i]
    if op.stream == stream then
      local id = op.extra and op.extra.event_id
      if id then at[version], of[id] = id, version end
      version = version + 1
    end
  end
  return at, of
end

local function conflict(name, text, ...)
  return errors.new("conflict", ("stream %s: " .. text):format(name, ...), { retryable = false })
end

-- The events behind version `after`: are they those of the list?
local function compare(app, unit, name, stream, ids, total, after)
  local count = app.store:count(stream)
  local at = staged_ids(unit, stream, count)
  local list, err = app.store:read(stream, after + 1, math.min(total, PAGE * 100))
  if not list then return nil, err end
  for _, event in ipairs(list) do
    at[event.version] = type(event.metadata) == "table" and event.metadata.event_id or nil
  end
  for i = 1, total do
    local there = at[after + i]
    if not ids[i] or there ~= ids[i] then
      if i == 1 then return nil end -- The version is not the one expected: an ordinary conflict.
      return nil, conflict(name, "version %d has the id \"%s\" of event %d of this append, but "
        .. "version %d has not that of event %d", after + i - 1, ids[i - 1], i - 1, after + i, i)
    end
  end
  return { version = after + total, repeated = true }
end

-- Looks the ids up among the newest of the stream.
local function find(app, unit, name, stream, ids, total, first)
  local of, err = known_ids(app, name, stream)
  if not of then return nil, err end
  local _, staged = staged_ids(unit, stream, app.store:count(stream))
  local start, new
  for i = 1, total do
    local version = ids[i] and (of[ids[i]] or staged[ids[i]])
    if version and version < first then version = nil end
    if not version then
      new = new or i
    elseif not start then
      start = { place = i, version = version }
    end
    if version and not new and version ~= start.version + i - start.place then
      return nil, conflict(name, "event %d (id \"%s\") is version %d of it already, which does not "
        .. "follow that of event %d", i, ids[i], version, i - 1)
    end
  end
  if not start then return nil end
  if new then
    return nil, conflict(name, "event %d (id \"%s\") is version %d of it already, but event %d is "
      .. "new", start.place, ids[start.place], start.version, new)
  end
  return { version = start.version + total - 1, repeated = true }
end

--- Has the stream got the events already?
---@param app catga.App
---@param unit catga.Unit
---@param name string
---@param ids table<integer, string>  from `of`
---@param total integer   how many events
---@param expect any      of the append
---@param first integer   versions below it are hidden, and count as not there
---@return { version: integer, repeated: true }? result  they are there
---@return catga.Error? err   only some of them are; neither: they are new
function M.look(app, unit, name, ids, total, expect, first)
  local stream = app.store:stream(name)
  if not stream then return nil end
  local exact = EXACT[expect] or type(expect) == "number" and expect or nil
  if not exact then return find(app, unit, name, stream, ids, total, first) end
  local last = app.store:count(stream) + unit:staged_count(stream) - 1
  if exact % 1 ~= 0 or exact < -1 or exact >= last then return nil end
  return compare(app, unit, name, stream, ids, total, exact)
end

--- What must still hold when the unit commits: nobody else has appended one of the events.
---@param app catga.App
---@param name string     of the stream, which is there
---@param staged catga.Staged[]
---@return fun(): catga.Error?
function M.guard(app, name, staged)
  local seen = app.store:count(app.store:stream(name, true))
  return function()
    local stream = app.store:stream(name, true) -- Its number may be another one by now.
    if app.store:count(stream) == seen then return nil end
    local of, err = known_ids(app, name, stream)
    if not of then return err end
    for i = 1, #staged do
      local id = staged[i].extra and staged[i].extra.event_id
      if id and of[id] and of[id] >= seen then
        return errors.new("conflict", ("stream %s: event %d (id \"%s\") was appended meanwhile")
          :format(name, i, id), { retryable = true, is_raced = true })
      end
    end
  end
end

return M
