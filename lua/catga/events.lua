--- The event store's face for scripts: every function here is one of `catga.events`.
local state = require "catga.state"
local errors = require "catga.error"
local check = require "catga.events.options"
local stage = require "catga.events.stage".run
local metadata = require "catga.events.metadata"
local check_fields = require "catga.events.fields".check
local read_stream = require "catga.events.read".stream
local lazy = require "catga.lazy"
local duration = require "catga.duration"
local read_positions = require "catga.events.positions".read

local ids = lazy.module "catga.events.ids"
local streams = lazy.module "catga.events.streams"
local scavenges = lazy.module "catga.events.scavenge"

local M = {}

local APPENDS_MAX = 1000 -- Of one append_all.
local READ_DEFAULT = 100
local READ_MAX = 100000
local RACES_MAX = 10 -- How often an append is tried again that met its own event.

-- Raises unless these are a stream and a list of events.
local function check_append(what, stream, events)
  if type(stream) ~= "string" then error(what .. ": the stream is a string", 3) end
  if type(events) ~= "table" or #events == 0 then
    error(what .. ": a list of at least one event, each { type = ..., data = ... }", 3)
  end
end

-- An error when the stream's name is one that scripts do not write, or when an event has a field
-- that would be lost.
local function refused(stream, events)
  if stream:find("^%$") or stream:find("^Process%-") then
    return errors.new("invalid", ("stream %s: names that begin with $ or Process- are the "
      .. "runtime's own"):format(stream))
  end
  local place, name = check.unknown_field(events)
  if place then
    return errors.new("invalid", ("event %d of the append to %s has the field \"%s\"; there are "
      .. "type, data, id and schema"):format(place, stream, name))
  end
end

-- Are the events of an append, all with ids, there already? An error when only some are.
local function look(unit, stream, events, expect)
  local app = unit.app
  local given, err = ids.of(events)
  if not given then return nil, err end
  err = metadata.tombstone(app, unit, stream)
  if err then return nil, err end
  local kept
  kept, err = metadata.effective(app, unit, stream)
  if err then return nil, err end
  return ids.look(app, unit, stream, given, #events, expect or "any",
    kept and kept.truncate_before or 0)
end

-- Stages; what is known to be there already may not be durable yet. Tries again when another task
-- has appended the same event meanwhile.
local function stage_once(fn)
  local result, err
  for _ = 1, RACES_MAX do
    result, err = stage(fn)
    if not (err and err.is_raced) then break end
  end
  if not result then return nil, err end
  if result.repeated or result[1] and result[1].repeated then
    local ok, fault = state[1].app:flushed()
    if not ok then return nil, fault end
  end
  return result
end

--- Appends events to a stream: staged in the open unit of work, or as one commit of their own that
--- is durable when this returns. An event with an `id` that the stream has already is not appended
--- again: when all of them are there, in this order, the result is that of the first time, with
--- `repeated`; when only some are, that is a conflict. May yield.
---@param stream string   1 to 1024 bytes, usually "Category-id"
---@param events { type: string, data: any, id: string?, schema: integer? }[]  id: 1 to 128 bytes,
---  stored as the metadata's event_id; schema: of data that is older than the newest version that
---  the upcasters know
---@param opts { expect: integer|"any"|"none"|"exists"|nil }?  version of the last event before them
---@return { version: integer, repeated: true? }? result  version of the last event
---@return catga.Error? err  "conflict", "deleted", "invalid", "limit", "failed", "fenced"
function M.append(stream, events, opts)
  opts = check.known("catga.events.append", opts, { expect = true })
  check_append("catga.events.append", stream, events)
  local err = refused(stream, events)
  if err then return nil, err end
  return stage_once(function(unit)
    local there, fault = look(unit, stream, events, opts.expect)
    if there or fault then return there, fault end
    local version
    version, fault = unit:append(stream, events, opts.expect)
    return version and { version = version }, fault
  end)
end

local APPEND_FIELDS = { stream = true, events = true, expect = true }

