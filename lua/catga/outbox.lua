--- The outbox: messages that were committed with the events of their senders, and are delivered
--- afterwards; see docs/messages.md.
---
--- Messages are streams of the log (`outbox/message.lua`). Nothing of one that waits is in Lua; 16
--- bytes of it are in the heap `later` by the time when it is due, or in the heap `ready` by its
--- turn. Workers, as many as `outbox_concurrency`, take what is ready and deliver it
--- (`outbox/delivery.lua`). Of one group one message is under way; those that come meanwhile wait
--- in the group. `outbox/`: enqueue, how messages come in; letters, handlers: what is retried here
--- beside commands; verbs, what can be done from outside.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local dues = require "catga.native.dues"
local messages = require "catga.outbox.message"
local deliveries = require "catga.outbox.delivery"

local M = {}

local AT_ONCE = 1000       -- Messages looked at before other tasks get their turn.
local SLICE_COUNT = 100    -- Deliveries of a worker before others get theirs.
local SLICE_MS = 10        -- Or so long.
local LOOK_MS = 60000      -- The wall clock is looked at so often: it may have jumped.
local LOST_MS = 5000       -- Commits that nobody told of are looked for so often.
local LOOKS_MAX = 120      -- And each so many times.
local GROUPS_MAX = 10000   -- Groups of which the first one that waits is looked at for the status.
local ALWAYS = 2 ^ 53      -- Later than every turn.
local RANKS = messages.RANKS

---@class catga.Outbox
---@field app catga.App
---@field later catga.Dues        by the time when they are due
---@field ready catga.Dues[]      by turn, one for each priority from 0
---@field turn integer            the last one given
---@field groups table<string, { head: integer, waiting: catga.Dues?, last: integer }>  those with a
---  message under way, or between two attempts
---@field out table<catga.Message, true>   being handled
---@field waiting integer         messages that are not closed
---@field working integer
---@field workers table<catga.Task, true>
---@field expected table<string, integer>  ids that were staged, and behind which look
---@field look integer            how often lost commits were looked for
---@field found table<string, true>   ids of commits that nobody told of
---@field handled integer         since the start
---@field failed integer          attempts that have failed since the start
---@field first_new integer       position behind what was there at the start
---@field started number          when that was, Unix ms
---@field is_open boolean?        what was there at the start is known
---@field is_halting boolean?
local Outbox = {}
Outbox.__index = Outbox

--- The outbox of an app; made when it is first asked for.
---@param app catga.App
---@return catga.Outbox
function M.of(app)
  local self = app.outbox
  if self then return self end
  self = setmetatable({ app = app, later = dues.new(), turn = 0, groups = {}, out = {},
    ready = { [0] = dues.new(), dues.new(), dues.new() }, waiting = 0, working = 0, workers = {},
    expected = {}, look = 0, found = {}, handled = 0, failed = 0,
    first_new = app.store:positions(), started = app.clock:now() }, Outbox)
  app.outbox = self
  self:start()
  return self
end

local function complain(self, failure)
  if self.app.is_closed then return end
  local traceback = type(failure) == "table" and failure.traceback or ""
  self.app:say("error", "outbox: " .. tostring(failure) .. traceback)
end

--- Runs fn after some time, as a task of the app.
---@param ms number
---@param fn fun()
---@return catga.Timer
function Outbox:after(ms, fn)
  return self.app.clock:after(math.max(0, math.ceil(ms)), function()
    state[1].app = self.app
    local ok, failure = xpcall(fn, errors.catch)
    if not ok then complain(self, failure) end
  end)
end

local function cancel(self, name)
  if self[name] then self.app.clock:cancel(self[name]) end
  self[name] = nil
end

