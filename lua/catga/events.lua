--- The event store's face for scripts: append, append_all, read, read_all.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local unit_of = require "catga.unit".of
local presenter = require "catga.event"

local M = {}

local APPENDS_MAX = 1000 -- Of one append_all.
local READ_DEFAULT = 100
local READ_MAX = 100000
local NUMBER_MAX = 2 ^ 53

local function options(opts, allowed, what)
  opts = opts or {}
  for name in pairs(opts) do
    if not allowed[name] then
      local names = {}
      for key in pairs(allowed) do names[#names + 1] = key end
      table.sort(names)
      error(("%s: unknown option \"%s\"; there are %s"):format(what, tostring(name),
        table.concat(names, ", ")), 3)
    end
  end
  return opts
end

-- Raises unless an option is a whole number in its bounds, or left out.
local function check_number(what, option, value, low, high)
  if value == nil then return end
  if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
    error(("%s: %s is a whole number from %d to %.0f, not %s"):format(what, option, low, high,
      tostring(value)), 4)
  end
end

local function check_read(what, opts)
  check_number(what, "max", opts.max, 1, READ_MAX)
  check_number(what, "from", opts.from, 0, NUMBER_MAX)
  check_number(what, "after", opts.after, 0, NUMBER_MAX)
end

-- Raises unless these are a stream and a list of events.
local function check_append(what, stream, events)
  if type(stream) ~= "string" then error(what .. ": the stream is a string", 3) end
  if type(events) ~= "table" or #events == 0 then
    error(what .. ": a list of at least one event, each { type = ..., data = ... }", 3)
  end
end

-- An error when the stream's name is one that scripts do not write.
local function refused(stream)
  if stream:find("^%$") or stream:find("^Process%-") then
    return errors.new("invalid", ("stream %s: names that begin with $ or Process- are the "
      .. "runtime's own"):format(stream))
  end
end

-- Stages by unit[method](...) in the open unit of work, or in one of its own that is committed.
local function stage(method, ...)
  local task = state[1]
  local unit = unit_of(task)
  local result, err = unit[method](unit, ...)
  if task.in_unit or task.limit then return result, err end
  task.unit = nil
  if not result then return nil, err end
  local ok, fault = unit:commit()
  if not ok then return nil, fault end
  return result
end

--- Appends events to a stream: staged in the open unit of work, or as one commit of their own that
--- is durable when this returns. May yield.
---@param stream string   1 to 1024 bytes, usually "Category-id"
---@param events { type: string, data: any, schema: integer? }[]  schema: of data that is older than
---  the newest version that the upcasters know
---@param opts { expect: integer|"any"|"none"|"exists"|nil }?  version of the last event before them
---@return { version: integer }? result  version of the last event
---@return catga.Error? err  "conflict", "invalid", "limit", "failed", "fenced"
function M.append(stream, events, opts)
  opts = options(opts, { expect = true }, "catga.events.append")
  check_append("catga.events.append", stream, events)
  local err = refused(stream)
  if err then return nil, err end
  local version, fault = stage("append", stream, events, opts.expect)
  if not version then return nil, fault end
  return { version = version }
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
    options(one, APPEND_FIELDS, place)
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

--- Appends events to several streams: all of them or none, also when the program dies. Staged in
--- the open unit of work, or as one commit that is durable when this returns. May yield.
---
---     catga.events.append_all({
---       { stream = "Order-7", events = { { type = "OrderPaid" } }, expect = 3 },
---       { stream = "Account-1", events = { { type = "Charged", data = { amount = 5 } } } },
---     }, { conditions = { ["Customer-1"] = "exists", ["Price-9"] = 12 } })
---
--- A condition is what `expect` is, for a stream that is read and not written: it must hold when
--- the commit is made.
---@param appends { stream: string, events: { type: string, data: any }[],
---  expect: integer|"any"|"none"|"exists"|nil }[]  1 to 1,000; a stream may be there twice
---@param opts { conditions: table<string, integer|"any"|"none"|"exists">? }?
---@return { stream: string, version: integer }[]? results  version of the last event, in order
---@return catga.Error? err  "conflict", "invalid", "limit", "failed", "fenced"
function M.append_all(appends, opts)
  local what = "catga.events.append_all"
  opts = options(opts, { conditions = true }, what)
  local conditions = opts.conditions or {}
  local written = check_appends(what, appends, conditions)
  for name in pairs(written) do
    local err = refused(name)
    if err then return nil, err end
  end
  for name in pairs(conditions) do
    if written[name] then
      return nil, errors.new("invalid", ("stream %s is written by this append: say there what is "
        .. "expected of it"):format(name))
    end
  end
  return stage("append_all", appends, conditions)
end

local function staged_events(unit, store, stream, name)
  local list = {}
  local version = store:count(stream)
  for i = 1, unit.n do
    local op = unit.ops[i]
    if op.stream == stream then
      list[#list + 1] = { stream = name, type = op.type, data = json.decode(op.data),
        version = version, metadata = op.schema and { schema = op.schema } or nil }
      version = version + 1
    end
  end
  return list
end

-- Stored events as scripts see them; goes on reading when upcasters drop some of a page.
local function read_stored(app, number, from, max, backward)
  local all
  while true do
    local missing = max - (all and #all or 0)
    local list, err = app.store:read(number, from, missing, backward)
    if not list then return nil, err end
    local count, last = #list, list[#list]
    presenter.present_all(app, list)
    if all then
      for _, event in ipairs(list) do all[#all + 1] = event end
    else
      all = list
    end
    if #list == count or count < missing then return all end
    from = last.version + (backward and -1 or 1)
    if from < 0 then return all end
  end
end

--- Reads events of a stream, those that this unit has staged included.
---@param stream string
---@param opts { from: integer?, max: integer?, backward: boolean? }?  from: a version, default the
---  first (backward: the last); max 1 to 100,000, default 100
---@return table[] events  { stream, version, position, type, data, metadata?, id, time }
---@return catga.Error? err
function M.read(stream, opts)
  opts = options(opts, { from = true, max = true, backward = true }, "catga.events.read")
  if type(stream) ~= "string" then error("catga.events.read: the stream is a string", 2) end
  check_read("catga.events.read", opts)
  local app = state[1].app
  local number = app.store:stream(stream)
  if not number then return {} end
  local max = opts.max or READ_DEFAULT
  local from = opts.from or (opts.backward and math.huge or 0)
  local unit = state[1].unit
  local staged = unit and staged_events(unit, app.store, number, stream) or {}
  presenter.present_all(app, staged)
  local list, err = read_stored(app, number, math.min(from, NUMBER_MAX), max, opts.backward)
  if not list then return nil, err end
  if #staged == 0 then return list end
  local merged = {}
  local function take(event)
    local fits
    if opts.backward then fits = event.version <= from else fits = event.version >= from end
    if fits and #merged < max then merged[#merged + 1] = event end
  end
  if opts.backward then
    for i = #staged, 1, -1 do take(staged[i]) end
    for _, event in ipairs(list) do take(event) end
  else
    for _, event in ipairs(list) do take(event) end
    for _, event in ipairs(staged) do take(event) end
  end
  return merged
end

--- Reads durable events of all streams in the order of their positions; journals of processes only
--- when asked for.
---@param opts { after: integer?, max: integer?, types: string[]?, journals: boolean? }?
---@return table[] events
---@return integer|catga.Error position  read up to here: the next `after`
function M.read_all(opts)
  opts = options(opts, { after = true, max = true, types = true, journals = true },
    "catga.events.read_all")
  check_read("catga.events.read_all", opts)
  local types
  if opts.types ~= nil then
    if type(opts.types) ~= "table" then
      error("catga.events.read_all: types is a list of event types", 2)
    end
    types = {}
    for _, name in ipairs(opts.types) do types[name] = true end
  end
  local app = state[1].app
  local list, position = app.store:read_all(opts.after or 0, opts.max or READ_DEFAULT,
    presenter.stored_types(app, types), opts.journals)
  if not list then return nil, position end
  presenter.present_all(app, list)
  if not (types and app.registry.upcasts) then return list, position end
  local wanted = {}
  for _, event in ipairs(list) do
    if types[event.type] then wanted[#wanted + 1] = event end
  end
  return wanted, position
end

return M
