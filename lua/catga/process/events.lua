--- Processes that wait for an event: one reader for each type of event that somebody waits for, as
--- long as somebody does. It reads durable events only, from the position where the first wait
--- began.
local errors = require "catga.error"
local tasks = require "catga.task"
local presenter = require "catga.event"
local strands = require "catga.process.strand"
local catch = errors.catch

local M = {}

local EVENTS = 500 -- Read at once.

--- A wait for an event.
---@class catga.EventWaiter
---@field strand catga.Instance
---@field type string
---@field after number   position behind which the event must be
---@field match (table|function)?
---@field event table?   the one that came
---@field failure catga.Error?  the match failed

---@class catga.EventReader
---@field app catga.App
---@field type string
---@field waiters catga.EventWaiter[]
---@field from number    position behind which it reads
---@field again boolean? it has to read from `from` on
local Reader = {}
Reader.__index = Reader

local function has_fields(data, wanted)
  if type(data) ~= "table" then return false end
  for field, value in pairs(wanted) do
    local is = data[field]
    if type(value) == "table" then
      if not has_fields(is, value) then return false end
    elseif is ~= value then
      return false
    end
  end
  return true
end

local function matches(waiter, event)
  local match = waiter.match
  if match == nil then return true end
  if type(match) == "table" then return has_fields(event.data, match) end
  return match(event.data, event)
end

-- What of an event the process gets.
local function described(event)
  return { type = event.type, data = event.data, stream = event.stream, version = event.version,
    position = event.position, time = event.time }
end

-- Offers an event to those who wait.
function Reader:offer(event)
  local left = {}
  for _, waiter in ipairs(self.waiters) do
    local ok, is_it = true, false
    if event.position > waiter.after then ok, is_it = xpcall(matches, catch, waiter, event) end
    if not ok then waiter.failure = is_it end
    if ok and is_it then waiter.event = described(event) end
    if ok and not is_it then left[#left + 1] = waiter else strands.poke(waiter.strand) end
  end
  self.waiters = left
end

local function read(reader)
  local app = reader.app
  local cursor
  while #reader.waiters > 0 and not app.is_closed do
    if reader.again or not cursor then
      if cursor then cursor:close() end
      reader.again = nil
      local wanted = presenter.stored_types(app, { [reader.type] = true })
      local types = {}
      for name in pairs(wanted) do types[#types + 1] = name end
      cursor = app.store:cursor(reader.from, { types = types })
    end
    local events, position = cursor:next(EVENTS)
    if not events then error(position, 0) end
    for _, event in ipairs(presenter.present_all(app, events)) do
      if event.type == reader.type then reader:offer(event) end
    end
    if not reader.again then
      reader.from = position
      if #events == 0 and #reader.waiters > 0 then
        tasks.wait(app.store.wait_growth, app.store, position)
      end
    end
  end
  if cursor and not app.is_closed then cursor:close() end
end

local function start(app, reader)
  reader.task = tasks.spawn(app, function()
    local ok, failure = xpcall(read, catch, reader)
    app.engine.event_readers[reader.type] = nil
    if ok or app.is_closed then return end
    for _, waiter in ipairs(reader.waiters) do
      waiter.failure = failure
      strands.poke(waiter.strand)
    end
  end)
end

--- A strand waits for an event.
---@param s catga.Instance
---@param kind string
---@param match (table|function)?
---@param after number?  position; nil: what is in the log now does not count
---@return catga.EventWaiter
function M.add(s, kind, match, after)
  local app = s.app
  local readers = app.engine.event_readers or {}
  app.engine.event_readers = readers
  local waiter = { strand = s, type = kind, match = match,
    after = after or app.store:positions() - 1 }
  local reader = readers[kind]
  if not reader then
    reader = setmetatable({ app = app, type = kind, waiters = {}, from = waiter.after }, Reader)
    readers[kind] = reader
    start(app, reader)
  elseif waiter.after < reader.from then
    reader.from, reader.again = waiter.after, true
  end
  reader.waiters[#reader.waiters + 1] = waiter
  return waiter
end

--- It waits no more.
---@param app catga.App
---@param waiter catga.EventWaiter
function M.remove(app, waiter)
  local reader = app.engine.event_readers and app.engine.event_readers[waiter.type]
  for i, one in ipairs(reader and reader.waiters or {}) do
    if one == waiter then return table.remove(reader.waiters, i) end
  end
end

return M
