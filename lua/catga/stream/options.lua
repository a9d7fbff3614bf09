--- Checking what scripts give to streams: options of sources, operators and sinks.
local duration = require "catga.duration"
local registries = require "catga.registry"
local calendar_units = { day = true, week = true, month = true, quarter = true, year = true }

local M = {}

local COUNT_MAX = 1e9

--- Options of a source and of the stream it begins.
M.SOURCE = {
  durable = { "name" },                -- the name under which its state is kept in the log
  name = { "name" },                   -- of one that is not durable, for who looks at it
  version = { "count", 1, 1, 2 ^ 31 }, -- of a durable one; a new one begins anew
  after = { "place" },                 -- where a new one begins; durable: "start", else "end"
  stream = { "text" }, category = { "text" }, types = { "list" }, type_prefix = { "text" },
  all = { "flag" },
  qos = { "choice", 1, { 0, 1 } },     -- 0: events that are published without being stored
  envelope = { "flag", false },        -- items are whole events, not their data
  event_time = { "reader" },           -- field or function; default: when the event was stored
  lateness = { "duration", "0s" },     -- how much older than the newest an item may be
  idle_timeout = { "idle" },           -- default: the setting stream_idle_timeout
  on_error = { "choice", "stop", { "stop", "skip", "dead_letter" } },
  attempts = { "count", 3, 1, 1000000 },
  backoff = { "duration", "1s" },
  batch = { "count", 1000, 1, 100000 },   -- events read at once
  buffer = { "count", 1000, 1, 1000000 },  -- live events that wait
  overflow = { "overflow", "block" },
  checkpoint_events = { "count", 10000, 1, 10000000 },
  checkpoint_delay = { "duration", "1s" },
}

--- Those that `catga.stream.of` takes.
M.ITERATOR = { name = M.SOURCE.name, event_time = M.SOURCE.event_time,
  lateness = M.SOURCE.lateness, idle_timeout = M.SOURCE.idle_timeout,
  on_error = M.SOURCE.on_error, attempts = M.SOURCE.attempts, backoff = M.SOURCE.backoff }

--- What happens to an item for which a bounded buffer has no room.
M.OVERFLOW = { "block", "drop_newest", "drop_oldest", "latest", "fail" }

local CHECK = setmetatable({}, { __index = require "catga.option_checks" })

function CHECK.place(value)
  if value == "start" or value == "end" or value == "continue" then return value end
  if CHECK.position(value) then return value end
  return nil, "is \"start\", \"end\", \"continue\" or a position"
end

function CHECK.reader(value)
  if type(value) == "function" or type(value) == "string" and value ~= "" then return value end
  return nil, "is the name of a field or a function"
end

function CHECK.span(value)
  local ms, fault = duration.parse(value, "it")
  if ms and ms >= 1 and ms % 1 == 0 then return ms end
  return nil, fault and "is a duration: " .. fault or "is a duration of whole milliseconds"
end

function CHECK.idle(value)
  if value == false then return false end
  return CHECK.duration(value)
end

function CHECK.overflow(value) return CHECK.choice(value, { nil, nil, M.OVERFLOW }) end

function CHECK.any(value) return value end

--- One value, checked. Raises.
---@param where string
---@param name string
---@param known table
---@param value any
---@return any
function M.value(where, name, known, value)
  local checked, fault = CHECK[known[1]](value, known)
  if checked == nil then
    error(("%s: %s %s, not %s"):format(where, name, fault, tostring(value)), 0)
  end
  return checked
end

--- Checks a table of options and fills in the defaults. Raises, naming the option.
---@param where string
---@param given table?
---@param all table<string, table>
---@return table
function M.resolve(where, given, all)
  if given ~= nil and type(given) ~= "table" then
    error(("%s: options are a table, not %s"):format(where, type(given)), 0)
  end
  for option in pairs(given or {}) do
    if not all[option] then
      local near = registries.suggest(tostring(option), all)
      error(("%s: there is no option \"%s\"%s"):format(where, tostring(option),
        near and "; did you mean " .. near .. "?" or ""), 0)
    end
  end
  local result = {}
  for option, known in pairs(all) do
    local value = given and given[option]
    if value == nil then value = known[2] end
    if value ~= nil then result[option] = M.value(where, option, known, value) end
  end
  return result
end

--- A function argument. Raises.
---@param where string
---@param fn any
---@param what string?
---@return function
function M.fn(where, fn, what)
  return M.value(where, what or "its argument", { "function" }, fn)
end

--- A function, or the name of a field that it reads.
---@param where string
---@param spec any
---@param what string
---@return function
function M.reader(where, spec, what)
  M.value(where, what, { "reader" }, spec)
  if type(spec) == "function" then return spec end
  return function(v) return v[spec] end
end

--- A count from 1.
function M.count(where, value, what)
  return M.value(where, what or "the count", { "count", nil, 1, COUNT_MAX }, value)
end

--- A duration of at least one millisecond, in ms.
function M.span(where, value, what)
  return M.value(where, what or "the duration", { "span" }, value)
end

--- Length of a tumbling window: ms, or a unit of the calendar.
---@return integer? ms
---@return string? unit
function M.window(where, value)
  if calendar_units[value] then return nil, value end
  if type(value) == "string" and not value:find("%d") then
    error(("%s: its length is a duration or one of day, week, month, quarter, year, not %s"):format(
      where, value), 0)
  end
  return M.span(where, value, "its length")
end

return M