-- Raises unless it is what append_all takes; gives the streams that are written.
local function check_appends(what, appends, conditions)
  if type(appends) ~= "table" or #appends == 0 or #appends > APPENDS_MAX then
    error(("%s: a list of 1 to %d appends, each { stream = ..., events = ..., expect = ... }")
      :format(what, APPENDS_MAX), 3)
  end
  local written = {}
  for i, one in ipairs(appends) do
    local place = ("%s: append %d"):format(what, i)
    if type(one) ~= "table" then error(place .. " is a table", 3) end
    check.known(place, one, APPEND_FIELDS)
    check_append(place, one.stream, one.events)
    written[one.stream] = true
  end
  if type(conditions) ~= "table" then
    error(what .. ": conditions is a table from stream to what is expected of it", 3)
  end
  for name in pairs(conditions) do
    if type(name) ~= "string" then
      error(what .. ": conditions is a table from stream to what is expected of it", 3)
    end
  end
  return written
end

-- Are the events of all appends there already? What was appended as one is there as one.
local function look_all(unit, appends)
  local results = {}
  for i, one in ipairs(appends) do
    local there, err = look(unit, one.stream, one.events, one.expect)
    if err then return nil, err end
    if (there ~= nil) ~= (results[1] ~= nil) and i > 1 then
      return nil, errors.new("conflict", ("append %d (stream %s) %s, but those before it are %s")
        :format(i, one.stream, there and "is there already" or "is new",
        there and "new" or "there already"))
    end
    if there then
      results[i] = { stream = one.stream, version = there.version, repeated = true }
    end
  end
  return results[1] and results
end

--- Appends events to several streams: all of them or none, also when the program dies. Staged in
--- the open unit of work, or as one commit that is durable when this returns. May yield.
---
---     catga.events.append_all({
---       { stream = "Order-7", events = { { type = "OrderPaid" } }, expect = 3 },
---       { stream = "Account-1", events = { { type = "Charged", data = { amount = 5 } } } },
---     }, { conditions = { ["Customer-1"] = "exists", ["Price-9"] = 12 } })
---
--- A condition is what `expect` is, for a stream that is read and not written: it must hold when
--- the commit is made. Events with ids that are all there already are not appended again, whatever
--- the conditions.
---@param appends { stream: string, events: { type: string, data: any, id: string? }[],
---  expect: integer|"any"|"none"|"exists"|nil }[]  1 to 1,000; a stream may be there twice
---@param opts { conditions: table<string, integer|"any"|"none"|"exists">? }?
---@return { stream: string, version: integer, repeated: true? }[]? results  version of the last
---  event, in order
---@return catga.Error? err  "conflict", "deleted", "invalid", "limit", "failed", "fenced"
function M.append_all(appends, opts)
  local what = "catga.events.append_all"
  opts = check.known(what, opts, { conditions = true })
  local conditions = opts.conditions or {}
  local written = check_appends(what, appends, conditions)
  for _, one in ipairs(appends) do
    local err = refused(one.stream, one.events)
    if err then return nil, err end
  end
  for name in pairs(conditions) do
    if written[name] then
      return nil, errors.new("invalid", ("stream %s is written by this append: say there what is "
        .. "expected of it"):format(name))
    end
  end
  return stage_once(function(unit)
    local there, fault = look_all(unit, appends)
    if there or fault then return there, fault end
    return unit:append_all(appends, conditions)
  end)
end

local READ = { from = true, to = true, max = true, backward = true, until_time = true,
  types = true, type_prefix = true }

--- Reads events of a stream, those that this unit has staged included. What its metadata hides is
--- not shown. Looks at no more than 100,000 events a call.
---@param stream string
---@param opts { from: integer?, to: integer?, max: integer?, backward: boolean?,
---  until_time: string|number|nil, types: string[]?, type_prefix: string? }?  from: a version,
---  default the first (backward: the last); to: the last one wanted; until_time: RFC 3339 or ms,
---  nothing later; max 1 to 100,000, default 100
---@return table[]? events  { stream, version, position, type, data, metadata?, id, time }
---@return integer|catga.Error|nil next  the `from` that goes on, nil: that was all; the error
function M.read(stream, opts)
  local what = "catga.events.read"
  opts = check.known(what, opts, READ)
  if type(stream) ~= "string" then error("catga.events.read: the stream is a string", 2) end
  check.number(what, "max", opts.max, 1, READ_MAX)
  check.number(what, "from", opts.from, 0, check.NUMBER_MAX)
  check.number(what, "to", opts.to, 0, check.NUMBER_MAX)
  check.text(what, "type_prefix", opts.type_prefix)
  return read_stream(stream, { from = opts.from, to = opts.to, max = opts.max or READ_DEFAULT,
    backward = opts.backward, until_time = check.time(what, "until_time", opts.until_time),
    types = check.types(what, opts.types), type_prefix = opts.type_prefix })
