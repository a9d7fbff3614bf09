--- Routes of events that are not stored (qos 0): they run in memory, at most once. What goes to a
--- topic is not stored either; commands and streams are, as one commit.
local errors = require "catga.error"
local tasks = require "catga.task"
local registries = require "catga.registry"
local sinks = require "catga.route.sink"

local M = {}

-- Runs one rule; what fails is said and counted.
local function run_rule(app, set, rule, event)
  local entry = { name = "routes " .. set.name, kind = "event", app = app,
    registry = set.registry, counter = { calls = 0, failures = 0 } }
  local sink = sinks.new { app = app, entry = entry, set = set.name, is_unstored = true }
  sink.send = M.send
  local taken
  entry.run = function()
    sink:begin()
    taken = rule.run(event.data, event, sink)
    return true
  end
  local ok, err = app.mediator:run(entry, event.data)
  if ok then return taken end
  sinks.add(rule, "failed")
  app:say("error", ("route %s: an event %s that is not stored was lost: %s"):format(rule.name,
    event.type, tostring(err.message)))
  return true
end

--- Sends: to topics without storing.
function M.send(sink, rule, step, destination, message, event)
  if destination.kind ~= "topic" then
    return sinks.Sink.send(sink, rule, step, destination, message, event)
  end
  local unstored = { kind = "topic", deliver = function()
    local ok, err = sink.app.mediator:publish(destination.name, message, { qos = 0 })
    if not ok then error(err, 0) end
  end }
  return sinks.Sink.send(sink, rule, step, unstored, message, event)
end

local function route(app, op)
  for _, name in ipairs(registries.sorted_names(app.registry.routes.sets)) do
    local set = app.registry.routes.sets[name]
    local any = false
    for _, index in ipairs { set.inline_index, set.index } do
      local metadata = op.metadata and app.json.decode(op.metadata)
      local event = { type = op.type, id = op.id, data = app.json.decode(op.data),
        metadata = metadata, time = app.clock:now() }
      sinks.prepare(event)
      for _, rule in ipairs(index:find(event.type, event.data)) do
        local taken = run_rule(app, set, rule, event)
        any = any or taken
        if taken and set.mode == "first" then break end
      end
    end
    if not any and set.otherwise and set.index:knows(op.type) then
      local rule = require("catga.route.turn").otherwise(set)
      run_rule(app, set, rule, { type = op.type, id = op.id, data = app.json.decode(op.data) })
    end
  end
end

--- Routes an event that is not stored, in a task of its own.
---@param app catga.App
---@param op catga.Staged
function M.take(app, op)
  tasks.spawn(app, function()
    local ok, failure = xpcall(route, errors.catch, app, op)
    if not ok and not app.is_closed then
      app:say("error", "routes: " .. tostring(failure) .. (failure.traceback or ""))
    end
  end)
end

return M
