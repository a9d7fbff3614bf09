--- How the functions of catga.events check what they are given.
local times = require "catga.time"
local registry = require "catga.registry"

local M = {}

M.NUMBER_MAX = 2 ^ 53

local CALLER = 4 -- Level of who called the function of catga.events that checks.

--- The options of a call; raises for one that is not known.
---@param what string  the function's name
---@param opts table?
---@param allowed table<string, true>
---@param level integer?  where it raises, as for error; default the caller of the function
---@return table
function M.known(what, opts, allowed, level)
  if opts == nil then return {} end
  if type(opts) ~= "table" then
    error(("%s: options are a table, not %s"):format(what, type(opts)), level or CALLER - 1)
  end
  for name in pairs(opts) do
    if not allowed[name] then
      error(("%s: unknown option \"%s\"; there are %s"):format(what, tostring(name),
        table.concat(registry.sorted_names(allowed), ", ")), level or CALLER - 1)
    end
  end
  return opts
end

local EVENT = { type = true, data = true, id = true, schema = true } -- What an append takes.

--- The first field of events to be appended that there is not: what it holds would be lost.
---@param events table[]
---@return integer? place
---@return string? name
function M.unknown_field(events)
  for place = 1, #events do
    local event = events[place]
    for name in pairs(type(event) == "table" and event or {}) do
      if not EVENT[name] then return place, tostring(name) end
    end
  end
end

--- Raises unless an option is a whole number in its bounds, or left out.
---@param what string    the function's name
---@param option string
---@param value any
---@param low number
---@param high number
function M.number(what, option, value, low, high)
  if value == nil then return end
  if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
    error(("%s: %s is a whole number from %d to %.0f, not %s"):format(what, option, low, high,
      tostring(value)), CALLER)
  end
end

--- Raises unless an option is a string that is not empty, or left out.
---@param what string    the function's name
---@param option string
---@param value any
function M.text(what, option, value)
  if value == nil then return end
  if type(value) ~= "string" or value == "" then
    error(("%s: %s is a string that is not empty, not %s"):format(what, option, tostring(value)),
      CALLER)
  end
end

--- Unix milliseconds of an option that is a point in time, nil when it is left out; raises.
---@param what string    the function's name
---@param option string
---@param value any
---@return number?
function M.time(what, option, value)
  if value == nil then return nil end
  local ms, fault = times.parse(value, option)
  if not ms then error(what .. ": " .. fault, CALLER) end
  return ms
end

--- The set of a list of event types, nil when it is left out; raises.
---@param what string  the function's name
---@param value any
---@return table<string, true>?
function M.types(what, value)
  if value == nil then return nil end
  if type(value) ~= "table" then error(what .. ": types is a list of event types", CALLER) end
  local set = {}
  for _, name in ipairs(value) do
    if type(name) ~= "string" then
      error(what .. ": types is a list of event types, which are strings", CALLER)
    end
    set[name] = true
  end
  return set
end

return M
