--- Subscriptions: what reads durable events from the log by position, their lives from start to
--- stop, over reloads, and what can be done with them from outside.
---
---   catga.on("OrderCreated", { durable = "mailer" }, function(event, ctx) ... end)
---   catga.events.subscribe { name = "billing", category = "Order", group = { consumers = 4 },
---     handle = function(event, ctx) ... end }
---   local s = catga.events.subscribe { after = "end", handle = ... }   -- while the app runs
---   for event in catga.events.follow { after = 0 } do ... end
---
--- One with a name has a checkpoint in the log; what its handler appends and the checkpoint are one
--- commit. One without a name lives as long as the program.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local registries = require "catga.registry"
local commits = require "catga.commit"
local lazy = require "catga.lazy"

local options = lazy.module "catga.subscription.options"
local journal = lazy.module "catga.subscription.journal"
local runners = lazy.module "catga.subscription.runner"
local parked = lazy.module "catga.subscription.parked"
local external = lazy.module "catga.subscription.external"
local policies = lazy.module "catga.policy.handlers"

local M = {}

local UNNAMED_MAX = 1000    -- Subscriptions without a name at one time.
local LIST_MAX = 10000      -- Parked events of one list, events of one take.
local LIST_DEFAULT = 100

local function add_entry(definition, at, registry)
  local given = definition.policy
  definition.entries = {}
  definition.entry = { name = definition.name or "subscription", kind = "event",
    handle = definition.handle or function() end, at = at, counter = { calls = 0, failures = 0 },
    own = given and policies.own({ policy = given }, at .. ": subscription "
      .. (definition.name or "without a name"), at) or nil }
  if given then registry.has_own_policies = true end
  return definition
end

--- Registers a subscription with a name.
---@param registry catga.Registry
---@param given table
function M.define(registry, given)
  local at = registries.caller()
  local definition = add_entry(options.check(given, at), at, registry)
  if not definition.name then
    error(at .. ": a subscription that a script registers needs a name; one without begins while "
      .. "the app runs, in catga.main or a handler", 0)
  end
  registry:subscription(definition)
end

--- Registers a handler of one type of event as a subscription of its own.
---@param registry catga.Registry
---@param type string
---@param opts table   durable = the name, and options of a subscription
---@param handle function
function M.define_on(registry, type, opts, handle)
  local at = registries.caller()
  local given = {}
  for option, value in pairs(opts) do given[option] = value end
  for _, option in ipairs { "name", "handle", "types", "type_prefix" } do
    if given[option] ~= nil then
      error(("%s: catga.on %s: there is no option %s here; catga.events.subscribe has it"):format(
        at, tostring(type), option), 0)
    end
  end
  if opts.durable == nil then
    error(("%s: catga.on %s: options need durable = \"a name\""):format(at, tostring(type)), 0)
  end
  given.durable = nil
  given.name, given.types, given.handle = opts.durable, { type }, handle
  M.define(registry, given)
end

---@class catga.Subscriptions
---@field app catga.App
---@field runners table<string, catga.SubscriptionRunner>  by name
---@field unnamed table<catga.SubscriptionRunner, boolean>
---@field unnamed_count integer
local Subscriptions = {}
Subscriptions.__index = Subscriptions

---@param app catga.App
---@return catga.Subscriptions
function M.new(app)
  return setmetatable({ app = app, runners = {}, unnamed = {}, unnamed_count = 0 }, Subscriptions)
end

-- Runs fn when nothing else starts or ends the runner. May yield.
local function alone(runner, fn, ...)
  while runner.turn do runner.turn:wait() end
  local turn = tasks.future()
  runner.turn = turn
  local function finish(ok, ...)
    runner.turn = nil
    turn:set()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(xpcall(fn, errors.catch, runner, ...))
end

-- The same in a task of its own: a caller that is interrupted does not leave it halfway. A handler
-- of the subscription would wait for itself. May yield.
local function apart(runner, what, fn)
  if state[1].subscription == runner then
    return nil, errors.new("would_deadlock", ("subscription %s: its own handler cannot %s it: that "
      .. "waits for the handler"):format(runner.name, what))
  end
  local outcome = tasks.future()
  tasks.spawn(runner.app, function()
    outcome:set(xpcall(alone, errors.catch, runner, fn))
  end)
  local function finish(ok, ...)
    if not ok then error((...), 0) end
    return ...
  end
  return finish(outcome:wait())
end

