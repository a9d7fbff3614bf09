--- Makes rules ready to run: each becomes one straight closure, each set an order and an index.
---
--- A rule's closure is called with the message, its event and a sink, which does what the rule
--- decides: sink:matched(rule, branch), sink:filtered(rule, step, reason), sink:send(rule, step,
--- destination, message, event), sink:tap(rule, step, message, event), and sink:gather(rule, step,
--- message, event, go_on), which calls go_on(result, event, sink) when a group is complete. It
--- returns true when the rule has taken the message. What it raises is the failure of the rule.
local state = require "catga.state"
local errors = require "catga.error"
local registries = require "catga.registry"
local copy = require "catga.route.copy"
local definition = require "catga.route.definition"
local destinations = require "catga.route.destinations"
local indexes = require "catga.route.index"
local topics = require "catga.route.topics"

local M = {}

M.PARTS_MAX = 10000 -- Of one split, and recipients of one message.

--- The error of a step that has not given what it must.
---@param step catga.RouteStep
---@param text string
---@return catga.Error
function M.step_error(step, text)
  return errors.new("invalid", ("%s: %s %s"):format(step.at, step.kind, text),
    { retryable = true })
end

--- Runs the functions of a transform.
---@param step catga.RouteStep
---@param message any
---@param event table
---@return any message
function M.transformed(step, message, event)
  message = copy(message)
  for i = 1, #step.list do
    message = step.list[i](message, event)
    if message == nil then
      error(M.step_error(step, "returned nothing; it returns the message, and filter drops one"), 0)
    end
  end
  return message
end

--- The parts of a split.
---@param step catga.RouteStep
---@param message any
---@param event table
---@return any[] parts
function M.parts(step, message, event)
  local parts = step.fn(copy(message), event)
  if type(parts) ~= "table" then
    error(M.step_error(step, "returned no list but " .. type(parts)), 0)
  end
  if #parts > M.PARTS_MAX then
    error(errors.new("limit", ("%s: split made %d parts, more than %d"):format(step.at, #parts,
      M.PARTS_MAX)), 0)
  end
  return parts
end

--- The event of one part of a split.
---@param event table
---@param index integer
---@param total integer
---@return table event
function M.part_event(event, index, total)
  local before = event.split
  local id = event.id or ""
  if before then id = ("%s/%d"):format(before.id, before.index) end
  return setmetatable({ split = { id = id, index = index, total = total } }, { __index = event })
end

--- What recipients() has named, as destinations.
---@param step catga.RouteStep
---@param message any
---@param event table
---@return catga.RouteDestination[]
function M.named(step, message, event)
  local given = step.fn(message, event)
  if given == nil then return {} end
  if type(given) ~= "table" or given[1] == nil and next(given) ~= nil then given = { given } end
  if #given > M.PARTS_MAX then
    error(errors.new("limit", ("%s: recipients named %d, more than %d"):format(step.at, #given,
      M.PARTS_MAX)), 0)
  end
  local list = {}
  for i, spec in ipairs(given) do
    local ok, made = pcall(destinations.make, spec, step.at, step.at .. ": recipients")
    if not ok then error(errors.new("invalid", made, { retryable = false }), 0) end
    list[i] = made
  end
  return list
end

local STEP = {}

function STEP.filter(rule, step, go_on)
  local fn = step.fn
  return function(message, event, sink)
    local passes, reason = fn(message, event)
    if not passes then return sink:filtered(rule, step, reason or step.reason) end
    return go_on(message, event, sink)
  end
end

function STEP.transform(_, step, go_on)
  local transformed = M.transformed
  return function(message, event, sink)
    return go_on(transformed(step, message, event), event, sink)
  end
end

function STEP.split(_, step, go_on)
  return function(message, event, sink)
    local parts = M.parts(step, message, event)
    local total = #parts
    for i = 1, total do go_on(parts[i], M.part_event(event, i, total), sink) end
  end
end

function STEP.aggregate(rule, step, go_on)
  step.go_on = go_on -- Groups whose time is over go on here.
  return function(message, event, sink) return sink:gather(rule, step, message, event, go_on) end
end

function STEP.tap(rule, step, go_on)
  return function(message, event, sink)
    sink:tap(rule, step, message, event)
    return go_on(message, event, sink)
  end
end

STEP["to"] = function(rule, step, go_on)
  local destination = step.destination
  return function(message, event, sink)
    sink:send(rule, step, destination, message, event)
    return go_on(message, event, sink)
  end
end

function STEP.recipients(rule, step, go_on)
  return function(message, event, sink)
    for _, destination in ipairs(M.named(step, message, event)) do
      sink:send(rule, step, destination, message, event)
    end
    return go_on(message, event, sink)
  end
