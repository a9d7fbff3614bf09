--- Following events in a loop: an iterator over what is durable, from a position on, that waits for
--- more. It has a cursor of its own, so the past and what is new come the same way.
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local present = require "catga.event"
local registries = require "catga.registry"
local options = require "catga.subscription.options"

local M = {}

local BATCH_MAX = 1000 -- Events read at once.

local FOLLOWED = { after = true, stream = true, category = true, types = true, type_prefix = true }

--- An iterator over durable events, which waits for more; it ends when the app stops.
---@param app catga.App
---@param given { after: integer|"start"|"end"|nil, stream: string?, category: string?,
---  types: string[]?, type_prefix: string? }
---@return fun(): table? next  the event: stream, version, position, type, data, ...
function M.follow(app, given)
  local at = registries.caller()
  local checked = { handle = function() end }
  for option, value in pairs(given or {}) do
    if not FOLLOWED[option] then
      error(("%s: catga.events.follow: there is no option \"%s\"; there are %s"):format(at,
        tostring(option), table.concat(registries.sorted_names(FOLLOWED), ", ")), 0)
    end
    checked[option] = value
  end
  local definition = options.check(checked, at)
  local store = app.store
  local place = definition.after
  if place == "start" then place = 0 elseif place == "end" then place = store:positions() - 1 end
  local events, index, is_wanted = {}, 0, nil
  -- A loop may be left at any event: so no cursor is kept between two batches.
  local function read()
    local cursor
    cursor, is_wanted = options.cursor(app, definition, place)
    local list, position = cursor:next(BATCH_MAX)
    cursor:close()
    if not list then error(position, 0) end
    events, index = list, 0
    local has_moved = position > place
    place = position
    return has_moved
  end
  return function()
    while true do
      index = index + 1
      local event = events[index]
      if event then
        event = present.present(app, event)
        if event and (not is_wanted or is_wanted(event)) then return event end
      elseif app.is_closed then
        return nil
      elseif not read() then
        if tasks.wait(store.wait_growth, store, place) == false then return nil end
      elseif not events[1] then
        native_task.yield() -- There may be much that nobody asked for.
      end
    end
  end
end

return M
