--- External consumers of a group: they take events, each with a token, and answer by it. What is
--- not answered before its ack_timeout is delivered again, and then has another token.
local errors = require "catga.error"
local deliveries = require "catga.subscription.delivery"

local M = {}

local function check(runner)
  if not runner.definition.is_external then
    return nil, errors.new("invalid", ("subscription %s has a handler; only a group without one "
      .. "gives its events to other programs"):format(runner.name))
  end
  if runner.status ~= "running" or runner.is_halting then
    return nil, errors.new("closed", ("subscription %s is %s"):format(runner.name,
      runner.is_halting and "stopping" or runner.status), { retryable = true })
  end
  return true
end

-- Takes one event out of the window; nil when it came to its end at once. May yield.
local function take_one(runner, entry)
  local event, err = deliveries.event(runner, entry)
  if err then
    deliveries.failed(runner, entry, err)
  elseif not event then
    M.finish(runner, entry)
  else
    entry.token = runner.app:new_id()
    runner.tokens[entry.token] = entry
    runner:began(entry)
    event.token, event.attempt = entry.token, entry.attempts + 1
    return event
  end
end

--- Takes events; fewer than asked for when there are not more. May yield.
---@param runner catga.SubscriptionRunner
---@param max integer
---@return table[]? events  each with token and attempt
---@return catga.Error? err
function M.take(runner, max)
  local ok, err = check(runner)
  if not ok then return nil, err end
  local events = {}
  local window = runner.window
  while #events < max and window.out_count < runner.definition.in_flight_max do
    local entry = window:take()
    if not entry then break end
    events[#events + 1] = take_one(runner, entry)
  end
  return events
end

-- The delivery of a token, which is answered now.
local function claim(runner, token)
  local entry = runner.tokens[token]
  if not entry then
    return nil, errors.new("not_found", ("subscription %s has no delivery with this token: it was "
      .. "answered, its ack_timeout has passed, or the program was started anew")
      :format(runner.name))
  end
  runner.tokens[token], entry.token = nil, nil
  runner:ended(entry)
  return entry
end

--- Records that an event is done and ends its delivery. May yield.
---@param runner catga.SubscriptionRunner
---@param entry catga.Delivery
---@return boolean? ok
---@return catga.Error? err
function M.finish(runner, entry)
  local ok, err = deliveries.record_done(runner, entry)
  runner:end_change(entry.mark)
  entry.mark = nil
  if ok then
    runner:done(entry)
    return true
  end
  entry.saved_to = nil
  deliveries.failed(runner, entry, err)
  return nil, err
end

--- The event of a token is done: durable when this returns. May yield.
---@param runner catga.SubscriptionRunner
---@param token string
---@return boolean? ok
---@return catga.Error? err  the event will be delivered again
function M.ack(runner, token)
  local entry, err = claim(runner, token)
  if not entry then return nil, err end
  return M.finish(runner, entry)
end

--- The event of a token is to be delivered again. May yield.
---@param runner catga.SubscriptionRunner
---@param token string
---@param delay_ms number?  default: the growing pauses of the subscription
---@return boolean? ok
---@return catga.Error? err
function M.retry(runner, token, delay_ms)
  local entry, err = claim(runner, token)
  if not entry then return nil, err end
  deliveries.failed(runner, entry, errors.new("retry", "the consumer asked for another attempt",
    { retryable = true, is_decision = true, delay_ms = delay_ms }))
  return true
end

--- The event of a token is parked. May yield.
---@param runner catga.SubscriptionRunner
---@param token string
---@param reason string?
---@return boolean? ok
---@return catga.Error? err
function M.park(runner, token, reason)
  local entry, err = claim(runner, token)
  if not entry then return nil, err end
  deliveries.failed(runner, entry, deliveries.park_error(reason))
  return true
end

return M
