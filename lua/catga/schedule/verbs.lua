--- What can be done with schedules from outside: for scripts (face.lua) and over HTTP. Each
--- function gets the app first.
local errors = require "catga.error"
local times = require "catga.time"
local PREFIX = require "catga.process.journal".PREFIX
local schedules = require "catga.schedule"
local calendar = require "catga.schedule.calendar"
local definitions = require "catga.schedule.definition"
local plans = require "catga.schedule.plan"

local M = {}

local LIST_MAX = 10000
local LIST_DEFAULT = 1000
local UPCOMING = 5              -- Next times that are shown.
local BACKFILL_TIMES_MAX = 10000
local BACKFILLS_MAX = 100       -- Of one schedule, at one time.

local function next_times(schedule, count)
  local list, at = {}, schedule.next_at
  local definition = schedule.definition
  while at and #list < count do
    list[#list + 1] = at
    at = calendar.next(definition.cron, definition.zone, at)
  end
  return list
end

local function status_of(schedule)
  return schedule.failure and "failed" or schedule:is_paused() and "paused" or "active"
end

local function note_of(schedule)
  if schedule.state.note ~= nil then return schedule.state.note end
  return schedule.definition.note
end

local function brief(schedule)
  local definition, state = schedule.definition, schedule.state
  return { name = schedule.name, status = status_of(schedule), cron = definition.text,
    timezone = definition.timezone, process = definition.process, next = schedule.next_at,
    last = state.last and state.last.at, last_id = state.last and state.last.id, runs = state.runs,
    skipped = state.skipped, missed = state.missed, failed = state.failed,
    queued = #state.queue, note = note_of(schedule) }
end

local function describe(app, schedule)
  local definition, all = schedule.definition, brief(schedule)
  all.overlap, all.queue_max = definition.overlap, definition.queue_max
  all.jitter, all.catch_up = definition.jitter, definition.catch_up
  all.input = app.json.decode(definition.input)
  all.defined = definition.at or "while the app ran"
  all.running = app.json.array {}
  for _, id in ipairs(schedule.state.running) do
    local stream = app.store:stream(PREFIX .. id)
    if stream and app.store:is_unfinished(stream) then all.running[#all.running + 1] = id end
  end
  all.backfills = #schedule.state.backfills
  all.upcoming = app.json.array(next_times(schedule, UPCOMING))
  all.error = schedule.failure and tostring(schedule.failure)
    or schedule.state.error and schedule.state.error.message
  return all
end

local function invalid(format, ...) return nil, errors.new("invalid", format:format(...)) end

--- Schedules by name.
---@param app catga.App
---@param opts { prefix: string?, after: string?, max: integer? }?  max: 1 to 10,000, default 1,000
---@return table[]? list  { name, status, cron, timezone, process, next?, last?, last_id?, runs,
---  skipped, missed, failed, queued, note? }
---@return catga.Error? err
function M.list(app, opts)
  opts = opts or {}
  local max, prefix = opts.max or LIST_DEFAULT, opts.prefix or ""
  if type(max) ~= "number" or max % 1 ~= 0 or max < 1 or max > LIST_MAX then
    return invalid("max is a whole number from 1 to %d", LIST_MAX)
  end
  local all, list = schedules.of(app), {}
  for _, name in ipairs(all:names()) do
    if #list == max then break end
    if name:sub(1, #prefix) == prefix and (not opts.after or name > opts.after) then
      list[#list + 1] = brief(all.items[name])
    end
  end
  return list
end

--- One schedule.
---@param app catga.App
---@param name string
---@return table? schedule  as in a list, and overlap, queue_max, jitter, catch_up, input, defined,
---  running, backfills, upcoming, error?
---@return catga.Error? err  "not_found"
function M.get(app, name)
  local schedule, err = schedules.of(app):find(name)
  if not schedule then return nil, err end
  return describe(app, schedule)
end

--- Makes a schedule while the app runs. It lasts until it is deleted. May yield.
---@param app catga.App
---@param name string
---@param cron string
---@param process string
---@param input table?
---@param options table?  as those of catga.schedule
---@return table? schedule  as get gives it
---@return catga.Error? err  "exists", "invalid", "limit", "unknown_process"
function M.create(app, name, cron, process, input, options)
  local definition, err = definitions.check(name, cron, process, input, options)
  if not definition then return nil, err end
  local all = schedules.of(app)
  local ok, fault = all:create(definition)
  if not ok then return nil, fault end
  return describe(app, all.items[name])
end

local function set_paused(app, name, is_paused, note)
  if note ~= nil then
    local _, fault = definitions.check_option("note", note)
    if fault then return invalid("the note %s", fault) end
  end
  return schedules.of(app):ask(name, "set_paused", is_paused, note)
end

--- Starts nothing at its times until it is resumed, also over restarts and reloads. May yield.
---@param app catga.App
---@param name string
---@param note string?  why
---@return boolean? ok
---@return catga.Error? err
function M.pause(app, name, note) return set_paused(app, name, true, note) end

--- Goes on after a pause; the times of the pause are not made up for. May yield.
---@param app catga.App
---@param name string
---@param note string?
---@return boolean? ok
---@return catga.Error? err
function M.resume(app, name, note) return set_paused(app, name, false, note) end

local function check_overlap(overlap, choices)
  if overlap == nil then return true end
  for _, choice in ipairs(choices) do
    if choice == overlap then return true end
  end
  return invalid("overlap is one of %s, not %s", table.concat(choices, ", "), tostring(overlap))
end

--- Starts a run now, paused or not. May yield.
---@param app catga.App
---@param name string
---@param opts { overlap: "skip"|"queue"|"cancel"|"allow"|nil }?  default: that of the schedule
---@return string? id  of the process
---@return catga.Error? err  "busy": the run before has not ended
function M.trigger(app, name, opts)
  local overlap = opts and opts.overlap
  local ok, err = check_overlap(overlap, definitions.OVERLAPS)
  if not ok then return nil, err end
  return schedules.of(app):ask(name, "trigger", overlap)
end

-- The ends of a span in the past, or nil and an error.
local function span_of(app, from, to)
  local first, fault = times.parse(from, "from")
  if not first then return invalid("%s", fault) end
  local last
  last, fault = times.parse(to, "to")
  if not last then return invalid("%s", fault) end
  if last < first then return invalid("backfill: to lies before from") end
  if last > app.clock:now() then return invalid("backfill: to lies in the future") end
  return first, last
end

--- Runs all times from `from` to `to`, both included; those that have run already are left out, and
--- a pause does not matter. May yield.
---@param app catga.App
---@param name string
---@param from string|number  "2026-01-01T00:00:00Z", "2026-01-01" or Unix ms
---@param to string|number
---@param opts { overlap: "queue"|"allow"|nil }?  "queue": one after the other (default)
---@return { count: integer }? result  how many times there are
---@return catga.Error? err
function M.backfill(app, name, from, to, opts)
  local overlap = opts and opts.overlap
  local ok, err = check_overlap(overlap, { "queue", "allow" })
  if not ok then return nil, err end
  local first, last = span_of(app, from, to)
  if not first then return nil, last end
  local all = schedules.of(app)
  local schedule
  schedule, err = all:find(name)
  if not schedule then return nil, err end
  local count = plans.count(schedule.definition, first, last, BACKFILL_TIMES_MAX)
  if count > BACKFILL_TIMES_MAX then
    return invalid("a backfill has at most %d times; give a shorter span", BACKFILL_TIMES_MAX)
  end
  if #schedule.state.backfills >= BACKFILLS_MAX then
    return nil, errors.new("limit", ("schedule %s: %d backfills are under way"):format(name,
      BACKFILLS_MAX), { retryable = true })
  end
  ok, err = true, nil
  if count > 0 then
    ok, err = all:ask(name, "backfill", first, last, overlap or "queue", count)
  end
  if not ok then return nil, err end
  return { count = count }
end

--- Ends a schedule that was made while the app ran; runs that have begun go on. May yield.
---@param app catga.App
---@param name string
---@return boolean? ok
---@return catga.Error? err  "invalid": it is one of the scripts
function M.delete(app, name) return schedules.of(app):delete(name) end

return M