local function start(runner)
  local ok, failure = xpcall(alone, errors.catch, runner, runner.start)
  if not ok and not runner.app.is_closed then runner:fail(failure) end
end

local function launch(self, definition)
  local runner = runners.new(self.app, definition)
  self.runners[definition.name] = runner
  tasks.spawn(self.app, start, runner)
end

--- Starts those that the scripts define; must run in a task.
function Subscriptions:start()
  self.is_started = true
  local definitions = self.app.registry.subscriptions
  for _, name in ipairs(registries.sorted_names(definitions)) do
    if not self.runners[name] then launch(self, definitions[name]) end
  end
end

-- Ends what runs and begins again with another definition. May yield.
local function restart(runner, definition)
  runner:finish()
  runner.definition = definition
  if not runner.is_ended then runner:start() end
end

local function replace(self, runner, definition)
  if not definition then
    self.runners[runner.name] = nil
    runner.is_ended = true
    tasks.spawn(self.app, function() alone(runner, runner.finish) end)
  elseif definition.signature == runner.definition.signature and runner.status ~= "failed" then
    runner.definition = definition -- What is delivered from now on has the new handler.
  else
    tasks.spawn(self.app, function()
      local ok, failure = xpcall(alone, errors.catch, runner, restart, definition)
      if not ok and not self.app.is_closed then runner:fail(failure) end
    end)
  end
end

--- Takes over the definitions of a new generation of scripts; checkpoints stay.
function Subscriptions:reloaded()
  if not self.is_started or self.is_stopping then return end
  local definitions = self.app.registry.subscriptions
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    replace(self, self.runners[name], definitions[name])
  end
  self:start()
end

local function each(self, fn)
  for _, runner in pairs(self.runners) do fn(runner) end
  for runner in pairs(self.unnamed) do fn(runner) end
end

--- Lets nothing more begin.
function Subscriptions:halt()
  self.is_stopping = true
  each(self, function(runner)
    runner.is_ended = true
    runner:halt()
  end)
end

--- How many handlers run.
---@return integer
function Subscriptions:working()
  local count = 0
  each(self, function(runner) count = count + runner.working end)
  return count
end

--- Ends all, and records where those with a name stand. May yield.
function Subscriptions:stop()
  self:halt()
  each(self, function(runner)
    runner:drop()
    if runner.name and runner.has_started then runner:save() end
  end)
end

--- Ends as a crash would.
function Subscriptions:abandon()
  self:halt()
  each(self, function(runner) runner:drop() end)
end

local function describe(runner)
  local _, durable = runner.app.store:positions()
  local position = runner.window:position()
  return { name = runner.name, status = runner.status, position = position,
    lag = math.max(0, durable - 1 - position), rate = runner:rate(), handled = runner.handled,
    in_flight = runner.window.out_count, parked = runner.parked_count, error = runner.error,
    last_error = runner.last_error }
end

