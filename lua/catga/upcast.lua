--- Upcasters: functions that turn stored events of an older schema version into the next one, so
--- that the rest of the scripts knows the newest version only.
---
---   catga.upcast("OrderCreated", 1, function(data, event)   -- from version 1 to 2
---     data.currency = "EUR"
---     return data                            -- or: data, "OrderOpened"; or: catga.dropped
---   end)
---
--- An event's schema version is `schema` in its metadata, 1 when it is missing; new events are
--- written with the newest version. What an upcaster renames goes on as version 1 of the new type.
--- Upcasters run on every read: they change nothing that is stored and must have no effects.
local errors = require "catga.error"
local pure = require "catga.pure"

local M = {}

local SCHEMA_MAX = 1000000
local RENAMES_MAX = 16 -- Of one event; more is a circle.

--- What an upcaster returns instead of data when nobody is to see the event any more.
M.dropped = setmetatable({}, { __tostring = function() return "catga.dropped" end })

--- All upcasters of a generation of scripts.
---@class catga.Upcasts
---@field chains table<string, table<integer, { fn: function, at: string }>> type, version it takes
---@field newest table<string, integer>  by type: the version behind its last upcaster
local Upcasts = {}
Upcasts.__index = Upcasts

---@return catga.Upcasts
function M.new() return setmetatable({ chains = {}, newest = {} }, Upcasts) end

--- Is it the number of a schema version?
---@param value any
---@return boolean
function M.is_schema(value)
  return type(value) == "number" and value % 1 == 0 and value >= 1 and value <= SCHEMA_MAX
end

--- Adds an upcaster. Raises when it is wrong or there already.
---@param kind string    type of the event
---@param from integer   the version that it takes; it gives the next one
---@param fn fun(data: any, event: table): any, string?
---@param at string      file:line of the registration
function Upcasts:add(kind, from, fn, at)
  if type(kind) ~= "string" or kind == "" then
    error(at .. ": catga.upcast(type, version, fn): the type is a string that is not empty", 0)
  end
  if not M.is_schema(from) then
    error(("%s: upcaster of %s: the version that it takes is a whole number from 1, got %s")
      :format(at, kind, tostring(from)), 0)
  end
  if type(fn) ~= "function" then
    error(("%s: upcaster of %s %d needs a function(data, event), got %s"):format(at, kind, from,
      type(fn)), 0)
  end
  local chain = self.chains[kind]
  if not chain then
    chain = {}
    self.chains[kind] = chain
  end
  if chain[from] then
    error(("%s: %s %d has an upcaster already, at %s"):format(at, kind, from, chain[from].at), 0)
  end
  chain[from] = { fn = fn, at = at }
  self.newest[kind] = math.max(self.newest[kind] or 1, from + 1)
end

--- Checks that every chain leads from version 1 to the newest. Raises when one has a gap.
function Upcasts:finish()
  local kinds = {}
  for kind in pairs(self.chains) do kinds[#kinds + 1] = kind end
  table.sort(kinds)
  for _, kind in ipairs(kinds) do
    local newest, chain = self.newest[kind], self.chains[kind]
    for from = 1, newest - 1 do
      if not chain[from] then
        error(("%s: the upcasters of %s lead up to version %d, but none takes version %d")
          :format(chain[newest - 1].at, kind, newest, from), 0)
      end
    end
  end
end

--- The version in which new events of a type are written; nil for 1.
---@param kind string
---@return integer?
function Upcasts:schema(kind) return self.newest[kind] end

--- The types under which events may be stored that scripts see as one of these: an upcaster may
--- give any type, so all that have one.
---@param types table<string, any>
---@return table<string, any> stored
function Upcasts:stored_types(types)
  local stored = {}
  for kind in pairs(types) do stored[kind] = true end
  for kind in pairs(self.chains) do stored[kind] = true end
  return stored
end

-- Raises the error of an event that cannot be presented; it names the event.
local function refuse(event, at, schema, failure, ...)
  local what = ("event %s of schema version %s, version %s of stream %s, position %s: %s"):format(
    event.stored_type or event.type, tostring(schema), tostring(event.version),
    tostring(event.stream), tostring(event.position), tostring(failure):format(...))
  error(errors.new("upcast_failed", at and at .. ": " .. what or what,
    { position = event.position, type = event.stored_type or event.type, at = at }), 0)
end

-- The version of a stored event.
local function schema_of(event, newest)
  local metadata = event.metadata
  local schema = type(metadata) == "table" and metadata.schema or 1
  if not M.is_schema(schema) then
    refuse(event, nil, schema, "this is no schema version; the record was not written by Catga")
  end
  if schema > newest then
    refuse(event, nil, schema, "the scripts know version %d as the newest; the event was written "
      .. "by newer scripts, deploy those, or add the upcasters up to this version", newest)
  end
  return schema
end

-- Calls one upcaster, outside of what may have effects.
local function call(upcaster, event, schema)
  local ok, data, kind = pure.call("an upcaster", upcaster.fn, event.data, event)
  if not ok then
    refuse(event, upcaster.at, schema, "the upcaster failed: %s",
      (tostring(data.message):gsub("%%", "%%%%")))
  end
  if data == nil then
    refuse(event, upcaster.at, schema, "the upcaster returned nothing; it returns the data, "
      .. "or catga.dropped when nobody is to see the event any more")
  end
  if kind ~= nil and (type(kind) ~= "string" or kind == "") then
    refuse(event, upcaster.at, schema, "the second thing that an upcaster returns is the new type, "
      .. "not a %s", type(kind))
  end
  return data, kind
end

--- Brings an event to the newest version of its type, in place. Raises an error value with the code
--- "upcast_failed" that names the event and the upcaster.
---@param event table
---@return table? event  nil: an upcaster dropped it
function Upcasts:apply(event)
  local schema = schema_of(event, self.newest[event.type] or 1)
  local chain, renames = self.chains[event.type], 0
  while chain and chain[schema] do
    local data, kind = call(chain[schema], event, schema)
    if data == M.dropped then return nil end
    event.data = data
    if kind and kind ~= event.type then
      renames = renames + 1
      if renames > RENAMES_MAX then
        refuse(event, chain[schema].at, schema, "it was renamed over %d times: the upcasters go "
          .. "in a circle", RENAMES_MAX)
      end
      event.stored_type = event.stored_type or event.type
      event.type, schema, chain = kind, 1, self.chains[kind]
    else
      schema = schema + 1
    end
  end
  return event
end

return M
