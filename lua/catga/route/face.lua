--- The table catga.routes: rules that are data, and what can be seen of routes while the app runs.
local face = require "catga.face"
local json = require "catga.native.json"
local registries = require "catga.registry"
local state = require "catga.state"
local definition = require "catga.route.definition"
local compose = require "catga.route.compose"

local M = {}

--- Adds rules as data, one a row: { field =, op = "==", value =, to = }. See
--- lua/catga/route/definition.lua.
---@param types string|string[]
---@param rows table[]
---@param opts table?
M["table"] = function(types, rows, opts)
  return definition.table(face.loading("catga.routes.table"), types, rows, opts)
end

-- The app whose routes are asked about; spec files and process bodies may look, too.
local function app_of(what)
  local task = state[1]
  if task and task.app and not state.loading then return task.app end
  return face.running(what, "look in a step", 4)
end

local function destination_text(d)
  if d.kind == "topic" then return d.name end
  if d.kind == "function" then return "function at " .. d.at end
  local name = d.name or "by a function"
  return d.kind .. " " .. name
end

local function targets_of(rule)
  local list = json.array {}
  for step in compose.each_step(rule) do
    if step.destination then
      list[#list + 1] = (step.kind == "tap" and "tap: " or "") .. destination_text(step.destination)
    elseif step.kind == "recipients" then
      list[#list + 1] = "recipients at " .. step.at
    end
  end
  return list
end

local function conditions_of(rule)
  local list = json.array {}
  for _, branch in ipairs(rule.branches) do
    for _, when in ipairs(branch.whens) do
      list[#list + 1] = when.condition and when.condition.text or "when at " .. when.at
    end
  end
  return list
end

local function describe(rule)
  local counter = rule.counter
  return { name = rule.name, set = rule.set, at = rule.at,
    types = json.array { unpack(rule.patterns) }, priority = rule.priority,
    inline = rule.is_inline == true, conditions = conditions_of(rule),
    to = targets_of(rule), matched = counter.matched, filtered = counter.filtered,
    failed = counter.failed, sent = counter.sent, given_up = counter.given_up or 0,
    gathered = counter.gathered or 0, tap_failed = counter.tap_failed or 0,
    reasons = counter.reasons }
end

--- All rules in the order in which they are asked, with what they have counted since the start.
---@param app catga.App
---@return table[]
function M.list_of(app)
  local list, routes = {}, app.registry.routes
  for _, name in ipairs(registries.sorted_names(routes and routes.sets or {})) do
    for _, rule in ipairs(routes.sets[name].rules) do list[#list + 1] = describe(rule) end
  end
  return list
end

--- The sets: how far their readers are.
---@param app catga.App
---@return table[]
function M.status_of(app)
  local list, routes = {}, app.registry.routes
  for _, name in ipairs(registries.sorted_names(routes and routes.sets or {})) do
    local set, router = routes.sets[name], app.routes and app.routes.routers[name]
    local _, durable = app.store:positions()
    list[#list + 1] = { name = name, mode = set.mode, rules = #set.rules,
      status = router and router.status or "stopped", position = router and router.position,
      lag = router and math.max(0, durable - 1 - router.position) or nil,
      waiting = router and router.retry_count, groups = router and router.groups.count,
      error = router and router.error }
  end
  return list
end

--- Rules by set, in the order in which they are asked: { name, set, at, types, priority, inline,
--- conditions, to, matched, filtered, failed, sent, given_up, reasons }.
---@return table[]
function M.list() return M.list_of(app_of("catga.routes.list")) end

--- Sets of rules: { name, mode, rules, status, position, lag, waiting, groups, error? }.
---@return table[]
function M.status() return M.status_of(app_of("catga.routes.status")) end

--- What would become of a message, and why: { type, rules, sends, ... }, see
--- lua/catga/route/explain.lua. Without effect.
---@param message { type: string, data: any, metadata: table?, stream: string? }
---@return table? explanation
---@return catga.Error? err
function M.explain(message)
  return require("catga.route.explain").explain(app_of("catga.routes.explain"), message)
end

return M
