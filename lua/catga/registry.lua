--- One generation of an app: everything its scripts registered, checked and composed.
local errors = require "catga.error"
local schema = require "catga.schema"
local behaviors = require "catga.behaviors"
local upcast = require "catga.upcast"
local handlers = require "catga.lazy".module "catga.policy.handlers"

local M = {}

--- A composed handler.
---@class catga.Entry
---@field name string
---@field kind "command"|"query"|"event"
---@field run fun(data: any, ctx: catga.Ctx): any, any
---@field handle fun(data: any, ctx: catga.Ctx): any, any  as the script gave it
---@field at string         file:line of the registration
---@field counter { calls: integer, failures: integer }
---@field idempotent boolean?
---@field outer (fun(data: any, ctx: catga.Ctx): any, any)?  what stands around all attempts
---@field own table?        policies that the script gives it: { policy, parsed, at }
---@field policies table<string, catga.PolicyKind>?  what holds in the end, by kind
---@field scope catga.PolicyScope?
---@field nth integer?      of an event handler: which of its type
---@field registry catga.Registry  the generation that it belongs to

---@class catga.Registry
---@field handlers table<string, catga.Entry>    commands and queries
---@field events table<string, catga.Entry[]>
---@field behaviors table[]
---@field ordered table[]?  the same, outermost first, once they are composed
---@field processes table<string, catga.ProcessClass>
---@field projections table<string, table>
---@field aggregates table<string, catga.AggregateClass>
---@field upcasts catga.Upcasts?               nil: there are none
---@field subscriptions table<string, table>
---@field schedules table<string, catga.ScheduleDefinition>?  nil: there are none
---@field routes table?      rules and their sets; nil: there are none
---@field inline_routes (fun(unit: catga.Unit, staged: catga.Staged[]): boolean?, catga.Error?)?
---  for rules that run in the unit that publishes; nil: there are none
---@field streams table?  { nodes, graphs }; nil: there are none
---@field personal table<string, catga.Personal>?  by event type; nil: none is declared
---@field policies table<string, catga.PolicyDefinition>?  nil: none is defined
---@field has_own_policies boolean?  some handler has policies of its own
---@field policy_memory table<string, table>?   what policies remember, by owner and kind
---@field memory_before table<string, table>?   the same of the generation before, while loading
---@field places table<string, string>         file:line of what has a name
---@field caches table<string, table>?  options of caches by name; nil: there are none
---@field app catga.App?    whose generation it is
---@field main function?
---@field hash string       of all files, set by the loader
---@field lib_hash string?  of the modules, set by the loader; nil: there are none
---@field source_of fun(path: string): string?  the text of a script, set by the loader
local Registry = {}
Registry.__index = Registry

---@return catga.Registry
function M.new()
  return setmetatable({ handlers = {}, events = {}, behaviors = {}, processes = {},
    projections = {}, aggregates = {}, subscriptions = {}, places = {} }, Registry)
end

-- file:line of the script that called into the public face.
local function caller()
  for level = 2, 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    local own = info.source:find("^@lua/catga/") or info.what == "C"
    if not own then return info.short_src .. ":" .. info.currentline end
  end
  return "the C program"
end
M.caller = caller

-- Where the named things are.
local LISTS = { process = "processes", projection = "projections", aggregate = "aggregates" }

local HANDLER_FIELDS = { name = true, input = true, handle = true, idempotent = true }

-- The policies among the fields of a handler, checked; nil: there are none.
local function own_policies(registry, kind, spec, at, name)
  local given
  for field, value in pairs(spec) do
    if not HANDLER_FIELDS[field] then
      given = given or {}
      given[field] = value
    end
  end
  if not given then return nil end
  registry.has_own_policies = true
  return handlers.own(given, ("%s: %s %s"):format(at, kind, tostring(name)), at)
end

local function check_handler(kind, spec, at)
  if type(spec.name) ~= "string" or spec.name == "" then
    error(("%s: a %s needs a name (a string that is not empty)"):format(at, kind), 0)
  end
  if type(spec.handle) ~= "function" then
    error(("%s: %s %s needs a handler function, got %s"):format(at, kind, spec.name,
      type(spec.handle)), 0)
  end
  if spec.idempotent ~= nil and type(spec.idempotent) ~= "boolean" then
    error(("%s: %s %s: idempotent is true or false"):format(at, kind, spec.name), 0)
  end
end

--- Registers the one handler of a command or query.
---@param kind "command"|"query"
---@param spec table  name, handle, input?, idempotent?
function Registry:handler(kind, spec)
  local at = caller()
  check_handler(kind, spec, at)
  local taken = self.handlers[spec.name]
  if taken then
    error(("%s: %s %s has a handler already, at %s; a command or query has exactly one")
      :format(at, kind, spec.name, taken.at), 0)
  end
  self.handlers[spec.name] = { name = spec.name, kind = kind, handle = spec.handle, at = at,
    input = spec.input, idempotent = spec.idempotent,
    own = own_policies(self, kind, spec, at, spec.name), counter = { calls = 0, failures = 0 } }
end

--- Registers an event handler; any number a type.
---@param name string
---@param handle function
---@param given table?  policies
function Registry:on(name, handle, given)
  local at = caller()
  check_handler("event", { name = name, handle = handle }, at)
  local list = self.events[name]
  if not list then
    list = {}
    self.events[name] = list
  end
  list[#list + 1] = { name = name, kind = "event", handle = handle, at = at,
    own = given and own_policies(self, "event", given, at, name), nth = #list + 1,
    counter = { calls = 0, failures = 0 } }
end

