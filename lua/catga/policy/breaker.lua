--- Circuit breaker: when too many of the newest calls have failed, or were slow, it opens and
--- refuses at once; after a while it lets a few probes through, and closes when they do well.
---
--- closed -> open: at least min_calls in the window, and failure_rate or slow_rate is reached
--- open -> half_open: with the first call after `open`
--- half_open -> closed or open: by the outcome of `probes` calls
--- An outcome counts in the state in which its call began. What a limiter, bulkhead or lock inside
--- refuses is no outcome.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local windows = require "catga.policy.window"

local M = {}

M.fields = {
  failure_rate = { "number", 50, 0.1, 100 },  -- percent of the calls in the window
  slow = { "duration" },                      -- what takes longer is slow; default: nothing is
  slow_rate = { "number", 100, 0.1, 100 },    -- percent
  window = { "window", 100 },                 -- so many calls, or a duration
  min_calls = { "count", 10, 1, 100000 },     -- before it judges
  open = { "duration", "30s" },               -- refuses for so long
  probes = { "count", 5, 1, 1000 },           -- calls in half open
  on = { "codes" },      -- what counts as a failure; default: errors that are retryable
  not_on = { "codes" },  -- what does not
}
M.short = "failure_rate"
M.memory = { "failure_rate", "slow", "slow_rate", "window", "min_calls", "open", "probes" }

function M.check(p)
  if type(p.window) == "number" and p.window < p.min_calls then
    error(("breaker: a window of %d calls never has the %d of min_calls: it would never open")
      :format(p.window, p.min_calls), 0)
  end
end

---@class catga.Breaker
---@field state "closed"|"open"|"half_open"
---@field generation integer  grows with every change of state
local Breaker = {}
Breaker.__index = Breaker

---@param app catga.App
---@param p table
---@return catga.Breaker
function M.new(app, p)
  return setmetatable({ app = app, p = p, state = "closed", generation = 1, opened = 0,
    refused = 0, calls = windows.new(p.window) }, Breaker)
end

local function is_over(p, calls, failed, slow)
  return failed * 100 >= p.failure_rate * calls and failed > 0
    or slow * 100 >= p.slow_rate * calls and slow > 0
end

function Breaker:change(to, now)
  self.state, self.generation, self.since = to, self.generation + 1, now
  if to == "open" then
    self.until_ms, self.opened = now + self.p.open, self.opened + 1
  elseif to == "half_open" then
    self.begun, self.done, self.failed, self.slow = 0, 0, 0, 0
  else
    self.calls:clear()
  end
end

--- May a call begin?
---@param now number
---@return integer? generation  nil: it is refused
---@return number? after        ms until there is use in another try
function Breaker:begin(now)
  if self.state == "closed" then return self.generation end
  local p = self.p
  if self.state == "open" then
    if now < self.until_ms then return nil, self.until_ms - now end
    self:change("half_open", now)
  end
  if self.begun >= p.probes then
    -- Probes that never end must not keep it so for ever.
    if now - self.since < p.open then return nil, self.since + p.open - now end
    self:change("half_open", now)
  end
  if self.begun == 0 then self.since = now end
  self.begun = self.begun + 1
  return self.generation
end

--- A call that began in a generation has ended without an outcome.
function Breaker:cancel(generation)
  if generation == self.generation and self.state == "half_open" then
    self.begun = self.begun - 1
  end
end

--- A call that began in a generation has ended.
---@param generation integer
---@param now number
---@param failed boolean
---@param slow boolean
function Breaker:record(generation, now, failed, slow)
  if generation ~= self.generation then return end
  local p = self.p
  if self.state == "closed" then
    local calls = self.calls
    calls:add(now, failed, slow)
    if calls.total >= p.min_calls and is_over(p, calls.total, calls.failed, calls.slow) then
      self:change("open", now)
    end
    return
  end
  self.done = self.done + 1
  if failed then self.failed = self.failed + 1 end
  if slow then self.slow = self.slow + 1 end
  if self.done >= p.probes then
    self:change(is_over(p, self.done, self.failed, self.slow) and "open" or "closed", now)
  end
end

--- How it stands.
---@return table
function Breaker:status()
  local now = self.app.clock:mono()
  local calls = self.calls
  calls:turn(now)
  local is_due = self.state == "open" and now >= self.until_ms
  return { state = is_due and "half_open" or self.state, calls = calls.total,
    failed = calls.failed, slow = calls.slow, opened = self.opened, refused = self.refused,
    retry_after_ms = self.state == "open" and not is_due and math.ceil(self.until_ms - now)
      or nil }
end

local function is_failure(p, err)
  if p.not_on and p.not_on[err.code] then return false end
  if p.on then return p.on[err.code] == true end
  return err.retryable == true
end

-- What a dropped task leaves behind: a probe without an outcome.
local Probe = {}
Probe.__index = Probe
function Probe:release() self.breaker:cancel(self.generation) end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param breaker catga.Breaker
---@param scope catga.PolicyScope
function M.layer(inner, p, breaker, scope)
  local clock, counters = scope.app.clock, scope.counters
  local is_timed = p.slow ~= nil or type(p.window) == "table"
  counters.short_circuits = counters.short_circuits or 0

  local function refuse(after)
    counters.short_circuits = counters.short_circuits + 1
    breaker.refused = breaker.refused + 1
    after = math.ceil(after)
    return nil, errors.new("circuit_open", ("%s: the circuit breaker is open; try again in %d ms")
      :format(scope.name, after), { retryable = true, retry_after_ms = after, is_refusal = true })
  end

  local function finish(generation, start, before, ctx, value, err)
    local now = clock:mono()
    if value == nil and err ~= nil and err.is_refusal then
      breaker:cancel(generation)
    else
      local took = p.slow and now - start - ((ctx.waited or 0) - before) or 0
      breaker:record(generation, now, value == nil and err ~= nil and is_failure(p, err),
        p.slow ~= nil and took > p.slow)
    end
    return value, err
  end

  local function guarded(data, ctx)
    local start = clock:mono()
    local generation, after = breaker:begin(start)
    if not generation then return refuse(after) end
    local task, probe, before = state[1], nil, ctx.waited or 0
    if breaker.state == "half_open" then
      probe = setmetatable({ breaker = breaker, generation = generation }, Probe)
      tasks.hold(task, probe)
    end
    local value, err = inner(data, ctx)
    if probe then tasks.unhold(task, probe) end
    return finish(generation, start, before, ctx, value, err)
  end

  if is_timed then return guarded end
  -- The usual case needs no clock: closed, counted by calls, and it went well.
  return function(data, ctx)
    if breaker.state ~= "closed" then return guarded(data, ctx) end
    local generation = breaker.generation
    local value, err = inner(data, ctx)
    if value ~= nil or err == nil then
      if generation == breaker.generation then breaker.calls:add(0, false, false) end
      return value
    end
    return finish(generation, 0, 0, ctx, value, err)
  end
end

return M
