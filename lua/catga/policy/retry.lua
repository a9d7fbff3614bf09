--- Retry: tries again what failed, with a pause before each attempt.
---
--- Each attempt of an outermost message is a unit of work of its own; what a failed attempt of a
--- nested one staged is taken back. All attempts have the same key. Inside a step only the step's
--- own attempts count.
local state = require "catga.state"
local waits = require "catga.policy.waits"
local raw_random = require "catga.sandbox".raw.random

local M = {}

M.fields = {
  attempts = { "count", 3, 1, 1000000 },       -- the first one included
  backoff = { "duration", "200ms", 0 },        -- the first pause
  growth = { "choice", "exponential", { "fixed", "linear", "exponential" } },
  jitter = { "choice", "equal", { "none", "full", "equal", "decorrelated" } },
  max_backoff = { "duration", "30s", 0 },      -- the longest pause
  on = { "codes" },      -- only these errors, retryable or not; default: those that are retryable
  not_on = { "codes" },  -- never these
}
M.short = "attempts"

function M.check(p)
  if p.max_backoff < p.backoff then
    error("retry: max_backoff is shorter than backoff", 0)
  end
  for code in pairs(p.on or {}) do
    if p.not_on and p.not_on[code] then
      error(("retry: %s is in both on and not_on"):format(code), 0)
    end
  end
end

local GROWTH = {
  fixed = function(p) return p.backoff end,
  linear = function(p, failures) return p.backoff * failures end,
  exponential = function(p, failures) return p.backoff * 2 ^ math.min(failures - 1, 60) end,
}

--- The pause before another attempt, at most max_backoff.
---@param p { backoff: number, growth: string, jitter: string, max_backoff: number }
---@param failures integer  attempts that have failed
---@param before number     the pause before the attempt that failed last; 0: there was none
---@param random fun(): number  from 0 to 1
---@return number ms
function M.pause(p, failures, before, random)
  if p.jitter == "decorrelated" then
    local high = math.max(p.backoff, (before > 0 and before or p.backoff) * 3)
    return math.min(p.max_backoff, p.backoff + (high - p.backoff) * random())
  end
  local ms = math.min(p.max_backoff, GROWTH[p.growth](p, failures))
  if p.jitter == "full" then return ms * random() end
  if p.jitter == "equal" then return ms * (0.5 + 0.5 * random()) end
  return ms
end

--- May the work be tried again after this error?
---@param p { on: table?, not_on: table? }
---@param err catga.Error
---@return boolean
function M.is_retried(p, err)
  if p.not_on and p.not_on[err.code] then return false end
  if p.on then return p.on[err.code] == true end
  return err.retryable == true
end

-- The pause, or nothing when there is no use in another attempt: what refused says that it will do
-- so for longer than any pause is.
local function pause_after(p, err, failures, before)
  local ms = M.pause(p, failures, before, raw_random)
  local least = err.retry_after_ms
  if not least then return ms end
  if least > p.max_backoff then return nil end
  return math.max(ms, least)
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param _ nil
---@param scope catga.PolicyScope
function M.layer(inner, p, _, scope)
  local counters, app = scope.counters, scope.app
  counters.retries = counters.retries or 0

  -- What a script raised is a fault of the script, and seen also when the next attempt succeeds.
  local function report(err)
    if not err.traceback or err.reported then return end
    err.reported = true
    app:say("error", ("%s: %s%s"):format(scope.name, err.message, err.traceback))
  end

  local function again(data, ctx, err)
    local before = 0
    for failures = 1, p.attempts - 1 do
      if not M.is_retried(p, err) then return nil, err end
      report(err)
      before = pause_after(p, err, failures, before)
      if not before then return nil, err end
      local ok, fault = waits.sleep(app, before)
      if not ok then return nil, fault end
      ctx.attempt, ctx.sent = ctx.attempt + 1, 0 -- What it sends has the same keys.
      counters.retries = counters.retries + 1
      local value
      value, err = inner(data, ctx)
      if value ~= nil or err == nil then return value end
    end
    return nil, err
  end

  return function(data, ctx)
    local value, err = inner(data, ctx)
    if value ~= nil or err == nil or state[1].limit then return value, err end
    return again(data, ctx, err)
  end
end

return M
