--- Rate limiter: so many calls in a time, for all or for each key; who comes too early waits his
--- turn or is refused with the time after which to come back.
---
--- token_bucket: a steady rate, and up to `burst` at once after a quiet time (the cell rate
--- algorithm: one number a key). sliding_window: never more than `rate` in any span of `per`.
local errors = require "catga.error"
local lru = require "catga.policy.lru"
local keys = require "catga.policy.keys"
local waits = require "catga.policy.waits"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

M.fields = {
  rate = { "count", nil, 1, 1000000 },  -- calls
  per = { "duration", "1s" },           -- in this time
  burst = { "count", nil, 1, 1000000 }, -- at once, of a token bucket; default: rate
  kind = { "choice", "token_bucket", { "token_bucket", "sliding_window" } },
  key = { "key" },                      -- each value has a limit of its own
  wait = { "duration", "0ms", 0 },      -- the longest wait; 0: who is too early is refused
  keys_max = { "count", 10000, 1, 10000000 }, -- keys that are not idle; then new ones are refused
}
M.short = "rate"
M.memory = { "rate", "per", "burst", "kind", "keys_max" }

local WINDOW_MAX = 100000 -- Times that a sliding window keeps for one key.

function M.check(p)
  if not p.rate then error("limiter needs a rate, such as { rate = 100, per = \"1s\" }", 0) end
  if p.kind == "sliding_window" then
    if p.burst then error("limiter: a sliding_window has no burst", 0) end
    if p.rate > WINDOW_MAX then
      error(("limiter: a sliding_window keeps the time of each call: rate is at most %d"):format(
        WINDOW_MAX), 0)
    end
  end
end

-- A token bucket: `full_at` is when it is full again.
local Bucket = {}
Bucket.__index = Bucket

-- Takes a token; how long to wait for it, or nothing and when there would be one.
function Bucket:take(now, most)
  local p = self.of
  local full_at = math.max(self.full_at, now)
  local due = full_at - p.spare
  local wait = due > now and math.ceil(due - now) or 0
  if wait > most then return nil, wait end
  self.full_at = full_at + p.interval
  self.serial = self.serial + 1
  return wait, self.serial
end

-- Who gave up waiting gives its token back when nobody reckons with it.
function Bucket:give_back(serial)
  if self.serial == serial then self.full_at = self.full_at - self.of.interval end
end

function Bucket:is_idle(now) return self.full_at <= now end

function Bucket:left(now)
  local p = self.of
  return math.floor((p.burst * p.interval - math.max(0, self.full_at - now)) / p.interval + 1e-9)
end

-- It may go on when its wait is over: nobody's time depends on when it really does.
function Bucket.arrive() return 0 end

-- A sliding window: the times of the last `rate` calls in a ring; a call that waits is a table
-- until it goes on, as it may do so late.
local Window = {}
Window.__index = Window

local function time_of(call) return type(call) == "table" and call.time or call end

function Window:take(now, most)
  local p = self.of
  local oldest, last = self.calls[self.count % p.rate], self.calls[(self.count - 1) % p.rate]
  local due = math.max(oldest and time_of(oldest) + p.per or now, last and time_of(last) or now)
  local wait = due > now and math.ceil(due - now) or 0
  local is_waiting = type(oldest) == "table"
  if is_waiting and wait == 0 then wait = 1 end -- It is late: nobody overtakes it.
  if wait > most then return nil, wait end
  local call = now
  if wait > 0 then call = { time = now + wait, before = is_waiting and oldest or nil } end
  self.calls[self.count % p.rate] = call
  self.count = self.count + 1
  return wait, call
end

-- The wait that was reckoned is over: how long it must still wait, as another one was late.
function Window:arrive(call, now)
  local before = call.before
  if before and not before.is_done then return 1 end
  local due = before and before.time + self.of.per or now
  if due > now then return math.ceil(due - now) end
  call.time, call.before, call.is_done = math.max(call.time, now), nil, true
  return 0
end

-- The time of who gave up was reckoned with: it stays taken.
function Window.give_back(_, call) call.before, call.is_done = nil, true end

