--- What a script has said about one stream, made whole: all places that hang together, checked, in
--- order, with its name and its shape.
---
--- The shape is a hash of kinds and parameters, not of functions: as long as it is the same, the
--- state in the log fits.
local host = require "catga.native.host"
local json = require "catga.native.json"
local registries = require "catga.registry"

local M = {}

---@class catga.StreamGraph
---@field nodes table[]         by id
---@field sources table[]       those of the nodes that are one
---@field name string
---@field at string             of its first source
---@field is_durable boolean
---@field version integer
---@field options table         those that hold for all of it
---@field shape string
---@field has_event_time boolean
---@field has_take boolean
---@field needs_clock boolean   an operator goes by the clock
---@field is_timed boolean      something in it is due at times

local SHARED = { "durable", "name", "version", "after", "on_error", "attempts", "backoff",
  "checkpoint_events", "checkpoint_delay", "batch" }

-- All nodes that hang together with one, in the order in which they were made.
local function component(first)
  local seen, list, todo = { [first] = true }, {}, { first }
  local function visit(node)
    if node and not seen[node] then
      seen[node] = true
      todo[#todo + 1] = node
    end
  end
  while #todo > 0 do
    local node = table.remove(todo)
    list[#list + 1] = node
    for _, parent in ipairs(node.parents) do visit(parent) end
    for _, edge in ipairs(node.children) do visit(edge.node) end
    visit(node.late)
    visit(node.late_of)
  end
  table.sort(list, function(a, b) return a.seq < b.seq end)
  return list
end

-- A window with a reduce behind it is one operator.
local function fuse_reduce(node)
  if not node.is_window or node.kind == "join" then return end
  for _, edge in ipairs(node.children) do
    local reduce = edge.node
    if reduce.kind == "reduce" then
      if #node.children > 1 then
        error(("%s: stream:%s has a reduce and something else behind it; make the window twice")
          :format(node.at, node.kind), 0)
      end
      if reduce.merge and node.kind ~= "session" then
        error(("%s: stream:reduce: merge is for sessions"):format(reduce.at), 0)
      end
      node.reduce, node.initial, node.merge = reduce.fn, reduce.initial, reduce.merge
      node.reduce_at, node.children, reduce.is_fused = reduce.at, reduce.children, true
      for _, behind in ipairs(node.children) do
        for i, parent in ipairs(behind.node.parents) do
          if parent == reduce then behind.node.parents[i] = node end
        end
      end
      return
    end
  end
end

local function shared_options(graph)
  local options = {}
  for _, source in ipairs(graph.sources) do
    for _, name in ipairs(SHARED) do
      local value = source.options[name]
      if name == "durable" or name == "name" then
        if value and options[name] and options[name] ~= value then
          error(("%s: a stream of the %s \"%s\" meets one of \"%s\"; what hangs together has one "
            .. "name"):format(source.at, name, value, options[name]), 0)
        end
        options[name] = options[name] or value
      elseif options[name] == nil or options.of and options.durable and source.options.durable then
        options[name] = value
      end
    end
  end
  -- The source with the name speaks for all.
  for _, source in ipairs(graph.sources) do
    if options.durable and source.options.durable == options.durable then
      for _, name in ipairs(SHARED) do
        if source.options[name] ~= nil then options[name] = source.options[name] end
      end
      break
    end
  end
  return options
end

local TIMED = { buffer = true, throttle = true, debounce = true, sample = true, delay = true,
  distinct = true }
local ENDS = { reduce = true, list = true }

local function check_node(graph, node)
  if not node.is_sink and #node.children == 0 then
    error(("%s: this stream leads nowhere; end it with each or to"):format(node.at), 0)
  end
  if node.kind == "split" and #node.children < 2 then
    error(("%s: stream:split is of no use"):format(node.at), 0)
  end
  if graph.is_durable and (node.kind == "queue" or node.overflow and node.overflow ~= "block") then
    error(("%s: a durable stream drops nothing and has no queues of its own; it reads on when what "
      .. "was read is done"):format(node.at), 0)
  end
  if node.kind == "join" and not node.is_keyed and not (node.keys and node.keys[1]) then
    error(("%s: stream:join needs a key: group_by before it, or the options key and other_key")
      :format(node.at), 0)
  end
  if ENDS[node.kind] then
    for _, source in ipairs(graph.sources) do
      if source.kind ~= "iterator" then
        error(("%s: stream:%s gives its result when the source ends, and events never end; put it "
          .. "behind a window, or use scan"):format(node.at, node.kind), 0)
      end
    end
  end
end

local function check_sources(graph)
  for _, source in ipairs(graph.sources) do
    if graph.is_durable and (source.kind == "iterator" or source.options.qos == 0) then
      error(("%s: a durable stream reads events of the log; an iterator and events with qos = 0 "
        .. "cannot be read again after a restart"):format(source.at), 0)
    end
    if graph.has_event_time and source.kind == "iterator" and not source.event_time then
      error(("%s: windows and joins go by event time; say event_time, a field or a function")
        :format(source.at), 0)
    end
  end
end

local PLAIN = { "kind", "count", "ms", "max", "within", "size", "unit", "offset", "zone", "hop",
  "gap", "join_kind", "envelope", "nth" }

local function plain(value)
  local kind = type(value)
  if kind == "function" then return "function" end
  if kind == "table" then return json.encode(value) and value or "table" end
  return value
end

-- What of a node decides whether its state in the log fits.
local function shape_of(node)
  local shape = { parents = json.array {} }
  for i, parent in ipairs(node.parents) do shape.parents[i] = parent.id end
  for _, name in ipairs(PLAIN) do shape[name] = node[name] end
  if node.is_sink then shape.max = nil end
  shape.initial = plain(node.initial)
  shape.by, shape.keys, shape.merge = node.by ~= nil, node.keys ~= nil, node.merge ~= nil
  shape.reduce = node.reduce ~= nil
  shape.event_time = plain(node.event_time)
  if node.kind == "events" then
    local o = node.options
    shape.source = { types = o.types, type_prefix = o.type_prefix, stream = o.stream,
      category = o.category, all = o.all }
  end
  return shape
end

local function number_nodes(graph, list)
  for _, node in ipairs(list) do
    if not node.is_fused then
      graph.nodes[#graph.nodes + 1] = node
      node.id = #graph.nodes
      node.is_keyed = node.kind == "group_by" or node.kind == "join" and node.keys ~= nil
      for _, parent in ipairs(node.late_of and { node.late_of } or node.parents) do
        node.is_keyed = node.is_keyed or parent.is_keyed
      end
      if node.kind == "events" or node.kind == "iterator" then
        graph.sources[#graph.sources + 1] = node
      end
      graph.has_event_time = graph.has_event_time or node.is_window == true
      graph.has_take = graph.has_take or node.kind == "take"
      graph.needs_clock = graph.needs_clock
        or TIMED[node.kind] == true and (node.ms or node.within) ~= nil
      graph.is_timed = graph.needs_clock or graph.has_event_time
    end
  end
end

--- The graph that a node belongs to. Raises when it cannot be.
---@param first table
---@return catga.StreamGraph
function M.of(first)
  local list = component(first)
  for _, node in ipairs(list) do fuse_reduce(node) end
  local graph = { nodes = {}, sources = {}, has_event_time = false, has_take = false,
    needs_clock = false, is_timed = false }
  number_nodes(graph, list)
  graph.at = graph.sources[1].at
  graph.options = shared_options(graph)
  graph.is_durable = graph.options.durable ~= nil
  graph.name = graph.options.durable or graph.options.name or graph.at
  graph.version = graph.options.version or 1
  check_sources(graph)
  for _, node in ipairs(graph.nodes) do check_node(graph, node) end
  local shapes = {}
  for i, node in ipairs(graph.nodes) do shapes[i] = shape_of(node) end
  graph.shape = host.sha256(assert(json.encode(shapes))):sub(1, 16)
  return graph
end

-- Time zones that are not there are errors of the scripts.
local function check_zones(graph, app)
  for _, node in ipairs(graph.nodes) do
    if node.zone and node.zone ~= "UTC" then
      local zone, err = require("catga.schedule.calendar").zone(app, node.zone)
      if not zone then error(("%s: stream:tumbling: %s"):format(node.at, err.message), 0) end
    end
  end
end

--- The graphs of a generation of scripts, by name.
---@param registry catga.Registry
---@param app catga.App
function M.finish_all(registry, app)
  local made = registry.streams
  made.graphs = {}
  for _, node in ipairs(made.nodes) do
    if not (node.id or node.is_fused) then
      local graph = M.of(node)
      local taken = made.graphs[graph.name]
      if taken then
        error(("%s: there is a stream %s already, at %s"):format(graph.at, graph.name, taken.at), 0)
      end
      made.graphs[graph.name] = graph
      require("catga.stream.sinks").check_names(graph, registry)
      check_zones(graph, app)
      require("catga.stream.compile").chunk(graph)
    end
  end
end

--- The name most like one that is not there.
---@param name any
---@param known table<string, any>
---@return string
function M.hint(name, known)
  local near = type(name) == "string" and registries.suggest(name, known)
  return near and "; did you mean " .. near .. "?" or ""
end

return M
