--- Reading all streams in the order of positions, through a cursor with a filter.
---
--- The cursor of the last read stays open, because a reader mostly goes on where it was.
local event = require "catga.event"
local sorted_names = require "catga.registry".sorted_names

local M = {}

--- What to read.
---@class catga.PositionQuery
---@field after integer
---@field to integer?          last position
---@field until_time number?   Unix ms: up to the first event that is later
---@field max integer
---@field types table<string, true>?
---@field type_prefix string?
---@field category string?
---@field stream string?
---@field journals true?

-- What the cursor lets through. Upcasters may rename types: then the store cannot tell a prefix.
local function filter_of(app, query)
  local types = event.stored_types(app, query.types)
  return { types = types and sorted_names(types), category = query.category,
    type_prefix = not app.registry.upcasts and query.type_prefix or nil, stream = query.stream,
    journals = query.journals }
end

local function key_of(filter)
  local types = filter.types and table.concat(filter.types, "\1")
  return table.concat({ tostring(types), tostring(filter.type_prefix), tostring(filter.category),
    tostring(filter.stream), tostring(filter.journals) }, "\2")
end

-- A cursor that stands behind position `after`.
local function cursor_at(app, filter, after)
  local last, key = app.last_cursor, key_of(filter)
  -- One that a failure has left in the middle stands elsewhere.
  if last and last.key == key and last.position == after and last.registry == app.registry
    and last.cursor:position() == after then
    return last
  end
  if last then last.cursor:close() end
  last = { key = key, registry = app.registry, cursor = app.store:cursor(after, filter) }
  app.last_cursor = last
  return last
end

-- How many of the events lie within the bounds.
local function count_within(list, query)
  for i = 1, #list do
    if list[i].position > (query.to or math.huge) or list[i].time > (query.until_time or math.huge)
    then
      return i - 1
    end
  end
  return #list
end

local function is_wanted(query, one)
  return (not query.types or query.types[one.type])
    and (not query.type_prefix or one.type:sub(1, #query.type_prefix) == query.type_prefix)
end

--- Reads durable events.
---@param app catga.App
---@param query catga.PositionQuery
---@return table[]? events
---@return integer|catga.Error position  read up to here
function M.read(app, query)
  local held = cursor_at(app, filter_of(app, query), query.after)
  local list, position = held.cursor:next(query.max)
  if not list then
    held.cursor:close()
    app.last_cursor = nil
    return nil, position
  end
  held.position = position
  local count = count_within(list, query)
  if count < #list then
    position = count > 0 and list[count].position or query.after
    for i = #list, count + 1, -1 do list[i] = nil end
  end
  event.present_all(app, list)
  if not (app.registry.upcasts and (query.types or query.type_prefix)) then
    return list, position
  end
  local wanted = {}
  for _, one in ipairs(list) do
    if is_wanted(query, one) then wanted[#wanted + 1] = one end
  end
  return wanted, position
end

return M
