--- Locks of this program alone (kind "local"): a holder and a queue a key, in memory.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"

local M = {}

---@class catga.LocalLocks
---@field app catga.App
---@field entries table<string, table>  by key, while somebody has the lock: token, since, timer?,
---  and `queue`, those who wait, from `first` to `last`; gaps are those that gave up
---@field last_token number
---@field waiting integer  in all queues
local Locks = {}
Locks.__index = Locks

local TOKENS_A_MS = 1000 -- Tokens begin with the time, so that they also grow over restarts.

---@param app catga.App
---@return catga.LocalLocks
function M.new(app)
  return setmetatable({ app = app, entries = {}, last_token = 0, waiting = 0 }, Locks)
end

local function next_token(self)
  self.last_token = math.max(self.last_token + 1, math.floor(self.app.clock:now()) * TOKENS_A_MS)
  return self.last_token
end

local function stop_timer(self, holder)
  if holder.timer then self.app.clock:cancel(holder.timer) end
  holder.timer = nil
end

local function start_ttl(self, key, entry, ttl_ms)
  stop_timer(self, entry)
  if not ttl_ms then return end
  local token = entry.token
  entry.timer = self.app.clock:after(ttl_ms, function()
    if entry.token ~= token then return end
    entry.timer = nil
    self:release(key, token)
  end)
end

local function hold(self, key, entry, ttl_ms)
  entry.token, entry.since = next_token(self), self.app.clock:now()
  start_ttl(self, key, entry, ttl_ms)
  return entry.token
end

-- Gives the lock to the first that waits and is still there.
local function hand_on(self, key, entry)
  while entry.first <= entry.last do
    local waiter = entry.queue[entry.first]
    entry.queue[entry.first] = nil
    entry.first = entry.first + 1
    if waiter then
      self.waiting, waiter.is_queued = self.waiting - 1, false
      waiter.token = hold(self, key, entry, waiter.ttl_ms)
      native_task.wake(waiter.task)
      return
    end
  end
  self.entries[key] = nil
end

local function leave_queue(self, entry, waiter)
  if not waiter.is_queued then return end
  waiter.is_queued = false
  self.waiting = self.waiting - 1
  entry.queue[waiter.place] = nil
end

-- The task ended, or gave up, while it waited; it may have been given the lock just now.
local function give_up(self, key, entry, waiter)
  leave_queue(self, entry, waiter)
  if waiter.token then self:release(key, waiter.token) end
end

local function wait(self, key, entry, waiter, timeout_ms)
  local timer = self.app.clock:after(timeout_ms, function()
    if not waiter.is_queued then return end
    leave_queue(self, entry, waiter)
    native_task.wake(waiter.task)
  end)
  tasks.at_end(waiter.task, waiter, function() give_up(self, key, entry, waiter) end)
  local ok, failure = pcall(tasks.wait, native_task.park)
  tasks.at_end(waiter.task, waiter, nil)
  self.app.clock:cancel(timer)
  if ok then return end
  give_up(self, key, entry, waiter)
  error(failure, 0)
end

local function timeout(key, entry, timeout_ms)
  return nil, errors.new("timeout", ("lock %s was not free within %d ms; another task has it "
    .. "(token %.0f)"):format(key, timeout_ms, entry.token), { retryable = true })
end

--- See lua/catga/lock.lua. May yield.
function Locks:acquire(key, opts)
  local entry = self.entries[key]
  if not entry then
    entry = { queue = {}, first = 1, last = 0 }
    self.entries[key] = entry
    return hold(self, key, entry, opts.ttl_ms)
  end
  if opts.timeout_ms == 0 then return timeout(key, entry, 0) end
  local most = self.app.settings.lock_waiters_max
  if self.waiting >= most then
    return nil, errors.new("limit", ("lock %s: %d tasks wait for locks, which is the most "
      .. "(lock_waiters_max in catga.lua)"):format(key, most), { retryable = true })
  end
  entry.last = entry.last + 1
  local waiter = { task = state[1], ttl_ms = opts.ttl_ms, place = entry.last, is_queued = true }
  entry.queue[entry.last] = waiter
  self.waiting = self.waiting + 1
  wait(self, key, entry, waiter, opts.timeout_ms)
  if waiter.token then return waiter.token end
  return timeout(key, entry, opts.timeout_ms)
end

function Locks:holds(key, token)
  local entry = self.entries[key]
  return entry ~= nil and entry.token == token
end

function Locks:release(key, token)
  if not self:holds(key, token) or self.app.is_closed then return false end
  local entry = self.entries[key]
  stop_timer(self, entry)
  hand_on(self, key, entry)
  return true
end

function Locks:renew(key, token, ttl_ms)
  if not self:holds(key, token) then return false end
  start_ttl(self, key, self.entries[key], ttl_ms)
  return true
end

function Locks:list()
  local list = {}
  for key, entry in pairs(self.entries) do
    local waiting = 0
    for place = entry.first, entry.last do
      if entry.queue[place] then waiting = waiting + 1 end
    end
    list[#list + 1] = { key = key, token = entry.token, since = entry.since, waiting = waiting }
  end
  table.sort(list, function(a, b) return a.key < b.key end)
  return list
end

return M