end

local function the_end() end

local function compose_steps(rule, steps, go_on)
  for i = #steps, 1, -1 do go_on = STEP[steps[i].kind](rule, steps[i], go_on) end
  return go_on
end

-- One function that asks all conditions of a branch; nil: it has none.
local function test_of(branch)
  local test
  for i = #branch.whens, 1, -1 do
    local this, rest = branch.whens[i].test, test
    test = rest and function(message, event)
      return this(message, event) and rest(message, event)
    end or this
  end
  return test
end

-- The function that takes the first branch whose conditions hold.
local function compose_branches(rule)
  local otherwise = function() return false end
  for i = #rule.branches, 1, -1 do
    local branch, rest = rule.branches[i], otherwise
    local test, steps = test_of(branch), compose_steps(rule, branch.steps, the_end)
    otherwise = function(message, event, sink)
      if test and not test(message, event) then return rest(message, event, sink) end
      sink:matched(rule, branch)
      steps(message, event, sink)
      return true
    end
  end
  return otherwise
end

-- The test that a rule makes before anything else, and what it does with a message that has passed;
-- nothing: it has several ways, or steps before them.
local function quick_of(rule)
  local branch = rule.branches[1]
  if #rule.steps > 0 or #rule.branches > 1 then return nil end
  local steps = compose_steps(rule, branch.steps, the_end)
  return test_of(branch), function(message, event, sink)
    sink:matched(rule, branch)
    steps(message, event, sink)
    return true
  end
end

-- The closure of a rule. What goes through steps before its branches counts as taken when one part
-- of it was, or when a filter has dropped it.
local function compose_rule(rule)
  local choose = compose_branches(rule)
  if #rule.steps == 0 then return choose end
  local steps = compose_steps(rule, rule.steps, function(message, event, sink)
    if choose(message, event, sink) then sink.has_taken = true end
  end)
  return function(message, event, sink)
    local before = sink.has_taken
    sink.has_taken = false
    steps(message, event, sink)
    local taken = sink.has_taken
    sink.has_taken = before
    return taken
  end
end

