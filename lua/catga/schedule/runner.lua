--- One schedule while the app runs: its state, and every change of it as one commit, together with
--- the starts of the processes that belong to it.
local state_of_task = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local units = require "catga.unit"
local commits = require "catga.commit"
local journal = require "catga.process.journal"
local INTERNAL = require "catga.flags".INTERNAL
local calendar = require "catga.schedule.calendar"
local plans = require "catga.schedule.plan"
local states = require "catga.schedule.state"

local M = {}

local CONFLICTS_MAX = 10  -- How often a commit that met a conflict is made again.
local RUNNING_MAX = 100   -- Runs whose end is looked for; older ones of "allow" are let go.
local STUCK_MS = 60000    -- How often it is looked whether a process that stands has ended.
local MESSAGE_BYTES_MAX = 4000

M.BACK_MS = 86400000 -- The clock set back by more: times that were looked at come again.

---@class catga.Schedule
---@field app catga.App
---@field owner catga.Schedules
---@field name string
---@field definition catga.ScheduleDefinition
---@field state catga.ScheduleState
---@field turn catga.Future?      somebody changes it
---@field token integer           of its entry in the queue of what is due; others are stale
---@field next_at number?         its next time
---@field is_watching boolean?    a task waits for the end of a run
---@field is_ended boolean?       it is there no more
---@field failure catga.Error?    it cannot go on
local Schedule = {}
Schedule.__index = Schedule

---@param owner catga.Schedules
---@param definition catga.ScheduleDefinition
---@param state catga.ScheduleState
---@return catga.Schedule
function M.new(owner, definition, state)
  return setmetatable({ app = owner.app, owner = owner, name = definition.name,
    definition = definition, state = state, token = 0 }, Schedule)
end

--- What decides about the times of a definition: when it changes, they begin anew.
---@param definition catga.ScheduleDefinition
---@return string
function M.signature(definition)
  return ("%s|%s|%s"):format(definition.text, definition.timezone, tostring(definition.paused))
end

--- Is it paused?
---@return boolean
function Schedule:is_paused()
  if self.state.paused ~= nil then return self.state.paused end
  return self.definition.paused
end

--- Runs fn when nobody else changes the schedule. May yield.
---@param fn function
function Schedule:alone(fn, ...)
  while self.turn do self.turn:wait() end
  local turn = tasks.future()
  self.turn = turn
  local function finish(ok, ...)
    self.turn = nil
    turn:set()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(xpcall(fn, errors.catch, self, ...))
end

local function is_unfinished(store, id)
  local stream = store:stream(journal.PREFIX .. id)
  return stream ~= nil and store:is_unfinished(stream)
end

