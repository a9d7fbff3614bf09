--- What a schedule is: its arguments and options, checked, with defaults.
local duration = require "catga.duration"
local errors = require "catga.error"
local json = require "catga.native.json"
local registries = require "catga.registry"
local calendar = require "catga.schedule.calendar"
local cron = require "catga.schedule.cron"

local M = {}

local NAME_BYTES_MAX = 200
local NOTE_BYTES_MAX = 1000
local DAY_MS = 86400000
local CATCH_UP_MS_MIN = 10000 -- A timer is never exact; less would miss times while all is well.

M.OVERLAPS = { "skip", "queue", "cancel", "allow" }

--- A schedule as scripts, or a call, have defined it.
---@class catga.ScheduleDefinition
---@field name string
---@field text string       the cron expression
---@field cron catga.Cron
---@field process string    name
---@field input string      JSON of an object
---@field at string?        file:line of the registration; nil: made while the app ran
---@field options table     as they were given, for the record
---@field timezone string
---@field zone table        span(self, seconds)
---@field overlap "skip"|"queue"|"cancel"|"allow"
---@field queue_max integer
---@field jitter number     ms
---@field catch_up number   ms
---@field paused boolean
---@field note string?

-- What may be given, with its kind and default.
local KNOWN = {
  timezone = { "text", "UTC" },
  overlap = { "choice", "skip", M.OVERLAPS },  -- when the run before has not ended
  queue_max = { "count", 100, 1, 1000 },       -- runs that wait; what comes then is skipped
  jitter = { "duration", "0s", 0, DAY_MS },    -- a run begins up to so much later
  catch_up = { "duration", "1h", CATCH_UP_MS_MIN }, -- a time missed for longer is not run
  paused = { "flag", false },
  note = { "text" },
}
M.KNOWN = KNOWN

local CHECK = {}

function CHECK.text(value)
  if type(value) == "string" and value ~= "" and #value <= NOTE_BYTES_MAX
    and json.encode(value) then
    return value
  end
  return nil, ("is text of 1 to %d bytes"):format(NOTE_BYTES_MAX)
end

function CHECK.flag(value)
  if type(value) == "boolean" then return value end
  return nil, "is true or false"
end

function CHECK.count(value, known)
  if type(value) == "number" and value % 1 == 0 and value >= known[3] and value <= known[4] then
    return value
  end
  return nil, ("is a whole number from %d to %d"):format(known[3], known[4])
end

function CHECK.duration(value, known)
  local ms, fault = duration.parse(value, "it")
  if not ms then return nil, "is a duration: " .. fault end
  if ms < (known[3] or 0) then return nil, ("is at least %ds"):format(known[3] / 1000) end
  if known[4] and ms > known[4] then return nil, ("is at most %dh"):format(known[4] / 3600000) end
  return math.floor(ms)
end

function CHECK.choice(value, known)
  for _, choice in ipairs(known[3]) do
    if choice == value then return value end
  end
  return nil, "is one of " .. table.concat(known[3], ", ")
end

--- Checks one option.
---@param option string
---@param value any
---@return any value  as it is used; nil: it is wrong
---@return string? fault
function M.check_option(option, value) return CHECK[KNOWN[option][1]](value, KNOWN[option]) end

local function check_options(definition, given)
  if type(given) ~= "table" then error("the options are a table", 0) end
  for option in pairs(given) do
    if not KNOWN[option] then
      local near = registries.suggest(tostring(option), KNOWN)
      error(("there is no option %s%s; there are %s"):format(tostring(option),
        near and "; did you mean " .. near .. "?" or "",
        table.concat(registries.sorted_names(KNOWN), ", ")), 0)
    end
  end
  definition.options = {}
  for option, known in pairs(KNOWN) do
    local value = given[option]
    definition.options[option] = value
    if value == nil then value = known[2] end
    local fault
    if value ~= nil then value, fault = M.check_option(option, value) end
    if fault then error(option .. " " .. fault, 0) end
    definition[option] = value
  end
end

local function check_name(name)
  if type(name) == "string" and name ~= "" and #name <= NAME_BYTES_MAX
    and not name:find("[^%w_%-%.\128-\255]") and json.encode(name) then
    return
  end
  error(("the name of a schedule has 1 to %d letters, digits, _, - and ."):format(
    NAME_BYTES_MAX), 0)
end

-- The JSON of an input. It gets the time of the run as one more field.
local function check_input(input)
  if input == nil then return "{}" end
  local text, err = json.encode(input)
  if not text then error("the input: " .. err.message, 0) end
  if text:sub(1, 1) ~= "{" then error("the input is a table of fields", 0) end
  if input.scheduled_time ~= nil then
    error("input.scheduled_time is what the schedule sets: the time of the run", 0)
  end
  return text
end

local function check(name, text, process, input, options)
  check_name(name)
  local definition = { name = name, text = text, process = process, input = check_input(input) }
  local parsed, fault = cron.parse(text)
  if not parsed then error(fault, 0) end
  definition.cron = parsed
  if type(process) ~= "string" then error("it needs the name of a process", 0) end
  check_options(definition, options or {})
  return definition
end

--- Checks a schedule; its process and time zone are looked at by `finish`.
---@param name string
---@param text string       cron expression
---@param process string
---@param input table?
---@param options table?
---@return catga.ScheduleDefinition? definition
---@return catga.Error? err
function M.check(name, text, process, input, options)
  local ok, definition = pcall(check, name, text, process, input, options)
  if ok then return definition end
  local who = type(name) == "string" and "schedule " .. name or "a schedule"
  return nil, errors.new("invalid", who .. ": " .. tostring(definition))
end

--- Finds the process and the time zone.
---@param definition catga.ScheduleDefinition
---@param app catga.App
---@param registry catga.Registry
---@return boolean ok
---@return catga.Error? err
function M.finish(definition, app, registry)
  if not registry.processes[definition.process] then
    local err = registry:unknown("process", definition.process)
    return false, errors.new(err.code, ("schedule %s: %s"):format(definition.name, err.message))
  end
  local zone, err = calendar.zone(app, definition.timezone)
  if not zone then
    return false, errors.new(err.code, ("schedule %s: %s"):format(definition.name, err.message))
  end
  definition.zone = zone
  return true
end

--- Registers a schedule of the scripts.
---@param registry catga.Registry
function M.define(registry, name, text, process, input, options)
  local at = registries.caller()
  local definition, err = M.check(name, text, process, input, options)
  if not definition then error(at .. ": " .. err.message, 0) end
  definition.at = at
  registry.schedules = registry.schedules or {}
  local taken = registry.schedules[name]
  if taken then
    error(("%s: there is a schedule %s already, at %s"):format(at, name, taken.at), 0)
  end
  registry.schedules[name] = definition
end

--- Checks all schedules of a generation of scripts when every file is loaded; raises.
---@param registry catga.Registry
---@param app catga.App
function M.finish_all(registry, app)
  local names = registries.sorted_names(registry.schedules)
  if #names > app.settings.schedules_max then
    error(("there are %d schedules, more than schedules_max (%d)"):format(#names,
      app.settings.schedules_max), 0)
  end
  for _, name in ipairs(names) do
    local definition = registry.schedules[name]
    local ok, err = M.finish(definition, app, registry)
    if not ok then error(definition.at .. ": " .. err.message, 0) end
  end
end

return M