function Window:is_idle(now)
  local last = self.calls[(self.count - 1) % self.of.rate]
  return not last or time_of(last) + self.of.per <= now
end

function Window:left(now)
  local used = 0
  for _, call in raw_pairs(self.calls) do
    if time_of(call) + self.of.per > now then used = used + 1 end
  end
  return self.of.rate - used
end

---@class catga.Limiter
local Limiter = {}
Limiter.__index = Limiter

---@param app catga.App
---@param p table
---@return catga.Limiter
function M.new(app, p)
  local burst = p.burst or p.rate
  local interval = p.per / p.rate
  return setmetatable({ app = app, rate = p.rate, per = p.per, burst = burst, interval = interval,
    spare = (burst - 1) * interval, keys = lru.new(p.keys_max), refused = 0, waiting = 0,
    kind = p.kind == "token_bucket" and Bucket or Window }, Limiter)
end

function Limiter:make()
  if self.kind == Bucket then
    return setmetatable({ of = self, full_at = 0, serial = 0 }, Bucket)
  end
  return setmetatable({ of = self, calls = {}, count = 0 }, Window)
end

-- The state of a key; nothing when there are too many that are not idle.
function Limiter:of_key(key, now)
  local found = self.keys:get(key)
  if found then return found end
  if self.keys.count >= self.keys.max then
    local oldest, idle = self.keys:oldest()
    if not idle:is_idle(now) then return nil end
    self.keys:remove(oldest)
  end
  found = self:make()
  self.keys:put(key, found)
  return found
end

--- What is left for a key.
---@param key any?  nil: of the only one
---@return table
function Limiter:status(key)
  local now = self.app.clock:mono()
  local one = self.keys.nodes[key == nil and "" or key]
  return { kind = self.kind == Bucket and "token_bucket" or "sliding_window", rate = self.rate,
    per_ms = self.per, left = one and one.value:left(now) or self.kind == Bucket and self.burst
      or self.rate, keys = self.keys.count, waiting = self.waiting, refused = self.refused }
end

local function refuse(limiter, what, after)
  limiter.refused = limiter.refused + 1
  return nil, errors.new("rate_limited", ("%s: the limit of %d in %d ms is reached; try again in "
    .. "%d ms"):format(what, limiter.rate, limiter.per, after), { retryable = true,
    retry_after_ms = after, is_refusal = true })
end

-- Waits for the time that was reserved.
local function wait_for(limiter, state, wait, serial, ctx)
  local app = limiter.app
  ctx.waited = (ctx.waited or 0) + wait
  limiter.waiting = limiter.waiting + 1
  local ok, err
  repeat
    ok, err = waits.sleep(app, wait)
    wait = ok and state:arrive(serial, app.clock:mono()) or 0
  until wait == 0
  limiter.waiting = limiter.waiting - 1
  if ok then return true end
  state:give_back(serial)
  return nil, err
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param limiter catga.Limiter
---@param scope catga.PolicyScope
function M.layer(inner, p, limiter, scope)
  local clock, counters, most = scope.app.clock, scope.counters, p.wait
  local key_fn, what = p.key, scope.name .. ": limiter.key"
  counters.limited = counters.limited or 0
  return function(data, ctx)
    local key, err = ""
    if key_fn then
      key, err = keys.of(key_fn, data, ctx, what)
      if err then return nil, err end
    end
    local now = clock:mono()
    local state = limiter:of_key(key, now)
    if not state then
      counters.limited = counters.limited + 1
      return nil, errors.new("rate_limited", ("%s: the limiter has %d keys that are in use "
        .. "(keys_max)"):format(scope.name, limiter.keys.max), { retryable = true,
        retry_after_ms = limiter.per, is_refusal = true })
    end
    local wait, serial = state:take(now, most)
    if not wait then
      counters.limited = counters.limited + 1
      return refuse(limiter, scope.name, serial)
    end
    if wait > 0 then
      local ok, fault = wait_for(limiter, state, wait, serial, ctx)
      if not ok then return nil, fault end
    end
    return inner(data, ctx)
  end
end

return M