--- Registers a behavior.
---@param name string
---@param fn function?  nil: one of the shipped ones
---@param opts table?   only, before, after
function Registry:behavior(name, fn, opts)
  self.behaviors[#self.behaviors + 1] = behaviors.define(name, fn, opts, caller())
end

--- Registers an upcaster of stored events.
---@param kind string   type of the events
---@param from integer  the version that it takes
---@param fn function
function Registry:upcast(kind, from, fn)
  self.upcasts = self.upcasts or upcast.new()
  self.upcasts:add(kind, from, fn, caller())
end

--- Remembers a named thing of which there may be one.
---@param kind "process"|"projection"|"aggregate"
---@param name string
---@param value table
function Registry:named(kind, name, value)
  local at = caller()
  if type(name) ~= "string" or name == "" then
    error(("%s: %s %s needs a name (a string that is not empty)"):format(at,
      kind == "aggregate" and "an" or "a", kind), 0)
  end
  local list = self[LISTS[kind]]
  local taken = self.places[kind .. " " .. name]
  if taken then error(("%s: %s %s is defined already, at %s"):format(at, kind, name, taken), 0) end
  self.places[kind .. " " .. name] = at
  list[name] = value
end

--- Registers a subscription with a name.
---@param definition table  name, at, entry
function Registry:subscription(definition)
  local name, at = definition.name, definition.at
  local taken = self.subscriptions[name]
  if taken then
    error(("%s: there is a subscription %s already, at %s"):format(at, name, taken.at), 0)
  end
  self.subscriptions[name] = definition
end

--- Sets the function that runs once after recovery.
---@param fn function
function Registry:set_main(fn)
  local at = caller()
  if type(fn) ~= "function" then error(at .. ": catga.main needs a function", 0) end
  if self.main then
    error(("%s: catga.main is set already, at %s"):format(at, self.places.main), 0)
  end
  self.main, self.places.main = fn, at
end

-- Number of single-character edits between two words, as far as it matters (Levenshtein).
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local corner = row[0]
    row[0] = i
    for j = 1, #b do
      local keep = row[j]
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(row[j] + 1, row[j - 1] + 1, corner + cost)
      corner = keep
    end
  end
  return row[#b]
end

--- The name most like a wrong one, or nil when none is near.
---@param name string
---@param names table<string, any>
---@return string?
function M.suggest(name, names)
  local best, best_distance
  for candidate in pairs(names) do
    local d = distance(name:lower(), candidate:lower())
    if d <= math.max(2, math.floor(#name / 3)) and (not best or d < best_distance
      or (d == best_distance and candidate < best)) then
      best, best_distance = candidate, d
    end
  end
  return best
end

--- The error for a name that nobody registered.
---@param kind string
---@param name any
---@return catga.Error
function Registry:unknown(kind, name)
  local names = {}
  for candidate, entry in pairs(self.handlers) do
    if entry.kind == kind then names[candidate] = true end
  end
  if kind == "process" then names = self.processes end
  local other = self.handlers[name]
  local near = type(name) == "string" and M.suggest(name, names)
  local hint = other and (" (it is a " .. other.kind .. ")")
    or near and ("; did you mean " .. near .. "?") or ""
  return errors.new("unknown_" .. kind, ("no %s is called %s%s"):format(kind, tostring(name), hint))
end

-- Calls fn; what it raises begins with the place of the registration.
local function at_place(at, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  error(("%s: %s"):format(at, tostring(result)), 0)
end

--- The keys of a table, sorted.
---@param list table<string, any>
---@return string[]
function M.sorted_names(list)
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- Composes one handler; the order of the behaviors is known.
---@param entry catga.Entry
---@param app catga.App
function Registry:compose_one(entry, app)
  entry.app, entry.registry = app, self
  local check = entry.input and at_place(entry.at, schema.compile, entry.name, entry.input)
  behaviors.compose(app, entry, self.ordered, check)
end

--- Does anything of this generation have policies?
---@param app catga.App
---@return boolean
function Registry:has_policies(app)
  return self.policies ~= nil or self.has_own_policies == true
    or next(app.settings.policies) ~= nil
end

--- Composes all handlers. Called once when every file is loaded; raises on contradictions.
---@param app catga.App
function Registry:compose(app)
  local used = self:has_policies(app) and handlers.resolve(self, app) or nil
  self.ordered = behaviors.order(self.behaviors, used)
  local function compose(entry) self:compose_one(entry, app) end
  for _, name in ipairs(M.sorted_names(self.handlers)) do compose(self.handlers[name]) end
  for _, list in pairs(self.events) do
    for _, entry in ipairs(list) do compose(entry) end
  end
  if self.upcasts then self.upcasts:finish() end
  for _, name in ipairs(M.sorted_names(self.aggregates)) do
    local class = self.aggregates[name]
    at_place(self.places["aggregate " .. name], class.finish, class, self)
  end
  for _, definition in pairs(self.subscriptions) do compose(definition.entry) end
  require("catga.process.options").check_names(app.settings.processes, self.processes)
  for _, name in ipairs(M.sorted_names(self.processes)) do
    local class = self.processes[name]
    at_place(self.places["process " .. name], class.finish, class, app)
  end
  if self.routes then require("catga.route.compose").finish(self, app) end
  for _, name in ipairs(M.sorted_names(self.projections)) do
    at_place(self.places["projection " .. name], require("catga.projection.definition").finish,
      self.projections[name])
  end
  if self.schedules then require("catga.schedule.definition").finish_all(self, app) end
  if self.streams then require("catga.stream.graph").finish_all(self, app) end
end

return M
