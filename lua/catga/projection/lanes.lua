--- A batch handled in partitions: events of one partition in order, those of different ones as the
--- documents come that they need.
---
--- A handler runs without waiting. One that asks for a document that is not in memory is taken back
--- and runs again when it is there; meanwhile the other partitions go on, and what all of them wait
--- for is read at once. So no handler is ever half way when another one runs, and the whole batch
--- has one checkpoint. An event of several partitions waits for all that came before it.
local native_task = require "catga.native.task"
local documents = require "catga.projection.documents"
local group = require "catga.projection.group"
local runners = require "catga.lazy".module "catga.projection.runner"

local M = {}

local WHAT = "a projection with partitions"
local ROUNDS_MAX = 10000 -- Times that a batch waits for documents; a handler asks for ever.

local byte = string.byte

-- The lane of a partition.
local function lane_of(text, count)
  local hash = #text
  for i = 1, math.min(#text, 64) do hash = (hash * 31 + byte(text, i)) % 16777213 end
  return hash % count + 1
end

-- Runs the handler of an event: true when it is done, false when it waits for a document.
local function attempt(runner, event)
  local docs = runner.documents
  docs:begin(event)
  local ok, caught = xpcall(runner.definition.handlers[event.type], runners.catch, event.data, docs,
    runner.envelope(event))
  if next(docs.missing) ~= nil and (ok or caught.error == documents.MISSING) then
    docs:take_back()
    return false
  end
  if not ok then
    runner.bad = { position = event.position, error = caught.error, at = caught.at }
    error(runners.REDO, 0)
  end
  runner.matched = true
  return true
end

-- Runs the first events of a lane as far as they go; what is missing is gathered.
local function advance(runner, lane, wanted)
  local docs = runner.documents
  while lane.first <= #lane do
    docs.missing = {}
    if not attempt(runner, lane[lane.first]) then
      for key in pairs(docs.missing) do wanted[#wanted + 1] = key end
      return
    end
    lane.first = lane.first + 1
    runner.lane_count = runner.lane_count + 1
    if runner.lane_count % runners.SLICE_COUNT == 0 then native_task.yield() end
  end
end

-- Runs the lanes to their ends.
local function run(runner, lanes)
  local docs = runner.documents
  for _ = 1, ROUNDS_MAX do
    local wanted = {}
    for _, lane in pairs(lanes) do advance(runner, lane, wanted) end
    docs.missing = nil
    if #wanted == 0 then return end
    local ok, err = docs:prefetched(docs:read_ahead(wanted))
    if not ok then error(err, 0) end
    if runner.is_stopping then return end
  end
  error(("projection %s: the handlers have asked for other documents %d times over for one batch")
    :format(runner.name, ROUNDS_MAX), 0)
end

--- Handles a batch; raises REDO with the event that is to blame when a handler fails. May yield.
---@param runner catga.Runner
---@param events table[]
function M.handle(runner, events)
  local definition, docs = runner.definition, runner.documents
  local lanes, is_empty = {}, true
  docs.atomic, runner.lane_count = WHAT, 0
  local function flush()
    if not is_empty then run(runner, lanes) end
    lanes, is_empty = {}, true
  end
  for i = 1, #events do
    local event = events[i]
    if definition.handlers[event.type] then
      local part = group.partition_of(definition, event)
      local is_wide = type(part) == "table" and #part > 1
      if type(part) == "table" then part = part[1] or event.stream end
      if is_wide then flush() end
      local number = lane_of(part, definition.partitions)
      local lane = lanes[number] or { first = 1 }
      lane[#lane + 1] = event
      lanes[number], is_empty = lane, false
      if is_wide then flush() end
    end
  end
  flush()
  if #events > 0 and not runner.is_stopping then runner.handled = events[#events].position end
end

return M
