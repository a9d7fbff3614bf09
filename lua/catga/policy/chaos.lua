--- Fault injection for drills: some messages fail, some are late, by a seed, as if the handler
--- itself did so. Off unless catga.lua says chaos = "on"; that is said at the start.
local errors = require "catga.error"
local randoms = require "catga.process.random"
local waits = require "catga.policy.waits"

local M = {}

M.fields = {
  error_rate = { "number", 0, 0, 1 },   -- of the messages fail
  code = { "text", "chaos" },           -- with this error, which is retryable
  delay = { "duration" },               -- up to so late
  delay_rate = { "number", 1, 0, 1 },   -- of the messages are late, when there is a delay
  seed = { "count", 1, 0, 2 ^ 48 },     -- the same seed, the same faults
}
M.short = "error_rate"
M.memory = { "seed" }

---@param app catga.App
---@param p table
function M.new(app, p)
  return { random = randoms.new(p.seed), errors = 0, delays = 0, status = function(self)
    return { is_on = app.settings.chaos == "on", errors = self.errors, delays = self.delays }
  end }
end

---@param inner fun(data: any, ctx: table): any, any
---@param p table
---@param drill table
---@param scope catga.PolicyScope
function M.layer(inner, p, drill, scope)
  if scope.app.settings.chaos ~= "on" then return inner end
  return function(data, ctx)
    -- Always as many numbers, so that one message's luck is not another one's.
    local for_delay, how_long, for_error = drill.random(), drill.random(), drill.random()
    if p.delay and for_delay < p.delay_rate then
      drill.delays = drill.delays + 1
      local ok, err = waits.sleep(scope.app, p.delay * how_long)
      if not ok then return nil, err end
    end
    if for_error < p.error_rate then
      drill.errors = drill.errors + 1
      return nil, errors.new(p.code, scope.name .. ": a fault of a drill (chaos)",
        { retryable = true })
    end
    return inner(data, ctx)
  end
end

return M
