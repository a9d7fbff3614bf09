--- Streams: chains of operators over events, from a source to sinks. See docs/streams.md.
---
---   catga.stream("OrderCreated", { durable = "stats" }):where(fn):select(fn):group_by(fn)
---     :buffer(100, "5s"):each(function(batch, key) ... end)
---
--- At the top level of a script a chain is registered, and runs with the app. While the app runs,
--- `catga.stream.of(iterator)` makes one that runs in the calling task, to the end of its source.
--- `lua/catga/stream/`: options, graph: what was said, checked; compile: a chain as one function;
--- keeping, windows, calendar, session, sliding, join, timing, queue: operators; watermark: event
--- time; sinks; instance: a chain at work; processor, journal: a durable one; live: others.
local state = require "catga.state"
local caller = require "catga.registry".caller
local running = require "catga.face".running
local options = require "catga.stream.options"

local M = {}

--- A place in a chain. Every operator gives a new one; a place from which several go on gives each
--- item to all of them.
---@class catga.Stream
---@field node table
---@field world table  { nodes, registry? or app? }
local Stream = {}
Stream.__index = Stream

-- The chains that are being made: of the scripts that load, or of one call while the app runs.
local function world(what)
  local registry = state.loading
  if registry then
    registry.streams = registry.streams or { nodes = {}, count = 0, registry = registry }
    return registry.streams
  end
  local app = running(what, "use a step", 4)
  return state[1].stream_world or { nodes = {}, count = 0, app = app }
end

