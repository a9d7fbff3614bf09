--- Processes that wait and are not in memory: of each there is a time and the number of its stream.
---
--- A process whose body does nothing but wait leaves memory when it has waited for process_idle, or
--- when more than processes_cached_max wait, the one that has waited longest first. It is taken up
--- again, out of its journal, when its time has come or something comes for it from outside.
local state = require "catga.state"
local errors = require "catga.error"
local native_task = require "catga.native.task"
local dues = require "catga.native.dues"
local raw = require "catga.sandbox".raw
local json = require "catga.native.json"

local M = {}

local AT_ONCE = 1000  -- Taken up, or put to sleep after a start, before others run.
local LOOK_MS = 60000 -- How often the clock is looked at: it may have jumped.

---@class catga.Dormant
---@field engine catga.Engine
---@field dues catga.Dues
---@field queue table<integer, catga.Instance>  those that wait in memory, by ticket
---@field head integer          the ticket of the one that has waited longest
---@field tail integer          the last ticket
---@field timer userdata?       for the first time that is due
---@field timer_due number?     Unix ms
---@field sweeper userdata?     for those that have waited too long
---@field waking boolean?       a task takes up those that are due
local Dormant = {}
Dormant.__index = Dormant

---@param engine catga.Engine
---@return catga.Dormant
function M.new(engine)
  return setmetatable({ engine = engine, dues = dues.new(), queue = {}, head = 1, tail = 0 },
    Dormant)
end

-- Takes up what is due, some at a time.
local function wake_due(self)
  local app, engine = self.engine.app, self.engine
  while not app.stopping do
    local list = self.dues:pop(app.clock:now(), AT_ONCE)
    for _, stream in ipairs(list) do
      if app.store:is_unfinished(stream) then engine:take_up(stream) end
    end
    if #list < AT_ONCE then break end
    native_task.yield()
  end
end

local function arm(self)
  local due = self.dues:next()
  local clock = self.engine.app.clock
  if not due or self.waking or self.timer and self.timer_due <= due then return end
  if self.timer then clock:cancel(self.timer) end
  self.timer_due = due
  self.timer = clock:after(math.max(0, math.min(due - clock:now(), LOOK_MS)), function()
    self.timer, self.waking = nil, true
    state[1].app = self.engine.app
    local ok, failure = xpcall(wake_due, errors.catch, self)
    self.waking = nil
    if not ok then self.engine.app:say("error", tostring(failure) .. (failure.traceback or "")) end
    if not self.engine.app.stopping then arm(self) end
  end)
end

--- A stream that is not in memory is due at a time.
---@param stream integer
---@param due number  Unix ms
function Dormant:add(stream, due)
  self.dues:push(due, stream)
  arm(self)
end

-- Nothing but a wait of its body keeps the process in memory.
local function may_leave(p)
  -- The task of one that ends, or has ended, may be somebody else's by now.
  if p.status or p.ending or p.halt then return false end
  return p.napping and not (p.waiter or p.future or p.floor or p.stays or p.paused)
    and not (p.branches and raw.next(p.branches))
end

local function evict(self, p)
  local due = p.nap_due
  if p.timeout_at and (not due or p.timeout_at < due) then due = p.timeout_at end
  if not native_task.drop(p.task) then return end
  self.engine:forget(p)
  if due then self:add(p.stream, due) end
end

-- Lets the one go that has waited longest; false: there is none.
local function let_go(self)
  local head = self.head
  if head > self.tail then return false end
  local p = self.queue[head]
  self.queue[head] = nil
  self.head = head + 1
  if p and p.ticket == head and may_leave(p) then evict(self, p) end
  return true
end

local function sweep(self)
  local app = self.engine.app
  if self.sweeper or self.head > self.tail then return end
  local idle = app.settings.process_idle
  local wait = math.max(0, (self.queue[self.head].ticket_at or 0) + idle - app.clock:mono())
  self.sweeper = app.clock:after(wait, function()
    self.sweeper = nil
    local looked, before = 0, app.clock:mono() - idle
    while self.head <= self.tail and self.queue[self.head].ticket_at <= before
      and not app.stopping do
      let_go(self)
      looked = looked + 1
      if looked % AT_ONCE == 0 then native_task.yield() end
    end
    if not app.stopping then sweep(self) end
  end)
end

--- The body of a process begins to wait.
---@param p catga.Instance
---@param due number?  Unix ms
function Dormant:waits(p, due)
  local app = self.engine.app
  if due and due - app.clock:now() < app.settings.process_idle then return end
  local ticket = self.tail + 1
  self.tail, self.queue[ticket], p.ticket, p.nap_due = ticket, p, ticket, due
  p.ticket_at = app.clock:mono()
  if ticket - self.head >= app.settings.processes_cached_max then let_go(self) end
  sweep(self)
end

-- What can be known of a wait by its record alone.
local STAYS = { event = true, child_end = true }

--- Is the last record of an unfinished process that of a wait of its body alone? Then it need not
--- be in memory: it is taken up when it is due.
---@param stream integer
---@return boolean
function Dormant:leave_out(stream)
  local store = self.engine.app.store
  local list = store:read(stream, store:count(stream) - 1, 1)
  local record = list and list[1]
  local data = record and record.data
  if not record or type(data) ~= "table" then return false end
  if record.type ~= "ProcessTimerSet" and record.type ~= "ProcessWaitStarted" then return false end
  if STAYS[data.kind] or data.beside then return false end
  if not (type(data.op) == "number" or data.alone) then return false end
  local due = data.wake or data.due
  if due then self.dues:push(due, stream) end
  return true
end

--- After those of a start were left out.
function Dormant:ready() arm(self) end

--- What a wait of a body alone puts into its record, so that `leave_out` can tell, and that lists
--- find the tags that it has by now.
---@param s catga.Instance
---@param due number?
---@return string? tail
function M.tail(s, due)
  if s.root then return nil end
  if s.branches and raw.next(s.branches) then return ',"beside":true' end -- Updates run.
  local wake = s.timeout_at and (not due or s.timeout_at < due) and s.timeout_at
  local tags = s.tags_changed and ',"tags":' .. json.encode(s.tags)
  if not (s.prefix or wake or tags) then return nil end
  return (s.prefix and ',"alone":true' or "") .. (wake and (',"wake":%.0f'):format(wake) or "")
    .. (tags or "")
end

--- Ends its timers.
function Dormant:stop()
  local clock = self.engine.app.clock
  if self.timer then clock:cancel(self.timer) end
  if self.sweeper then clock:cancel(self.sweeper) end
  self.timer, self.sweeper = nil, nil
end

return M
