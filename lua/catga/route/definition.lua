--- Rules as scripts write them: catga.route(types, options) and what is chained to it, and the sets
--- of rules that catga.routes { ... } configures. Everything is checked while the scripts load.
local state = require "catga.state"
local json = require "catga.native.json"
local registries = require "catga.registry"
local conditions = require "catga.route.conditions"
local destinations = require "catga.route.destinations"
local topics = require "catga.route.topics"

local M = {}

local caller, suggest, sorted_names = registries.caller, registries.suggest,
  registries.sorted_names

local NAME_BYTES_MAX = 200
local RULES_MAX = 100000       -- Of one set.
local DEFAULT_SET = "routes"

--- One rule: its steps before the first `when`, and the branches, of which the first takes a
--- message.
---@class catga.Rule
---@field name string
---@field at string             file:line
---@field set string
---@field patterns string[]     of the types that it reads
---@field priority number       higher ones come first
---@field rank integer          place in the order of its set
---@field order integer         place in the order of the registrations
---@field is_inline boolean?    runs in the unit of work that publishes
---@field attempts integer
---@field backoff number        ms before the second attempt
---@field on_failure "dead_letter"|"skip"
---@field policy any            of lua/catga/policy.lua, for commands and functions
---@field steps catga.RouteStep[]
---@field branches catga.RouteBranch[]
---@field keys catga.RouteCondition[]  by which it can be found
---@field run fun(message: any, event: table, sink: table): boolean?  true: it has taken the message
---@field test (fun(message: any, event: table): any)?  what run asks first
---@field take fun(message: any, event: table, sink: table): boolean?  run without asking that
---@field counter { matched: integer, filtered: integer, failed: integer, sent: integer,
---  reasons: table<string, integer> }

--- One of the ways that a message may take in a rule.
---@class catga.RouteBranch
---@field at string
---@field whens { at: string, test: fun(m: any, event: table): any, condition:
---  catga.RouteCondition? }[]
---@field is_otherwise boolean?
---@field steps catga.RouteStep[]

--- What is done with a message on its way.
---@class catga.RouteStep
---@field kind "filter"|"transform"|"split"|"aggregate"|"tap"|"to"|"recipients"
---@field at string
---@field fn function?
---@field reason string?        of a filter
---@field list function[]?      of a transform
---@field destination catga.RouteDestination?
---@field aggregate catga.RouteAggregate?

--- Options of a rule, with kind and default. The kinds are those of a check below.
M.OPTIONS = {
  name = { "name" },
  set = { "name", DEFAULT_SET },
  priority = { "number", 0 },
  inline = { "flag", false },
  attempts = { "count", 5, 1, 1000000 },
  backoff = { "duration", "1s" },
  on_failure = { "choice", "dead_letter", { "dead_letter", "skip" } },
  policy = { "any" },
}

--- Options of a set.
M.SET_OPTIONS = {
  name = { "name", DEFAULT_SET },
  mode = { "choice", "all", { "all", "first" } },
  after = { "place", "end" },
  otherwise = { "any" },
}

--- Options of an aggregate.
M.AGGREGATE_OPTIONS = {
  name = { "name" },
  by = { "any" },
  complete = { "any" },
  timeout = { "duration" },
  result = { "function" },
  items_max = { "count", 10000, 1, 100000 },
}

local CHECK = setmetatable({}, { __index = require "catga.option_checks" })

function CHECK.any(value) return value end

function CHECK.name(value)
  if type(value) == "string" and value ~= "" and #value <= NAME_BYTES_MAX
    and not value:find("[%z\1-\31/]") and json.encode(value) then
    return value
  end
  return nil, ("is a string of 1 to %d bytes without /"):format(NAME_BYTES_MAX)
end

function CHECK.number(value)
  if type(value) == "number" and value == value then return value end
  return nil, "is a number"
end

--- Checks options and fills in the defaults. Raises.
---@param given table?
---@param all table<string, table>
---@param where string  file:line and what they are of
---@return table
function M.resolve(given, all, where)
  if given ~= nil and type(given) ~= "table" then
    error(("%s: the options are a table, not %s"):format(where, type(given)), 0)
  end
  for option in pairs(given or {}) do
    if not all[option] then
      local near = suggest(tostring(option), all)
      error(("%s: there is no option %s%s; there are %s"):format(where, tostring(option),
        near and "; did you mean " .. near .. "?" or "",
        table.concat(sorted_names(all), ", ")), 0)
    end
  end
  local result = {}
  for option, known in pairs(all) do
    local value = given and given[option]
    if value == nil then value = known[2] end
    if value ~= nil then
      local checked, fault = CHECK[known[1]](value, known)
      if fault then
        error(("%s: %s %s, not %s"):format(where, option, fault, tostring(value)), 0)
      end
      result[option] = checked
    end
  end
  return result
