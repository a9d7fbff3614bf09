--- Grouping: which documents, and which partition, an event belongs to; folds as handlers.
---
--- A key is the name of a field of the event's data, a function of data and envelope, or a table of
--- these by event type; a function may give a list of keys, or nil for none.
local documents = require "catga.projection.documents"
local dropped = require "catga.upcast".dropped

local M = {}

local KEYS_MAX = 1000 -- Documents that one event may change.

local function is_key(value)
  return type(value) == "function" or type(value) == "string" and value ~= ""
end

--- Checks a key as a script gives it.
---@param where string
---@param field string  its name, for the error
---@param value any
---@param by_type boolean  a table by event type may be given
---@return any value
function M.check_key(where, field, value, by_type)
  if is_key(value) then return value end
  if by_type and type(value) == "table" and next(value) ~= nil then
    for name, one in pairs(value) do
      if type(name) ~= "string" or not is_key(one) then
        error(("%s: %s.%s is the name of a field or a function"):format(where, field,
          tostring(name)), 0)
      end
    end
    return value
  end
  error(("%s: %s is the name of a field%s or a function%s, got %s"):format(where, field,
    by_type and "," or "", by_type and ", or a table of these by event type" or "",
    type(value)), 0)
end

-- The part of a key that is for a type.
local function key_for(definition, kind)
  local key = definition.key
  if type(key) ~= "table" then return key end
  if key[kind] then return key[kind] end
  error(("projection %s: key has nothing for %s"):format(definition.name, kind), 0)
end

-- A function that gives the keys of an event: one text, a list of texts, or nil.
local function reader_of(key)
  if type(key) == "string" then
    return function(data)
      local value = type(data) == "table" and data[key]
      if value == nil or value == false or type(value) == "userdata" then return nil end
      return documents.key(value, "key")
    end
  end
  return function(data, ctx)
    local value = key(data, ctx)
    if type(value) ~= "table" then
      if value == nil then return nil end
      return documents.key(value, "key")
    end
    if #value > KEYS_MAX then
      error(("key: an event belongs to at most %d documents, got %d"):format(KEYS_MAX, #value), 0)
    end
    local list, seen = {}, {}
    for i = 1, #value do
      local one = documents.key(value[i], "key")
      if not seen[one] then
        seen[one] = true
        list[#list + 1] = one
      end
    end
    return list
  end
end

local function fold_into(model, key, fold, initial, data, ctx)
  local doc = model:get(key) or initial and initial(key) or {}
  local result = fold(doc, data, ctx)
  if result == dropped then return model:delete(key) end
  model:put(key, result == nil and doc or result)
end

-- A fold as a handler: it changes the document of each key of the event.
local function handler_of(keys_of, fold, initial)
  return function(data, model, ctx)
    local keys = keys_of(data, ctx)
    if keys == nil then return end
    if type(keys) ~= "table" then return fold_into(model, keys, fold, initial, data, ctx) end
    for i = 1, #keys do fold_into(model, keys[i], fold, initial, data, ctx) end
  end
end

--- Makes handlers of the folds, and what says to which keys an event belongs.
---@param definition table  sets keys_of: by event type, of folds only
function M.compose(definition)
  definition.keys_of = {}
  for kind, fold in pairs(definition.folds) do
    local keys_of = reader_of(key_for(definition, kind))
    definition.keys_of[kind] = keys_of
    definition.handlers[kind] = handler_of(keys_of, fold, definition.initial)
  end
  local partition = definition.partition
  if partition then definition.partition_of = reader_of(partition) end
end

--- What must be handled in order with the event: a text, or a list of texts.
---@param definition table
---@param event table
---@return string|string[]
function M.partition_of(definition, event)
  local of = definition.partition_of or definition.keys_of[event.type]
  if not of then return event.stream end
  return of(event.data, event) or event.stream
end

return M
