--- What becomes of an event that a projection cannot handle: it stops, or goes on without it and
--- keeps it in a list, or makes a dead letter of it as well.
---
--- The list is in the database of the model, `catga_skipped`, and changes in the transaction of the
--- checkpoint; the number of the last entry is how many there were.
local native = require "catga.native.model"
local models = require "catga.model"
local state = require "catga.state"

local M = {}

local LISTED_MAX = 10000     -- Entries that are kept, the newest.
local MESSAGE_BYTES_MAX = 2000

--- The mark of statements that are the program's own; see src/store/model_run.c.
M.OWN_MARK = 2 ^ 53

local INSERT = "INSERT INTO catga_skipped SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, "
  .. "?6, ?7, ?8 FROM catga_skipped WHERE projection = ?1 AND version = ?2"
local FORGET = "DELETE FROM catga_skipped WHERE projection = ?1 AND version = ?2 AND number <= "
  .. "(SELECT max(number) FROM catga_skipped WHERE projection = ?1 AND version = ?2) - "
  .. LISTED_MAX
local COUNT = "SELECT coalesce(max(number), 0) AS count FROM catga_skipped "
  .. "WHERE projection = ?1 AND version = ?2"
local LIST = "SELECT number, position, type, stream, code, message, time FROM catga_skipped "
  .. "WHERE projection = ?1 AND version = ?2 ORDER BY number DESC LIMIT ?3"

-- A dead letter of the event: one for each version that cannot handle it, whatever is killed when
-- and however often it is rebuilt. May yield.
local function bury(runner, event, failure)
  local task = state[1]
  local pure = task.pure
  task.pure = nil -- It is not the handler that writes.
  local id, err = require("catga.dead_letters").add(runner.app, {
    kind = "projection", source = runner.name, type = event.type,
    data = not event.personal and event.data or nil, -- They stay encrypted.
    metadata = type(event.metadata) == "table" and event.metadata or nil,
    correlation_id = event.correlation_id, stream = event.stream, version = event.version,
    position = event.position, reason = failure,
    key = ("%d/%d"):format(runner.version, event.position),
  })
  task.pure = pure
  if id == nil then error(err, 0) end
end

--- Passes over an event: stages its entry in the list, and writes its dead letter when the
--- projection makes them. May yield.
---@param runner catga.Runner
---@param event table
---@param failure catga.Error
function M.skip(runner, event, failure)
  if runner.definition.on_error == "dead_letter" then bury(runner, event, failure) end
  local list = runner.skips or native.statements()
  list:add(M.OWN_MARK, INSERT, runner.name, runner.slot, event.position, event.type, event.stream,
    failure.code, tostring(failure.message):sub(1, MESSAGE_BYTES_MAX), event.time or 0)
  list:add(M.OWN_MARK, FORGET, runner.name, runner.slot)
  runner.skips = list
  runner.skipped = runner.skipped + 1
end

local function ask(place, text, ...)
  local query = native.statements()
  query:add(1, text, ...)
  return models.await(place:get():query(query, LISTED_MAX, 0, true))
end

--- How many events a version has passed over. May yield.
---@param place catga.ModelPlace
---@param name string
---@param slot integer
---@return integer
function M.count(place, name, slot)
  local rows, err = ask(place, COUNT, name, slot)
  if not rows then error(err, 0) end
  return rows[1].count
end

--- The events that a version has passed over, the newest first. May yield.
---@param place catga.ModelPlace
---@param name string
---@param slot integer
---@param max integer
---@return table[]? list  number, position, type, stream, code, message, time
---@return catga.Error? err
function M.list(place, name, slot, max)
  local rows, err = ask(place, LIST, name, slot, math.min(max, LISTED_MAX))
  return rows, err
end

return M
