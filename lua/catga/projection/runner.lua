--- One version of a projection at work: a task that reads durable events in batches, runs the
--- handlers in order, and commits what they changed together with the checkpoint.
---
--- While the worker commits one batch the next one is read and handled: at most one commit is under
--- way. A runner that is behind is either ready or waits for the worker, so `settle` waits for it;
--- one that has seen everything parks in the store without being counted.
---
--- What was done of a batch and cannot be undone event by event (SQL that was sent already, or that
--- failed when the batch was committed) is undone as a whole: the runner goes back to its
--- checkpoint, with the event that is to blame known.
local errors = require "catga.error"
local tasks = require "catga.task"
local state = require "catga.state"
local native = require "catga.native.model"
local native_task = require "catga.native.task"
local documents = require "catga.projection.documents"
local models = require "catga.model"
local registries = require "catga.registry"
local presenter = require "catga.event"
local sandbox = require "catga.sandbox"
local lazy = require "catga.lazy"
local faults = lazy.module "catga.projection.faults"
local lanes = lazy.module "catga.projection.lanes"
local inline = lazy.module "catga.projection.inline"
local retries = lazy.module "catga.projection.retry"

local M = {}

local caller, sorted_names = registries.caller, registries.sorted_names

local SLICE_COUNT = 100                -- Events handled before other tasks get their turn.
local CHANGES_MAX = 10000              -- Changes after which a batch is committed early.
local CHANGE_BYTES_MAX = 32 * 1024 ^ 2
local SKIPPED_MAX = 10000              -- Positions of other events before the checkpoint moves.
local RETRY_MS = 1000                  -- Pause while the disk is full or the database is in use.
local RETRYABLE = { busy = true, disk_full = true }

--- Bounds that a spec may lower.
M.limits = { events = 1000 } -- Of one batch.

-- Raised to go back to the checkpoint.
local REDO = errors.new("redo", "the batch is done again from the checkpoint")

---@class catga.Runner
---@field app catga.App
---@field projections catga.Projections
---@field name string
---@field version integer
---@field slot integer       see lua/catga/projection/place.lua
---@field place catga.ModelPlace
---@field definition table
---@field documents catga.Documents
---@field cursor catga.Cursor?
---@field reads table?       the definition whose events the cursor gives
---@field upcasts catga.Upcasts?  those with which it was made
---@field status "running"|"failed"|"stopped"|"paused"
---@field position integer   checkpoint: committed
---@field handled integer    the handlers have seen all events up to here
---@field matched boolean    some of them were for a handler
---@field reached integer    reads see all events up to here
---@field pending table?     the commit under way: job, to, changes, statements
---@field bad table?         { position, error, at }: the event that is to blame for a redo
---@field skipped integer    events passed over
---@field skips userdata?    their entries that are not committed
---@field count integer      events handled since the start
---@field time number?       of the last of them
---@field error table?       why it failed
---@field is_serving boolean?
---@field is_inline boolean? it has caught up, and its handlers run with the units of work
---@field is_stale boolean?  the checkpoint must be read before it begins
---@field retries table?     events that are to be handled once more, see retry.lua
---@field wait_until integer?  it must come to here before it takes over
---@field task catga.Task?   nil once it has ended
local Runner = {}
Runner.__index = Runner

--- A runner at its checkpoint; start begins its work.
---@param projections catga.Projections
---@param definition table
---@param place catga.ModelPlace
---@param position integer
---@return catga.Runner
function M.new(projections, definition, place, position)
  local app = projections.app
  return setmetatable({ app = app, projections = projections, name = definition.name,
    version = definition.version, slot = place.slot, place = place, definition = definition,
    status = "stopped", position = position, handled = position, reached = position, skipped = 0,
    count = 0 }, Runner)
end

local function apply(self, pending)
  return self.place:get():apply(self.name, self.slot, self.position, pending.to,
    pending.changes, pending.statements, pending.skips)
end

-- Waits while the disk is full or the database in use.
local function wait_for_space(self, err)
  self.app:say("warn", ("projection %s waits: %s"):format(self.name, err.message))
  tasks.wait(self.app.clock.sleep, self.app.clock, RETRY_MS)
end

-- A commit was refused: raises, unless it is under way again.
local function commit_failed(self, pending, err, mark)
  if mark and mark < faults.OWN_MARK and not RETRYABLE[err.code] then
    self.bad = { position = mark, error = err }
    error(REDO, 0)
  end
  if not RETRYABLE[err.code] then error(err, 0) end
  wait_for_space(self, err)
  if pending.was_open then error(REDO, 0) end -- What was sent before is gone with it.
  pending.job = apply(self, pending)
end

-- Waits for the commit under way. Raises when it can never be done.
local function finish_commit(self)
  local pending = self.pending
  while pending do
    tasks.wait(pending.job.wait, pending.job)
    local ok, err, mark = pending.job:take()
    if ok then
      self.position, self.reached = pending.to, pending.to
      self.pending, pending = nil, nil
      self.projections:moved()
    else
      commit_failed(self, pending, err, mark)
    end
  end
