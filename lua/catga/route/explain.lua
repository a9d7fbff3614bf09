--- Why a message goes where: the rules walked through step by step for one message, without effect.
--- Conditions, filters, transforms and splits are called, in a mode where what would have an effect
--- is refused; nothing is sent, gathered or counted.
local errors = require "catga.error"
local json = require "catga.native.json"
local pure = require "catga.pure"
local registries = require "catga.registry"
local compose = require "catga.route.compose"
local copy = require "catga.route.copy"
local destinations = require "catga.route.destinations"
local sinks = require "catga.route.sink"
local topics = require "catga.route.topics"

local M = {}

local RULES_MAX = 200     -- Rules listed that say no; matching ones are always listed.
local CODE_BYTES_MAX = 160
local WHAT = "a route that is explained"

--- What one rule does with the message.
---@class catga.RouteVerdict
---@field set string
---@field rule string
---@field at string           file:line
---@field priority number
---@field inline boolean
---@field verdict "matched"|"filtered"|"no match"|"not reached"|"failed"|"gathered"
---@field why string
---@field decided_at string?  file:line of the condition or filter that decided
---@field code string?        its line of the script
---@field error { code: string, message: string }?
---@field sends catga.RouteSend[]
---@field steps { kind: string, at: string, result: string }[]

--- Where a message would go.
---@class catga.RouteSend
---@field rule string
---@field kind "topic"|"command"|"stream"|"process"|"function"
---@field to string
---@field at string
---@field message any
---@field readers string[]?   of a topic
---@field read_by string?     the same as text
---@field tap boolean?
---@field enqueue boolean?

-- Raises the error of a function of the script as the rule would.
local function call(fn, ...)
  local ok, value, more = pure.call(WHAT, fn, ...)
  if not ok then error(value, 0) end
  return value, more
end

-- The line of the script in which a function begins.
local function code_of(registry, fn)
  local info = debug.getinfo(fn, "S")
  local path = info.source:match("^@(.*)$")
  local text = path and registry.source_of and registry.source_of(path)
  if not text then return nil end
  local number = 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    if number == info.linedefined then
      line = line:match("^%s*(.-)%s*$")
      return #line > CODE_BYTES_MAX and line:sub(1, CODE_BYTES_MAX) .. "..." or line
    end
  end
end