end

local READ_ALL = { after = true, to = true, max = true, until_time = true, types = true,
  type_prefix = true, category = true, stream = true, journals = true }

--- Reads durable events of all streams in the order of their positions; journals of processes only
--- when asked for. Retention does not hide events here: they are there until they are scavenged.
--- Looks at no more than 100,000 events a call.
---@param opts { after: integer?, to: integer?, until_time: string|number|nil, max: integer?,
---  types: string[]?, type_prefix: string?, category: string?, stream: string?,
---  journals: boolean? }?  after, to: positions; until_time: RFC 3339 or ms, it ends before the
---  first later event; category: streams whose name up to the first hyphen is this
---@return table[]? events
---@return integer|catga.Error position  read up to here, the next `after`; `after` itself: that is
---  all for now
function M.read_all(opts)
  local what = "catga.events.read_all"
  opts = check.known(what, opts, READ_ALL)
  check.number(what, "max", opts.max, 1, READ_MAX)
  check.number(what, "after", opts.after, 0, check.NUMBER_MAX)
  check.number(what, "to", opts.to, 0, check.NUMBER_MAX)
  check.text(what, "type_prefix", opts.type_prefix)
  check.text(what, "category", opts.category)
  check.text(what, "stream", opts.stream)
  return read_positions(state[1].app, { after = opts.after or 0, to = opts.to,
    max = opts.max or READ_DEFAULT, until_time = check.time(what, "until_time", opts.until_time),
    types = check.types(what, opts.types), type_prefix = opts.type_prefix,
    category = opts.category, stream = opts.stream, journals = opts.journals and true or nil })
end

local function refuse_own(name)
  return errors.new("invalid", ("%s: streams whose names begin with $ or Process- are the "
    .. "runtime's own; of them only $type- streams have metadata"):format(name))
end

-- The stream of metadata that a stream or { category = ... } means, or nil and an error.
local function metadata_stream(what, target)
  local prefix, name = metadata.PREFIX, target
  if type(target) == "table" then
    check.known(what, target, { category = true }, 4)
    prefix, name = metadata.CATEGORY_PREFIX, target.category
  end
  if type(name) ~= "string" or name == "" then
    error(what .. ": name a stream, or { category = ... }", 3)
  end
  if metadata.is_runtimes(prefix == metadata.PREFIX and name or name .. "-") then
    return nil, refuse_own(name)
  end
  return prefix .. name
end

--- The metadata of a stream or category.
---@param target string|{ category: string }
---@return { max_age: string?, max_count: integer?, truncate_before: integer?, begins: integer?,
---  tags: string[]?, custom: table?, deleted: true? }? fields  empty when there is none
---@return integer|catga.Error|nil version  of the metadata, for `expect`; nil: there is none
function M.metadata(target)
  local name, err = metadata_stream("catga.events.metadata", target)
  if not name then return nil, err end
  local task = state[1]
  local fields, version = metadata.latest(task.app, task.unit and task.unit:refresh(), name)
  if not fields and version then return nil, version end
  return fields or {}, version
end

