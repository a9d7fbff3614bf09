--- Where a route sends messages, and how each kind is delivered inside the unit of work.
---
---   "name"                              a topic: published as an event of that type
---   { command = "Name", enqueue = true? }  sent, in the unit; or staged in its outbox
---   { stream = "audit", type = "Audited" }  appended to a stream
---   { process = "Name" }                started, with the message as its input
---   function(message, event)            called, in the unit
local state = require "catga.state"
local errors = require "catga.error"
local units = require "catga.unit"
local registries = require "catga.registry"
local copy = require "catga.route.copy"

local M = {}

--- A destination.
---@class catga.RouteDestination
---@field kind "topic"|"command"|"stream"|"process"|"function"
---@field name string?       of the topic, command, stream or process
---@field type string?       of a stream's event
---@field type_fn function?   gives it
---@field fn function?       a function, or what names the stream
---@field enqueue table?     options of catga.enqueue
---@field at string
---@field is_effect boolean?  runs code that is not the route's own: its event is a unit alone
---@field deliver fun(app: catga.App, destination: catga.RouteDestination, message: any,
---  event: table, extra: table?)  in the unit; raises when it fails. May yield

local FIELDS = {
  topic = { topic = true }, command = { command = true, enqueue = true },
  stream = { stream = true, type = true }, process = { process = true },
}

local function append(stream, kind, message, extra)
  local unit = units.of(state[1])
  local version, err = unit:append(stream, { { type = kind, data = message, extra = extra } },
    "any")
  if not version then error(err, 0) end
end

local DELIVER = {}

function DELIVER.topic(_, d, message, _, extra)
  append("$type-" .. d.name, d.name, message, extra)
end

function DELIVER.stream(_, d, message, event, extra)
  local stream = d.name or d.fn(message, event)
  if type(stream) ~= "string" or stream == "" or stream:find("^%$")
    or stream:find("^Process%-") then
    error(errors.new("invalid", ("%s: the stream that a message goes to is a name that is not the "
      .. "runtime's own ($..., Process-...), not %s"):format(d.at, tostring(stream))), 0)
  end
  local kind = d.type or d.type_fn(message, event)
  if type(kind) ~= "string" or kind == event.type then
    error(errors.new("invalid", ("%s: the type of an event in a stream is a string other than the "
      .. "type that came in, which would be routed again; got %s"):format(d.at, tostring(kind))), 0)
  end
  append(stream, kind, message, extra)
end

function DELIVER.command(app, d, message)
  if d.enqueue then
    local ok, err = require("catga").enqueue(d.name, message, d.enqueue)
    if ok == nil and err ~= nil then error(err, 0) end
    return
  end
  -- A copy: the handler may change it, and other destinations, rules and the letter have it too.
  local value, err = app.mediator:send("command", d.name, copy(message))
  if value == nil and err ~= nil then error(err, 0) end
end

function DELIVER.process(app, d, message)
  local id, err = app.engine:start(d.name, message)
  if not id then error(err, 0) end
end

DELIVER["function"] = function(_, d, message, event)
  local value, err = d.fn(copy(message), event)
  if value == nil and err ~= nil then error(err, 0) end
end

local function make(kind, fields, at)
  fields.kind, fields.at, fields.deliver = kind, at, DELIVER[kind]
  fields.is_effect = kind == "function" or kind == "command" and not fields.enqueue or nil
  return fields
end

local function is_name(value) return type(value) == "string" and value ~= "" and #value <= 1024 end

-- The kind that a table names; raises unless it is one, whole.
local function kind_of(spec, where)
  for kind, fields in pairs(FIELDS) do
    if spec[kind] ~= nil then
      for field in pairs(spec) do
        if not fields[field] then
          error(("%s: a destination { %s = ... } has no field %s"):format(where, kind,
            tostring(field)), 0)
        end
      end
      return kind
    end
  end
  error(where .. ": a destination is a name, a function, or a table with one of command, process, "
    .. "stream, topic", 0)
end