-- Takes a message in that is in the log and waits.
local function receive(self, id, due, rank, group)
  local stream = self.app.store:stream(messages.PREFIX .. id)
  self.waiting = self.waiting + 1
  if due or group then
    local now, first = self.app.clock:now(), self.later:next()
    local is_behind = not self.is_open or self.is_entering or first and first <= now
    if due and due > now or group and is_behind then -- What was due before goes before it.
      self.later:push(math.max(due or now, now), stream)
      return self:arm()
    end
  end
  self:enter(stream, rank)
  self:pump()
end

-- Messages whose commit was made by a task that was dropped before it could tell. May yield.
local function look_for_lost(self)
  local app = self.app
  assert(app:flushed())
  self.look = self.look + 1
  for id, look in pairs(self.expected) do
    local age = self.look - look
    local stream = age >= 2 and app.store:stream(messages.PREFIX .. id)
    if stream and app.store:is_unfinished(stream) then
      self.expected[id], self.found[id] = nil, true
      local message = assert(messages.read(app, stream))
      receive(self, id, message.due, message.rank, message.group)
    elseif age >= LOOKS_MAX then
      self.expected[id] = nil -- Its unit of work has failed, or tells when it is committed.
    end
  end
end

local function watch_expected(self)
  if self.lost_timer or self.is_halting then return end
  self.lost_timer = self:after(LOST_MS, function()
    self.lost_timer = nil
    look_for_lost(self)
    if next(self.expected) then watch_expected(self) end
  end)
end

--- A message was staged.
---@param id string
function Outbox:expect(id)
  self.expected[id] = self.look
  watch_expected(self)
end

--- A message was committed.
---@param id string
---@param due number?      Unix ms
---@param priority string?
---@param group string?
function Outbox:arrive(id, due, priority, group)
  self.expected[id] = nil
  if self.found[id] then return end
  receive(self, id, due, RANKS[priority or "normal"], group)
end

--- Reads a message; one that cannot be read is said, and waits for the next start.
---@param stream integer
---@return catga.Message? message  nil: it is there no more
function Outbox:read(stream)
  local message, err = messages.read(self.app, stream)
  if err then complain(self, ("%s cannot be read: %s"):format(self.app.store:name(stream),
    tostring(err))) end
  return message
end

--- A message may be delivered when its turn comes.
---@param stream integer
---@param rank integer
function Outbox:enter(stream, rank)
  self.turn = self.turn + 1
  self.ready[rank]:push(self.turn, stream)
end

local function by_due(a, b)
  if a.due ~= b.due then return a.due < b.due end
  return a.position < b.position
end

-- The messages that are due, in the order in which they are; those of one time are together.
local function pop_due(self, now)
  local list = {}
  local most, last = AT_ONCE, now
  repeat
    local streams = self.later:pop(last, most)
    for _, stream in ipairs(streams) do
      if self.app.store:is_unfinished(stream) then
        local message = self:read(stream)
        if message then
          list[#list + 1] = { stream = stream, due = message.due, position = message.position,
            rank = message.rank }
        end
      end
    end
    most = 1
    local following = self.later:next()
    if #list > 0 then last = math.min(now, list[#list].due) end
  until #streams == 0 or not following or following > last
  table.sort(list, by_due)
  return list
end

-- Lets those enter that are due.
local function enter_due(self)
  while not self.is_halting do
    local list = pop_due(self, self.app.clock:now())
    for _, one in ipairs(list) do self:enter(one.stream, one.rank) end
    if #list == 0 then break end
    self:pump()
    native_task.yield()
  end
end

-- Lets them enter in a task of its own.
local function start_entering(self)
  self.is_entering = true
  local task
  task = tasks.spawn(self.app, function()
    local ok, failure = xpcall(enter_due, errors.catch, self)
    self.workers[task], self.is_entering = nil, nil
    if not ok then return complain(self, failure) end
    self:arm()
  end)
  self.workers[task] = true
end

--- Waits for what is due first.
function Outbox:arm()
  local due = self.later:next()
  if not due or self.is_halting or not self.is_open or self.is_entering
    or self.timer and self.timer_due <= due then
    return
  end
  cancel(self, "timer")
  local ms = math.min(due - self.app.clock:now(), LOOK_MS)
  if ms <= 0 then return start_entering(self) end
  self.timer_due = due
  self.timer = self:after(ms, function()
    self.timer = nil
    start_entering(self)
  end)
