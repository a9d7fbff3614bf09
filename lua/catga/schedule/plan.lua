--- What is to be done with times that are due: which runs start, which wait, which are left out.
--- Changes the state that it is given; nothing else.
local calendar = require "catga.schedule.calendar"
local host = require "catga.native.host"
local times = require "catga.time"

local M = {}

local BATCH = 100            -- Times that one commit decides about.
local MISSED_COUNT_MAX = 1000 -- Missed times that are counted; more are "more".

--- What one commit does.
---@class catga.SchedulePlan
---@field starts catga.ScheduleEntry[]
---@field queued integer
---@field skipped { from: number, to: number, count: integer, reason: string }?
---@field missed { from: number, to: number, count: integer, more: boolean? }?
---@field cancels boolean?   the runs that have not ended are to be cancelled

---@return catga.SchedulePlan
function M.new() return { starts = {}, queued = 0 } end

--- A time as it is in ids: with milliseconds only when there are any.
---@param ms number
---@return string
function M.iso(ms) return (times.format(ms):gsub("%.000Z$", "Z")) end

--- How much later than its time a run begins: the same whenever it is asked.
---@param definition catga.ScheduleDefinition
---@param at number
---@return number ms  from 0 to the jitter
function M.jitter(definition, at)
  if definition.jitter == 0 then return 0 end
  local digits = host.sha256(("%s/%.0f"):format(definition.name, at)):sub(1, 12)
  return math.floor(tonumber(digits, 16) / 2 ^ 48 * (definition.jitter + 1))
end

--- When the run of a time is due.
---@param definition catga.ScheduleDefinition
---@param at number
---@return number ms
function M.due(definition, at) return at + M.jitter(definition, at) end

local function next_time(definition, after)
  return calendar.next(definition.cron, definition.zone, after)
end

-- Passes over times that were missed for longer than catch_up; returns the first that was not.
local function pass_missed(plan, definition, state, at, now)
  local oldest = now - definition.catch_up
  if M.due(definition, at) >= oldest then return at end
  local missed = { from = at, count = 0 }
  while at and M.due(definition, at) < oldest do
    missed.count, missed.to = missed.count + 1, at
    at = next_time(definition, at)
    local near = oldest - definition.jitter - 1
    if missed.count == MISSED_COUNT_MAX and at and at < near then
      missed.more, at = true, next_time(definition, near)
    end
    missed.count = math.min(missed.count, MISSED_COUNT_MAX)
  end
  if missed.more then
    local near = oldest - definition.jitter - 1
    missed.to = math.max(missed.to, near - near % 1000)
  end
  plan.missed = missed
  state.missed = state.missed + missed.count
  state.to = missed.to
  return at
end

local function skip(plan, state, entry, reason)
  local skipped = plan.skipped or { from = entry.at, count = 0 }
  skipped.to, skipped.count, skipped.reason = entry.at, skipped.count + 1, reason
  plan.skipped = skipped
  state.skipped = state.skipped + 1
end

local OVERLAP = {}

function OVERLAP.allow(plan, _, _, entries)
  for _, entry in ipairs(entries) do plan.starts[#plan.starts + 1] = entry end
end

function OVERLAP.skip(plan, state, _, entries)
  local is_busy = #state.running > 0
  for _, entry in ipairs(entries) do
    if is_busy then skip(plan, state, entry, "overlap") else plan.starts[1] = entry end
    is_busy = true
  end
end

function OVERLAP.queue(plan, state, definition, entries)
  local is_busy = #state.running > 0 or #state.queue > 0
  for _, entry in ipairs(entries) do
    if not is_busy then
      plan.starts[1] = entry
    elseif #state.queue < definition.queue_max then
      state.queue[#state.queue + 1] = entry
      plan.queued = plan.queued + 1
    else
      skip(plan, state, entry, "queue_max")
    end
    is_busy = true
  end
end

-- Only the newest is wanted, and nothing that waits.
function OVERLAP.cancel(plan, state, _, entries)
  for i = 1, #entries - 1 do skip(plan, state, entries[i], "overlap") end
  for _, entry in ipairs(state.queue) do skip(plan, state, entry, "overlap") end
  local entry = entries[#entries]
  state.queue = {}
  if #state.running == 0 then
    plan.starts[1] = entry
    return
  end
  entry.cancel = true
  state.queue[1] = entry
  plan.queued, plan.cancels = 1, true
end

--- Decides about times, or about one run that is asked for.
---@param plan catga.SchedulePlan
---@param state catga.ScheduleState
---@param definition catga.ScheduleDefinition
---@param entries catga.ScheduleEntry[]  in the order of their times, at least one
---@param overlap string?  instead of the definition's
function M.decide(plan, state, definition, entries, overlap)
  OVERLAP[overlap or definition.overlap](plan, state, definition, entries)
end

--- Decides about the times that are due now.
---@param definition catga.ScheduleDefinition
---@param state catga.ScheduleState
---@param now number
---@return catga.SchedulePlan? plan  nil: none is due
function M.of_due(definition, state, now)
  local at = next_time(definition, state.to)
  if not at or M.due(definition, at) > now then return nil end
  local plan, entries = M.new(), {}
  at = pass_missed(plan, definition, state, at, now)
  while at and #entries < BATCH and M.due(definition, at) <= now do
    entries[#entries + 1] = { at = at }
    state.to = at
    at = next_time(definition, at)
  end
  if #entries > 0 then M.decide(plan, state, definition, entries) end
  return plan
end

-- Takes from the queue what may start; while the schedule is paused only what was asked for.
local function of_queue(state, is_paused)
  for i, entry in ipairs(state.queue) do
    if entry.id or not is_paused then return table.remove(state.queue, i) end
  end
end

-- Takes the next times of the first backfill.
local function of_backfill(definition, state, count)
  local backfill, entries = state.backfills[1], {}
  while backfill and #entries < count do
    local at = next_time(definition, backfill.after)
    if not at or at > backfill.to then
      table.remove(state.backfills, 1)
      backfill = state.backfills[1]
    else
      backfill.after = at
      entries[#entries + 1] = { at = at }
    end
  end
  return entries
end

--- Decides what begins now out of the queue and the backfills.
---@param definition catga.ScheduleDefinition
---@param state catga.ScheduleState
---@param is_paused boolean
---@return catga.SchedulePlan? plan  nil: nothing, or the run before has not ended
function M.of_waiting(definition, state, is_paused)
  local plan, backfill = M.new(), state.backfills[1]
  if backfill and backfill.overlap == "allow" then
    plan.starts = of_backfill(definition, state, BATCH)
    return plan
  end
  if #state.running > 0 then return nil end
  local entry = of_queue(state, is_paused)
  if entry then
    plan.starts[1] = entry
    return plan
  end
  if not backfill then return nil end
  plan.starts = of_backfill(definition, state, 1)
  return plan
end

--- Does anything wait for the end of a run?
---@param state catga.ScheduleState
---@param is_paused boolean
---@return boolean
function M.has_waiting(state, is_paused)
  if #state.backfills > 0 then return true end
  for _, entry in ipairs(state.queue) do
    if entry.id or not is_paused then return true end
  end
  return false
end

--- How many times there are in a span, both ends included.
---@param definition catga.ScheduleDefinition
---@param from number
---@param to number
---@param max integer
---@return integer count  max + 1: more
function M.count(definition, from, to, max)
  local count, at = 0, next_time(definition, from - 1)
  while at and at <= to and count <= max do
    count, at = count + 1, next_time(definition, at)
  end
  return count
end

return M
