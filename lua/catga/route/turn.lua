--- One unit of work of a set of routes: the rules that run in it, what they send, count and gather,
--- what has failed, and the record of all that.
local state = require "catga.state"
local errors = require "catga.error"
local INTERNAL = require "catga.flags".INTERNAL
local units = require "catga.unit"
local pause_ms = require "catga.process.steps".pause_ms
local letters = require "catga.lazy".module "catga.route.letters"
local sinks = require "catga.route.sink"
local states = require "catga.route.state"

local M = {}

M.prepare = sinks.prepare

-- Raised where an event needs a unit of its own and is not the first one of this.
local CUT = errors.new("cut", "the event is routed in a unit of its own")

---@class catga.RouteTurn : catga.RouteSink
---@field router catga.Router
---@field rules table         its set as it was when the turn began: a reload may come meanwhile
---@field to integer?         the position when it is committed
---@field count_list any[]    rule, field, reason in turn
---@field count_size integer
---@field group_list table[]  see lua/catga/route/state.lua
---@field failures table[]
---@field settled table[]
---@field retried table?      the failure that is tried again
---@field event_count integer
---@field is_alone boolean?   its event runs code that is not the routes' own
local Turn = setmetatable({}, { __index = sinks.Sink })
Turn.__index = Turn

---@param router catga.Router
---@param entry catga.Entry
---@return catga.RouteTurn
function M.new(router, entry)
  return setmetatable({ router = router, rules = router.set, app = router.app, entry = entry,
    set = router.name,
    count_list = {}, count_size = 0, group_list = {}, failures = {}, settled = {},
    event_count = 0 }, Turn)
end

--- Counts when the unit is committed.
function Turn:count(rule, field, reason)
  local list, n = self.count_list, self.count_size
  list[n + 1], list[n + 2], list[n + 3] = rule, field, reason or false
  self.count_size = n + 3
end

