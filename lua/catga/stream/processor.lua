--- A durable stream at work: a task that reads events of the log in batches and runs the chain on
--- each as a unit of work. What the sinks staged, how far it has come and what has changed in the
--- state of the operators are one commit.
---
--- Batches in which no sink was called need no commit of their own: their state is made again from
--- the events. After a failure the state is read from the log, as after a restart, and the batch is
--- gone through again item by item.
local state_of_task = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local commits = require "catga.commit"
local units = require "catga.unit"
local native_task = require "catga.native.task"
local pause_ms = require "catga.process.steps".pause_ms
local instances = require "catga.stream.instance"
local journal = require "catga.stream.journal"
local reading = require "catga.stream.reading"
local failures = require "catga.stream.failures"
local retrying = require "catga.lazy".module "catga.stream.retry"

local M = {}

local CONFLICTS_MAX = 10    -- How often a batch that meets conflicts runs again at once.
local SKIPPED_MAX = 10000   -- Positions of other events before the checkpoint moves.
local SNAPSHOT_RECORDS = 200 -- Records before a whole state, if they also have as many bytes as it.
local TIMER_MS_MAX = 86400000
local RATE_SECONDS = 10

---@class catga.StreamProcessor
---@field app catga.App
---@field graph catga.StreamGraph
---@field name string
---@field status "running"|"paused"|"failed"|"stopped"
---@field instance catga.StreamInstance
---@field stream_name string
---@field position integer   checkpoint: committed
---@field handled integer    the chain has seen all up to here
---@field unsaved integer    events since the checkpoint
---@field events integer     since the stream began
---@field working integer    1 while a batch is under way
local Processor = {}
Processor.__index = Processor

--- A processor; start begins its work.
---@param app catga.App
---@param graph catga.StreamGraph
---@return catga.StreamProcessor
function M.new(app, graph)
  local self = setmetatable({ app = app, graph = graph, name = graph.name, is_durable = true,
    status = "stopped", stream_name = journal.stream_name(graph.name, graph.version), position = 0,
    handled = 0, unsaved = 0, events = 0, working = 0, attempts = 0, rates = {},
    injected = {} }, Processor)
  self.instance = instances.new(app, graph, failures.guard(self))
  return self
end

local function first_position(self)
  local place = self.graph.options.after or "start"
  if place == "start" then return 0 end
  if place == "end" then return self.app.store:positions() - 1 end
  if place ~= "continue" then return place end
  for version = self.graph.version - 1, 1, -1 do
    local before = journal.load(self.app, journal.stream_name(self.name, version))
    if before then return before.to end
  end
  return 0
end

--- The error of a stream whose state in the log is that of another chain; nil: it fits.
---@param app catga.App
---@param graph catga.StreamGraph
---@return catga.Error?
function M.mismatch(app, graph)
  local found = journal.load(app, journal.stream_name(graph.name, graph.version))
  if not found or found.shape == graph.shape then return nil end
  return errors.new("shape_changed", ("stream %s (%s): its operators, or their parameters, are not "
    .. "those that its state in the log was made with. Put them back, or raise `version` (it is "
    .. "%d): the stream then begins anew, with after = \"start\", \"end\" or \"continue\""):format(
    graph.name, graph.at, graph.version))
end