local function add(in_world, node, ...)
  node.seq = in_world.count + 1
  in_world.count = node.seq
  in_world.nodes[node.seq] = node
  node.parents, node.children = {}, {}
  for side = 1, select("#", ...) do
    local parent = select(side, ...)
    node.parents[side] = parent
    local edge = { node = node, side = node.kind == "join" and side or nil }
    parent.children[#parent.children + 1] = edge
  end
  return setmetatable({ node = node, world = in_world }, Stream)
end

local function behind(self, kind, fields)
  if getmetatable(self) ~= Stream then
    error(("%s: call %s with a colon: stream:%s(...)"):format(caller(), kind, kind), 0)
  end
  if self.node.is_sink then
    error(("%s: nothing comes behind a sink"):format(caller()), 0)
  end
  fields = fields or {}
  fields.kind, fields.at = kind, fields.at or caller()
  return add(self.world, fields, self.node)
end

local function where(kind) return ("%s: stream:%s"):format(caller(), kind) end

-- Source and options: (type | types, options) or (options).
local function source_options(first, more)
  local at = caller() .. ": catga.stream"
  local given = {}
  for name, value in pairs(type(more) == "table" and more or {}) do given[name] = value end
  if more ~= nil and type(more) ~= "table" then
    error(("%s: options are a table, not %s"):format(at, type(more)), 0)
  end
  if type(first) == "string" then
    given.types = { first }
  elseif type(first) == "table" and first[1] ~= nil then
    given.types = first
  elseif type(first) == "table" and more == nil then
    for name, value in pairs(first) do given[name] = value end
  else
    error(("%s: it takes an event type, a list of types, or a table of options"):format(at), 0)
  end
  local d = options.resolve(at, given, options.SOURCE)
  if not (d.types or d.stream or d.category or d.type_prefix or d.all) then
    error(("%s: name what it reads: a type, types, type_prefix, stream, category or all = true")
      :format(at), 0)
  end
  if d.qos == 0 and (not d.types or d.stream or d.category or d.type_prefix or d.durable) then
    error(("%s: events with qos = 0 are read by types, and not by a durable stream"):format(at), 0)
  end
  return d
end

local function begin(_, first, more)
  local d = source_options(first, more)
  local node = { kind = "events", at = caller(), options = d, envelope = d.envelope,
    event_time = d.event_time }
  return add(world("catga.stream"), node)
end

setmetatable(M, { __call = begin })

--- A stream of what an iterator gives, until it gives nil; it may wait.
---@param items any[]|fun(): any   a list, or a function
---@param opts table?  event_time, lateness, idle_timeout, name, on_error, attempts, backoff
---@return catga.Stream
function M.of(items, opts)
  local at = caller() .. ": catga.stream.of"
  local iterate = items
  if type(items) == "table" then
    local place = 0
    iterate = function()
      place = place + 1
      return items[place]
    end
  elseif type(items) ~= "function" then
    error(("%s: it takes a list or an iterator, not %s"):format(at, type(items)), 0)
  end
  local d = options.resolve(at, opts, options.ITERATOR)
  return add(world("catga.stream.of"), { kind = "iterator", at = caller(), options = d,
    iterate = iterate, event_time = d.event_time })
end

--- Runs what is begun in a function, all of it, until every source has ended. May yield.
---@param fn fun()
---@return table stats
function M.run(fn)
  local app = running("catga.stream.run", "use a step")
  options.fn(caller() .. ": catga.stream.run", fn)
  local task = state[1]
  if task.stream_world then error("catga.stream.run inside of itself", 2) end
  local made = { nodes = {}, count = 0, app = app, is_open = true }
  task.stream_world = made
  local ok, failure = pcall(fn)
  task.stream_world = nil
  if not ok then error(failure, 0) end
  return require("catga.stream.live").run_all(made)
end

--- Lets items pass for which the function says so.
---@param fn fun(item: any, key: any, window: table?): boolean?
---@return catga.Stream
function Stream:where(fn) return behind(self, "where", { fn = options.fn(where "where", fn) }) end

--- Gives on what the function makes of each item; nil is an error.
---@param fn fun(item: any, key: any, window: table?): any
---@return catga.Stream
function Stream:select(fn)
  return behind(self, "select", { fn = options.fn(where "select", fn) })
end

--- Gives on each element of the list that the function makes of an item.
---@param fn fun(item: any, key: any, window: table?): any[]
---@return catga.Stream
function Stream:flat_map(fn)
  return behind(self, "flat_map", { fn = options.fn(where "flat_map", fn) })
end

--- Gives each item a key: what comes behind keeps its state by key, and keeps the order of a key.
---@param by string|fun(item: any): any  a field or a function: a string, number or boolean
---@return catga.Stream
function Stream:group_by(by)
  return behind(self, "group_by", { fn = options.reader(where "group_by", by, "its key") })
end

--- Leaves out items that were there before.
---@param opts { by: string|function|nil, max: integer?, within: string? }?  max: how many are
---  remembered, default 10,000; within: how long
---@return catga.Stream
function Stream:distinct(opts)
  local at = where "distinct"
  local d = options.resolve(at, opts, { by = { "reader" }, max = { "count", 10000, 1, 1e7 },
    within = { "span" } })
  return behind(self, "distinct", { by = d.by and options.reader(at, d.by, "by"), max = d.max,
    within = d.within })
end

local function check_initial(at, initial)
  if initial == nil then
    error(("%s: it needs an initial value, or a function that makes it"):format(at), 0)
  end
  return initial
end

--- Folds the items, and gives on what each has brought it to. A durable stream stores the value: it
--- is what JSON can hold.
---@param fn fun(value: any, item: any, key: any): any
---@param initial any  a value, or a function that makes it anew
---@return catga.Stream
function Stream:scan(fn, initial)
  local at = where "scan"
  return behind(self, "scan", { fn = options.fn(at, fn), initial = check_initial(at, initial) })
end

--- Folds a window's items, directly behind it; or all items of a source that ends.
---@param fn fun(value: any, item: any, key: any): any
---@param initial any
---@param opts { merge: fun(a: any, b: any): any }?  merge: of two sessions that become one; without
---  it a session keeps its items
---@return catga.Stream
function Stream:reduce(fn, initial, opts)
  local at = where "reduce"
  local d = options.resolve(at, opts, { merge = { "function" } })
  return behind(self, "reduce", { fn = options.fn(at, fn), initial = check_initial(at, initial),
    merge = d.merge })
end

--- Lists of items: so many, or those that came within a time of the first.
---@param count integer
---@param time string?  duration, by the clock
---@return catga.Stream
function Stream:buffer(count, time)
  local at = where "buffer"
  return behind(self, "buffer", { count = options.count(at, count),
    ms = time ~= nil and options.span(at, time, "its time") or nil })
end

--- Lists of what was read at once, at most so many; nothing waits.
---@param count integer
---@return catga.Stream
function Stream:batch(count)
  return behind(self, "batch", { count = options.count(where "batch", count) })
end

--- Windows one behind the other: of a length, or the days, weeks, months, quarters or years of a
--- time zone. Gives on the list of items; with `reduce` behind it what they come to.
---@param length string  "1h", or "day", "week", "month", "quarter", "year"
---@param opts { offset: string?, timezone: string? }?
---@return catga.Stream
function Stream:tumbling(length, opts)
  local at = where "tumbling"
  local d = options.resolve(at, opts, { offset = { "duration", "0s" },
    timezone = { "text", "UTC" } })
  local size, unit = options.window(at, length)
  return behind(self, "tumbling", { is_window = true, size = size, unit = unit,
    offset = d.offset, zone = d.timezone })
end

--- Windows of a length that begin so often.
---@param length string
---@param every string
---@param opts { offset: string? }?
---@return catga.Stream
function Stream:hopping(length, every, opts)
  local at = where "hopping"
  local d = options.resolve(at, opts, { offset = { "duration", "0s" } })
  local size, hop = options.span(at, length, "its length"), options.span(at, every, "its step")
  if hop > size then error(("%s: its step is longer than the window"):format(at), 0) end
  if size / hop > 10000 then
    error(("%s: an item would be in more than 10,000 windows"):format(at), 0)
  end
  return behind(self, "hopping", { is_window = true, size = size, hop = hop, offset = d.offset })
end

--- For each item the window of this length that ends with it.
---@param length string
---@return catga.Stream
function Stream:sliding(length)
  return behind(self, "sliding", { is_window = true,
    size = options.span(where "sliding", length, "its length") })
end

--- Windows of items that follow each other within a gap.
---@param gap string
---@return catga.Stream
function Stream:session(gap)
  return behind(self, "session", { is_window = true,
    gap = options.span(where "session", gap, "its gap") })
end

--- What becomes of items that come too late for the window or join before.
---@param target string|table|fun(item: any, key: any, window: table?)  or what `to` takes
---@return catga.Stream self
function Stream:late(target)
  local at = where "late"
  local node = self.node
  while node and not node.is_window do node = #node.parents == 1 and node.parents[1] or nil end
  if not node then error(("%s: there is no window or join before it"):format(at), 0) end
  if node.late then error(("%s: late items of this window go to %s already"):format(at,
    node.late.at), 0) end
  local fields = { kind = "each", at = caller(), is_sink = true, is_late = true, fn = target }
  if type(target) ~= "function" then
    fields.kind, fields.to = "to", require("catga.stream.sinks").check(at, target)
  end
  node.late = add(self.world, fields).node
  node.late.late_of = node
  return self
end

--- Pairs of items of two streams with one key, whose times are at most `within` apart.
---@param other catga.Stream
---@param opts { within: string, key: string|function|nil, other_key: string|function|nil,
---  kind: "inner"|"left"|nil }  key: default that of group_by
---@param fn (fun(left: any, right: any, key: any): any)?  makes the pair; default { left, right }
---@return catga.Stream
function Stream:join(other, opts, fn)
  local at = where "join"
  if getmetatable(other) ~= Stream then error(("%s: it takes another stream"):format(at), 0) end
  local d = options.resolve(at, opts, { within = { "span" }, key = { "reader" },
    other_key = { "reader" }, kind = { "choice", "inner", { "inner", "left" } } })
  if not d.within then error(("%s: it needs `within`, a duration"):format(at), 0) end
  if fn ~= nil then options.fn(at, fn, "what makes a pair") end
  local keys
  if d.key or d.other_key then
    keys = { d.key and options.reader(at, d.key, "key") or false,
      options.reader(at, d.other_key or d.key, "other_key") }
  end
  return add(self.world, { kind = "join", at = caller(), is_window = true, within = d.within,
    keys = keys, fn = fn, join_kind = d.kind }, self.node, other.node)
end

--- One stream of the items of several, as they come.
---@param ... catga.Stream
---@return catga.Stream
function Stream:merge(...)
  local nodes = { self.node }
  for i = 1, select("#", ...) do
    local other = select(i, ...)
    if getmetatable(other) ~= Stream then
      error(("%s: it takes other streams"):format(where "merge"), 0)
    end
    nodes[i + 1] = other.node
  end
  return add(self.world, { kind = "merge", at = caller() }, unpack(nodes))
end

--- A stream for each predicate, and one for the rest: an item goes to the first whose predicate
--- says so.
---@param ... fun(item: any, key: any, window: table?): boolean?
---@return catga.Stream ...  one more than predicates
function Stream:split(...)
  local at, fns = where "split", { ... }
  if #fns == 0 then error(("%s: it takes predicates"):format(at), 0) end
  for i, fn in ipairs(fns) do options.fn(at, fn, "predicate " .. i) end
  local split = behind(self, "split", { fn = fns })
  local branches = {}
  for i = 1, #fns + 1 do branches[i] = behind(split, "branch", { nth = i }) end
  return unpack(branches)
end

--- Lets so many items pass in each span of time; the others are dropped and counted.
---@param count integer
---@param time string  duration, by the clock
---@return catga.Stream
function Stream:throttle(count, time)
  local at = where "throttle"
  return behind(self, "throttle", { count = options.count(at, count),
    ms = options.span(at, time, "its time") })
end

--- Gives the newest item on when none has followed it for a time.
---@param time string
---@return catga.Stream
function Stream:debounce(time)
  return behind(self, "debounce", { ms = options.span(where "debounce", time, "its time") })
end

--- Gives the newest item on, so often.
---@param time string
---@return catga.Stream
function Stream:sample(time)
  return behind(self, "sample", { ms = options.span(where "sample", time, "its time") })
end

--- Gives each item on later.
---@param time string
---@param opts { max: integer? }?  how many may wait, default 10,000; then nothing more is read
---@return catga.Stream
function Stream:delay(time, opts)
  local at = where "delay"
  local d = options.resolve(at, opts, { max = { "count", 10000, 1, 1e6 } })
  return behind(self, "delay", { ms = options.span(at, time, "its time"), max = d.max })
end

--- The first so many items; a source that nobody wants more of ends.
---@param count integer
---@return catga.Stream
function Stream:take(count)
  return behind(self, "take", { count = options.count(where "take", count) })
end

--- All but the first so many.
---@param count integer
---@return catga.Stream
function Stream:skip(count)
  return behind(self, "skip", { count = options.count(where "skip", count) })
end

--- What comes behind runs in a task of its own, with a bounded buffer before it. Not in durable
--- streams.
---@param count integer
---@param overflow "block"|"drop_newest"|"drop_oldest"|"latest"|"fail"|nil
---@return catga.Stream
function Stream:queue(count, overflow)
  local at = where "queue"
  return behind(self, "queue", { count = options.count(at, count),
    overflow = options.value(at, "overflow", { "overflow" }, overflow or "block") })
end

-- A sink: while the app runs, the chain runs.
local function sink(self, kind, fields)
  fields.is_sink = true
  local made = behind(self, kind, fields)
  if made.world.registry or made.world.is_open then return made end
  return require("catga.stream.live").run(made.node, made.world)
end

--- Hands each item to a function; in a durable stream what it stages is in one commit with the
--- stream's state. Ends the chain.
---@param fn fun(item: any, key: any, window: table?): any, catga.Error?
---@param opts { max: integer?, buffer: integer?, overflow: string? }?  max: how many at one time,
---  those of a key in order; buffer: how many wait
---@return table? stats  of a chain that runs while the app runs
function Stream:each(fn, opts)
  local at = where "each"
  local d = options.resolve(at, opts, { max = { "count", nil, 1, 10000 },
    buffer = { "count", 1000, 1, 1000000 }, overflow = { "overflow", "block" } })
  if d.max == 1 then d.max = nil end
  return sink(self, "each", { fn = options.fn(at, fn), max = d.max, count = d.buffer,
    overflow = d.overflow })
end

--- Sends each item somewhere: an event type to publish, or one of publish, send, enqueue, append,
--- file. Ends the chain.
---@param target string|{ publish: string?, send: string?, enqueue: string?,
---  append: string|function|nil, type: string?, file: string? }
---@return table? stats
function Stream:to(target)
  local at = where "to"
  return sink(self, "to", { to = require("catga.stream.sinks").check(at, target) })
end

--- Collects all items of a source that ends; only while the app runs. May yield.
---@return any[]
function Stream:list()
  if self.world.registry or self.world.is_open then
    error(("%s: it gives its list at once, and so only while the app runs"):format(where "list"), 0)
  end
  local list = {}
  local node = behind(self, "list", { is_sink = true, into = list }).node
  require("catga.stream.live").run(node, self.world)
  return list
end

return M