end

local function patterns_of(types, where)
  local list = type(types) == "table" and types or { types }
  if #list == 0 then error(where .. ": it needs a type of event, or a list of them", 0) end
  local patterns = {}
  for i, pattern in ipairs(list) do
    local fault = topics.fault(pattern)
    if fault then error(("%s: %s (%s)"):format(where, fault, tostring(pattern)), 0) end
    patterns[i] = pattern
  end
  return patterns
end

-- All sets of a generation: { sets, rules, order }.
local function all_of(registry)
  local all = registry.routes
  if not all then
    all = { sets = {}, rules = {}, names = {}, counts = {} }
    registry.routes = all
  end
  return all
end

-- A rule as it is being written, behind the face that the script has.
local RULE = setmetatable({}, { __mode = "k" })

local Route = {}
Route.__index = Route

local function rule_of(self, what)
  local rule = RULE[self]
  if not rule then
    error(("%s: %s is called with a colon: route:%s(...)"):format(caller(), what, what), 0)
  end
  if rule.is_done or not state.loading then
    error(("%s: route %s: its rule is finished; %s belongs to the script's top level"):format(
      caller(), rule.name, what), 0)
  end
  return rule, caller()
end

local function where_of(rule, at, what) return ("%s: route %s: %s"):format(at, rule.name, what) end

