--- How stored events look to scripts: the one place through which all of them go.
---
--- Presenting an event raises an error value, which names the event, when its personal fields
--- cannot be decrypted or an upcaster fails.
local errors = require "catga.error"
local personal = require "catga.personal"

local M = {}

--- Presents an event that was read from the store, in place: personal fields decrypted, then
--- upcast to the newest version of its type. Never yields.
---@param app catga.App
---@param event table  as the store gives it: stream, version, position, type, data, metadata, ...
---@return table? event  the same table, with stored_type when it was renamed; nil: it was dropped
function M.present(app, event)
  if event.personal then personal.unseal(app, event) end
  local upcasts = app.registry.upcasts
  if upcasts then return upcasts:apply(event) end
  return event
end

--- Presents a list of events, in place; an upcaster may drop some of them.
---@param app catga.App
---@param events table[]
---@return table[] events  the same list
function M.present_all(app, events)
  local list, failure = M.present_until(app, events)
  if failure then error(failure, 0) end
  return list
end

-- Is there anything to do for events as they are stored?
local function is_needed(app, events)
  if app.registry.upcasts then return true end
  for i = 1, #events do
    if events[i].personal then return true end
  end
  return false
end

--- Presents a list of events, in place, up to the first that cannot be presented.
---@param app catga.App
---@param events table[]
---@return table[] events        the same list, with those before it only
---@return catga.Error? failure  with the position and type of the event
function M.present_until(app, events)
  if not is_needed(app, events) then return events end
  local count, kept, failure = #events, 0, nil
  for i = 1, count do
    local ok, event = pcall(M.present, app, events[i])
    if not ok then
      failure = errors.from(event)
      break
    end
    if event then
      kept = kept + 1
      events[kept] = event
    end
  end
  for i = kept + 1, count do events[i] = nil end
  return events, failure
end

--- The types under which events may be stored that are presented as one of these types: what to
--- read when only these are wanted. Those that come out as another type are still to be left out.
---@param app catga.App
---@param types table<string, any>?  nil: all types
---@return table<string, any>? stored
function M.stored_types(app, types)
  local upcasts = app.registry.upcasts
  if not (upcasts and types) then return types end
  return upcasts:stored_types(types)
end

return M
