--- What of a durable stream is kept: the records of `$processor-<name>`, from version 2 on
--- with `@<version>` behind it.
---
---   StreamReset    { to, shape, paused?, changes? }  begins anew behind a position; changes: where
---                                               the files of its sinks stand
---   StreamChanged  { changes }                  part of the commit that the next one ends
---   StreamMoved    { to, watermark, counts, events, changes }  all up to `to` is in the state
---   StreamPart     { changes }                  part of a whole state
---   StreamSnapshot { from, to, shape, watermark, counts, events, paused }  its parts begin at
---                                               version `from`
---   StreamPaused   { paused }
---
--- A change is a list: operator, kind, key, and what the operator says of it (`write` and `load` of
--- each). Changes are in one commit with what the sinks have staged. A whole state may be several
--- commits: it counts only when its last record, the snapshot, is there.
local errors = require "catga.error"
local json = require "catga.native.json"

local M = {}

local CHUNK = 200            -- Records read at once.
local PART_BYTES = 256 * 1024 -- Changes are put into records of about so many bytes.
local OVERHEAD_BYTES = 4096  -- Of a record beside its changes.

--- Name of the stream.
---@param name string
---@param version integer
---@return string
function M.stream_name(name, version)
  if version == 1 then return "$processor-" .. name end
  return ("$processor-%s@%d"):format(name, version)
end

---@class catga.StreamParts
---@field lists string[]  JSON of lists of changes
---@field bytes integer

--- Gathers changes into lists that fit into a record.
---@param app catga.App
---@param name string
---@param fill fun(add: fun(text: string))
---@return catga.StreamParts
function M.parts(app, name, fill)
  local most = math.min(PART_BYTES, app.settings.message_size_max - OVERHEAD_BYTES)
  local parts, texts, bytes = { lists = {}, bytes = 0 }, {}, 0
  local function flush()
    parts.lists[#parts.lists + 1] = "[" .. table.concat(texts, ",") .. "]"
    texts, bytes = {}, 0
  end
  fill(function(text)
    if #text > app.settings.message_size_max - OVERHEAD_BYTES then
      error(errors.new("limit", ("stream %s: a part of its state is %d bytes, which is over "
        .. "message_size_max: %s..."):format(name, #text, text:sub(1, 60))), 0)
    end
    if bytes + #text > most and bytes > 0 then flush() end
    texts[#texts + 1] = text
    bytes, parts.bytes = bytes + #text + 1, parts.bytes + #text + 1
    if parts.bytes > app.settings.stream_state_max then
      error(errors.new("limit", ("stream %s: its state is over stream_state_max (%d bytes); raise "
        .. "it in catga.lua, or keep less: shorter windows, fewer keys"):format(name,
        app.settings.stream_state_max)), 0)
    end
  end)
  if #texts > 0 or #parts.lists == 0 then flush() end
  return parts
end

local function with_changes(head, list) return ("{%s\"changes\":%s}"):format(head, list) end

-- Fields of a record, to be followed by others.
local function head_of(fields)
  return assert(json.encode(fields)):sub(2, -2) .. ","
end

--- Stages what has changed.
---@param unit catga.Unit
---@param stream_name string
---@param parts catga.StreamParts
---@param fields { to: integer, watermark: table, counts: table[], events: integer }
function M.stage(unit, stream_name, parts, fields)
  local last = #parts.lists
  for i = 1, last - 1 do
    unit:record(stream_name, "StreamChanged", with_changes("", parts.lists[i]))
  end
  unit:record(stream_name, "StreamMoved", with_changes(head_of(fields), parts.lists[last]))
end

--- The record of one part of a whole state.
---@param list string
---@return string type
---@return string data
function M.part(list) return "StreamPart", with_changes("", list) end

--- How many records the stream has.
---@param app catga.App
---@param stream_name string
---@return integer
function M.count(app, stream_name)
  local stream = app.store:stream(stream_name)
  return stream and app.store:count(stream) or 0
end

-- The newest record that holds a whole state.
local function find_base(store, stream)
  local from = store:count(stream) - 1
  while from >= 0 do
    local records, err = store:read(stream, from, CHUNK, true)
    if not records then error(err, 0) end
    for _, record in ipairs(records) do
      if record.type == "StreamSnapshot" or record.type == "StreamReset" then return record end
    end
    if #records == 0 then return nil end
    from = records[#records].version - 1
  end
end

local function each_record(store, stream, from, to, fn)
  while from < to do
    local records, err = store:read(stream, from, math.min(CHUNK, to - from))
    if not records then error(err, 0) end
    if #records == 0 then return end
    for _, record in ipairs(records) do
      fn(record)
      from = record.version + 1
    end
  end
end

---@class catga.StreamCheckpoint
---@field to integer
---@field shape string
---@field watermark table
---@field counts table[]
---@field events integer
---@field paused boolean
---@field records integer  behind the whole state
---@field bytes integer    of the whole state, roughly

--- Reads what is kept; nil: nothing is. Raises when it cannot.
---@param app catga.App
---@param stream_name string
---@param take fun(change: any[])?  nil: only how far it has come
---@param shape string?  of the chain that takes: the state of another one is not handed on
---@return catga.StreamCheckpoint?
function M.load(app, stream_name, take, shape)
  local store = app.store
  local stream = store:stream(stream_name)
  local base = stream and store:count(stream) > 0 and find_base(store, stream)
  if not base then return nil end
  local data = base.data
  if shape and data.shape ~= shape then take = nil end
  local found = { to = data.to, shape = data.shape, watermark = data.watermark or { false },
    counts = data.counts or {}, events = data.events or 0, paused = data.paused == true,
    records = 0 }
  local function apply(changes)
    for _, change in ipairs(take and changes or {}) do take(change) end
  end
  apply(data.changes)
  each_record(store, stream, data.from or base.version, base.version, function(record)
    if record.type == "StreamPart" then apply(record.data.changes) end
  end)
  each_record(store, stream, base.version + 1, store:count(stream), function(record)
    local kind, of = record.type, record.data
    if kind == "StreamPaused" then
      found.paused = of.paused
    elseif kind == "StreamChanged" or kind == "StreamMoved" then
      found.records = found.records + 1
      apply(of.changes)
    end
    if kind == "StreamMoved" then
      found.to, found.watermark, found.counts = of.to, of.watermark, of.counts
      found.events = of.events
    end
  end)
  return found
end

return M