end

-- What was handled since the last commit, as a commit that is not under way yet.
local function collect(self)
  local docs = self.documents
  local statements = docs.statements
  local pending = { to = self.handled, changes = docs:collect(), skips = self.skips,
    was_open = docs.is_open }
  if statements and statements:size() > 0 then
    pending.statements, docs.statements = statements, native.statements()
  end
  docs.is_open, self.skips, self.matched = nil, nil, false
  return pending
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
  if self.handled == self.position then return end
  local pending = collect(self)
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
M.catch = catch

local function fail(self, failure, event, at)
  local message = failure.message
  if at and not message:find(at, 1, true) then message = at .. ": " .. message end
  self.status = "failed"
  self.error = { code = failure.code, message = message, position = event and event.position,
    type = event and event.type, time = self.app.clock:now() }
  local where = event and (" at position %d (%s)"):format(event.position, event.type) or ""
  self.app:say("error", ("projection %s version %d stopped%s: %s%s"):format(self.name,
    self.version, where, message, failure.traceback or ""))
  if self.definition.lifecycle == "inline" then inline.refuse(self) end
end

-- An event that cannot be handled, of which nothing is left: stops in front of it (false), or goes
-- on behind it. May yield.
local function pass_over(self, event, failure, at)
  finish_commit(self)
  if self.definition.on_error == "stop" then
    self.handled = math.max(self.handled, event.position - 1)
    commit(self)
    fail(self, failure, event, at)
    return false
  end
  faults.skip(self, event, failure)
  self.app:say("warn", ("projection %s passed over position %d (%s): %s"):format(self.name,
    event.position, event.type, failure.message))
  self.handled, self.matched = event.position, true
  if self.definition.on_error == "dead_letter" then commit(self) end -- Once is enough.
  return true
end

-- A handler has failed. May yield; raises REDO when the batch must be undone.
local function handler_failed(self, event, caught)
  local docs = self.documents
  local broken = docs.broken
  finish_commit(self) -- It may have failed because of what came before.
  if broken then
    if RETRYABLE[broken.error.code] then
      wait_for_space(self, broken.error)
    elseif broken.position then
      self.bad = broken
    else
      error(broken.error, 0)
    end
    error(REDO, 0)
  end
  if docs.is_torn then
    self.bad = { position = event.position, error = caught.error, at = caught.at }
    error(REDO, 0)
  end
  docs:take_back()
  return pass_over(self, event, caught.error, caught.at)
end

-- What handlers get beside the event's data: the record, with the ids of its metadata.
local function envelope(event)
  local metadata = event.metadata
  if type(metadata) == "table" then
    event.correlation_id, event.causation_id = metadata.correlation_id, metadata.causation_id
  end
  return event
end
M.envelope = envelope

-- Runs the handlers of a batch; false when one of them failed.
local function handle(self, events)
  local docs, on = self.documents, self.definition.handlers
  for i = 1, #events do
    local event = events[i]
    local handler = on[event.type]
    if handler then
      docs:begin(event)
      local ok, caught = xpcall(handler, catch, event.data, docs, self.envelope(event))
      if ok and not docs.broken then
        self.handled, self.matched = event.position, true
      elseif not handler_failed(self, event, caught) then
        return false
      end
      if self.is_stopping then return false end
    end
    if docs.changed_count >= CHANGES_MAX or docs.changed_bytes >= CHANGE_BYTES_MAX then
      begin_commit(self)
    end
    if i % SLICE_COUNT == 0 then native_task.yield() end
  end
  self.count = self.count + #events
  if #events > 0 then self.time = events[#events].time end
  return true
end

local function handle_by_kind(self, events)
  if self.definition.partitions then
    lanes.handle(self, events)
    self.count = self.count + #events
    if #events > 0 then self.time = events[#events].time end
    return not self.is_stopping
  end
  return handle(self, events)
end

-- The same, where the handlers may have no effects.
local function handle_purely(self, events)
  local task = state[1]
  task.pure = sandbox.PROJECTING
  local goes_on = handle_by_kind(self, events)
  task.pure = nil
  return goes_on
end