end

-- The next message to deliver, whose group is its own now; nil: none is ready. May yield.
local function take(self)
  local looked = 0
  while not self.is_halting do
    local stream
    for rank = 0, #self.ready do
      stream = self.ready[rank]:pop(ALWAYS, 1)[1]
      if stream then break end
    end
    if not stream then return nil end
    local message
    if self.app.store:is_unfinished(stream) then
      message = self:read(stream)
    end
    if message and self:claim(message) then return message end
    looked = looked + 1
    if looked % AT_ONCE == 0 then native_task.yield() end
  end
end

--- May the message go now? Else it waits in its group.
---@param message catga.Message
---@return boolean
function Outbox:claim(message)
  local name = message.group
  if not name then return true end
  local group = self.groups[name]
  if not group then
    self.groups[name] = { head = message.stream, last = 0 }
    return true
  end
  if group.head == message.stream then return true end
  group.waiting = group.waiting or dues.new()
  group.last = group.last + 1
  group.waiting:push(group.last, message.stream)
  return false
end

-- The group of a message that is closed goes on: the next one of it, read.
local function next_of_group(self, name)
  local group = self.groups[name]
  while group and group.waiting do
    local stream = group.waiting:pop(ALWAYS, 1)[1]
    if not stream then break end
    local message = self.app.store:is_unfinished(stream) and self:read(stream)
    if message then
      group.head = stream
      return message
    end
  end
  self.groups[name] = nil
end

--- A message is closed. Gives the next one of its group.
---@param message catga.Message
---@return catga.Message?
function Outbox:closed(message)
  self.waiting = self.waiting - 1
  if message.group then return next_of_group(self, message.group) end
end

--- A message that was not under way is closed: its group goes on when it was the first of it.
---@param message catga.Message
function Outbox:removed(message)
  self.waiting = self.waiting - 1
  self.later:remove(message.stream)
  local group = message.group and self.groups[message.group]
  if not group or group.head ~= message.stream then return end
  local following = next_of_group(self, message.group)
  if following then self:enter(following.stream, following.rank) end
  self:pump()
end

--- A message that was to wait until later may be delivered now.
---@param message catga.Message
function Outbox:hasten(message)
  if not self.later:remove(message.stream) then return end -- It is on its way already.
  self:enter(message.stream, message.rank)
  self:pump()
end

local function due_of(self, stream)
  if not stream or not self.app.store:is_unfinished(stream) then return math.huge end
  local message = self:read(stream)
  return message and message.due or math.huge
end

--- How it stands, from what is in memory.
---@return { waiting: integer, due: integer, delayed: integer, working: integer, handled: integer,
---  failed: integer, recovering: boolean?, oldest: number?, oldest_age: number? }
function Outbox:status()
  local now, oldest, looked = self.app.clock:now(), math.huge, 0
  local first, later = self.later:next(), self.later:count()
  for rank = 0, #self.ready do
    oldest = math.min(oldest, due_of(self, select(2, self.ready[rank]:next())))
  end
  for message in pairs(self.out) do oldest = math.min(oldest, message.due) end
  for _, group in pairs(self.groups) do
    looked = looked + 1
    if looked > GROUPS_MAX then break end
    oldest = math.min(oldest, due_of(self, group.waiting and select(2, group.waiting:next())))
  end
  if first and first <= now then oldest = math.min(oldest, first) end
  local is_some = oldest < math.huge
  return { waiting = self.waiting, due = self.waiting - later, delayed = later,
    working = self.working, handled = self.handled, failed = self.failed,
    recovering = not self.is_open or nil, oldest = is_some and oldest or nil,
    oldest_age = is_some and math.max(0, now - oldest) or nil }
end

