--- Importing events: a batch of lines is one unit of work, and each event is stored once.
---
--- That an event was imported is kept like the outcome of a command: a stream of its own,
--- `$import-<hash of source and id>`, which is expected to be new. So a file may be imported again
--- from its beginning, also after a kill in the middle; two imports at the same time do no harm.
---
--- Handlers registered by catga.on are not called: what is imported has happened before. Readers by
--- position (projections, subscriptions) see it.
local errors = require "catga.error"
local flags = require "catga.flags"
local host = require "catga.native.host"
local cloud = require "catga.events.cloud"
local metadata = require "catga.events.metadata"
local json = require "catga.native.json"
local personal = require "catga.personal"
local times = require "catga.time"
local SEALED = require "catga.unit".SEALED
local stage = require "catga.events.stage".run

local M = {}

M.PREFIX = "$import-"

local RACES_MAX = 10       -- How often a batch is tried again that met one of its own events.
local HASH_CHARS = 40      -- Of the SHA-256 in a stream's name: 160 bits.
local FAULTS_MAX = 100     -- Bad lines that are told of a batch.
local TIME_BYTES_MAX = 64  -- Of the field `time` with its name.

-- The stream into which an event goes, or nothing and what is wrong.
local function stream_of(event, from)
  local stream = from.stream or event[from.field or "subject"]
  if not stream or stream == "" then
    return nil, ("it has no %s that could name a stream; name one for all"):format(from.field
      or "subject")
  end
  if #stream > 1024 then return nil, "a stream name has 1 to 1024 bytes" end
  if metadata.is_runtimes(stream) then
    return nil, ("stream %s: names that begin with $ or Process- are the runtime's own"):format(
      stream)
  end
  return stream
end

-- Personal fields come encrypted: nothing, or why they could never be read here.
local function check_personal(app, event, stream)
  if not event.is_personal then return nil end
  if not app.personal then
    return "it has personal fields, and there is no key file here; bring that of the log it is from"
  end
  local copy = { type = event.type, stream = stream, position = "?", version = "?",
    data = json.decode(assert(json.encode(event.data))) }
  local ok, failure = pcall(personal.unseal, app, copy)
  return not ok and errors.from(failure).message or nil
end

-- What is wrong with the size of an event: nothing for lines that are shorter than the bound. An
-- export gives a time to what came without one; that must fit, too, when it is imported elsewhere.
local function check_size(app, event, line)
  if #line + TIME_BYTES_MAX <= app.settings.message_size_max then return nil end
  local kept = event.metadata.cloudevent
  local time = kept.time
  local _, err = app.store:encode(event.data, "data")
  kept.time = time or times.format(0)
  if not err then _, err = app.store:encode(event.metadata, "metadata") end
  kept.time = time
  return err and err.message
end

-- Reads the lines; bad ones are left out and told.
local function parse(app, lines, from)
  local list, faults = {}, {}
  for number, line in ipairs(lines) do
    if line:find("%S") then
      local event, err = cloud.parse(line)
      local stream, fault
      if event then stream, fault = stream_of(event, from) end
      if stream then
        fault = check_size(app, event, line) or check_personal(app, event, stream)
      end
      if fault then stream = nil end
      if not stream then
        faults[#faults + 1] = { line = number, message = fault or err.message }
      else
        event.stream, event.line = stream, number
        event.marker = M.PREFIX
          .. host.sha256(event.source .. "\0" .. event.id):sub(1, HASH_CHARS)
        list[#list + 1] = event
      end
    end
  end
  return list, faults
end

local function is_known(app, unit, marker)
  local stream = app.store:stream(marker)
  return stream and (app.store:count(stream) > 0 or unit:staged_count(stream) > 0)
end

-- Stages one event and its marker.
local function add(unit, event)
  local version, err = unit:append(event.stream,
    { { type = event.type, data = event.data, schema = 1, [SEALED] = event.is_personal,
      is_imported = true } }, "any")
  if not version then return nil, err end
  local op = unit.ops[unit.n]
  op.extra, op.schema = event.metadata, event.metadata.schema
  if event.is_personal then op.flags = flags.PERSONAL end
  return unit:append(event.marker, { { type = "EventImported", data = {} } }, "none",
    flags.INTERNAL)
end

-- Takes a fault up; those of the lines before it are there already, or behind it.
local function note(result, line, message)
  result.bad_count = result.bad_count + 1
  result.bad[#result.bad + 1] = { line = line, message = message }
end

-- Stages all; with skip_bad what its stream takes no more is left out as bad lines are.
local function add_all(unit, list, result, skip_bad)
  for _, event in ipairs(list) do
    if is_known(unit.app, unit, event.marker) then
      result.repeated = result.repeated + 1
    else
      local version, err = add(unit, event)
      if version then
        result.imported = result.imported + 1
      elseif skip_bad and err.code == "deleted" then
        note(result, event.line, err.message)
      else
        return nil, errors.new(err.code, ("event %s of %s: %s"):format(event.id, event.source,
          err.message), { retryable = err.retryable, line = event.line })
      end
    end
  end
  return result
end

--- Imports lines as one commit. May yield.
---@param app catga.App
---@param lines string[]
---@param opts { stream: string?, field: "subject"|"type"|"source"|nil, skip_bad: boolean? }
---  stream: all go there; field: the attribute that names the stream
---@return { imported: integer, repeated: integer, bad: { line: integer, message: string }[],
---  bad_count: integer }? result
---@return catga.Error? err  "invalid": a bad line, whose number within the batch is err.line
function M.batch(app, lines, opts)
  local list, faults = parse(app, lines, opts)
  if faults[1] and not opts.skip_bad then
    return nil, errors.new("invalid", faults[1].message, { line = faults[1].line })
  end
  local result, err
  for _ = 1, RACES_MAX do
    result = { imported = 0, repeated = 0, bad_count = 0, bad = app.json.array {} }
    for _, fault in ipairs(faults) do note(result, fault.line, fault.message) end
    local done
    done, err = stage(function(unit) return add_all(unit, list, result, opts.skip_bad)
    end)
    if done or err.code ~= "conflict" then break end
  end
  if err then return nil, err end
  table.sort(result.bad, function(a, b) return a.line < b.line end)
  for i = #result.bad, FAULTS_MAX + 1, -1 do result.bad[i] = nil end
  local ok, fault = app:flushed() -- What is repeated may not be durable yet.
  if not ok then return nil, fault end
  return result
end

return M
