--- A subscription at work: a task that reads durable events by position into the window, and tasks
--- that deliver them, as many as it has consumers.
---
--- There is one reader with one place in the log: the past and what is new come the same way, so
--- between them nothing is missed and nothing comes twice. A reader whose window is full waits.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local options = require "catga.subscription.options"
local windows = require "catga.subscription.window"
local commits = require "catga.commit"
local journal = require "catga.subscription.journal"
local saving = require "catga.subscription.saving"
local deliveries = require "catga.subscription.delivery"
local parked_events = require "catga.subscription.parked"

local M = {}

local BATCH_MAX = 1000       -- Events read at once.
local SLICE_COUNT = 100      -- Deliveries of a worker before other tasks get their turn.
local SLICE_MS = 10          -- Or so long.
local HELD_BYTES_MAX = 8 * 1024 ^ 2 -- JSON of the events that wait as values.
local SKIPPED_MAX = 10000    -- Positions of other events before the checkpoint moves.
local LOOK_MS = 1000         -- When a handler that cannot be interrupted now is looked at again.
local RATE_SECONDS = 10      -- The rate is that of so many seconds.

---@class catga.SubscriptionRunner
---@field app catga.App
---@field definition table
---@field name string?                 nil: it leaves nothing behind
---@field status "running"|"paused"|"failed"|"stopped"
---@field is_paused boolean?
---@field error table?                 why it failed
---@field last_error table?            the last failure of a delivery since the start
---@field window catga.Window
---@field parked table<integer, { at: integer, replaying: boolean? }>
---@field parked_count integer
---@field cursor catga.Cursor?         nil before the first read
---@field is_wanted (fun(event: table): boolean)?  asked of events that were presented
---@field reader catga.Task?
---@field workers table<catga.Task, boolean>
---@field working integer              how many
---@field out table<catga.Delivery, boolean>  under way
---@field tokens table<string, catga.Delivery>  of external consumers
---@field delayed table<catga.Delivery, boolean>  that wait for their next attempt
---@field now number                   by the clock's mono, when the last delivery began
---@field held_bytes number            of the events that wait as values
---@field unsaved catga.Delivery[]     done, but not recorded
---@field saved_to integer             recorded position
---@field increments integer           records since the last checkpoint
---@field changes table<table, boolean>  being committed: { at }
---@field is_halting boolean?          what runs may end, nothing else begins
---@field has_started boolean?         its state was read
---@field is_ended boolean?            it must not start any more
---@field handled integer
local Runner = {}
Runner.__index = Runner

--- A runner; start begins its work.
---@param app catga.App
---@param definition table
---@return catga.SubscriptionRunner
function M.new(app, definition)
  return setmetatable({ app = app, definition = definition, name = definition.name,
    status = "stopped", parked = {}, parked_count = 0, workers = {}, working = 0, out = {},
    tokens = {}, delayed = {}, unsaved = {}, saved_to = 0, increments = 0, changes = {},
    handled = 0, rates = {}, window = windows.new(0) }, Runner)
end

local function cancel(self, timer)
  if timer then self.app.clock:cancel(timer) end
end

-- The place where a new subscription begins.
local function first_position(self)
  local place = self.definition.after
  if place == "start" then return 0 end
  if place == "end" then return self.app.store:positions() - 1 end
  return place
end

-- Reads what is durable of it; a new one is recorded first. May yield.
local function recover(self)
  if not self.name then return { to = first_position(self), done = {}, attempts = {},
    parked = {}, increments = 0 } end
  local found = journal.load(self.app.store, self.name)
  if found.is_new then
    found.to = first_position(self)
    local ok, err = commits.records(self.app, function(add)
      add(journal.PREFIX .. self.name, "SubscriptionReset", { to = found.to })
    end)
    if not ok then error(err, 0) end
  end
  return found
end

--- An event as it stands in the window.
---@param record table  of the store, or of the parked ones
---@return catga.Delivery
function Runner:entry(record)
  local key
  local order = self.definition.order
  if order == "all" then key = true elseif order == "stream" then key = record.stream end
  return { position = record.position, stream = record.stream, version = record.version,
    type = record.type, key = key, attempts = self.attempts[record.position] or 0 }