local function last_step(branch) return branch.steps[#branch.steps] end

-- Has the branch sent its message somewhere?
local function has_sent(branch)
  for _, step in ipairs(branch.steps) do
    if step.kind == "to" or step.kind == "recipients" then return true end
  end
  return false
end

-- The branch that takes one more condition: the last one, or a new one behind a destination.
local function branch_for_when(rule, at, what)
  local branch = rule.branches[#rule.branches]
  if branch and branch.is_otherwise then
    error(where_of(rule, at, what .. " behind otherwise() is never reached"), 0)
  end
  if branch and not last_step(branch) then return branch end
  if branch and not has_sent(branch) then
    error(where_of(rule, at, ("%s behind %s: %s() chooses, so it comes first; write filter to drop "
      .. "messages here"):format(what, last_step(branch).kind, what)), 0)
  end
  if branch and #branch.whens == 0 then
    error(where_of(rule, at, ("%s is never reached: what is before it, at %s, takes all messages")
      :format(what, branch.at)), 0)
  end
  branch = { at = at, whens = {}, steps = {} }
  rule.branches[#rule.branches + 1] = branch
  return branch
end

local function add_step(rule, step)
  local branch = rule.branches[#rule.branches]
  if not branch and (step.kind == "to" or step.kind == "recipients") then
    branch = { at = step.at, whens = {}, steps = {} }
    rule.branches[1] = branch
  end
  local steps = branch and branch.steps or rule.steps
  steps[#steps + 1] = step
end

local function check_function(fn, rule, at, what)
  if type(fn) ~= "function" then
    error(where_of(rule, at, ("%s needs a function, got %s"):format(what, type(fn))), 0)
  end
end

--- Takes messages of which the function says true; several are all asked. Behind a destination it
--- begins another branch, which gets what those before it have not taken.
---@param fn fun(message: any, event: table): any  it must not change the message
function Route:when(fn)
  local rule, at = rule_of(self, "when")
  check_function(fn, rule, at, "when")
  local branch = branch_for_when(rule, at, "when")
  branch.whens[#branch.whens + 1] = { at = at, test = fn }
  return self
end

--- The same, as data: `:where("customer.country", "==", "DE")`. Rules that compare a field with a
--- value are found by that value.
---@param field string|(string|integer)[]  a path
---@param op string  ==, ~=, <, <=, >, >=, in, not in, exists, missing, prefix, suffix, contains,
---  matches
---@param value any
function Route:where(field, op, value)
  local rule, at = rule_of(self, "where")
  local condition = conditions.make(field, op, value, where_of(rule, at, "where"))
  local branch = branch_for_when(rule, at, "where")
  branch.whens[#branch.whens + 1] = { at = at, test = condition.test, condition = condition }
  return self
end

--- What no branch before it has taken.
function Route:otherwise()
  local rule, at = rule_of(self, "otherwise")
  local branch = rule.branches[#rule.branches]
  if not branch or not has_sent(branch) then
    error(where_of(rule, at, "otherwise() comes behind a when and its destination"), 0)
  end
  if #branch.whens == 0 then
    error(where_of(rule, at, ("otherwise() is never reached: what is before it, at %s, takes all "
      .. "messages"):format(branch.at)), 0)
  end
  rule.branches[#rule.branches + 1] = { at = at, whens = {}, steps = {}, is_otherwise = true }
  return self
end

--- Drops messages of which the function does not say true; counted by reason.
---@param fn fun(message: any, event: table): any, string?  false, and the reason
---@param reason string?  when the function gives none
function Route:filter(fn, reason)
  local rule, at = rule_of(self, "filter")
  check_function(fn, rule, at, "filter")
  if reason ~= nil and type(reason) ~= "string" then
    error(where_of(rule, at, "the reason of a filter is a string"), 0)
  end
  add_step(rule, { kind = "filter", at = at, fn = fn, reason = reason or "filter at " .. at })
  return self
end

--- Makes another message of each: one function, or several in turn.
---@param ... fun(message: any, event: table): any  gets a copy that it may change
function Route:transform(...)
  local rule, at = rule_of(self, "transform")
  local list = { ... }
  if type(list[1]) == "table" and #list == 1 then list = list[1] end
  if #list == 0 then list[1] = (...) or false end
  for _, fn in ipairs(list) do check_function(fn, rule, at, "transform") end
  add_step(rule, { kind = "transform", at = at, list = list })
  return self
end

--- Makes several messages of one. Each knows the message it comes from, its place and how many
--- there are: event.split = { id, index, total }, also in the metadata of events that come of it.
---@param fn fun(message: any, event: table): any[]
function Route:split(fn)
  local rule, at = rule_of(self, "split")
  check_function(fn, rule, at, "split")
  add_step(rule, { kind = "split", at = at, fn = fn })
  return self
end

--- Gathers messages of one key into one message. What is gathered is durable.
---@param opts { name: string?, by: string|fun(message: any, event: table): any,
---  complete: integer|"split"|fun(items: any[], key: any): any, timeout: string?,
---  result: (fun(items: any[], key: any, reason: string): any)?, items_max: integer? }
function Route:aggregate(opts)
  local rule, at = rule_of(self, "aggregate")
  local where = where_of(rule, at, "aggregate")
  if type(opts) ~= "table" then error(where .. " needs a table of options", 0) end
  local aggregate = M.resolve(opts, M.AGGREGATE_OPTIONS, where)
  require("catga.route.groups").check(aggregate, rule, where)
  aggregate.at = at
  add_step(rule, { kind = "aggregate", at = at, aggregate = aggregate })
  return self
end

--- Shows each message to a topic or function. Whatever becomes of it, the route goes on.
---@param spec any  a destination
function Route:tap(spec)
  local rule, at = rule_of(self, "tap")
  add_step(rule, { kind = "tap", at = at,
    destination = destinations.make(spec, at, where_of(rule, at, "tap")) })
  return self
end

local function add_to(rule, at, spec)
  add_step(rule, { kind = "to", at = at,
    destination = destinations.make(spec, at, where_of(rule, at, "to")) })
end

--- Sends to topics: events of that type, published; or calls functions.
---@param ... string|fun(message: any, event: table)|table
function Route:to(...)
  local rule, at = rule_of(self, "to")
  if select("#", ...) == 0 then error(where_of(rule, at, "to needs a destination"), 0) end
  for i = 1, select("#", ...) do add_to(rule, at, (select(i, ...))) end
  return self
end

--- Sends a command, in the route's unit of work; or stages it in the outbox.
---@param name string
---@param opts { enqueue: true|table|nil }?  options of catga.enqueue
function Route:to_command(name, opts)
  local rule, at = rule_of(self, "to_command")
  local given = M.resolve(opts, { enqueue = { "any" } }, where_of(rule, at, "to_command"))
  add_to(rule, at, { command = name, enqueue = given.enqueue })
  return self
end

--- Appends to a stream, as an event of a type other than the one that came in.
---@param stream string|fun(message: any, event: table): string
---@param kind string|fun(message: any, event: table): string
function Route:to_stream(stream, kind)
  local rule, at = rule_of(self, "to_stream")
  add_to(rule, at, { stream = stream == nil and false or stream, type = kind })
  return self
end

--- Starts a process with the message as its input.
---@param name string
function Route:to_process(name)
  local rule, at = rule_of(self, "to_process")
  add_to(rule, at, { process = name == nil and false or name })
  return self
end

--- Sends to those that a function names for each message: a name or destination, or a list of them.
---@param fn fun(message: any, event: table): any
function Route:recipients(fn)
  local rule, at = rule_of(self, "recipients")
  check_function(fn, rule, at, "recipients")
  add_step(rule, { kind = "recipients", at = at, fn = fn })
  return self
end

-- A name for a rule that has none: its types, and a number when there are several.
local function default_name(all, set, patterns)
  local base = table.concat(patterns, ","):gsub("[%z\1-\31/]", "_"):sub(1, NAME_BYTES_MAX - 10)
  local counts = all.counts
  local key = set .. "/" .. base
  local name, n = base, counts[key] or 1
  while all.names[set .. "/" .. name] do
    n = n + 1
    name = base .. "-" .. n
  end
  counts[key] = n -- Else each of many would look at all before it.
  return name
end

local function add_rule(registry, at, types, opts)
  local all = all_of(registry)
  local where = at .. ": route"
  if type(opts) == "table" and type(opts.name) == "string" then
    where = where .. " " .. opts.name
  end
  local rule = M.resolve(opts, M.OPTIONS, where)
  rule.patterns = patterns_of(types, where)
  if rule.name and all.names[rule.set .. "/" .. rule.name] then
    error(("%s: there is a route %s already, at %s"):format(at, rule.name,
      all.names[rule.set .. "/" .. rule.name]), 0)
  end
  rule.is_named = rule.name ~= nil
  rule.name = rule.name or default_name(all, rule.set, rule.patterns)
  all.names[rule.set .. "/" .. rule.name] = at
  rule.is_inline, rule.inline = rule.inline or nil, nil
  rule.at, rule.steps, rule.branches = at, {}, {}
  rule.counter = { matched = 0, filtered = 0, failed = 0, sent = 0, reasons = {} }
  all.rules[#all.rules + 1] = rule
  rule.order = #all.rules
  if rule.order > RULES_MAX then error(("%s: there are over %d rules"):format(at, RULES_MAX), 0) end
  local face = setmetatable({}, Route)
  RULE[face] = rule
  return face
end

--- Begins a rule.
---@param registry catga.Registry
---@param types string|string[]  types of events, or patterns: "orders.*.created", "orders.>", ">"
---@param opts table?
---@return table route
function M.route(registry, types, opts) return add_rule(registry, caller(), types, opts) end

local ROW = { field = true, op = true, value = true, where = true, to = true, name = true,
  priority = true }

local function add_row(registry, at, types, row, number, opts)
  local where = ("%s: row %d of the table"):format(at, number)
  if type(row) ~= "table" then error(where .. " is a table", 0) end
  for field in pairs(row) do
    if not ROW[field] then
      local near = suggest(tostring(field), ROW)
      error(("%s has the field %s%s; there are %s"):format(where, tostring(field),
        near and "; did you mean " .. near .. "?" or "", table.concat(sorted_names(ROW), ", ")), 0)
    end
  end
  local given = {}
  for option, value in pairs(opts or {}) do given[option] = value end
  given.name = row.name or opts and opts.name and opts.name .. "-" .. number
  if row.priority ~= nil then given.priority = row.priority end
  local route = add_rule(registry, at, types, given)
  local rule = RULE[route]
  local branch = { at = at, whens = {}, steps = {} }
  rule.branches[1] = branch
  local list = row.where or { row.field ~= nil and { row.field, row.op or "==", row.value } or nil }
  if type(list) ~= "table" or #list == 0 then
    error(where .. " needs field, op and value, or where = { { field, op, value }, ... }", 0)
  end
  for i, one in ipairs(list) do
    if type(one) ~= "table" then error(where .. ": where is a list of { field, op, value }", 0) end
    local condition = conditions.make(one[1], one[2], one[3], where)
    branch.whens[i] = { at = where, test = condition.test, condition = condition }
  end
  if row.to == nil then error(where .. " needs to = a destination, or a list of them", 0) end
  local is_list = type(row.to) == "table" and row.to[1] ~= nil
  for _, spec in ipairs(is_list and row.to or { row.to }) do
    branch.steps[#branch.steps + 1] = { kind = "to", at = at,
      destination = destinations.make(spec, at, where) }
  end
end

--- Rules as data, one a row: { field =, op = "==", value =, to = }, or where = { { field, op, value
--- }, ... } with several conditions; and name, priority.
---@param registry catga.Registry
---@param types string|string[]
---@param rows table[]
---@param opts table?  of all of them; name: what their names begin with
function M.table(registry, types, rows, opts)
  local at = caller()
  if type(rows) ~= "table" or #rows == 0 then
    error(at .. ": catga.routes.table(types, rows): rows is a list of at least one row", 0)
  end
  for number, row in ipairs(rows) do add_row(registry, at, types, row, number, opts) end
end

--- Configures a set of rules.
---@param registry catga.Registry
---@param opts table
function M.set(registry, opts)
  local at = caller()
  local set = M.resolve(opts, M.SET_OPTIONS, at .. ": catga.routes")
  local sets = all_of(registry).sets
  if sets[set.name] then
    error(("%s: the routes \"%s\" are configured already, at %s"):format(at, set.name,
      sets[set.name].at), 0)
  end
  set.at = at
  if set.otherwise ~= nil then
    set.otherwise = destinations.make(set.otherwise, at, at .. ": catga.routes: otherwise")
  end
  sets[set.name] = set
end

M.DEFAULT_SET = DEFAULT_SET
M.has_sent, M.where_of = has_sent, where_of

return M
