--- What of a schedule is durable: the records of its stream `$schedule-<name>`. Each holds what has
--- happened and, as `state`, all that was so afterwards: the last record is all that is needed.
---
---   ScheduleAdded, ScheduleChanged   it is there from now on, or has other times
---   ScheduleRemoved                  it is there no more: scripts without it, or deleted
---   ScheduleRan      { ids, skipped?, missed?, failed? }  in one commit with the starts
---   ScheduleQueued   { queued }      waits until the run before has ended
---   ScheduleSkipped  { skipped, missed? }
---   ScheduleFailed   { failed }      processes that could not be started, and why
---   SchedulePaused, ScheduleResumed  { note }
---   ScheduleBackfillStarted          { from, to, count }
---
--- A schedule that was made while the app ran has its definition in `$scheduled-<name>`, as
--- ScheduleCreated or, in the end, ScheduleDeleted.
local json = require "catga.native.json"
local errors = require "catga.error"

local M = {}

M.PREFIX = "$schedule-"
M.DEFINED_PREFIX = "$scheduled-"

--- A run that waits for its turn.
---@class catga.ScheduleEntry
---@field at number       its time, Unix ms
---@field id string?      of a run that was triggered; nil: by its time
---@field cancel boolean? the run before is to be cancelled
---@field place integer?  of a backfill, while it is decided about

---@class catga.ScheduleBackfill
---@field after number   times up to this are done, Unix ms
---@field to number
---@field overlap "queue"|"allow"

---@class catga.ScheduleState
---@field to number       times up to this were looked at, Unix ms
---@field signature string  of what decides about its times
---@field paused boolean?   as it was said while the app ran; nil: as the definition says
---@field note string?
---@field queue catga.ScheduleEntry[]
---@field backfills catga.ScheduleBackfill[]
---@field running string[]  ids of runs that had not ended
---@field runs integer
---@field skipped integer
---@field missed integer
---@field failed integer
---@field last { at: number, id: string, started: number }?  run
---@field error { code: string, message: string, time: number }?  of the last start that failed

--- The state of a new schedule.
---@param now number
---@param signature string
---@return catga.ScheduleState
function M.new(now, signature)
  return { to = now, signature = signature, queue = {}, backfills = {}, running = {}, runs = 0,
    skipped = 0, missed = 0, failed = 0 }
end

--- A copy that may be changed.
---@param state catga.ScheduleState
---@return catga.ScheduleState
function M.copy(state)
  local copy = {}
  for field, value in pairs(state) do copy[field] = value end
  for _, list in ipairs { "queue", "backfills", "running" } do
    copy[list] = {}
    for i, value in ipairs(state[list]) do
      local item = value
      if type(value) == "table" then
        item = {}
        for k, v in pairs(value) do item[k] = v end
      end
      copy[list][i] = item
    end
  end
  return copy
end

--- The state as it is stored.
---@param state catga.ScheduleState
---@return table
function M.stored(state)
  local copy = M.copy(state)
  for _, list in ipairs { "queue", "backfills", "running" } do json.array(copy[list]) end
  return copy
end

-- The last record of a stream, or nil.
local function last_record(store, name)
  local stream = store:stream(name)
  local count = stream and store:count(stream) or 0
  if count == 0 then return nil end
  local records, err = store:read(stream, count - 1, 1)
  if not records then error(err, 0) end
  return records[1]
end

--- Reads the state of a schedule; nil: it never had one. Raises when it cannot.
---@param store catga.Store
---@param name string
---@return catga.ScheduleState? state
---@return boolean? was_removed
function M.load(store, name)
  local record = last_record(store, M.PREFIX .. name)
  if not record then return nil end
  local state = type(record.data) == "table" and record.data.state
  if type(state) ~= "table" or type(state.to) ~= "number" then
    error(errors.new("damaged", ("the last record of %s%s holds no state"):format(M.PREFIX,
      name)), 0)
  end
  for field, value in pairs(M.new(0, "")) do
    if state[field] == nil then state[field] = value end
  end
  return state, record.type == "ScheduleRemoved"
end

--- The definition of a schedule that was made while the app ran; nil: there is none.
---@param store catga.Store
---@param name string
---@return { cron: string, process: string, input: table?, options: table }?
function M.load_definition(store, name)
  local record = last_record(store, M.DEFINED_PREFIX .. name)
  return record and record.type == "ScheduleCreated" and record.data or nil
end

return M
