--- The ends of streams: functions of scripts, and what `to` does.
local errors = require "catga.error"
local state = require "catga.state"
local json = require "catga.native.json"
local lazy = require "catga.lazy"
local options = require "catga.stream.options"

local workers = lazy.module "catga.stream.workers"

local M = {}

local KINDS = { publish = true, send = true, enqueue = true, append = true, file = true }

local function wrong(at, text) error(("%s: %s"):format(at, text), 0) end

--- Checks the target of `to`.
---@param at string
---@param target any
---@return table
function M.check(at, target)
  if type(target) == "string" and target ~= "" then return { publish = target } end
  if type(target) ~= "table" then
    wrong(at, "it takes an event type, or a table with publish, send, enqueue, append or file")
  end
  local kind
  for name in pairs(target) do
    if KINDS[name] then
      if kind then wrong(at, ("it takes one of %s and %s"):format(kind, name)) end
      kind = name
    elseif name ~= "type" then
      wrong(at, ("there is no option \"%s\"; there are publish, send, enqueue, append, type and "
        .. "file"):format(tostring(name)))
    end
  end
  if not kind then wrong(at, "say one of publish, send, enqueue, append and file") end
  local value = target[kind]
  local is_text = type(value) == "string" and value ~= ""
  if not is_text and not (kind == "append" and type(value) == "function") then
    wrong(at, ("%s is a name%s"):format(kind, kind == "append" and " or a function" or ""))
  end
  if (kind == "append") ~= (target.type ~= nil) then
    wrong(at, kind == "append" and "append needs the type of the event" or "type is for append")
  end
  if target.type ~= nil then options.value(at, "type", { "text" }, target.type) end
  return { [kind] = value, type = target.type }
end

--- Are there the commands that the sinks name? Raises.
---@param graph catga.StreamGraph
---@param registry catga.Registry
function M.check_names(graph, registry)
  for _, node in ipairs(graph.nodes) do
    local name = node.to and (node.to.send or node.to.enqueue)
    local entry = name and registry.handlers[name]
    if name and not (entry and entry.kind == "command") then
      error(("%s: %s"):format(node.at, registry:unknown("command", name).message), 0)
    end
    if node.to and node.to.enqueue and not require("catga").enqueue then
      error(("%s: there is no catga.enqueue"):format(node.at), 0)
    end
  end
end

--- Raises what a sink has returned as an error.
---@param node table
---@param err any
function M.failed(node, err)
  local failure = errors.from(err)
  failure.sink = node.at
  error(failure, 0)
end

local function must(node, ok, err)
  if ok == nil and err ~= nil then M.failed(node, err) end
end

local TO = {}

function TO.publish(app, node)
  local name = node.to.publish
  return function(v) must(node, app.mediator:publish(name, v)) end
end

function TO.send(app, node)
  local name, copy = node.to.send, require "catga.route.copy"
  -- A copy: the handler may change it, and other operators keep the item.
  return function(v) must(node, app.mediator:send("command", name, copy(v))) end
end

function TO.enqueue(_, node)
  local name, enqueue = node.to.enqueue, require("catga").enqueue
  return function(v) must(node, enqueue(name, v)) end
end

function TO.append(_, node)
  local units, target, kind = require "catga.unit", node.to.append, node.to.type
  return function(v, k, w)
    local stream = target
    if type(target) == "function" then stream = target(v, k, w) end
    if type(stream) ~= "string" or stream == "" or stream:sub(1, 1) == "$" then
      error(errors.new("invalid", ("stream:to (%s): append needs the name of a stream, not %s")
        :format(node.at, tostring(stream))), 0)
    end
    local task = state[1]
    local was_in_unit = task.in_unit or task.limit
    local unit = units.of(task)
    local version, err = unit:append(stream, { { type = kind, data = v } }, "any")
    if was_in_unit then return must(node, version, err) end
    task.unit = nil
    if not version then M.failed(node, err) end
    local ok, fault = unit:commit()
    if not ok then M.failed(node, fault) end
  end
end

-- A file of one JSON document a line.
function TO.file(app, node, op)
  op.file = require("catga.stream.file").new(app, node, op.instance.is_durable)
  return function(v)
    local text, err = json.encode(v)
    if not text then M.failed(node, err) end
    op.file:write(text)
  end
end

local Sink = {}
Sink.__index = Sink

function Sink:push(v, k, w)
  self.instance.sinks = self.instance.sinks + 1
  self.give(v, k, w)
end

function Sink:reset()
  self.due = math.huge
  if self.file then self.file:reset() end
end

function Sink:changes(add) if self.file then self.file:changes(add) end end
function Sink:dump(add) if self.file then self.file:dump(add) end end

function Sink:load(_, _, size) self.file:load(size) end

-- Before a commit: what must be on the disk by then.
function Sink:sync() if self.file then self.file:sync() end end

-- The end of a batch, and of the stream.
function Sink:pass() if self.file then self.file:pass() end end
Sink.finish = Sink.pass

function Sink:close() if self.file then self.file:close() end end

--- The sink of a node.
---@param instance table
---@param node table
function M.each(instance, node)
  if node.max then return workers.new(instance, node) end
  return setmetatable({ instance = instance, node = node, due = math.huge, give = function(v, k, w)
    local _, err = node.fn(v, k, w)
    if err ~= nil then M.failed(node, err) end
  end }, Sink)
end

function M.to(instance, node)
  local kind
  for name in pairs(KINDS) do
    if node.to[name] then kind = name end
  end
  local op = setmetatable({ instance = instance, node = node, due = math.huge }, Sink)
  op.give = TO[kind](instance.app, node, op)
  return op
end

function M.list(instance, node)
  local into = node.into
  return setmetatable({ instance = instance, node = node, due = math.huge,
    give = function(v) into[#into + 1] = v end }, Sink)
end

return M