-- The same when it is known which event is to blame for a redo: it is not handled again.
local function handle_all(self, events)
  local bad = self.bad
  if not bad then return handle_purely(self, events) end
  local before, behind, event = {}, {}, nil
  for _, one in ipairs(events) do
    local list = one.position < bad.position and before or behind
    if one.position == bad.position then event = one else list[#list + 1] = one end
  end
  if not handle_purely(self, before) then return false end
  if not event then return true end
  self.bad = nil
  if not pass_over(self, event, bad.error, bad.at) then return false end
  commit(self) -- From now on the checkpoint is behind it.
  return handle_purely(self, behind)
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
    self.envelope = definition.lifecycle == "inline" and inline.envelope or envelope
  end
  local events, position = self.cursor:next(M.limits.events)
  if not events then error(position, 0) end
  local failure
  events, failure = presenter.present_until(self.app, events)
  return events, position, failure
end

-- An event cannot be shown to a handler: false when the projection stops in front of it.
local function pass_hidden(self, failure)
  if not failure.position or self.definition.on_error == "stop" then
    if failure.position then self.handled = math.max(self.handled, failure.position - 1) end
    commit(self)
    fail(self, failure, failure.position and failure)
    return false
  end
  local event = { position = failure.position, type = failure.type, stream = failure.stream }
  if not pass_over(self, event, failure) then return false end
  self.reads = nil -- The rest of the batch was not given: read on behind the event.
  return true
end

-- Everything durable was seen, or nearly: becomes the version that serves. Takes some rounds when
-- readers have seen more of the version before.
local function take_over(self)
  commit(self)
  if self.definition.lifecycle == "inline" then return inline.take_over(self) end
  if not self.is_serving then self.projections:take_over(self) end
end

-- Waits for more. False: ended.
local function idle(self)
  commit(self)
  local ok = tasks.wait(self.app.store.wait_growth, self.app.store, self.handled)
  return ok ~= false
end

local function work(self)
  while not self.is_stopping do
    if self.retries then retries.run(self) end
    local events, position, failure = read(self)
    local prefetch = self.documents:prefetch(events, self.definition.keys_of)
    begin_commit(self)
    self.documents:prefetched(prefetch)
    if #events > 0 and not handle_all(self, events) then return end
    if failure then
      if not pass_hidden(self, failure) then return end
    else
      local has_more = #events == M.limits.events
      local is_quiet = #events == 0 and position <= self.handled
      self.handled = math.max(self.handled, position)
      if not has_more and (not self.is_serving or self.definition.lifecycle == "inline") then
        take_over(self)
        if self.is_inline then return inline.run(self) end
      end
      if is_quiet and not idle(self) then return end
    end
  end
end

-- Back to the checkpoint: nothing of what was not committed is left.
local function go_back(self)
  local docs = self.documents
  if docs.statements then models.await(self.place:get():undo()) end
  docs:reset()
  if self.skips then self.skips = nil end
  self.position = self.place:define()
  self.skipped = faults.count(self.place, self.name, self.slot)
  self.handled, self.matched, self.pending, self.reads = self.position, false, nil, nil
end

local function prepare(self)
  if self.is_stale then self.position = self.place:define() end
  self.is_stale = nil
  self.handled, self.matched, self.pending, self.reads = self.position, false, nil, nil
  self.reached = math.max(self.reached, self.position)
  self.skipped = faults.count(self.place, self.name, self.slot)
  self.documents = documents.new(self.app, self.place:get(), self.name, self.slot,
    self.definition.tables ~= nil)
  self.documents.flush = function() commit(self) end
end

local function run(self)
  local ok, failure = xpcall(prepare, errors.catch, self)
  while ok do
    ok, failure = xpcall(work, errors.catch, self)
    state[1].pure = nil
    if failure ~= REDO then break end
    ok, failure = xpcall(go_back, errors.catch, self)
  end
  if not ok then fail(self, failure) end
  if self.status == "running" then self.status = "stopped" end
  self.task = nil
  if self.wait_until then self.projections:stays(self) end
  self.projections:moved()
end

--- Begins, or begins again after a failure or a stop, at the checkpoint.
function Runner:start()
  self.status, self.error, self.is_stopping, self.bad, self.skips = "running", nil, nil, nil, nil
  if self.definition.lifecycle == "inline" then inline.allow(self) end
  self.task = tasks.spawn(self.app, run, self)
end

--- Ends it where it stands: what is not committed is handled again after the next start.
---@param status ("stopped"|"paused")?
function Runner:stop(status)
  self.is_stopping, self.is_stale = true, true
  if self.is_inline then inline.detach(self) end
  if self.task and native_task.drop(self.task) then self.task = nil end
  if self.documents and self.documents.is_open and self.place:get() then
    self.place:get():undo()
  end
  if self.status == "running" or status == "paused" then self.status = status or "stopped" end
end

--- Commits what was handled so far, and waits for it. To be called by its task. May yield.
function Runner:commit() commit(self) end

--- Commits what a handler has just done, without moving the checkpoint. By its task. May yield.
---@return boolean? ok
---@return catga.Error? err  nothing of it is left
function Runner:commit_beside()
  local pending = collect(self)
  pending.to = self.position
  return models.await(apply(self, pending))
end

--- Drops what is not committed. By its task. May yield.
function Runner:drop_changes()
  if self.documents.statements then models.await(self.place:get():undo()) end
  self.documents:reset()
end

--- The position up to which its readers may see events, at most: a commit may be under way.
---@return integer
function Runner:seen()
  if self.is_inline then return (self.app.store:positions()) - 1 end
  return self.pending and self.pending.to or self.reached
end

--- The position up to which reads see all events.
---@return integer
function Runner:read_position()
  if self.is_inline then return (self.app.store:positions()) - 1 end
  return self.reached
end

M.SLICE_COUNT, M.REDO = SLICE_COUNT, REDO

return M
