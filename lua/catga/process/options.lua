--- Settings of processes and of their steps: what may be set, in scripts and in catga.lua, and
--- which of them goes before which.
---
---   a step:    catga.lua processes.X.steps.charge  >  the script, for that step
---              >  catga.lua processes.X  >  P.options  >  catga.lua step_timeout, ...
---   a process: given at its start  >  catga.lua processes.X  >  P.options
local duration = require "catga.duration"

local M = {}

local STEP = { timeout = "duration", attempts = "count", backoff = "duration", policy = "policy" }
local SCRIPT_STEP = { timeout = "duration", attempts = "count", backoff = "duration",
  at_most_once = "boolean", policy = "policy" }
local FILE_FLOW = { timeout = "duration", step_timeout = "duration", attempts = "count",
  backoff = "duration", steps = "steps" }
local OPTIONS = { timeout = "duration", step_timeout = "duration", attempts = "count",
  backoff = "duration", tags = "tags", serializer = "serializer" }

-- The registry requires what this module is required by.
local function registry() return require "catga.registry" end

local function hint_for(name, names)
  local near = registry().suggest(tostring(name), names)
  return near and ("; did you mean %s?"):format(near) or ""
end

local CHECK = {}

function CHECK.duration(where, name, value)
  local ms, fault = duration.parse(value, where .. "." .. name)
  if not ms then error(fault, 0) end
end

function CHECK.count(where, name, value)
  if type(value) ~= "number" or value < 1 or value % 1 ~= 0 then
    error(("%s: %s is a whole number from 1"):format(where, name), 0)
  end
end

function CHECK.boolean(where, name, value)
  if type(value) ~= "boolean" then error(("%s: %s is true or false"):format(where, name), 0) end
end

-- The name of one, or its kinds.
function CHECK.policy(where, name, value)
  if type(value) == "table" then
    require("catga.policy").parse(value, where .. "." .. name)
  elseif type(value) ~= "string" or value == "" then
    error(("%s: %s is the name of a policy, or a table"):format(where, name), 0)
  end
end

function CHECK.serializer(where, name, value)
  local serializers = require "catga.process.serializer"
  if not serializers.NAMES[value] then
    error(("%s.%s is one of %s, not %s"):format(where, name,
      table.concat(registry().sorted_names(serializers.NAMES), ", "), tostring(value)), 0)
  end
  local ok, failure = pcall(serializers.check, value)
  if not ok then error(("%s.%s: %s"):format(where, name, failure.message), 0) end
end

function CHECK.tags(where, name, value)
  if type(value) ~= "table" and type(value) ~= "function" then
    error(("%s.%s is a table, or a function of the input"):format(where, name), 0)
  end
end

-- Raises for what is not known, or has a wrong value.
local function check(where, what, given, known)
  if type(given) ~= "table" then error(where .. " must be a table", 0) end
  for name, value in pairs(given) do
    local kind = known[name]
    if not kind then
      error(("%s: unknown %s \"%s\"%s; there are %s"):format(where, what, tostring(name),
        hint_for(name, known), table.concat(registry().sorted_names(known), ", ")), 0)
    end
    CHECK[kind](where, name, value)
  end
end

function CHECK.steps(where, name, value)
  where = where .. "." .. name
  if type(value) ~= "table" then error(where .. " must be a table of steps", 0) end
  for step, settings in pairs(value) do
    check(("%s.%s"):format(where, tostring(step)), "setting", settings, STEP)
  end
end

--- Checks the settings that a script has for one step; raises.
---@param where string  for the error
---@param settings any
function M.check_step(where, settings) check(where, "setting", settings, SCRIPT_STEP) end

--- Checks `processes` of catga.lua, as far as that can be done before the scripts are loaded;
--- raises.
---@param given any
---@return table<string, table> given
function M.check_file(given)
  if type(given) ~= "table" then error("processes must be a table of processes", 0) end
  for name, settings in pairs(given) do
    check(("processes.%s"):format(tostring(name)), "setting", settings, FILE_FLOW)
  end
  return given
end

--- Checks that every process which catga.lua names is there; raises.
---@param given table<string, table>  `processes` of catga.lua
---@param processes table<string, catga.ProcessClass>
function M.check_names(given, processes)
  for _, name in ipairs(registry().sorted_names(given)) do
    if not processes[name] then
      error(("catga.lua: processes.%s: no process is called so%s"):format(tostring(name),
        hint_for(name, processes)), 0)
    end
  end
end

--- Checks that a step is there which settings are for; raises.
---@param where string
---@param class catga.ProcessClass
---@param name string
---@param is_known fun(name: string): boolean
function M.check_target(where, class, name, is_known)
  if is_known(name) then return end
  error(("%s.%s is for a step that does not exist%s"):format(where, tostring(name),
    hint_for(name, class.steps)), 0)
end

-- Flow-wide settings of steps, of which the first that is given counts.
local function flow_defaults(file, options, general)
  local function ms(name)
    local text = file[name] or options[name]
    return text and duration.ms(text)
  end
  return {
    timeout = ms "step_timeout" or general.timeout,
    attempts = file.attempts or options.attempts or general.attempts,
    backoff = ms "backoff" or general.backoff,
  }
end

--- Settles what holds for a class: its options, the defaults of its steps and what catga.lua says
--- of single steps. Raises for what is wrong in the script.
---@param class catga.ProcessClass
---@param settings table  of the app
function M.resolve(class, settings)
  local face = class.face
  local given = face.options
  local where = "process " .. class.name
  if given ~= nil then check(where .. ": options", "option", given, OPTIONS) end
  if face.settings ~= nil and type(face.settings) ~= "table" then
    error(where .. ": settings must be a table of steps", 0)
  end
  for name, step in pairs(face.settings or {}) do
    M.check_step(("%s: settings.%s"):format(where, tostring(name)), step)
  end
  local file = settings.processes[class.name] or {}
  local options = {}
  for name, value in pairs(given or {}) do options[name] = value end
  options.timeout = file.timeout or options.timeout
  class.options, class.has_options = options, next(options) ~= nil
  class.serializer = options.serializer ~= "json" and options.serializer or nil
  class.defaults = flow_defaults(file, options, settings.process)
  class.overrides = file.steps or {}
end

return M