--- Sets the metadata of a stream or category, in place of what was set before; only truncate_before
--- and begins stay when they are left out, so that nothing hidden comes back by accident. Reads
--- obey it at once; the files give the space back when they are scavenged. May yield.
---@param target string|{ category: string }
---@param fields { max_age: string?, max_count: integer?, truncate_before: integer?,
---  begins: integer?, tags: string[]?, custom: table? }  max_age: "30d" or so;
---  truncate_before: the first version that is shown; begins: the version with which an aggregate
---  begins anew
---@param opts { expect: integer|"any"|"none"|"exists"|nil }?  version of the metadata before
---@return { version: integer }? result  of the metadata
---@return catga.Error? err  "conflict", "deleted", "invalid"
function M.set_metadata(target, fields, opts)
  opts = check.known("catga.events.set_metadata", opts, { expect = true })
  if type(fields) ~= "table" then
    error("catga.events.set_metadata: the metadata is a table, such as { max_age = \"30d\" }", 2)
  end
  local name, err = metadata_stream("catga.events.set_metadata", target)
  if not name then return nil, err end
  err = check_fields(fields)
  if err then return nil, err end
  return stage(function(unit)
    local version, fault = streams.change(unit, name, fields, opts.expect)
    return version and { version = version }, fault
  end)
end

--- Deletes a stream: what it holds is hidden, later appends go on with its versions. A stream that
--- is deleted `hard` takes no event and gives none ever again: "deleted". May yield.
---@param stream string
---@param opts { expect: integer|"any"|"exists"|nil, hard: boolean? }?  expect: its version
---@return { version: integer }? result  of its last event
---@return catga.Error? err  "not_found", "conflict", "deleted", "invalid"
function M.delete(stream, opts)
  opts = check.known("catga.events.delete", opts, { expect = true, hard = true })
  if type(stream) ~= "string" then error("catga.events.delete: the stream is a string", 2) end
  if metadata.is_runtimes(stream) then return nil, refuse_own(stream) end
  return stage(function(unit)
    local version, err = streams.delete(unit, stream, opts.expect or "any", opts.hard)
    return version and { version = version }, err
  end)
end

--- Takes out of the sealed files of the log what metadata hides, what was deleted, and what the
--- settings process_retain, inbox_window and others let go. The last event of a stream stays,
--- unless it was deleted for good. Files of which less than scavenge_min percent would go are left
--- alone. Positions and versions stay. May yield, for long.
---@return { segments: integer, rewritten: integer, removed_events: integer,
---  removed_bytes: integer, left_events: integer }? summary  left_events: not worth a rewrite yet
---@return catga.Error? err  "busy": it is under way
function M.scavenge() return scavenges.run(state[1].app) end

--- Compresses sealed files of the log (zstd). May yield, for long.
---@param opts { older: string? }?  a duration: only those that were sealed longer ago
---@return { segments: integer, compressed: integer, bytes_before: integer,
---  bytes_after: integer }? summary
---@return catga.Error? err  "busy": it, or a scavenge, is under way
function M.compress(opts)
  opts = check.known("catga.events.compress", opts, { older = true })
  return scavenges.compress(state[1].app,
    opts.older and duration.ms(opts.older, "catga.events.compress: older") or 0)
end

--- What is known of a stream.
---@param stream string
---@return { stream: string, version: integer, count: integer, first_version: integer?,
---  first_time: number?, last_time: number?, metadata: table?, deleted: "soft"|"hard"|nil }? info
---  version: of its last event; count: events that are shown, from first_version on
---@return catga.Error? err  "not_found"
function M.stream_info(stream)
  if type(stream) ~= "string" then error("catga.events.stream_info: the stream is a string", 2) end
  local unit = state[1].unit
  return streams.info(state[1].app, unit and unit:refresh(), stream)
end

--- Names of streams that have an event, in the order of their bytes; those of the runtime only when
--- the prefix or category asks for them.
---@param opts { prefix: string?, category: string?, after: string?, max: integer? }?  after: the
---  last name of the page before; max 1 to 10,000, default 100
---@return string[] names
function M.streams(opts)
  local what = "catga.events.streams"
  opts = check.known(what, opts, { prefix = true, category = true, after = true, max = true })
  check.text(what, "prefix", opts.prefix)
  check.text(what, "category", opts.category)
  check.text(what, "after", opts.after)
  check.number(what, "max", opts.max, 1, 10000)
  return streams.list(state[1].app, opts.prefix, opts.category, opts.after,
    opts.max or READ_DEFAULT)
end

return M