--- A message waits before its next attempt; its group waits with it.
---@param message catga.Message
---@param due number  Unix ms
function Outbox:postpone(message, due)
  self.later:push(due, message.stream)
  self:arm()
end

-- Delivers one message, and those of its group that have waited for it. May yield.
local function deliver(self, message)
  local count, began = 0, nil
  while message and not self.is_halting do
    message = deliveries.run(self, message) and self:closed(message) or nil
    count, began = count + 1, began or message and self.app.clock:mono()
    if message and (count == SLICE_COUNT or self.app.clock:mono() - began > SLICE_MS) then
      self:enter(message.stream, message.rank) -- Others get their turn; its group stays its own.
      return
    end
  end
end

local function work(self)
  local count, began = 0, nil
  while not self.is_halting do
    local message = take(self)
    if not message then break end
    if count == 1 then began = self.app.clock:mono() end -- Most workers have one message only.
    deliver(self, message)
    count = count + 1
    if count == SLICE_COUNT or began and self.app.clock:mono() - began > SLICE_MS then
      native_task.yield()
      count, began = 0, nil
    end
  end
end

local function run_worker(self)
  local ok, failure = xpcall(work, errors.catch, self)
  self.workers[state[1]] = nil
  self.working = self.working - 1
  if not ok then complain(self, failure) end
end

--- Starts workers for what is ready.
function Outbox:pump()
  if self.is_halting then return end -- Before it is open, only what is new is ready.
  local ready = self.ready
  local wanted = math.min(ready[0]:count() + ready[1]:count() + ready[2]:count(),
    self.app.settings.outbox_concurrency - self.working)
  for _ = 1, wanted do
    self.working = self.working + 1
    self.workers[tasks.spawn(self.app, run_worker, self)] = true
  end
end

-- Messages that may have ended the program are delivered before the others that were there at the
-- start, each alone.
local function deliver_suspects(self, list)
  table.sort(list, function(a, b) return a.position < b.position end)
  for _, message in ipairs(list) do
    if message.group then self.groups[message.group] = { head = message.stream, last = 0 } end
  end
  for _, message in ipairs(list) do
    if self.is_halting then return end
    if deliveries.run(self, message) then
      local following = self:closed(message)
      if following then self:enter(following.stream, following.rank) end
    end
  end
end

-- Takes up what there is. May yield.
local function recover(self, streams)
  local suspects = {}
  for i, stream in ipairs(streams) do
    local message = self:read(stream)
    if message then
      self.waiting = self.waiting + 1
      if message.crashes > 0 then
        suspects[#suspects + 1] = message
      else
        -- Of a group the one that has begun goes first, also while it waits for its next attempt.
        if message.group and message.attempts > 0 then
          self.groups[message.group] = self.groups[message.group] or { head = stream, last = 0 }
        end
        self.later:push(message.due, stream)
      end
    end
    if i % AT_ONCE == 0 then native_task.yield() end
    if self.is_halting then return end
  end
  deliver_suspects(self, suspects)
end

--- Takes up what is in the log.
function Outbox:start()
  local streams = self.app.store:unfinished(messages.PREFIX)
  if #streams == 0 then
    self.is_open = true
    return
  end
  local task
  task = tasks.spawn(self.app, function()
    local ok, failure = xpcall(recover, errors.catch, self, streams)
    self.workers[task] = nil
    if not ok then complain(self, failure) end
    self.is_open = true
    self:arm()
    self:pump()
  end)
  self.workers[task] = true
end

--- Lets nothing more begin; what runs may end.
function Outbox:halt()
  self.is_halting = true
  cancel(self, "timer")
  cancel(self, "lost_timer")
end

--- Ends at once: what runs is let go.
function Outbox:abandon()
  self:halt()
  cancel(self, "sweep")
  for task in pairs(self.workers) do native_task.drop(task) end
  self.workers = {}
end

--- Ends what still runs, and records that it was ended: it does not count as an attempt. May yield.
function Outbox:stop()
  self:abandon()
  deliveries.release(self)
end

return M
