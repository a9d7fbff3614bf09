--- One version of a projection at work: a task that reads durable events in batches, runs the
--- handlers in order, and commits what they changed together with the checkpoint.
---
--- While the worker commits one batch the next one is read and handled: at most one commit is under
--- way. A runner that is behind is either ready or waits for the worker, so `settle` waits for it;
--- one that has seen everything parks in the store without being counted.
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local documents = require "catga.projection.documents"
local registries = require "catga.registry"
local presenter = require "catga.event"

local M = {}

local caller, sorted_names = registries.caller, registries.sorted_names

local EVENTS_MAX = 1000                -- Events of one batch.
local SLICE_COUNT = 100                -- Events handled before other tasks get their turn.
local CHANGES_MAX = 10000              -- Changes after which a batch is committed early.
local CHANGE_BYTES_MAX = 32 * 1024 ^ 2
local SKIPPED_MAX = 10000              -- Positions of other events before the checkpoint moves.
local RETRY_MS = 1000                  -- Pause while the disk is full or the database is in use.
local RETRYABLE = { busy = true, disk_full = true }

---@class catga.Runner
---@field app catga.App
---@field projections catga.Projections
---@field name string
---@field version integer
---@field definition table
---@field documents catga.Documents
---@field cursor catga.Cursor?
---@field reads table?       the definition whose events the cursor gives
---@field upcasts catga.Upcasts?  those with which it was made
---@field status "running"|"failed"|"stopped"
---@field position integer   checkpoint: committed
---@field handled integer    the handlers have seen all events up to here
---@field matched boolean    some of them were for a handler
---@field reached integer    reads see all events up to here
---@field pending table?     the commit under way: job, to, changes
---@field error table?       why it failed
---@field task catga.Task?   nil once it has ended
local Runner = {}
Runner.__index = Runner

--- A runner at its checkpoint; start begins its work.
---@param projections catga.Projections
---@param definition table
---@param position integer
---@return catga.Runner
function M.new(projections, definition, position)
  local app = projections.app
  return setmetatable({ app = app, projections = projections, name = definition.name,
    version = definition.version, definition = definition, status = "stopped",
    position = position, handled = position, reached = position }, Runner)
end

local function apply(self, pending)
  return self.projections.models:apply(self.name, self.version, self.position, pending.to,
    pending.changes)
end

-- Waits for the commit under way. Raises when it can never be done.
local function finish_commit(self)
  local pending = self.pending
  while pending do
    tasks.wait(pending.job.wait, pending.job)
    local ok, err = pending.job:take()
    if ok then
      self.position, self.reached = pending.to, pending.to
      self.pending, pending = nil, nil
      self.projections:moved()
    elseif RETRYABLE[err.code] then
      self.app:say("warn", ("projection %s waits: %s"):format(self.name, err.message))
      tasks.wait(self.app.clock.sleep, self.app.clock, RETRY_MS)
      pending.job = apply(self, pending)
    else
      error(err, 0)
    end
  end
end

-- Hands over what was handled since the last commit; only skipped events may wait for more.
local function begin_commit(self)
  if not self.matched and self.handled - self.position < SKIPPED_MAX then
    if not self.pending and self.reached ~= self.handled then
      self.reached = self.handled
      self.projections:moved()
    end
    return
  end
  finish_commit(self)
  local pending = { to = self.handled, changes = self.documents:collect() }
  self.matched = false
  if pending.to == self.position then return end
  pending.job = apply(self, pending)
  self.pending = pending
end

local function commit(self)
  begin_commit(self)
  finish_commit(self)
end

-- What a handler raised, with the place in the script.
local function catch(failure)
  return { error = errors.catch(failure), at = caller() }
end

