--- Specs of aggregates: what happened, what is done, what is to come of it; without the store.
---
---   testing.aggregate("Order")
---     :given { { "OrderCreated", { customer = "Ann" } } }
---     :when(function(order) return order:add("A", 5) end)     -- or :when("add", "A", 5)
---     :expect { { "LineAdded", { sku = "A", amount = 5 } } }
---     :expect_state { status = "created", total = 5 }
---
--- Each check also applies all events anew and compares the states, so that an apply function which
--- gives something else the second time is found.
local errors = require "catga.error"
local json = require "catga.native.json"
local registries = require "catga.registry"

local M = {}

local ID = "1" -- Unless a scenario names one.

--- One scenario.
---@class catga.AggregateScenario
---@field call fun(fn: function, ...): any  runs a function inside the app
---@field face table                        the aggregate, as scripts hold it
---@field history { type: string, data: any }[]
---@field id string
---@field order catga.Aggregate?  once something was done
---@field value any               what the command gave
---@field err catga.Error?        why it failed
local Scenario = {}
Scenario.__index = Scenario

-- { "Type", data } or { type =, data = }.
local function event_of(given, i)
  local kind = type(given) == "table" and (given.type or given[1])
  if type(kind) ~= "string" then
    error(("event %d is { \"Type\", data } or { type = ..., data = ... }"):format(i), 3)
  end
  local data = given.data
  if data == nil then data = given[2] end
  return { type = kind, data = data == nil and {} or data }
end

local function events_of(list)
  if type(list) ~= "table" then error("a list of events, each { \"Type\", data }", 3) end
  local events = {}
  for i, given in ipairs(list) do events[i] = event_of(given, i) end
  return events
end

--- A scenario of an aggregate.
---@param registry catga.Registry
---@param name string
---@param call fun(fn: function, ...): any
---@return catga.AggregateScenario
function M.new(registry, name, call)
  local class = registry.aggregates[name]
  if not class then
    local near = type(name) == "string" and registries.suggest(name, registry.aggregates)
    error(("no aggregate is called %s%s"):format(tostring(name),
      near and "; did you mean " .. near .. "?" or ""), 3)
  end
  return setmetatable({ call = call, face = class.face, history = {}, id = ID }, Scenario)
end

--- What has happened before.
---@param events { [1]: string, [2]: any }[]
---@param id string?  of the aggregate, default "1"
---@return catga.AggregateScenario self
function Scenario:given(events, id)
  self.history, self.id = events_of(events), id or self.id
  return self
end

--- What is done: a function that gets the aggregate, or the name of a command and its arguments.
---@param what (fun(aggregate: catga.Aggregate): any, any)|string
---@return catga.AggregateScenario self
function Scenario:when(what, ...)
  local fn, arguments, count = what, { ... }, select("#", ...)
  if type(what) == "string" then
    fn = function(order)
      if type(order[what]) ~= "function" then error("there is no command " .. what, 0) end
      return order[what](order, unpack(arguments, 1, count))
    end
  end
  local order = self.call(self.face.from_history, self.history, self.id)
  self.order = order
  local ok, value, err = self.call(xpcall, fn, errors.catch, order)
  if ok and (value ~= nil or err == nil) then
    self.value, self.err = value, nil
  else
    self.value, self.err = nil, errors.from(ok and err or value)
  end
  return self
end

local function text_of(value)
  local text, err = json.encode(value)
  return text or "(" .. err.message .. ")"
end

-- Applies all events anew; raises when that gives another state.
local function check_replay(self, raised)
  local all = {}
  for _, list in ipairs { self.history, raised } do
    for _, event in ipairs(list) do all[#all + 1] = { type = event.type, data = event.data } end
  end
  local again = self.call(self.face.from_history, all, self.id)
  local before, after = text_of(self.order.state), text_of(again.state)
  if before == after then return end
  error(("the same events give another state when they are applied again, so apply or initial "
    .. "depends on something else:\n  first  %s\n  again  %s"):format(before, after), 3)
end

-- What was raised; raises when nothing was done, or when it failed and was not to.
local function raised_of(self, may_fail)
  if not self.order then error("say first what is done: :when(...)", 3) end
  if self.err and not may_fail then
    error(("the command failed: %s%s"):format(tostring(self.err), self.err.traceback or ""), 3)
  end
  local raised = self.call(self.order.uncommitted, self.order)
  if not self.err then check_replay(self, raised) end
  return raised
end

local function fits(event, wanted)
  if event.type ~= wanted.type then return false end
  if type(wanted.data) == "function" then return wanted.data(event.data) and true or false end
  return text_of(event.data) == text_of(wanted.data)
end

local function describe(events)
  local lines = {}
  for i, event in ipairs(events) do
    lines[i] = ("  %d  %s %s"):format(i, event.type, type(event.data) == "function"
      and "(a function)" or text_of(event.data))
  end
  return #lines == 0 and "  none" or table.concat(lines, "\n")
end

--- The command succeeds and raises exactly these events. Their data may be a function of it.
---@param events { [1]: string, [2]: any }[]
---@return catga.AggregateScenario self
function Scenario:expect(events)
  local raised, wanted = raised_of(self), events_of(events)
  local is_same = #raised == #wanted
  for i = 1, is_same and #wanted or 0 do is_same = is_same and fits(raised[i], wanted[i]) end
  if not is_same then
    error(("expected other events:\n%s\nraised were:\n%s"):format(describe(wanted),
      describe(raised)), 2)
  end
  return self
end

--- The command fails with this code and raises nothing.
---@param code string
---@return catga.AggregateScenario self
function Scenario:expect_error(code)
  local raised = raised_of(self, true)
  if not self.err then error(("expected the error %s; the command succeeded"):format(code), 2) end
  if self.err.code ~= code then
    error(("expected the error %s; it was %s%s"):format(code, tostring(self.err),
      self.err.traceback or ""), 2)
  end
  if #raised > 0 then
    error(("the command failed, but it had raised events:\n%s"):format(describe(raised)), 2)
  end
  return self
end

--- The command gives this value.
---@param value any
---@return catga.AggregateScenario self
function Scenario:expect_value(value)
  raised_of(self)
  if text_of(self.value) ~= text_of(value) then
    error(("expected the value %s; it was %s"):format(text_of(value), text_of(self.value)), 2)
  end
  return self
end

--- The state is then this, or a function of it gives true.
---@param wanted table|fun(state: table): boolean
---@return catga.AggregateScenario self
function Scenario:expect_state(wanted)
  raised_of(self)
  local value = self.order.state
  if type(wanted) == "function" then
    if not wanted(value) then error("the state is not as expected: " .. text_of(value), 2) end
  elseif text_of(value) ~= text_of(wanted) then
    error(("expected the state %s\nit is %s"):format(text_of(wanted), text_of(value)), 2)
  end
  return self
end

return M