--- All steps of a rule, in the order in which they are written.
---@param rule catga.Rule
---@return fun(): catga.RouteStep?
function M.each_step(rule)
  local list = {}
  for _, step in ipairs(rule.steps) do list[#list + 1] = step end
  for _, branch in ipairs(rule.branches) do
    for _, step in ipairs(branch.steps) do list[#list + 1] = step end
  end
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- One attempt of a delivery: what it has staged when it fails is taken back.
local function attempt_of(deliver)
  return function(...)
    local unit = state[1].unit
    local n, after = 0, 0
    if unit then n, after = unit:mark() end
    local ok, failure = xpcall(deliver, errors.catch, ...)
    if ok then return true end
    if state[1].unit then state[1].unit:take_back(n, after) end
    return nil, failure
  end
end

-- Puts the policy of a rule around what runs code that is not its own.
local function wrap_policy(rule, destination, app, registry)
  if rule.policy == nil or not destination.is_effect then return end
  local ok, wrapped = pcall(require("catga.policy").wrap, app, rule.policy,
    attempt_of(destination.deliver), { name = "route " .. rule.name, registry = registry })
  if not ok then
    error(("%s: route %s: %s"):format(rule.at, rule.name, tostring(wrapped)), 0)
  end
  destination.deliver = function(...)
    local done, err = wrapped(...)
    if not done then error(err, 0) end
  end
end

local function check_rule(rule, registry, app)
  if #rule.branches == 0 then
    error(("%s: route %s goes nowhere; give it a destination: to, to_command, to_stream, "
      .. "to_process, recipients"):format(rule.at, rule.name), 0)
  end
  for _, branch in ipairs(rule.branches) do
    if not definition.has_sent(branch) then
      error(("%s: route %s: this branch goes nowhere; give it a destination: to, to_command, "
        .. "to_stream, to_process, recipients"):format(branch.at, rule.name), 0)
    end
  end
  for step in M.each_step(rule) do
    if step.destination then
      destinations.check(step.destination, registry)
      wrap_policy(rule, step.destination, app, registry)
    end
    if step.kind == "aggregate" and rule.is_inline then
      error(definition.where_of(rule, step.at, "an inline route cannot aggregate: what is gathered "
        .. "is kept by the reader of the log"), 0)
    end
  end
end

-- A rule that is found by its type alone and sends back under a type that it reads has no end.
local function check_circle(rule)
  local branch = rule.branches[1]
  if #rule.steps > 0 or #rule.branches > 1 or #branch.whens > 0 then return end
  for _, step in ipairs(branch.steps) do
    if step.kind ~= "to" and step.kind ~= "tap" and step.kind ~= "transform" then return end
    local name = step.kind == "to" and step.destination.kind == "topic" and step.destination.name
    for _, pattern in ipairs(rule.patterns) do
      if name and topics.matches(pattern, name) then
        error(definition.where_of(rule, step.at, ("it sends all that it reads to %s, which it "
          .. "reads: that has no end. Give it a when, or types without %s"):format(name, name)), 0)
      end
    end
  end
end

local function keys_of(rule)
  local keys = {}
  if #rule.steps > 0 or #rule.branches > 1 then return keys end
  for _, when in ipairs(rule.branches[1].whens) do
    if when.condition and when.condition.keys then keys[#keys + 1] = when.condition end
  end
  return keys
end

local function by_priority(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  return a.order < b.order
end

-- What the cursor of a set's reader looks for.
local function filter_of(rules)
  local types, seen, prefix, journals = {}, {}, nil, false
  for _, rule in ipairs(rules) do
    for _, pattern in ipairs(rule.patterns) do
      if pattern:find("^Process") then journals = true end
      if topics.is_wild(pattern) then
        local begin = topics.prefix(pattern)
        prefix = not prefix and begin or prefix:sub(1, #begin) == begin and begin
          or begin:sub(1, #prefix) == prefix and prefix or ""
      elseif not seen[pattern] then
        seen[pattern] = true
        types[#types + 1] = pattern
      end
    end
  end
  table.sort(types)
  if not prefix then return { types = types, journals = journals } end
  for _, kind in ipairs(types) do
    if kind:sub(1, #prefix) ~= prefix then prefix = "" end
  end
  return { type_prefix = prefix ~= "" and prefix or nil, journals = journals }
end

local function signature_of(filter)
  return table.concat(filter.types or {}, "\0") .. "\1" .. tostring(filter.type_prefix) .. "\1"
    .. tostring(filter.journals)
end

-- Names of aggregates are those of their state.
local function check_aggregates(set)
  set.aggregates = {}
  for _, rule in ipairs(set.rules) do
    for step in M.each_step(rule) do
      if step.kind == "aggregate" then
        local name = step.aggregate.name
        local other = set.aggregates[name]
        if other then
          error(("%s: route %s: there is an aggregate %s already, at %s; its name is that of its "
            .. "state"):format(step.at, rule.name, name, other.step.at), 0)
        end
        set.aggregates[name] = { rule = rule, step = step }
      end
    end
  end
end

local function finish_set(set, registry)
  if set.otherwise then destinations.check(set.otherwise, registry) end
  set.rules, set.inline, set.by_name = set.rules or {}, {}, {}
  table.sort(set.rules, by_priority)
  local read = {}
  for rank, rule in ipairs(set.rules) do
    rule.rank, set.by_name[rule.name] = rank, rule
    local list = rule.is_inline and set.inline or read
    list[#list + 1] = rule
  end
  check_aggregates(set)
  set.registry = registry
  set.read_count = #read
  set.index, set.inline_index = indexes.new(read), indexes.new(set.inline)
  set.filter = filter_of(read)
  set.signature = signature_of(set.filter)
end

--- Checks and composes all rules of a generation. Raises, naming the place.
---@param registry catga.Registry
---@param app catga.App
function M.finish(registry, app)
  local all = registry.routes
  for _, rule in ipairs(all.rules) do
    check_rule(rule, registry, app)
    check_circle(rule)
    rule.keys, rule.is_done = keys_of(rule), true
    rule.run = compose_rule(rule)
    local test, take = quick_of(rule)
    rule.test, rule.take = test, test and take or rule.run
    local set = all.sets[rule.set]
    if not set then
      if rule.set ~= definition.DEFAULT_SET then
        error(("%s: route %s: there are no routes \"%s\"; catga.routes { name = \"%s\" } makes "
          .. "them"):format(rule.at, rule.name, rule.set, rule.set), 0)
      end
      set = definition.resolve(nil, definition.SET_OPTIONS, rule.at)
      set.at, all.sets[rule.set] = rule.at, set
    end
    set.rules = set.rules or {}
    table.insert(set.rules, rule)
  end
  local inline = false
  for _, name in ipairs(registries.sorted_names(all.sets)) do
    finish_set(all.sets[name], registry)
    inline = inline or #all.sets[name].inline > 0
  end
  if inline then registry.inline_routes = require("catga.route.inline").run end
end

return M
