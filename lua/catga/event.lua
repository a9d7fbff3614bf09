--- How stored events look to scripts: the one place through which all of them go.
local M = {}

--- Presents an event that was read from the store, in place: personal fields decrypted, then
--- upcast to the newest version of its type. Never yields.
---@param _app catga.App
---@param event table  as the store gives it: stream, version, position, type, data, metadata, ...
---@return table event  the same table
function M.present(_app, event)
  return event
end

--- Presents a list of events, in place; an upcaster may drop some of them.
---@param app catga.App
---@param events table[]
---@return table[] events  the same list
function M.present_all(app, events)
  for i = 1, #events do events[i] = M.present(app, events[i]) end
  return events
end

return M