-- A copy of the state without the runs that have ended.
local function draft(self)
  local state = states.copy(self.state)
  local running, store = {}, self.app.store
  for _, id in ipairs(state.running) do
    if is_unfinished(store, id) then running[#running + 1] = id end
  end
  state.running = running
  return state
end

local function input_of(self, entry)
  local input = self.app.json.decode(self.definition.input)
  input.scheduled_time = plans.iso(entry.at)
  return input
end

-- The process id of a run.
local function id_of(self, entry) return entry.id or self.name .. "/" .. plans.iso(entry.at) end

local function was_started(store, id)
  local stream = store:stream(journal.PREFIX .. id)
  return stream ~= nil and store:count(stream) > 0
end

-- Is it an error of the app's, and not of this start?
local function is_general(err)
  return err.code == "closed" or err.code == "failed" or err.code == "fenced"
    or commits.pause_after(err) ~= nil
end

local function note_failure(self, state, outcome, id, err)
  local message = journal.storable_text(tostring(err.message), MESSAGE_BYTES_MAX)
  outcome.failed[#outcome.failed + 1] = { id = id, code = err.code, message = message }
  state.failed = state.failed + 1
  state.error = { code = err.code, message = message, time = self.app.clock:now() }
end

local function has(list, value)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
  return false
end

-- Starts the process of a run in the open unit of work: its id, or nil and an error.
local function start(self, entry, id)
  local engine = self.app.engine
  local ok, started, err = xpcall(engine.start, errors.catch, engine, self.definition.process,
    input_of(self, entry), { id = id, tags = { schedule = self.name } })
  if not ok then return nil, errors.from(started) end
  return started, err
end

-- Stages the starts of a plan. What was started before is not started again.
local function stage_starts(self, plan, state)
  local outcome = { ids = {}, failed = {} }
  for _, entry in ipairs(plan.starts) do
    local id = id_of(self, entry)
    local is_new = not was_started(self.app.store, id)
    local ok, err = true, nil
    if is_new then ok, err = start(self, entry, id) end
    if not ok and is_general(err) then error(err, 0) end
    if not ok then
      note_failure(self, state, outcome, id, err)
    else
      if is_new then
        outcome.ids[#outcome.ids + 1] = id
        state.runs, state.error = state.runs + 1, nil
        state.last = { at = entry.at, id = id, started = self.app.clock:now() }
      end
      if is_new or is_unfinished(self.app.store, id) and not has(state.running, id) then
        state.running[#state.running + 1] = id
      end
    end
  end
  while #state.running > RUNNING_MAX do table.remove(state.running, 1) end
  return outcome
end

-- The record of what a plan has come to.
local function record_of(plan, outcome, json)
  local data = { skipped = plan.skipped, missed = plan.missed }
  if plan.queued > 0 then data.queued = plan.queued end
  if #outcome.failed > 0 then data.failed = json.array(outcome.failed) end
  if #outcome.ids > 0 then data.ids = json.array(outcome.ids) end
  local kind = data.ids and "ScheduleRan" or data.failed and "ScheduleFailed"
    or data.queued and "ScheduleQueued" or "ScheduleSkipped"
  return kind, data
end

-- Stages a plan and its record, as the unit of work of the running task.
local function stage(self, plan, state)
  local outcome = stage_starts(self, plan, state)
  local kind, data = record_of(plan, outcome, self.app.json)
  data.state = states.stored(state)
  local version, err = units.of(state_of_task[1]):append(states.PREFIX .. self.name,
    { { type = kind, data = data } }, "any", INTERNAL)
  if not version then error(err, 0) end
  return outcome
end

-- One attempt to commit a plan, on a copy of the state.
local function attempt(self, plan, drafted)
  local task = state_of_task[1]
  local state = states.copy(drafted)
  task.unit, task.in_unit = nil, true
  local ok, outcome = xpcall(stage, errors.catch, self, plan, state)
  task.in_unit = nil
  local err = outcome
  if ok then ok, err = task.unit:commit() end
  task.unit = nil
  if not ok then return nil, err end
  return state, outcome
end

-- Commits a plan; what only waits for space, or met a conflict, is tried again. May yield.
local function commit(self, plan, drafted)
  local conflicts = 0
  while true do
    local state, outcome = attempt(self, plan, drafted)
    if state then
      self.state = state
      return outcome
    end
    local err = errors.from(outcome)
    local pause = commits.pause_after(err)
    if err.code == "conflict" and conflicts < CONFLICTS_MAX then
      conflicts, pause = conflicts + 1, 0
    end
    if not pause or self.owner.is_stopping then error(err, 0) end
    if pause > 0 then self.app.clock:sleep(pause) end
  end
end

local function say_outcome(self, plan, outcome)
  local missed = plan.missed
  if missed then
    self.app:say("warn", ("schedule %s: %d%s times from %s to %s were missed for longer than "
      .. "catch_up, and do not run; catga schedule backfill runs them"):format(self.name,
      missed.count, missed.more and " or more" or "", plans.iso(missed.from),
      plans.iso(missed.to)))
  end
  if plan.skipped and plan.skipped.reason == "queue_max" then
    self.app:say("warn", ("schedule %s: its queue is full (queue_max), %d runs are left out")
      :format(self.name, plan.skipped.count))
  end
  for _, one in ipairs(outcome.failed) do
    self.app:say("error", ("schedule %s: process %s was not started: %s"):format(self.name, one.id,
      one.message))
  end
end

-- Cancels the runs that have not ended, so that what waits may begin.
local function cancel_running(self)
  for _, id in ipairs(self.state.running) do
    self.owner:spawn(function()
      local ok, done, err = xpcall(self.app.engine.cancel, errors.catch, self.app.engine, id)
      if not ok then done, err = nil, done end
      if not done and is_unfinished(self.app.store, id) and not self.owner.is_stopping then
        self.app:say("error", ("schedule %s: process %s cannot be cancelled: %s"):format(self.name,
          id, tostring(err)))
      end
    end)
  end
end

-- Makes a plan so. May yield.
local function carry_out(self, plan, drafted)
  local outcome = commit(self, plan, drafted)
  say_outcome(self, plan, outcome)
  if plan.cancels then cancel_running(self) end
  return outcome
end

--- Puts its next time into the queue of what is due.
function Schedule:arm()
  self.token = self.token + 1
  self.next_at = nil
  if self.is_ended or self.failure or self:is_paused() then return end
  local now = self.app.clock:now()
  if self.state.to > now + M.BACK_MS then self.state.to = now end
  self.next_at = calendar.next(self.definition.cron, self.definition.zone, self.state.to)
  if not self.next_at then return end
  self.owner:wait_for(plans.due(self.definition, self.next_at), self)
end

-- Waits until the runs have ended, then goes on with what waits. May yield.
local function watch(self)
  for _, id in ipairs(self.state.running) do
    while is_unfinished(self.app.store, id) and not self.is_ended do
      xpcall(self.app.engine.wait, errors.catch, self.app.engine, id)
      if self.owner.is_stopping then return end
      -- One that stands (its script is gone, say) may go on some time.
      if is_unfinished(self.app.store, id) then self.app.clock:sleep(STUCK_MS) end
    end
  end
  self.is_watching = nil
  if not self.is_ended then self.owner:work(self, self.go_on) end
end

--- Starts what waits and may begin, or waits for the end of the run before. May yield.
function Schedule:go_on()
  while plans.has_waiting(self.state, self:is_paused()) and not self.owner.is_stopping do
    local drafted = draft(self)
    local plan = plans.of_waiting(self.definition, drafted, self:is_paused())
    if not plan then
      self.state.running = drafted.running
      if self.is_watching then return end
      self.is_watching = true
      self.owner:spawn(watch, self)
      return
    end
    carry_out(self, plan, drafted)
  end
end

--- Goes on after a restart with what waits. Alone. May yield.
function Schedule:take_up()
  local first = self.state.queue[1]
  if first and first.cancel then cancel_running(self) end
  self:go_on()
end

--- Begins anew with other times, those of its definition. Alone. May yield.
function Schedule:change()
  local state = draft(self)
  state.to, state.signature = self.app.clock:now(), M.signature(self.definition)
  local ok, err = self:record("ScheduleChanged", {}, state)
  if not ok then error(err, 0) end
  self:arm()
end

--- Does what is due now. Alone. May yield.
function Schedule:run_due()
  if self.is_ended or self.failure or self:is_paused() then return end
  local drafted = draft(self)
  local plan = plans.of_due(self.definition, drafted, self.app.clock:now())
  if plan then carry_out(self, plan, drafted) end
  self:go_on()
  self:arm()
end

--- Records a change of its state and makes it so. Alone. May yield.
---@param kind string  type of the record
---@param data table
---@param state catga.ScheduleState
---@return boolean? ok
---@return catga.Error? err
function Schedule:record(kind, data, state)
  data.state = states.stored(state)
  local ok, err = commits.records(self.app, function(add)
    add(states.PREFIX .. self.name, kind, data)
  end)
  if not ok then return nil, err end
  self.state = state
  return true
end

--- Stops it for a while, or lets it go on; times of a pause are not made up for. Alone. May yield.
---@param is_paused boolean
---@param note string?
---@return boolean? ok
---@return catga.Error? err
function Schedule:set_paused(is_paused, note)
  local state = draft(self)
  if not is_paused and self:is_paused() then state.to = self.app.clock:now() end
  state.paused, state.note = is_paused, note
  local ok, err = self:record(is_paused and "SchedulePaused" or "ScheduleResumed", { note = note },
    state)
  if not ok then return nil, err end
  if not is_paused then self.failure = nil end
  self:arm()
  self:go_on()
  return true
end

--- Starts a run now. Alone. May yield.
---@param overlap string?
---@return string? id
---@return catga.Error? err
function Schedule:trigger(overlap)
  local entry = { at = self.app.clock:now(), id = self.name .. "/trigger-" .. self.app:new_id() }
  local drafted, plan = draft(self), plans.new()
  plans.decide(plan, drafted, self.definition, { entry }, overlap)
  if plan.skipped and plan.skipped.reason == "queue_max" then
    return nil, errors.new("limit", ("schedule %s: %d runs wait already (queue_max)"):format(
      self.name, #drafted.queue), { retryable = true })
  end
  if plan.skipped and #plan.starts + plan.queued == 0 then
    return nil, errors.new("busy", ("schedule %s: the run before, %s, has not ended; give overlap "
      .. "= \"queue\", \"cancel\" or \"allow\""):format(self.name, tostring(drafted.running[1])))
  end
  local outcome = carry_out(self, plan, drafted)
  if outcome.failed[1] then
    return nil, errors.new(outcome.failed[1].code, outcome.failed[1].message)
  end
  self:go_on()
  return entry.id
end

--- Runs the times of a span, one after the other or all at once. Alone. May yield.
---@param from number
---@param to number
---@param overlap "queue"|"allow"
---@param count integer
---@return boolean? ok
---@return catga.Error? err
function Schedule:backfill(from, to, overlap, count)
  local state = draft(self)
  state.backfills[#state.backfills + 1] = { after = from - 1, to = to, overlap = overlap }
  local ok, err = self:record("ScheduleBackfillStarted", { from = from, to = to, count = count },
    state)
  if not ok then return nil, err end
  self:go_on()
  return true
end

return M