end

-- Wakes the reader when it waits for room, or for the end of a pause.
local function wake_reader(self)
  if self.reader and self.waits_for_room then native_task.wake(self.reader) end
end

local function work(self)
  local task = state[1]
  local count, began = 0, self.app.clock:mono()
  while self.status == "running" and not self.is_halting do
    local entry = self.window:take()
    if not entry then break end
    deliveries.run(self, entry)
    count = count + 1
    if count == SLICE_COUNT or self.now - began > SLICE_MS then
      native_task.yield() -- The handlers share the time that one may run without waiting.
      count, began = 0, self.app.clock:mono()
    end
  end
  self.workers[task] = nil
  self.working = self.working - 1
  if self.working == 0 and self.idle then self.idle:set() end
end

--- Starts workers for what is ready.
function Runner:pump()
  if self.definition.is_external then return end
  local wanted = self.window:ready_count()
  while wanted > 0 and self.status == "running" and not self.is_halting
    and self.working < self.definition.consumers do
    self.working = self.working + 1
    wanted = wanted - 1
    self.workers[tasks.spawn(self.app, work, self)] = true
  end
end

-- Takes the next events into the window; false when there is nothing new.
local function read_batch(self)
  local window = self.window
  local upcasts = self.app.registry.upcasts
  if not self.cursor or self.upcasts ~= upcasts then
    self.cursor, self.is_wanted = options.cursor(self.app, self.definition, window.read_to)
    self.upcasts = upcasts
  end
  local events, position, bytes = self.cursor:next(math.min(BATCH_MAX,
    self.definition.buffer - window:count()))
  if not events then error(position, 0) end
  local each = bytes / math.max(#events, 1)
  for i = 1, #events do
    local event = events[i]
    if self.was_done[event.position] then
      self.was_done[event.position] = nil
      window:add_done(event.position)
    else
      local entry = self:entry(event)
      if self.held_bytes + each <= HELD_BYTES_MAX then -- Else it is read again when its turn comes.
        entry.event, entry.bytes = event, each
        self.held_bytes = self.held_bytes + each
      end
      self.attempts[event.position] = nil
      window:add(entry)
    end
  end
  local moved = position > window.read_to
  window.read_to = position
  if #events > 0 then self:pump() end
  if self.name and window:position() - self.saved_to >= SKIPPED_MAX then
    saving.soon(self)
  end
  return moved
end

local function read(self)
  while not self.is_halting do
    if self.status ~= "running" or self.window:count() >= self.definition.buffer then
      self.waits_for_room = true
      native_task.park()
      self.waits_for_room = nil
    elseif read_batch(self) then
      native_task.yield()
    else
      local store = self.app.store
      if tasks.wait(store.wait_growth, store, self.window.read_to) == false then return end
    end
  end
end

local function run_reader(self)
  local ok, failure = xpcall(read, errors.catch, self)
  self.reader = nil
  if not ok and not self.app.is_closed then self:fail(failure) end
end

--- Begins, or begins again, where its records say. Raises when they cannot be read. May yield.
function Runner:start()
  if self.is_ended then return end
  local found = recover(self)
  if self.is_ended then return end
  self.window = windows.new(found.to)
  self.was_done, self.attempts = found.done, found.attempts
  self.parked, self.parked_count = found.parked, 0
  for _ in pairs(found.parked) do self.parked_count = self.parked_count + 1 end
  self.saved_to, self.increments = found.to, found.increments
  self.unsaved, self.out, self.tokens, self.error = {}, {}, {}, nil
  self.held_bytes, self.now = 0, self.app.clock:mono()
  self.is_halting, self.idle, self.has_started = nil, nil, true
  for position, attempts in pairs(self.attempts) do -- Whoever starts it anew wants an attempt.
    self.attempts[position] = math.min(attempts, self.definition.attempts - 1)
  end
  self.is_paused = found.paused == true
  self.status = self.is_paused and "paused" or "running"
  self.cursor = nil
  if self.parked_count > 0 then parked_events.recover(self) end
  self.reader = tasks.spawn(self.app, run_reader, self)
  self:pump()
end

--- Ends the work: what runs may end, nothing else begins.
function Runner:halt()
  if self.is_halting then return end
  self.is_halting = true
  if self.reader and native_task.drop(self.reader) then self.reader = nil end
  for entry in pairs(self.delayed) do cancel(self, entry.timer) end
  self.delayed = {}
  cancel(self, self.save_timer)
  self.save_timer, self.tokens = nil, {}
  for entry in pairs(self.out) do -- Handlers keep their deadlines: whoever waits for them goes on.
    if entry.token then self.out[entry] = nil end
  end
end

local function cancel_sweep(self)
  cancel(self, self.sweep)
  self.sweep = nil
end

--- Halts, waits for the handlers that run, and records where it stands. May yield.
function Runner:finish()
  self:halt()
  while self.working > 0 or self.is_saving do
    self.idle = tasks.future()
    self.idle:wait()
  end
  self.idle = nil
  cancel_sweep(self)
  if self.name and self.has_started then self:save() end
  self.status = self.status == "failed" and "failed" or "stopped"
  self:close_cursor()
end

--- Lets go of what the cursor has of the store.
function Runner:close_cursor()
  if self.cursor then self.cursor:close() end
  self.cursor = nil
end

--- Ends at once: the handlers that run are let go.
function Runner:drop()
  self:halt()
  cancel_sweep(self)
  for task in pairs(self.workers) do
    if tasks.drop(task) then self.working = self.working - 1 end
  end
  if self.status ~= "failed" then self.status = "stopped" end
end

--- Runs fn after some time, as a task of the app.
---@param ms number
---@param fn fun()
---@return catga.Timer
function Runner:after(ms, fn)
  return self.app.clock:after(ms, function()
    state[1].app = self.app
    fn()
  end)
end

--- Something of it is being committed: a checkpoint made meanwhile must not hide it.
---@return table mark
function Runner:begin_change()
  local mark = { at = journal.count(self.app.store, self.name) }
  self.changes[mark] = true
  return mark
end

---@param mark table
function Runner:end_change(mark)
  self.changes[mark] = nil
  self:changed()
end

--- A record was added to its stream.
function Runner:changed() self.increments = self.increments + 1 end

--- A delivery begins.
---@param entry catga.Delivery
function Runner:began(entry)
  self.out[entry] = true
  self.now = self.app.clock:mono()
  entry.deadline = self.now + self.definition.ack_timeout
  if not self.sweep then self:watch(entry.deadline) end -- None before is due later.
end

--- A delivery has ended.
---@param entry catga.Delivery
function Runner:ended(entry)
  self.out[entry] = nil
  entry.deadline = nil
end

-- The time of a delivery is over.
local function expire(self, entry, now)
  local err = errors.new("timeout", ("the delivery took longer than its ack_timeout of %d ms")
    :format(self.definition.ack_timeout), { retryable = true })
  if entry.token then
    self.tokens[entry.token], entry.token = nil, nil
    self:ended(entry)
    return deliveries.failed(self, entry, err)
  end
  entry.deadline = now + LOOK_MS
  entry.task.interrupt = err
  if not native_task.interrupt(entry.task) then entry.task.interrupt = nil end
end

local function by_position(a, b) return a.position < b.position end

local function look_at_deadlines(self)
  self.sweep = nil
  local now, overdue = self.app.clock:mono(), {}
  for entry in pairs(self.out) do
    if entry.deadline <= now then overdue[#overdue + 1] = entry end
  end
  table.sort(overdue, by_position)
  for _, entry in ipairs(overdue) do
    if self.out[entry] and entry.deadline and entry.deadline <= now then
      expire(self, entry, now)
    end
  end
  local first
  for entry in pairs(self.out) do first = math.min(first or entry.deadline, entry.deadline) end
  if first then self:watch(first) end
end

--- Looks at the deliveries under way at a time, or before.
---@param deadline number
function Runner:watch(deadline)
  if self.sweep then
    if self.sweep_at <= deadline then return end
    cancel(self, self.sweep)
  end
  local ms = math.ceil(math.max(deadline - self.app.clock:mono(), 0))
  self.sweep_at = deadline
  self.sweep = self:after(ms, function() look_at_deadlines(self) end)
end

--- An event waits before its next attempt.
---@param entry catga.Delivery
---@param ms number
function Runner:delay(entry, ms)
  self.window:delay(entry)
  if self.is_halting then return end
  self.delayed[entry] = true
  entry.timer = self:after(ms, function()
    self.delayed[entry], entry.timer = nil, nil
    self.window:again(entry)
    self:pump()
  end)
end

local function count_rate(self)
  local second = math.floor(self.now / 1000)
  local slot = self.rates[second % RATE_SECONDS]
  if not slot or slot.second ~= second then
    slot = { second = second, count = 0 }
    self.rates[second % RATE_SECONDS] = slot
  end
  slot.count = slot.count + 1
end

--- Events a second, over the last ten.
---@return number
function Runner:rate()
  local second, sum = math.floor(self.app.clock:mono() / 1000), 0
  for _, slot in pairs(self.rates) do
    if second - slot.second < RATE_SECONDS then sum = sum + slot.count end
  end
  return sum / RATE_SECONDS
end

-- The window has moved on: records that, and reads more.
local function moved(self)
  if self.name then saving.moved(self) end
  if self.window:count() <= self.definition.buffer / 2 then wake_reader(self) end
  self:pump()
end

--- An event is done; its end is recorded already when it has saved_to.
---@param entry catga.Delivery
function Runner:done(entry)
  self.handled = self.handled + 1
  count_rate(self)
  self.window:finish(entry)
  if entry.is_replay then
    self:unparked(entry)
  elseif self.name and not entry.saved_to then
    self.unsaved[#self.unsaved + 1] = entry
  elseif self.name then
    self.saved_to = math.max(self.saved_to, entry.saved_to)
    if #self.unsaved > 0 and self.window:position() <= self.saved_to then self.unsaved = {} end
    if saving.is_due(self) then saving.soon(self) end
  end
  moved(self)
end

--- A parked event is parked no more: its key goes on.
---@param entry { position: integer, key: any }
function Runner:unparked(entry)
  if not self.parked[entry.position] then return end
  self.parked[entry.position], self.attempts[entry.position] = nil, nil
  self.parked_count = self.parked_count - 1
  if self.definition.park_blocks then self.window:unblock(entry.key) end
end

--- An event is parked.
---@param entry catga.Delivery
---@param at integer  version of its record
function Runner:parked_now(entry, at)
  if not self.parked[entry.position] then
    self.parked_count = self.parked_count + 1
    if self.definition.park_blocks then self.window:block(entry.key) end
  end
  self.parked[entry.position], self.attempts[entry.position] = { at = at }, nil
  self.window:finish(entry)
  moved(self)
end

--- Records what is done. May yield.
function Runner:save() saving.save(self) end

--- Remembers the last failure of a delivery.
---@param entry catga.Delivery
---@param err catga.Error
function Runner:note_error(entry, err)
  local last = deliveries.storable(err)
  last.position, last.type, last.time = entry.position, entry.type, self.app.clock:now()
  self.last_error = last
end

--- Ends with an error: what is not done is delivered again when it is resumed.
---@param err catga.Error
---@param entry catga.Delivery?  whose delivery failed
function Runner:fail(err, entry)
  if entry then self.window:delay(entry) end
  if self.status == "failed" then return end
  self.status = "failed"
  self.error = deliveries.storable(err)
  self.error.position, self.error.type = entry and entry.position, entry and entry.type
  self.app:say("error", ("subscription %s stopped%s: %s%s"):format(self.name or "without a name",
    entry and (" at position %d (%s)"):format(entry.position, entry.type) or "", err.message,
    err.traceback or ""))
end

--- Begins or ends a pause; one that has failed stays so.
---@param is_paused boolean
function Runner:pause(is_paused)
  self.is_paused = is_paused
  if self.status == "failed" or self.status == "stopped" then return end
  self.status = is_paused and "paused" or "running"
  wake_reader(self)
  self:pump()
end

return M
