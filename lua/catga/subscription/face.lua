--- What scripts see of subscriptions: catga.events.subscribe and follow, and catga.subscriptions.
local state = require "catga.state"
local running = require "catga.face".running
local duration = require "catga.duration"
local subscription = require "catga.subscription"
local follow = require "catga.lazy".module "catga.subscription.follow"

local M = {}

--- Delivers durable events to a function: from a position on, and then as they come. With a name
--- it belongs at the top level of a script, and goes on where it was after a restart; without one
--- it begins here and lasts as long as the program. May yield.
---@param opts table  handle(event, ctx), and: name, after, stream, category, types, type_prefix,
---  group, attempts, backoff, ack_timeout, on_failure, ... (lua/catga/subscription/options.lua)
---@return catga.Subscription? subscription  without a name: stop(), position(), status()
function M.subscribe(opts)
  if state.loading then return subscription.define(state.loading, opts) end
  return running("catga.events.subscribe", "subscribe in catga.main").subscriptions
    :subscribe(opts)
end

--- An iterator over durable events that waits for more:
--- `for event in catga.events.follow { after = 0 } do ... end`. It ends when the app stops.
---@param opts { after: integer|"start"|"end"|nil, stream: string?, category: string?,
---  types: string[]?, type_prefix: string? }?
---@return fun(): table?  the next event: stream, version, position, type, data, id, time
function M.follow(opts)
  return follow.follow(running("catga.events.follow", "follow in catga.main"), opts)
end

--- The table catga.subscriptions.
M.subscriptions = {}

local function all(what)
  return running("catga.subscriptions." .. what, "do it in a step", 4).subscriptions
end

--- { name, status, position, lag, rate, handled, in_flight, parked, error? } of each, by name.
---@return table[]
function M.subscriptions.list() return all("list"):list() end

--- One of them, or nil and an error.
---@param name string
function M.subscriptions.get(name) return all("get"):get(name) end

--- Stops deliveries until it is resumed, also over a restart. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function M.subscriptions.pause(name) return all("pause"):pause(name) end

--- Goes on after a pause or a failure. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function M.subscriptions.resume(name) return all("resume"):resume(name) end

--- Begins again behind a position; parked events stay parked. May yield.
---@param name string
---@param position integer|"start"|"end"
---@return boolean? ok
---@return catga.Error? err
function M.subscriptions.reset(name, position) return all("reset"):reset(name, position) end

--- Parked events by position: { position, stream, version, type, attempts, reason, error?, time }
---@param name string
---@param opts { after: integer?, max: integer? }?
---@return table[]? list
---@return catga.Error? err
function M.subscriptions.parked(name, opts) return all("parked"):parked(name, opts) end

--- Delivers a parked event again, or all of them. May yield.
---@param name string
---@param which integer|"all"  position
---@return integer? count
---@return catga.Error? err
function M.subscriptions.replay(name, which) return all("replay"):replay(name, which) end

--- Forgets a parked event, or all of them. May yield.
---@param name string
---@param which integer|"all"
---@return integer? count
---@return catga.Error? err
function M.subscriptions.drop(name, which) return all("drop"):drop(name, which) end

--- Takes events of a group without a handler, each with a token to answer by. May yield.
---@param name string
---@param max integer?  default 100
---@return table[]? events
---@return catga.Error? err
function M.subscriptions.take(name, max) return all("take"):take(name, max) end

--- The event is done: durable when this returns. May yield.
---@param name string
---@param token string
---@return boolean? ok
---@return catga.Error? err
function M.subscriptions.ack(name, token) return all("ack"):answer(name, "ack", token) end

--- The event is to be delivered again. May yield.
---@param name string
---@param token string
---@param delay string?  duration; default: the growing pauses of the subscription
---@return boolean? ok
---@return catga.Error? err
function M.subscriptions.retry(name, token, delay)
  local ms = delay and duration.ms(delay, "catga.subscriptions.retry")
  return all("retry"):answer(name, "retry", token, ms)
end

--- The event is parked. May yield.
---@param name string
---@param token string
---@param reason string?
---@return boolean? ok
---@return catga.Error? err
function M.subscriptions.park(name, token, reason)
  return all("park"):answer(name, "park", token, reason)
end

return M