local function fail(self, failure, event, at)
  local message = failure.message
  if at and not message:find(at, 1, true) then message = at .. ": " .. message end
  self.status = "failed"
  self.error = { code = failure.code, message = message, position = event and event.position,
    type = event and event.type }
  local where = event and (" at position %d (%s)"):format(event.position, event.type) or ""
  self.app:say("error", ("projection %s version %d stopped%s: %s%s"):format(self.name,
    self.version, where, message, failure.traceback or ""))
end

-- What handlers get beside the event's data: the record, with the ids of its metadata.
local function envelope(event)
  local metadata = event.metadata
  if type(metadata) == "table" then
    event.correlation_id, event.causation_id = metadata.correlation_id, metadata.causation_id
  end
  return event
end

-- Runs the handlers of a batch; false when one of them failed.
local function handle(self, events)
  local docs, on = self.documents, self.definition.handlers
  for i = 1, #events do
    local event = events[i]
    local handler = on[event.type]
    if handler then
      docs:begin(event)
      local ok, caught = xpcall(handler, catch, event.data, docs, envelope(event))
      self.handled = ok and event.position or event.position - 1
      self.matched = true
      if not ok then
        docs:take_back()
        commit(self)
        fail(self, caught.error, event, caught.at)
        return false
      end
      if self.is_stopping then return false end
    end
    if docs.changed_count >= CHANGES_MAX or docs.changed_bytes >= CHANGE_BYTES_MAX then
      begin_commit(self)
    end
    if i % SLICE_COUNT == 0 then native_task.yield() end
  end
  return true
end

-- Reads the next batch: the events, the position it ends at, and why the event behind them cannot
-- be shown to a handler.
local function read(self)
  local definition = self.definition
  local upcasts = self.app.registry.upcasts
  if self.reads ~= definition or self.upcasts ~= upcasts then
    local types = presenter.stored_types(self.app, definition.handlers)
    self.cursor = self.app.store:cursor(self.handled, { types = sorted_names(types),
      journals = definition.with_journals })
    self.reads, self.upcasts = definition, upcasts
  end
  local events, position = self.cursor:next(EVENTS_MAX)
  if not events then error(position, 0) end
  local failure
  events, failure = presenter.present_until(self.app, events)
  return events, position, failure
end

-- Stops in front of an event that cannot be shown to a handler.
local function stop_before(self, failure)
  if failure.position then self.handled = math.max(self.handled, failure.position - 1) end
  commit(self)
  fail(self, failure, failure.position and failure)
end

-- Everything durable was seen: becomes the version that serves, then waits for more. False: ended.
local function idle(self)
  commit(self)
  if not self.is_serving then self.projections:take_over(self) end
  local ok = tasks.wait(self.app.store.wait_growth, self.app.store, self.handled)
  return ok ~= false
end

local function work(self)
  while not self.is_stopping do
    local events, position, failure = read(self)
    local prefetch = self.documents:prefetch(events)
    begin_commit(self)
    self.documents:prefetched(prefetch)
    if #events > 0 and not handle(self, events) then return end
    if failure then return stop_before(self, failure) end
    if position > self.handled then
      self.handled = position
    elseif #events == 0 and not idle(self) then
      return
    end
  end
end

local function run(self)
  local ok, failure = xpcall(work, errors.catch, self)
  if not ok then fail(self, failure) end
  if self.status == "running" then self.status = "stopped" end
  self.task = nil
  self.projections:moved()
end

--- Begins, or begins again after a failure, at the checkpoint.
function Runner:start()
  self.status, self.error = "running", nil
  self.handled, self.matched, self.pending, self.reads = self.position, false, nil, nil
  self.documents = documents.new(self.app, self.projections.models, self.name, self.version)
  self.documents.flush = function() commit(self) end
  self.task = tasks.spawn(self.app, run, self)
  self.task.projects = self.name
end

--- Ends it where it stands: what is not committed is handled again after the next start.
function Runner:stop()
  self.is_stopping = true
  if self.task and native_task.drop(self.task) then self.task = nil end
  if self.status == "running" then self.status = "stopped" end
end

return M
