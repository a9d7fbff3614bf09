--- The local kind of locks: of one program, in memory. Who ends gives up what he holds.
local errors = require "catga.error"
local waits = require "catga.policy.waits"
local raw_next = require "catga.sandbox".raw.next

local M = {}

local WAITERS_MAX = 10000 -- Of one key.

---@class catga.LocalLock
local Lock = {}
Lock.__index = Lock

---@param app catga.App
---@return catga.LocalLock
function M.new(app) return setmetatable({ app = app, held = {}, last_token = 0 }, Lock) end

--- Takes a lock that is free, or whose ttl has passed.
---@param key string
---@param ttl_ms number
---@return integer? token
---@return catga.Error? err  "locked"
function Lock:acquire(key, ttl_ms)
  local now = self.app.clock:mono()
  local one = self.held[key]
  if one and one.token and one.until_ms > now then
    return nil, errors.new("locked", ("the lock %s is held"):format(key), { retryable = true,
      retry_after_ms = math.ceil(one.until_ms - now), is_refusal = true })
  end
  if not one then
    one = { first = 1, last = 0 }
    self.held[key] = one
  end
  self.last_token = self.last_token + 1
  one.token, one.until_ms = self.last_token, now + ttl_ms
  return one.token
end

--- Is the lock still held under this token?
---@param key string
---@param token integer
---@return boolean
function Lock:check(key, token)
  local one = self.held[key]
  return one ~= nil and one.token == token and one.until_ms > self.app.clock:mono()
end

--- Holds it for longer.
---@param key string
---@param token integer
---@param ttl_ms number  from now on
---@return boolean held  false: it was lost before
function Lock:renew(key, token, ttl_ms)
  if not self:check(key, token) then return false end
  self.held[key].until_ms = self.app.clock:mono() + ttl_ms
  return true
end

-- Wakes who waits longest; forgets a lock that nobody holds or waits for.
local function wake_first(self, key, one)
  while one.first <= one.last do
    local waiter = one[one.first]
    one[one.first] = nil
    one.first = one.first + 1
    if waits.wake(waiter, true) then return end
  end
  if not one.token then self.held[key] = nil end
end

--- Gives it up.
---@param key string
---@param token integer
---@return boolean released  false: it was lost before
function Lock:release(key, token)
  local one = self.held[key]
  if not one or one.token ~= token then return false end
  local in_time = one.until_ms > self.app.clock:mono()
  one.token = nil
  wake_first(self, key, one)
  return in_time
end

--- Parks until the lock may be free. May yield.
---@param key string
---@param ms number
---@return boolean? woken  nil: the time is over; false: too many wait
---@return catga.Error? err  an outer time limit has passed
function Lock:wait(key, ms)
  local one = self.held[key]
  if not one then return true end
  if one.last - one.first + 1 >= WAITERS_MAX then return false end
  one.last = one.last + 1
  local place = one.last
  local waiter = {}
  one[place] = waiter
  local woken, err = waits.park(self.app, waiter, ms)
  if not woken and one[place] == waiter then
    one[place] = { is_over = true }
    while one.first <= one.last and one[one.first].is_over do
      one[one.first] = nil
      one.first = one.first + 1
    end
    if not one.token and one.first > one.last and self.held[key] == one then
      self.held[key] = nil
    end
  end
  return woken, err
end

--- How many are held.
---@return table
function Lock:status()
  local held, waiting = 0, 0
  for _, one in raw_next, self.held do
    if one.token then held = held + 1 end
    waiting = waiting + one.last - one.first + 1
  end
  return { held = held, waiting = waiting }
end

return M
