--- Messages that a route has given up: they are dead letters, and how one of them is routed again.
local state = require "catga.state"
local errors = require "catga.error"
local dead_letters = require "catga.dead_letters"
local present = require "catga.event".present
local units = require "catga.unit"
local INTERNAL = require "catga.flags".INTERNAL
local compose = require "catga.route.compose"
local sinks = require "catga.route.sink"
local states = require "catga.route.state"

local M = {}

--- Stages the letter of a message in the open unit of work. Raises when it cannot be stored.
---@param app catga.App
---@param set string
---@param rule catga.Rule
---@param event table
---@param err catga.Error
---@param attempts integer
---@param detail table?  of a group: aggregate, key, first, last
function M.add(app, set, rule, event, err, attempts, detail)
  detail = detail or {}
  detail.set, detail.rule, detail.id = set, rule.name, event.id
  local id, fault = dead_letters.add(app, { kind = "route", source = set .. "/" .. rule.name,
    type = event.type, data = not event.personal and event.data or nil, -- They stay encrypted.
    metadata = type(event.metadata) == "table" and event.metadata or nil,
    correlation_id = event.correlation_id, stream = event.stream, version = event.version,
    position = event.position, reason = err, attempts = attempts, detail = detail })
  if not id then error(fault, 0) end
end

-- The rule of a letter, as scripts have it now.
local function find(app, detail)
  local routes = app.registry.routes
  local set = routes and routes.sets[detail.set]
  local rule = set and (set.by_name[detail.rule]
    or detail.rule == "otherwise" and set.otherwise and require("catga.route.turn").otherwise(set))
  if rule then return set, rule end
  return nil, errors.new("unknown_route", ("there is no route %s in the routes \"%s\" any more")
    :format(tostring(detail.rule), tostring(detail.set)))
end

local function gathers(rule)
  for step in compose.each_step(rule) do
    if step.kind == "aggregate" then return true end
  end
  return false
end

-- Gives the event back to the reader of the log, which gathers.
local function give_back(app, set, rule, letter)
  local router = app.routes and app.routes.routers[set.name]
  if not (router and letter.stream and letter.version and letter.position) then
    return nil, errors.new("closed", ("the routes %s do not run"):format(set.name),
      { retryable = true })
  end
  local one = { position = letter.position, stream = letter.stream, version = letter.version,
    rule = rule.name, attempts = 0, due = app.clock:now() }
  local unit = units.of(state[1])
  local version, err = unit:append(states.PREFIX .. set.name, { { type = "RouterMoved",
    data = { failed = { { one.position, one.stream, one.version, one.rule, 0, one.due } } } } },
    "any", INTERNAL)
  if not version then return nil, err end
  unit:on_commit(function() router:add_retry(one) end)
  return true
end

-- The event of a letter: as it was edited, or read again.
local function event_of(app, letter)
  local detail = letter.detail
  if letter.data ~= nil then
    return { type = letter.type, data = letter.data, id = detail.id, stream = letter.stream,
      version = letter.version, position = letter.position, metadata = letter.metadata,
      correlation_id = letter.correlation_id, time = app.clock:now() }
  end
  local stream = letter.stream and app.store:stream(letter.stream)
  local list, err = nil, nil
  if stream then list, err = app.store:read(stream, letter.version, 1) end
  if err then return nil, err end
  local event = list and list[1] and list[1].version == letter.version
    and present(app, list[1])
  if event then return event end
  return nil, errors.new("not_found", "the event of the letter is there no more")
end

-- Lets the end of a group go on.
local function finish_group(set, rule, letter, sink)
  local detail = letter.detail
  local found = set.aggregates[detail.aggregate]
  if not found or found.rule ~= rule then
    return nil, errors.new("unknown_route", ("the route %s has no aggregate %s any more"):format(
      rule.name, detail.aggregate))
  end
  local groups, items = require "catga.route.groups", letter.data
  if detail.are_sealed and not letter.edited then
    items = groups.items_of_letter(sink.app, items)
  end
  local message, event = groups.result(found.step, { items = items,
    key = detail.key, first = detail.first, last = detail.last }, "timeout")
  found.step.go_on(message, event, sink)
  return true
end

--- Routes the message of a letter again, in the open unit of work. Raises when the rule fails
--- again. May yield.
---@param app catga.App
---@param letter table  as it was added, its data perhaps edited
---@return boolean? ok
---@return catga.Error? err
function M.retry(app, letter)
  local detail = letter.detail
  if type(detail) ~= "table" then
    return nil, errors.new("invalid", "the letter does not say which route it is of")
  end
  if detail.rule == "" then
    local set = app.registry.routes and app.registry.routes.sets[detail.set]
    if not set then return find(app, detail) end
    return give_back(app, set, { name = "" }, letter)
  end
  local set, rule = find(app, detail)
  if not set then return nil, rule end
  if not detail.aggregate and rule.branches and gathers(rule) then
    return give_back(app, set, rule, letter)
  end
  local task = state[1]
  local outer = task.ctx
  local entry = { name = "routes " .. set.name, kind = "event", app = app,
    registry = set.registry, counter = { calls = 0, failures = 0 } }
  local sink = sinks.new { app = app, entry = entry, set = set.name }
  local ok, done, err = xpcall(function()
    if detail.aggregate then return finish_group(set, rule, letter, sink) end
    local event, fault = event_of(app, letter)
    if not event then return nil, fault end
    sinks.prepare(event)
    rule.run(event.data, event, sink)
    return true
  end, errors.catch)
  task.ctx = outer
  if not ok then return nil, done end
  return done, err
end

return M