--- Those with a name, by name.
---@return table[] list  { name, status, position, lag, rate, handled, in_flight, parked, error?,
---  last_error? }
function Subscriptions:list()
  local list = {}
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    list[#list + 1] = describe(self.runners[name])
  end
  return list
end

-- The runner of a name, or nil and an error.
local function find(self, name)
  local runner = self.runners[name]
  if runner then return runner end
  local near = type(name) == "string" and registries.suggest(name, self.runners)
  return nil, errors.new("not_found", ("no subscription is called %s%s"):format(tostring(name),
    near and "; did you mean " .. near .. "?" or ""))
end

--- One of them, or nil and an error.
---@param name string
function Subscriptions:get(name)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return describe(runner)
end

local function set_paused(runner, is_paused)
  local mark = runner:begin_change()
  local ok, err = commits.records(runner.app, function(add)
    add(journal.PREFIX .. runner.name, "SubscriptionPaused", { paused = is_paused })
  end)
  runner:end_change(mark)
  if not ok then return nil, err end
  runner:pause(is_paused)
  return true
end

--- Stops deliveries until it is resumed, also over a restart; what runs ends. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function Subscriptions:pause(name)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return alone(runner, set_paused, true)
end

--- Goes on after a pause or a failure. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function Subscriptions:resume(name)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  if runner.status ~= "failed" then return alone(runner, set_paused, false) end
  return apart(runner, "resume", function()
    local ok, fault = set_paused(runner, false)
    if not ok then return nil, fault end
    if runner.status == "failed" then
      runner:finish()
      runner:start()
    end
    return true
  end)
end

--- Begins again behind a position; parked events stay parked. What runs ends first. May yield.
---@param name string
---@param place integer|"start"|"end"
---@return boolean? ok
---@return catga.Error? err
function Subscriptions:reset(name, place)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  local last = self.app.store:positions() - 1
  local to = place == "start" and 0 or place == "end" and last or place
  if type(to) ~= "number" or to % 1 ~= 0 or to < 0 or to > last then
    return nil, errors.new("invalid", ("the position is \"start\", \"end\" or a number from 0 to "
      .. "%d, not %s"):format(last, tostring(place)))
  end
  return apart(runner, "reset", function()
    runner:finish()
    local ok, fault = commits.records(runner.app, function(add)
      add(journal.PREFIX .. runner.name, "SubscriptionReset", { to = to })
    end)
    runner:start()
    return ok or nil, fault
  end)
end

local function check_max(max, what)
  max = max or LIST_DEFAULT
  if type(max) ~= "number" or max % 1 ~= 0 or max < 1 or max > LIST_MAX then
    return nil, errors.new("invalid", ("%s: max is a whole number from 1 to %d"):format(what,
      LIST_MAX))
  end
  return max
end

--- Parked events in order of their positions.
---@param name string
---@param opts { after: integer?, max: integer? }?  max: 1 to 10,000, default 100
---@return table[]? list
---@return catga.Error? err
function Subscriptions:parked(name, opts)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  opts = opts or {}
  local max, fault = check_max(opts.max, "parked")
  if not max then return nil, fault end
  return parked.list(runner, opts.after or 0, max)
end

--- Delivers one parked event, or all of them, again. May yield.
---@param name string
---@param which integer|"all"
---@return integer? count
---@return catga.Error? err
function Subscriptions:replay(name, which)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return alone(runner, parked.replay, which)
end

--- Drops one parked event, or all of them. May yield.
---@param name string
---@param which integer|"all"
---@return integer? count
---@return catga.Error? err
function Subscriptions:drop(name, which)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return alone(runner, parked.drop, which)
end

--- Takes events of a group without a handler. May yield.
---@param name string
---@param max integer?  default 100
---@return table[]? events  each with its token and attempt
---@return catga.Error? err
function Subscriptions:take(name, max)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  local most, fault = check_max(max, "take")
  if not most then return nil, fault end
  return external.take(runner, most)
end

--- Answers a delivery that was taken. May yield.
---@param name string
---@param answer "ack"|"retry"|"park"
---@param token string
---@param more any  retry: milliseconds; park: the reason
---@return boolean? ok
---@return catga.Error? err
function Subscriptions:answer(name, answer, token, more)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return external[answer](runner, token, more)
end

--- A subscription without a name, as a script holds it.
---@class catga.Subscription
local Subscription = {}
Subscription.__index = Subscription

--- All events up to here were handled.
---@return integer
function Subscription:position() return self.runner.window:position() end

--- What it does: { status, position, lag, rate, handled, in_flight, error? }.
function Subscription:status() return describe(self.runner) end

--- Ends it; a handler that runs may end. From its own handler, this is the last event.
function Subscription:stop()
  local runner, owner = self.runner, self.owner
  if not owner.unnamed[runner] then return end
  owner.unnamed[runner] = nil
  owner.unnamed_count = owner.unnamed_count - 1
  runner.is_ended = true
  runner:halt()
  runner:close_cursor()
  if runner.status ~= "failed" then runner.status = "stopped" end
end

--- Begins a subscription without a name.
---@param given table
---@return catga.Subscription
function Subscriptions:subscribe(given)
  local at = registries.caller()
  if type(given) == "table" and given.policy ~= nil then
    error(at .. ": a subscription without a name has no policy; call catga.policies.run in its "
      .. "handler", 0)
  end
  local definition = add_entry(options.check(given, at), at)
  if definition.name then
    error(at .. ": a subscription with a name is registered at the top level of a script, so that "
      .. "it goes on after a restart", 0)
  end
  if self.is_stopping or self.unnamed_count >= UNNAMED_MAX then
    error(errors.new(self.is_stopping and "closed" or "limit", self.is_stopping
      and "the app is stopping" or ("there are %d subscriptions without a name already; stop some")
      :format(UNNAMED_MAX)), 0)
  end
  self.app.registry:compose_one(definition.entry, self.app)
  local runner = runners.new(self.app, definition)
  self.unnamed[runner] = true
  self.unnamed_count = self.unnamed_count + 1
  runner:start()
  return setmetatable({ runner = runner, owner = self }, Subscription)
end

return M