-- Routes that read a type, as readers of a topic.
local function reading_rules(registry, kind)
  local list = {}
  for _, name in ipairs(registries.sorted_names(registry.routes.sets)) do
    for _, rule in ipairs(registry.routes.sets[name].rules) do
      for _, pattern in ipairs(rule.patterns) do
        if topics.matches(pattern, kind) then
          list[#list + 1] = "route " .. rule.name
          break
        end
      end
      if #list >= 10 then return list end
    end
  end
  return list
end

local function target_of(d, message, event)
  if d.kind == "function" then return "function at " .. d.at end
  if d.name then return d.name end
  return tostring((call(d.fn, message, event)))
end

local function note_send(walk, d, message, event, is_tap)
  local registry = walk.registry
  local send = { rule = walk.rule.name, kind = d.kind, to = target_of(d, message, event), at = d.at,
    message = copy(message), type = d.type, tap = is_tap or nil, enqueue = d.enqueue and true }
  if d.kind == "topic" then
    send.readers = destinations.readers(registry, d.name)
    for _, reader in ipairs(reading_rules(registry, d.name)) do
      send.readers[#send.readers + 1] = reader
    end
    json.array(send.readers)
    send.read_by = send.readers[1] and table.concat(send.readers, ", ") or "nobody"
  end
  local hops = (event.hops or 0) + 1
  if hops > walk.app.settings.route_hops_max then
    error(errors.new("route_loop", ("it came through %d routes already, so it would be given up "
      .. "(route_hops_max)"):format(hops - 1)), 0)
  end
  walk.sends[#walk.sends + 1] = send
end

local function note_step(walk, step, result)
  walk.steps[#walk.steps + 1] = { kind = step.kind, at = step.at, result = result }
end

local STEP = {}

function STEP.filter(walk, step, message, event, go_on)
  local passes, reason = call(step.fn, message, event)
  if passes then
    note_step(walk, step, "passes")
    return go_on(message, event)
  end
  reason = tostring(reason or step.reason)
  note_step(walk, step, "drops: " .. reason)
  if not walk.filtered then
    walk.filtered, walk.decided_at, walk.code = reason, step.at, code_of(walk.registry, step.fn)
  end
end

function STEP.transform(walk, step, message, event, go_on)
  local made = call(compose.transformed, step, message, event)
  note_step(walk, step, json.encode(made) or "a message that is no JSON")
  return go_on(made, event)
end

function STEP.split(walk, step, message, event, go_on)
  local parts = call(compose.parts, step, message, event)
  note_step(walk, step, ("into %d"):format(#parts))
  for i = 1, #parts do go_on(parts[i], compose.part_event(event, i, #parts)) end
end

function STEP.aggregate(walk, step, message, event, go_on)
  local preview, err = require("catga.route.groups").preview(walk.groups, step, message, event,
    call)
  if not preview then error(err, 0) end
  note_step(walk, step, preview.text)
  walk.gathered = preview.text
  if preview.is_complete then
    walk.gathered = nil
    return go_on(preview.message, preview.event)
  end
end

function STEP.tap(walk, step, message, event, go_on)
  note_send(walk, step.destination, message, event, true)
  return go_on(message, event)
end

STEP["to"] = function(walk, step, message, event, go_on)
  note_send(walk, step.destination, message, event)
  return go_on(message, event)
end

function STEP.recipients(walk, step, message, event, go_on)
  local named = call(compose.named, step, message, event)
  note_step(walk, step, ("names %d"):format(#named))
  for _, d in ipairs(named) do
    destinations.check(d, walk.registry)
    note_send(walk, d, message, event)
  end
  return go_on(message, event)
end

local function walk_steps(walk, steps, i, message, event, behind)
  local step = steps[i]
  if not step then return behind(message, event) end
  return STEP[step.kind](walk, step, message, event, function(next_message, next_event)
    return walk_steps(walk, steps, i + 1, next_message, next_event, behind)
  end)
end

local function describe_when(when)
  return when.condition and when.condition.text or "when at " .. when.at
end

-- Does the branch take the message? Remembers the first condition that says no.
local function holds(walk, branch, message, event)
  for _, when in ipairs(branch.whens) do
    if not call(when.test, message, event) then
      if not walk.refused then
        walk.refused, walk.decided_at = describe_when(when) .. " says no", when.at
        walk.code = not when.condition and code_of(walk.registry, when.test) or nil
      end
      return false
    end
  end
  return true
end

local function walk_branches(walk, message, event)
  for i, branch in ipairs(walk.rule.branches) do
    if holds(walk, branch, message, event) then
      walk.taken, walk.branch = true, i
      walk.why = branch.is_otherwise and "otherwise: no condition before it holds"
        or #branch.whens == 0 and "it takes all messages of its types" or nil
      if not walk.why then
        local texts = {}
        for k, when in ipairs(branch.whens) do texts[k] = describe_when(when) end
        walk.why = table.concat(texts, " and ") .. (#texts == 1 and " holds" or " hold")
      end
      return walk_steps(walk, branch.steps, 1, message, event, function() end)
    end
  end
end

local function verdict_of(walk, failure)
  if failure then
    return "failed", ("%s: %s"):format(failure.code, failure.message)
  end
  if #walk.sends > 0 then return "matched", walk.why end
  if walk.gathered then return "gathered", walk.gathered end
  if walk.filtered then return "filtered", walk.filtered end
  if walk.taken then return "matched", walk.why .. "; nothing comes of it" end
  return "no match", walk.refused or "no part of it meets a condition"
end

-- What one rule does.
local function explain_rule(app, set, rule, event)
  local router = app.routes and app.routes.routers[set.name]
  local walk = { app = app, registry = set.registry, rule = rule, sends = {}, steps = {},
    groups = router and router.groups }
  local ok, failure = xpcall(function()
    if not rule.branches then -- What nobody has taken.
      walk.taken, walk.why = true, "otherwise: no rule has taken it"
      return note_send(walk, set.otherwise, event.data, event)
    end
    return walk_steps(walk, rule.steps, 1, copy(event.data), event, function(message, part)
      return walk_branches(walk, message, part)
    end)
  end, errors.catch)
  local verdict, why = verdict_of(walk, not ok and failure or nil)
  local decided = verdict == "no match" or verdict == "filtered"
  return { set = set.name, rule = rule.name, at = rule.at, priority = rule.priority or 0,
    inline = rule.is_inline == true, verdict = verdict, why = why, branch = walk.branch,
    decided_at = decided and walk.decided_at or nil, code = decided and walk.code or nil,
    error = not ok and errors.stored(failure) or nil,
    sends = json.array(ok and walk.sends or {}), steps = json.array(walk.steps),
    taken = not ok or walk.taken or walk.filtered ~= nil or walk.gathered ~= nil }
end

local function reads(rule, kind)
  for _, pattern in ipairs(rule.patterns) do
    if topics.matches(pattern, kind) then return true end
  end
  return false
end

-- Explains the rules of a set that are, or are not, inline.
local function explain_list(app, set, event, is_inline, result)
  local taker
  for _, rule in ipairs(set.rules) do
    local is_listed = (rule.is_inline == true) == is_inline
    if is_listed and not reads(rule, event.type) then
      result.other_types = result.other_types + 1
    elseif is_listed then
      local one = explain_rule(app, set, rule, event)
      if taker then
        one.verdict, one.sends = "not reached", json.array {}
        one.why = ("%s has taken it, and in this set the first one does"):format(taker)
      end
      if not taker and one.taken then
        result.any = true
        if set.mode == "first" then taker = rule.name end
      end
      one.taken = nil
      if one.verdict == "no match" and #result.rules >= RULES_MAX then
        result.unlisted = result.unlisted + 1
      else
        result.rules[#result.rules + 1] = one
      end
    end
  end
end

local function explain_set(app, set, event, result)
  result.any = false
  local before = result.other_types
  explain_list(app, set, event, true, result)
  explain_list(app, set, event, false, result)
  local is_read = #set.rules > result.other_types - before
  if set.otherwise and is_read and not result.any then
    local one = explain_rule(app, set, require("catga.route.turn").otherwise(set), event)
    one.taken = nil
    result.rules[#result.rules + 1] = one
  end
end

local FIELDS = { type = true, data = true, metadata = true, stream = true, id = true, time = true,
  version = true, position = true }

local function check(app, message)
  if type(message) ~= "table" then
    return nil, errors.new("invalid", "a message to explain is { type = ..., data = ... }")
  end
  for field in pairs(message) do
    if not FIELDS[field] then
      local near = registries.suggest(tostring(field), FIELDS)
      return nil, errors.new("invalid", ("a message to explain has no field %s%s; it is { type = "
        .. "..., data = ... }"):format(tostring(field), near and "; did you mean " .. near .. "?"
        or ""))
    end
  end
  local fault = topics.fault(message.type)
  if fault then return nil, errors.new("invalid", "the type of the message: " .. fault) end
  if message.metadata ~= nil and type(message.metadata) ~= "table" then
    return nil, errors.new("invalid", "the metadata of the message is a table")
  end
  local data = message.data
  local text, err = json.encode(data == nil and json.null or data)
  if not text then return nil, errors.new("invalid", "the data of the message: " .. err.message) end
  local event = { stream = "$type-" .. message.type, time = app.clock:now() }
  for field in pairs(FIELDS) do event[field] = message[field] or event[field] end
  event.data = data == nil and {} or json.decode(text)
  sinks.prepare(event)
  return event
end

--- Explains what becomes of a message.
---@param app catga.App
---@param message { type: string, data: any, metadata: table?, stream: string? }
---@return { type: string, rules: catga.RouteVerdict[], sends: catga.RouteSend[],
---  other_types: integer, unlisted: integer }? explanation  other_types: rules that read other
---  types; unlisted: further rules that say no
---@return catga.Error? err
function M.explain(app, message)
  local event, err = check(app, message)
  if not event then return nil, err end
  local result = { type = event.type, rules = json.array {}, sends = json.array {},
    other_types = 0, unlisted = 0 }
  local routes = app.registry.routes
  for _, name in ipairs(registries.sorted_names(routes and routes.sets or {})) do
    explain_set(app, routes.sets[name], event, result)
  end
  result.any = nil
  for _, one in ipairs(result.rules) do
    for _, send in ipairs(one.sends) do result.sends[#result.sends + 1] = send end
  end
  return result
end

return M