--- Records that it begins behind a position, without state. May yield.
---@param to integer
---@return boolean ok
---@return catga.Error? err
function Processor:begin_anew(to)
  self.instance:reset()
  local changes = {}
  self.instance:dump(function(text) changes[#changes + 1] = self.app.json.decode(text) end)
  return commits.records(self.app, function(add)
    add(self.stream_name, "StreamReset", { to = to, shape = self.graph.shape,
      paused = self.is_paused == true, changes = self.app.json.array(changes) })
  end)
end

-- Brings the state to what the log has of it. A new stream is recorded first. May yield.
local function recover(self)
  local instance = self.instance
  instance:close()
  instance:reset()
  local found = journal.load(self.app, self.stream_name, function(change) instance:load(change) end,
    self.graph.shape)
  if found and found.shape ~= self.graph.shape then error(M.mismatch(self.app, self.graph), 0) end
  if not found then
    found = { to = first_position(self), watermark = { false }, counts = {}, events = 0,
      paused = false, records = 0 }
    local ok, err = self:begin_anew(found.to)
    if not ok then error(err, 0) end
  end
  instance:loaded(found.watermark, found.counts)
  self.position, self.handled, self.events = found.to, found.to, found.events
  self.unsaved, self.records, self.bytes = 0, found.records, self.bytes or 0
  self.snapshot_bytes, self.saved_at = self.snapshot_bytes or 0, self.app.clock:mono()
  if self.reader then self.reader:close() end
  self.reader = reading.new(self.app, self.graph, found.to)
  return found
end

-- Stages what has changed together with what the sinks have staged.
local function stage(self)
  local instance = self.instance
  instance:sync()
  local parts = journal.parts(self.app, self.name, function(add) instance:changes(add) end)
  journal.stage(units.of(state_of_task[1]), self.stream_name, parts, { to = self.handled,
    watermark = instance.watermark:stored(), counts = instance:stored_counts(),
    events = self.events })
  self.bytes = self.bytes + parts.bytes
  self.records = self.records + #parts.lists
end

-- Is a commit due: something was staged or sent, or much could have to be done again?
local function must_save(self, unit)
  if unit and unit.n > 0 or self.instance.sinks > 0 then return true end
  if self.handled - self.position >= SKIPPED_MAX then return true end
  if self.unsaved == 0 and not self.has_ticked then return false end
  local o = self.graph.options
  return self.must_save or self.unsaved >= o.checkpoint_events
    or self.app.clock:mono() - self.saved_at >= o.checkpoint_delay
end

-- How many routes what comes of events has gone through: so a circle of routes and streams ends as
-- one of routes alone does. Nil: none.
local function envelope(self, events)
  if not self.app.registry.routes then return nil end
  local hops = 0
  for i = 1, #events do
    local metadata = events[i].metadata
    local one = type(metadata) == "table" and metadata.hops
    if type(one) == "number" and one > hops then hops = one end
  end
  if hops == 0 then return nil end
  return { app = self.app, name = "stream " .. self.name, kind = "event", hops = hops, sent = 0,
    attempt = 1, key = self.app:new_id(), has_key = false }
end

-- Runs the chain on a batch and commits.
local function run_batch(self, batch)
  local task = state_of_task[1]
  task.unit, task.in_unit, task.ctx = nil, true, envelope(self, batch.events)
  local is_saved = false
  local ok, err = xpcall(function()
    self:process(batch)
    self.handled = batch.position
    if not must_save(self, task.unit) then return end
    is_saved = true
    stage(self)
  end, errors.catch)
  task.in_unit, task.ctx = nil, nil
  local unit = task.unit
  task.unit = nil
  if not ok then return false, err end
  if is_saved then
    ok, err = unit:commit()
    if not ok then return false, err end
    self.position, self.unsaved, self.must_save, self.has_ticked = self.handled, 0, nil, nil
    self.instance.sinks, self.saved_at = 0, self.app.clock:mono()
  end
  return true
end

-- The same; keys and locks of what sinks have sent are held until its end. True, or false and an
-- error: then the state is to be read again. May yield.
local function attempt(self, batch)
  local ok, err = run_batch(self, batch)
  local task = state_of_task[1]
  if task.holds then tasks.let_go(task) end
  return ok, err
end

--- Runs the chain on a batch.
---@param batch { events: table[], position: integer, is_behind: boolean }
function Processor:process(batch)
  local instance, events = self.instance, batch.events
  if instance:due() <= instance.now then
    self.has_ticked = true
    instance:tick()
  end
  if batch.is_behind then instance:is_behind() end
  if batch.inject then
    local one = batch.inject
    instance.X["n" .. one.node](one.v, one.k, one.w, one.t)
    units.of(state_of_task[1]):record(retrying.PREFIX .. one.letter, "StreamRetried", "{}")
  end
  reading.feed(instance, self.graph, events)
  if not batch.is_behind then
    local before = instance.watermark.wm
    instance:look_idle()
    if instance.watermark.wm > before then self.has_ticked = true end
  end
  instance:pass()
  self.unsaved, self.events = self.unsaved + #events, self.events + #events
end

-- Writes the whole state when what came since the last one costs more to read than it would.
local function snapshot(self)
  if self.records < SNAPSHOT_RECORDS or self.bytes < self.snapshot_bytes then return end
  if self.unsaved > 0 or self.position ~= self.handled then return end
  local instance = self.instance
  local parts = journal.parts(self.app, self.name, function(add) instance:dump(add) end)
  local from = journal.count(self.app, self.stream_name)
  for _, list in ipairs(parts.lists) do
    local ok, err = commits.records(self.app, function(add)
      add(self.stream_name, journal.part(list))
    end)
    if not ok then error(err, 0) end
  end
  local ok, err = commits.records(self.app, function(add)
    add(self.stream_name, "StreamSnapshot", { from = from, to = self.position,
      shape = self.graph.shape, watermark = instance.watermark:stored(),
      counts = instance:stored_counts(), events = self.events, paused = self.is_paused == true })
  end)
  if not ok then error(err, 0) end
  self.records, self.bytes, self.snapshot_bytes = 0, 0, parts.bytes
end

local function count_rate(self, count)
  local second = math.floor(self.app.clock:mono() / 1000)
  local slot = self.rates[second % RATE_SECONDS]
  if not slot or slot.second ~= second then
    slot = { second = second, count = 0 }
    self.rates[second % RATE_SECONDS] = slot
  end
  slot.count = slot.count + count
end

--- Events a second, over the last ten.
---@return number
function Processor:rate()
  local second, sum = math.floor(self.app.clock:mono() / 1000), 0
  for _, slot in pairs(self.rates) do
    if second - slot.second < RATE_SECONDS then sum = sum + slot.count end
  end
  return sum / RATE_SECONDS
end

local function sleep(self, ms)
  self.working = 0
  tasks.wait(self.app.clock.sleep, self.app.clock, ms)
end

-- What comes after an attempt that failed: false: the stream has stopped. May yield.
local function failed(self, batch, err)
  if self.app.is_closed or self.app.is_failed or self.is_stopping then return false end
  local pause = commits.pause_after(err)
  if pause then
    sleep(self, pause)
  elseif err.code == "conflict" and self.conflicts < CONFLICTS_MAX then
    self.conflicts = self.conflicts + 1
    self.is_careful_to = math.max(self.is_careful_to or 0, batch.position)
  elseif #batch.events > 1 then
    self.is_careful_to = math.max(self.is_careful_to or 0, batch.position) -- One by one.
  else
    self.attempts = self.attempts + 1
    failures.note(self, err, batch.events[1])
    local o = self.graph.options
    local is_last = not err.retryable or self.attempts >= (o.attempts or 3)
    if is_last and (o.on_error == "stop" or self.instance.guard) then
      self:fail(err, batch.events[1])
      return false
    elseif is_last then
      self.is_guarded = true
    else
      sleep(self, pause_ms({ backoff_ms = o.backoff }, self.attempts))
    end
  end
  self.instance:use(self.is_guarded == true)
  recover(self)
  return true
end

local function succeeded(self, batch)
  self.attempts, self.conflicts = 0, 0
  if self.is_guarded then
    self.is_guarded = nil
    self.instance:use(false)
  end
  if self.is_careful_to and self.handled >= self.is_careful_to then self.is_careful_to = nil end
  if #batch.events > 0 then count_rate(self, #batch.events) end
  snapshot(self)
end

-- The next batch; nil: there is nothing to do.
local function next_batch(self)
  local instance = self.instance
  instance.now = self.app.clock:now()
  local batch
  if instance:is_full() then
    batch = { events = {}, position = self.handled, is_behind = true }
  else
    batch = self.reader:next(self.is_careful_to and 1 or self.graph.options.batch)
  end
  if batch.failure and #batch.events == 0 then return batch end
  local has_more = #batch.events > 0 or batch.position - self.position >= SKIPPED_MAX
  local is_due = instance:due() <= instance.now
  local saves = (self.unsaved > 0 or self.has_ticked)
    and self.app.clock:mono() - self.saved_at >= self.graph.options.checkpoint_delay
  if has_more or is_due or saves then return batch end
  self.handled = batch.position
  if not batch.is_behind then return nil end
  return batch
end

--- Puts an item into the chain, behind the batch that is under way.
---@param one { node: integer, v: any, k: any, w: table?, t: number?, outcome: catga.Future }
function Processor:inject(one)
  self.injected[#self.injected + 1] = one
  self:wake()
end

-- Takes an item that was put in.
local function take_injected(self)
  local one = table.remove(self.injected, 1)
  self.working, self.must_save, self.is_injecting, self.has_ticked = 1, true, true, true
  self.instance.now = self.app.clock:now()
  self.instance:use(true)
  local ok, err = attempt(self, { events = {}, position = self.handled, is_behind = true,
    inject = one })
  self.instance:use(false)
  self.is_injecting = nil
  if not ok then recover(self) end
  self.working = 0
  one.outcome:set(ok or nil, err)
  return true
end

-- One batch; false: there is nothing to do, nil: it is over.
local function round(self)
  if self.injected[1] then return take_injected(self) end
  local batch = next_batch(self)
  if not batch then return false end
  if batch.failure and #batch.events == 0 then
    return failures.unreadable(self, batch.failure) or nil
  end
  self.working = 1
  if self.is_careful_to then self.must_save = true end
  local ok, err = attempt(self, batch)
  if ok then
    succeeded(self, batch)
  elseif not failed(self, batch, err) then
    self.working = 0
    return nil
  end
  self.working = 0
  return true
end

local function cancel_timer(self)
  if self.timer then self.app.clock:cancel(self.timer) end
  self.timer = nil
end

--- Something has changed: who waits looks again.
function Processor:wake()
  if self.waits then native_task.interrupt(self.task) end
end

-- Waits for events, for the clock, or for somebody who wakes it. False: the store has ended.
local function idle(self)
  local app, instance = self.app, self.instance
  local ms = instance:due() - app.clock:now()
  if self.unsaved > 0 or self.has_ticked then
    ms = math.min(ms, self.saved_at + self.graph.options.checkpoint_delay - app.clock:mono())
  end
  if ms < math.huge then
    self.timer = app.clock:after(math.ceil(math.max(0, math.min(ms, TIMER_MS_MAX))), function()
      self.timer = nil
      self:wake()
    end)
  end
  self.waits = true
  local ok
  if instance:is_full() then
    ok = tasks.wait(app.clock.sleep, app.clock, TIMER_MS_MAX)
  else
    ok = tasks.wait(app.store.wait_growth, app.store, self.handled)
  end
  self.waits = nil
  cancel_timer(self)
  return ok ~= false
end

local function wait_for_end_of_pause(self)
  self.waits = true
  tasks.wait(self.app.clock.sleep, self.app.clock, TIMER_MS_MAX)
  self.waits = nil
end

local function work(self)
  while not self.is_stopping do
    if self.is_paused then
      wait_for_end_of_pause(self)
    else
      local more = round(self)
      if more == nil then return end
      if more then
        native_task.yield()
      elseif not idle(self) then
        return
      end
    end
  end
  if self.unsaved > 0 and not self.app.is_closed then
    self.must_save = true
    attempt(self, { events = {}, position = self.handled, is_behind = true })
  end
end

local function run(self)
  local ok, failure = xpcall(function()
    local found = recover(self)
    self.is_paused = found.paused
    self.status = self.is_paused and "paused" or "running"
    work(self)
  end, errors.catch)
  self.task, self.working = nil, 0
  self.instance:close()
  cancel_timer(self)
  if not ok and not (self.app.is_closed or self.is_dropped) then self:fail(failure) end
  if self.status ~= "failed" then self.status = "stopped" end
  if self.ended then self.ended:set() end
end

--- Begins, or begins again, where its records say.
function Processor:start()
  self.error, self.is_stopping, self.is_dropped = nil, nil, nil
  self.attempts, self.conflicts, self.is_careful_to, self.is_guarded = 0, 0, nil, nil
  self.status = "running"
  self.instance:use(false)
  self.task = tasks.spawn(self.app, run, self)
end

--- Ends with an error; resume begins again.
---@param err catga.Error
---@param event table?
function Processor:fail(err, event)
  self.status = "failed"
  self.error = failures.storable(err, event)
  self.app:say("error", ("stream %s stopped%s: %s%s"):format(self.name,
    event and (" at position %d (%s)"):format(event.position, event.type) or "",
    tostring(err.message), err.traceback or ""))
end

--- Lets the batch end that is under way; nothing else begins.
function Processor:halt()
  self.is_stopping = true
  self:wake()
end

--- Halts, and waits until it has recorded where it stands. May yield.
function Processor:finish()
  self:halt()
  if not self.task then return end
  self.ended = self.ended or tasks.future()
  self.ended:wait()
  self.ended = nil
end

--- Ends where it stands.
function Processor:drop()
  self.is_stopping, self.is_dropped = true, true
  if self.task and native_task.drop(self.task) then self.task = nil end
  self.working = 0
  cancel_timer(self)
  self.instance:close()
  if self.status ~= "failed" then self.status = "stopped" end
end

--- Begins or ends a pause.
---@param is_paused boolean
function Processor:pause(is_paused)
  self.is_paused = is_paused
  if self.status == "running" or self.status == "paused" then
    self.status = is_paused and "paused" or "running"
  end
  self:wake()
end

--- What is to be seen of it.
---@return table
function Processor:describe()
  local _, durable = self.app.store:positions()
  local wm = self.instance.watermark.wm
  local one = self.instance:counts()
  one.name, one.kind, one.status, one.version = self.name, "durable", self.status,
    self.graph.version
  one.position, one.lag = self.handled, math.max(0, durable - 1 - self.handled)
  one.rate, one.events, one.error, one.last_error = self:rate(), self.events, self.error,
    self.last_error
  one.watermark = wm > -math.huge and wm < math.huge and wm or nil
  one.skipped, one.at = self.skipped, self.graph.at
  return one
end

return M
