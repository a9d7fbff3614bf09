--- Reading events of the log for a stream: one cursor for all of its sources, and which source an
--- event is for.
local presenter = require "catga.event"
local subscription_options = require "catga.subscription.options"

local M = {}

local function is_process(text) return text ~= nil and text:find("^Process") ~= nil end

-- What a cursor is to give for the sources, as a definition of lua/catga/subscription/options.lua.
local function filter_of(sources)
  local has_journals, types = false, {}
  for _, node in ipairs(sources) do
    local o = node.options
    if is_process(o.stream) or o.category == "Process" or is_process(o.type_prefix) then
      has_journals = true
    end
    for _, name in ipairs(o.types or {}) do
      has_journals = has_journals or is_process(name)
      if types then types[#types + 1] = name end
    end
    if not o.types then types = nil end
  end
  if #sources == 1 then
    local o = sources[1].options
    return { types = o.types, type_prefix = o.type_prefix, category = o.category,
      stream = o.stream, has_journals = has_journals }
  end
  return { types = types, has_journals = has_journals }
end

-- Is an event for a source?
local function matcher(node)
  local o = node.options
  local types
  if o.types then
    types = {}
    for _, name in ipairs(o.types) do types[name] = true end
  end
  local prefix, category, stream = o.type_prefix, o.category, o.stream
  return function(event)
    if types and not types[event.type] then return false end
    if prefix and event.type:sub(1, #prefix) ~= prefix then return false end
    if stream and event.stream ~= stream then return false end
    return not category or event.stream:match("^[^-]*") == category
  end
end

---@class catga.StreamReader
local Reader = {}
Reader.__index = Reader

--- A reader behind a position.
---@param app catga.App
---@param graph catga.StreamGraph
---@param position integer
---@return catga.StreamReader
function M.new(app, graph, position)
  return setmetatable({ app = app, filter = filter_of(graph.sources), position = position }, Reader)
end

--- The next events that are durable, as handlers may have them.
---@param max integer
---@return { events: table[], position: integer, is_behind: boolean, failure: catga.Error? } batch
---  is_behind: there is more; failure: the event behind these cannot be shown
function Reader:next(max)
  local upcasts = self.app.registry.upcasts
  if not self.cursor or self.upcasts ~= upcasts then
    self:close()
    self.cursor, self.is_wanted = subscription_options.cursor(self.app, self.filter, self.position)
    self.upcasts = upcasts
  end
  local events, position = self.cursor:next(max)
  if not events then error(position, 0) end
  local failure
  events, failure = presenter.present_until(self.app, events)
  if failure then
    position = failure.position - 1
    self:close()
  end
  if self.is_wanted then
    local kept = {}
    for _, event in ipairs(events) do
      if self.is_wanted(event) then kept[#kept + 1] = event end
    end
    events = kept
  end
  self.position = position
  local _, durable = self.app.store:positions()
  return { events = events, position = position, is_behind = position < durable - 1,
    failure = failure }
end

--- Leaves out what cannot be shown.
---@param position integer
function Reader:skip(position)
  self:close()
  self.position = position
end

function Reader:close()
  if self.cursor then self.cursor:close() end
  self.cursor = nil
end

--- Gives events to the sources that they are for.
---@param instance catga.StreamInstance
---@param graph catga.StreamGraph
---@param events table[]
function M.feed(instance, graph, events)
  if #events == 0 then return end
  local sources = graph.sources
  if #sources == 1 then return instance:feed(sources[1], events, 1, #events) end
  for _, node in ipairs(sources) do node.matches = node.matches or matcher(node) end
  for i = 1, #events do
    for s = 1, #sources do
      if sources[s].matches(events[i]) then instance:feed(sources[s], events, i, i) end
    end
  end
end

return M
