--- The event store's face for scripts: append, read, read_all.
local state = require "catga.state"
local errors = require "catga.error"
local json = require "catga.native.json"
local unit_of = require "catga.unit".of

local M = {}

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

--- Appends events to a stream: staged in the open unit of work, or as one commit of their own that
--- is durable when this returns. May yield.
---@param stream string   1 to 1024 bytes, usually "Category-id"
---@param events { type: string, data: any }[]
---@param opts { expect: integer|"any"|"none"|"exists"|nil }?  version of the last event before them
---@return { version: integer }? result  version of the last event
---@return catga.Error? err  "conflict", "invalid", "limit", "failed"
function M.append(stream, events, opts)
  opts = options(opts, { expect = true }, "catga.events.append")
  if type(stream) ~= "string" then error("catga.events.append: the stream is a string", 2) end
  if type(events) ~= "table" or #events == 0 then
    error("catga.events.append: a list of at least one event, each { type = ..., data = ... }", 2)
  end
  if stream:find("^%$") or stream:find("^Process%-") then
    return nil, errors.new("invalid", ("stream %s: names that begin with $ or Process- are the "
      .. "runtime's own"):format(stream))
  end
  local task = state[1]
  local unit = unit_of(task)
  local version, err = unit:append(stream, events, opts.expect)
  if not (task.in_unit or task.limit) then
    task.unit = nil
    if not version then return nil, err end
    local ok, fault = unit:commit()
    if not ok then return nil, fault end
  elseif not version then
    return nil, err
  end
  return { version = version }
end

local function staged_events(unit, store, stream, name)
  local list = {}
  local version = store:count(stream)
  for i = 1, unit.n do
    local op = unit.ops[i]
    if op.stream == stream then
      list[#list + 1] = { stream = name, type = op.type, data = json.decode(op.data),
        version = version }
      version = version + 1
    end
  end
  return list
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
  local list, err = app.store:read(number, math.min(from, NUMBER_MAX), max, opts.backward)
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
  return state[1].app.store:read_all(opts.after or 0, opts.max or READ_DEFAULT, types,
    opts.journals)
end

return M
