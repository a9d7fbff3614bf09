--- Which rules may take a message: by its type, and by fields that rules compare with a value.
---
--- For each type there is a plan, made when the first message of the type comes: the rules that
--- look at every message, and for each field that others ask to be equal to something, a table from
--- the value to those rules. So 10,000 rules that compare one field cost one lookup. A rule that is
--- found still decides itself. Nothing is allocated when no rule is found.
local topics = require "catga.route.topics"
local conditions = require "catga.route.conditions"

local M = {}

--- Rules in order, their own tests beside them: false where the rule itself must be asked.
---@class catga.RouteRules
---@field tests ((fun(message: any, event: table): any)|false)[]

-- Each index has a prototype of its own, so LuaJIT compiles the loop for its tests: a trace for
-- the tests of all sets would be left at every second one.
local SCAN = [[
local rules, first, message, event, walk = ...
local tests = rules.tests
for i = first, #rules do
  local test = tests[i]
  if not test then return i end
  walk.at = i
  if test(message, event) then return i end
end
]]

local PLANS_MAX = 10000 -- Types of which the plan is kept; then all are made anew.

--- One field that rules compare.
---@class catga.RouteField
---@field get fun(message: any): any
---@field rules table<any, catga.RouteRules>  by value

--- What is to be done for messages of one type.
---@class catga.RoutePlan
---@field always catga.RouteRules
---@field fields catga.RouteField[]

---@class catga.RouteIndex
---@field trie catga.TopicTrie
---@field plans table<string, catga.RoutePlan>
---@field plan_count integer
---@field scan fun(rules: catga.RouteRules, first: integer, message: any, event: table?,
---  walk: table): integer?  the place of the next rule whose test does not say no; nil: there is
---  none. walk.at is the one that is asked, also when its test raises
local Index = {}
Index.__index = Index

--- An index over rules, which have `rank` (their place in the order), `patterns` and `keys`: the
--- conditions of equality of which all must hold, for those that can be indexed.
---@param rules catga.Rule[]
---@return catga.RouteIndex
function M.new(rules)
  local trie = topics.new()
  for _, rule in ipairs(rules) do
    for _, pattern in ipairs(rule.patterns) do trie:add(pattern, rule) end
  end
  return setmetatable({ trie = trie, plans = {}, plan_count = 0,
    scan = assert(loadstring(SCAN, "=route")) }, Index)
end

local function by_rank(a, b) return a.rank < b.rank end

-- How many different values rules compare each field with.
local function spread(rules)
  local seen, counts = {}, {}
  for _, rule in ipairs(rules) do
    for _, condition in ipairs(rule.keys) do
      local field = condition.id
      seen[field] = seen[field] or {}
      for _, value in ipairs(condition.keys) do
        if not seen[field][value] then
          seen[field][value], counts[field] = true, (counts[field] or 0) + 1
        end
      end
    end
  end
  return counts
end

-- The condition by which a rule is found: of the field that tells most apart.
local function best_key(rule, counts)
  local best
  for _, condition in ipairs(rule.keys) do
    if not best or counts[condition.id] / #condition.keys
      > counts[best.id] / #best.keys then
      best = condition
    end
  end
  return best
end

-- Tests stand in a list of their own: asking 10,000 rules would else touch all that they are.
local function add(list, rule)
  if list[#list] == rule then return end -- "in" may name a value twice.
  list[#list + 1] = rule
  list.tests[#list] = rule.test or false
end

local function put(rules, value, rule)
  local list = rules[value]
  if not list then
    list = { tests = {} }
    rules[value] = list
  end
  add(list, rule)
end

local function make_plan(rules)
  table.sort(rules, by_rank)
  local plan = { always = { tests = {} }, fields = {} }
  local counts, by_field = spread(rules), {}
  for _, rule in ipairs(rules) do
    local key = best_key(rule, counts)
    if key then
      local field = by_field[key.id]
      if not field then
        field = { get = conditions.getter(key.path), rules = {} }
        by_field[key.id] = field
        plan.fields[#plan.fields + 1] = field
      end
      for _, value in ipairs(key.keys) do put(field.rules, value, rule) end
    else
      add(plan.always, rule)
    end
  end
  return plan
end

--- The plan of a type.
---@param kind string
---@return catga.RoutePlan
function Index:plan(kind)
  local plan = self.plans[kind]
  if plan then return plan end
  local rules, seen = {}, {}
  self.trie:each(kind, function(rule)
    if not seen[rule] then
      seen[rule] = true
      rules[#rules + 1] = rule
    end
  end)
  plan = make_plan(rules)
  if self.plan_count >= PLANS_MAX then self.plans, self.plan_count = {}, 0 end
  self.plans[kind], self.plan_count = plan, self.plan_count + 1
  return plan
end

-- Two lists in order become one in order.
local function merge(a, b)
  local list, i, k = { tests = {} }, 1, 1
  for _ = 1, #a + #b do
    local x, y = a[i], b[k]
    if not y or x and x.rank < y.rank then
      i = i + 1
      add(list, x)
    else
      k = k + 1
      add(list, y)
    end
  end
  return list
end

--- The rules that may take a message, in order. The list is not the caller's to change.
---@param kind string  its type
---@param message any
---@return catga.RouteRules
function Index:find(kind, message)
  local plan = self.plans[kind] or self:plan(kind)
  local found, fields = plan.always, plan.fields
  for i = 1, #fields do
    local field = fields[i]
    local value = field.get(message)
    local list = value ~= nil and field.rules[value]
    if list then found = found[1] and merge(found, list) or list end
  end
  return found
end

--- Is there any rule that events of a type may meet?
---@param kind string
---@return boolean
function Index:knows(kind)
  local plan = self.plans[kind] or self:plan(kind)
  return plan.always[1] ~= nil or plan.fields[1] ~= nil
end

return M
