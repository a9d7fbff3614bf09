--- What rules decide, done: messages go to their destinations inside the open unit of work, with
--- the conversation of their event, one hop further.
local state = require "catga.state"
local errors = require "catga.error"
local copy = require "catga.route.copy"
local metadata_fields = { "hops", "correlation_id", "split" }

local M = {}

---@class catga.RouteSink
---@field app catga.App
---@field entry catga.Entry   in whose name it is sent: it says which generation of scripts does it
---@field set string          name of the rules
---@field ctx catga.Ctx?      of the rule and event that have sent something
---@field has_taken boolean?
local Sink = {}
Sink.__index = Sink

--- Makes a sink, or gives one the methods of this one.
---@param sink table  app, entry, set
---@return catga.RouteSink
function M.new(sink) return setmetatable(sink, Sink) end

M.Sink = Sink

--- Puts what routes ask of an event's metadata beside its other fields.
---@param event table
function M.prepare(event)
  local metadata = event.metadata
  if type(metadata) ~= "table" then return end
  for i = 1, #metadata_fields do
    local field = metadata_fields[i]
    if event[field] == nil then event[field] = metadata[field] end
  end
end

--- A rule begins.
function Sink:begin() self.ctx = nil end

-- Raises when a message has gone through so many routes that it must be going in a circle.
local function check_hops(self, rule, event, hops)
  local max = self.app.settings.route_hops_max
  if hops <= max then return end
  error(errors.new("route_loop", ("route %s (%s): the message came through %d routes "
    .. "(route_hops_max): they feed each other. It began as %s"):format(rule.name, rule.at, max,
    tostring(event.correlation_id or event.id))), 0)
end

-- The envelope under which a rule sends what comes of an event.
local function ctx_of(self, rule, event)
  local ctx = self.ctx
  if ctx and ctx.event == event.id then return ctx end
  local hops = (event.hops or 0) + 1
  check_hops(self, rule, event, hops)
  local parent = event.ctx -- Of an event that has no id yet.
  local id = event.id or parent and parent.id
  ctx = { entry = self.entry, app = self.app, name = event.type, kind = "event", event = event.id,
    id = id, correlation_id = event.correlation_id or parent and parent.correlation_id or id,
    key = (event.id or self.app:new_id()) .. "/route/" .. self.set .. "/" .. rule.name,
    hops = hops, sent = 0, attempt = 1, has_key = false }
  self.ctx = ctx
  return ctx
end

local function extra_of(rule, event)
  local split = event.split
  if split then return { route = rule.name, split = split } end
  local extra = rule.extra
  if not extra then
    extra = { route = rule.name }
    rule.extra = extra
  end
  return extra
end

--- Sends a message. Raises when it cannot. May yield.
---@param rule catga.Rule
---@param destination catga.RouteDestination
---@param message any
---@param event table
function Sink:send(rule, _, destination, message, event)
  if destination.is_effect then self:before_effect() end
  local task = state[1]
  local outer = task.ctx
  task.ctx = ctx_of(self, rule, event)
  destination.deliver(self.app, destination, message, event, extra_of(rule, event))
  task.ctx = outer -- Who has called the rule does it when this raises.
  self:count(rule, "sent")
end

--- Shows a message to a tap: what goes wrong there is said and goes no further. May yield.
---@param rule catga.Rule
---@param step catga.RouteStep
---@param message any
---@param event table
function Sink:tap(rule, step, message, event)
  local task, d = state[1], step.destination
  if d.is_effect then self:before_effect() end
  local outer = task.ctx
  local unit = task.unit
  local n, after = 0, 0
  if unit then n, after = unit:mark() end
  local ok, failure = xpcall(function()
    task.ctx = ctx_of(self, rule, event)
    d.deliver(self.app, d, copy(message), event, extra_of(rule, event))
  end, errors.catch)
  task.ctx = outer
  if ok or self.app.is_closed then return end
  if task.unit then task.unit:take_back(n, after) end
  self:count(rule, "tap_failed")
  self.app:say("warn", ("route %s: the tap at %s failed, the route goes on: %s"):format(rule.name,
    step.at, tostring(failure.message)))
end

--- A rule has taken the message.
function Sink:matched(rule) self:count(rule, "matched") end

--- A filter has dropped the message.
function Sink:filtered(rule, _, reason)
  self.has_taken = true
  self:count(rule, "filtered", tostring(reason))
end

--- Adds a message to a group; only the reader of the log can.
function Sink.gather(_, rule, step)
  error(errors.new("invalid", ("route %s: the aggregate at %s gathers stored events; this one is "
    .. "not stored (qos = 0)"):format(rule.name, step.at)), 0)
end

--- Code that is not the route's own is about to run.
function Sink.before_effect() end

local REASONS_MAX = 100 -- Of one rule.

--- Counts at once.
---@param rule catga.Rule
---@param field string
---@param reason string?
function Sink.count(_, rule, field, reason) M.add(rule, field, reason) end

--- Adds one to a counter of a rule.
---@param rule catga.Rule
---@param field string
---@param reason string?  of what was filtered
function M.add(rule, field, reason)
  local counter = rule.counter
  counter[field] = (counter[field] or 0) + 1
  if not reason then return end
  local reasons = counter.reasons
  if not reasons[reason] then
    counter.reason_count = (counter.reason_count or 0) + 1
    if counter.reason_count > REASONS_MAX then reason = "others" end
  end
  reasons[reason] = (reasons[reason] or 0) + 1
end

return M