--- A group has begun or ended.
---@param one table
function Turn:note_group(one) self.group_list[#self.group_list + 1] = one end

function Turn:gather(rule, step, message, event, go_on)
  self:count(rule, "gathered")
  return self.router.groups:add(self, step, message, event, go_on, self)
end

function Turn:before_effect()
  if self.event_count > 1 then error(CUT, 0) end
  self.is_alone = true
end

--- Records staged until now.
---@return integer
function Turn.staged_count()
  local unit = state[1].unit
  return unit and unit.n or 0
end

local function cut_list(list, n)
  for i = #list, n + 1, -1 do list[i] = nil end
end

-- What there is now, for take_back; six numbers, because this runs for every rule that is asked.
local function mark(self)
  local unit = state[1].unit
  local n, after = 0, 0
  if unit then n, after = unit:mark() end
  return n, after, self.count_size, #self.group_list, #self.failures, self.router.groups:mark()
end

local function take_back(self, n, after, counts, group_count, failures, changes)
  local unit = state[1].unit
  if unit then unit:take_back(n, after) end
  self.count_size = counts
  cut_list(self.group_list, group_count)
  cut_list(self.failures, failures)
  self.router.groups:take_back(changes)
end

-- What is sent when no rule has taken a message, as a rule.
local function otherwise(set)
  local rule = set.otherwise_rule
  if not rule then
    local step = { kind = "to", at = set.at, destination = set.otherwise }
    rule = { name = "otherwise", at = set.at, attempts = 5, backoff = 1000,
      on_failure = "dead_letter", counter = { matched = 0, filtered = 0, failed = 0, sent = 0,
        reasons = {} } }
    rule.run = function(message, event, sink)
      sink:matched(rule)
      sink:send(rule, step, step.destination, message, event)
      return true
    end
    set.otherwise_rule = rule
  end
  return rule
end
M.otherwise = otherwise

-- Runs one rule; what it did is taken back when it fails. Gives whether the message is taken; nil:
-- the event needs a unit of its own.
local function run_rule(self, rule, run, event, attempts)
  local task = state[1]
  local outer = task.ctx
  local n, after, counts, group_count, failures, changes = mark(self)
  self:begin()
  local ok, taken = xpcall(run, errors.catch, event.data, event, self)
  task.ctx = outer
  if ok then return taken end
  if taken == CUT then return nil end
  take_back(self, n, after, counts, group_count, failures, changes)
  self:count(rule, "failed")
  self:failed(rule.name, event, taken, attempts)
  return true
end

-- Runs the rules from a place on.
local function run_rules(self, event, rules, first, attempts)
  local is_first, scan, any, place = self.rules.mode == "first", self.rules.index.scan, false, first
  while true do
    local ok, at = xpcall(scan, errors.catch, rules, place, event.data, event, self)
    if ok and not at then return any end
    local taken = true
    if ok then
      taken = run_rule(self, rules[at], rules[at].take, event, at == first and attempts or 0)
      if taken == nil then return nil end
    else
      local failure = at
      at = self.at
      self:count(rules[at], "failed")
      self:failed(rules[at].name, event, failure, at == first and attempts or 0)
    end
    any = any or taken
    if taken and is_first then return true end
    place = at + 1
  end
end

-- The place of a rule that is tried again.
local function place_of(rules, rule)
  for i = 1, #rules do
    if rules[i] == rule then return i end
  end
end

-- Tries a rule again; in a set where the first one takes a message, those behind it follow.
local function run_again(self, event, one)
  local set = self.rules
  local rule = one.rule == "otherwise" and set.otherwise and otherwise(set)
    or set.by_name[one.rule]
  if not rule then
    self:give_up({ name = one.rule, on_failure = "dead_letter", counter = { reasons = {} } }, event,
      errors.new("unknown_route", ("there is no route %s any more"):format(one.rule)),
      one.attempts)
    return true
  end
  if set.mode ~= "first" then return run_rule(self, rule, rule.run, event, one.attempts) end
  local rules = set.index:find(event.type, event.data)
  local place = place_of(rules, rule)
  if not place then return run_rule(self, rule, rule.run, event, one.attempts) end
  return run_rules(self, event, rules, place, one.attempts)
end

--- Runs the rules for an event.
---@param event table     as it is presented
---@param only table?     the failure that is tried again
---@return boolean done   false: it must be the first event of a unit; nothing was done
function Turn:run(event, only)
  local set = self.rules
  local is_rule = only and only.rule ~= ""
  local rules = not is_rule and set.index:find(event.type, event.data)
  if rules and not rules[1] and not set.otherwise then return true end
  self.event_count = self.event_count + 1
  local any
  local n, after, counts, group_count, failures, changes = mark(self)
  if is_rule then
    any = run_again(self, event, only)
  else
    any = run_rules(self, event, rules, 1, only and only.attempts or 0)
    if any == false and set.otherwise and set.index:knows(event.type) then
      local rule = otherwise(set)
      any = run_rule(self, rule, rule.run, event, 0)
    end
  end
  if any ~= nil then return true end
  take_back(self, n, after, counts, group_count, failures, changes)
  self.event_count = self.event_count - 1
  return false
end

--- A rule has failed: it is tried again later, or given up.
---@param rule_name string  "": the event itself
---@param event table       position, stream, version, type, data?
---@param err catga.Error
---@param attempts integer  that have failed before
function Turn:failed(rule_name, event, err, attempts)
  local set = self.rules
  local rule = set.by_name[rule_name] or set.otherwise_rule and rule_name == "otherwise"
    and set.otherwise_rule or { name = rule_name, attempts = 5, backoff = 1000,
      on_failure = "dead_letter", counter = { reasons = {} } }
  attempts = attempts + 1
  if not err.retryable or attempts >= rule.attempts then
    return self:give_up(rule, event, err, attempts)
  end
  self.failures[#self.failures + 1] = { position = event.position, stream = event.stream,
    version = event.version, rule = rule_name, attempts = attempts,
    due = self.app.clock:now() + math.ceil(pause_ms({ backoff_ms = rule.backoff }, attempts)) }
  self.app:say("warn", ("route %s: event %s at position %s failed (attempt %d of %d): %s"):format(
    rule_name == "" and set.name or rule_name, tostring(event.type), tostring(event.position),
    attempts, rule.attempts, tostring(err.message)))
end

--- Gives a message up: it is a dead letter, unless the rule says that it is skipped.
---@param rule catga.Rule
---@param event table
---@param err catga.Error
---@param attempts integer
---@param detail table?  of a group
function Turn:give_up(rule, event, err, attempts, detail)
  self:count(rule, "given_up")
  self.app:say("error", ("route %s: event %s at position %s is %s after %d attempts: %s%s"):format(
    rule.name == "" and self.set or rule.name, tostring(event.type), tostring(event.position),
    rule.on_failure == "skip" and "skipped" or "a dead letter", attempts, tostring(err.message),
    err.traceback or ""))
  if rule.on_failure == "skip" then return end
  letters.add(self.app, self.set, rule, event, err, attempts, detail)
end

--- Ends a group whose time is over.
---@param found { rule: catga.Rule, step: catga.RouteStep }
---@param group catga.RouteGroup
---@return catga.Error? failure
function Turn:finish_group(found, group)
  self.event_count = self.event_count + 1
  self:begin()
  local task = state[1]
  local outer = task.ctx
  local ok, failure = xpcall(self.router.groups.finish, errors.catch, self.router.groups, self,
    found.step, group, "timeout", found.step.go_on, self)
  task.ctx = outer
  if not ok then return failure end
end

local function failure_list(self)
  local list = {}
  for i, one in ipairs(self.failures) do
    list[i] = { one.position, one.stream, one.version, one.rule, one.attempts, one.due }
  end
  return list[1] and list
end

--- Adds the record of all that to the unit, when there is anything to go along with.
---@return boolean? ok
---@return catga.Error? err
function Turn:stage()
  local one = self.retried
  if one and not self.settled[1] then self.settled[1] = { one.position, one.rule } end
  local failures = failure_list(self)
  if self:staged_count() == 0 and not (failures or one or self.is_alone or self.group_list[1]) then
    return true
  end
  self.is_recorded = true
  local unit = units.of(state[1])
  local version, err = unit:append(states.PREFIX .. self.set, { { type = "RouterMoved", data = {
    to = self.to or self.router.position, groups = self.group_list[1] and self.group_list or nil,
    failed = failures or nil, settled = self.settled[1] and self.settled or nil } } }, "any",
    INTERNAL)
  return version and true, err
end

--- The unit is committed.
function Turn:committed()
  local router, list = self.router, self.count_list
  for i = 1, self.count_size, 3 do sinks.add(list[i], list[i + 1], list[i + 2] or nil) end
  if self.to then router.position = math.max(router.position, self.to) end
  if self.is_recorded then
    router.saved_to, router.increments = router.position, router.increments + 1
  end
  if self.retried then router:end_retry(self.retried) end
  for _, one in ipairs(self.failures) do router:add_retry(one) end
end

return M