local function stream_of(spec, at, where)
  if type(spec.stream) ~= "function" and not is_name(spec.stream) then
    error(where .. ": the stream is a name, or a function(message, event) that gives one", 0)
  end
  if not is_name(spec.type) and type(spec.type) ~= "function" then
    error(where .. ": an event in a stream needs a type of its own: to_stream(stream, type); with "
      .. "the type that came in it would be routed again", 0)
  end
  local is_fixed = type(spec.stream) == "string"
  if is_fixed and (spec.stream:find("^%$") or spec.stream:find("^Process%-")) then
    error(where .. ": names of streams that begin with $ or Process- are the runtime's own", 0)
  end
  return make("stream", { name = is_fixed and spec.stream or nil,
    fn = not is_fixed and spec.stream or nil, type = is_name(spec.type) and spec.type or nil,
    type_fn = type(spec.type) == "function" and spec.type or nil }, at)
end

--- Makes a destination of what a script gives. Raises when it is none.
---@param spec any
---@param at string     file:line
---@param where string  the same with what it is for, for errors
---@return catga.RouteDestination
function M.make(spec, at, where)
  if type(spec) == "function" then return make("function", { fn = spec }, at) end
  if is_name(spec) then spec = { topic = spec } end
  if type(spec) ~= "table" then
    error(("%s: a destination is a name, a function, or a table with one of command, process, "
      .. "stream, topic, not %s"):format(where, tostring(spec)), 0)
  end
  local kind = kind_of(spec, where)
  if kind == "stream" then return stream_of(spec, at, where) end
  local name = spec[kind]
  if not is_name(name) then
    error(("%s: the name of a %s is a string of 1 to 1024 bytes, not %s"):format(where, kind,
      tostring(name)), 0)
  end
  if kind == "topic" and name:find("^%$") then
    error(where .. ": types that begin with $ are the runtime's own", 0)
  end
  local enqueue = spec.enqueue
  if enqueue ~= nil and enqueue ~= true and type(enqueue) ~= "table" then
    error(where .. ": enqueue is true, or options of catga.enqueue", 0)
  end
  return make(kind, { name = name, enqueue = enqueue == true and {} or enqueue or nil }, at)
end

--- Checks that what a destination names is there. Raises when it is not.
---@param d catga.RouteDestination
---@param registry catga.Registry
function M.check(d, registry)
  local err
  if d.kind == "command" then
    local entry = registry.handlers[d.name]
    if not entry or entry.kind ~= "command" then err = registry:unknown("command", d.name) end
    if d.enqueue and not require("catga").enqueue then
      error(d.at .. ": there is no catga.enqueue in this program", 0)
    end
  elseif d.kind == "process" and not registry.processes[d.name] then
    err = registry:unknown("process", d.name)
  end
  if err then error(("%s: a route goes to a %s that is not there: %s"):format(d.at, d.kind,
    err.message), 0) end
end

-- Does a subscription take events of a type?
local function takes(definition, name)
  for _, kind in ipairs(definition.types or {}) do
    if kind == name then return true end
  end
  local prefix = definition.type_prefix
  return not definition.types and (not prefix or name:sub(1, #prefix) == prefix)
    and not definition.stream
    and (not definition.category or definition.category == ("$type-" .. name):match("^[^-]*"))
end

--- Who reads events of a type: handlers, subscriptions, projections; routes are added by explain.
---@param registry catga.Registry
---@param name string
---@return string[]
function M.readers(registry, name)
  local list = {}
  local handlers = registry.events[name]
  if handlers then
    list[1] = #handlers == 1 and "1 handler" or #handlers .. " handlers"
  end
  for _, one in ipairs(registries.sorted_names(registry.subscriptions)) do
    if takes(registry.subscriptions[one], name) then list[#list + 1] = "subscription " .. one end
  end
  for _, one in ipairs(registries.sorted_names(registry.projections)) do
    if registry.projections[one].handlers[name] then list[#list + 1] = "projection " .. one end
  end
  return list
end

return M
