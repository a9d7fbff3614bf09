--- A chain at work: its operators' objects and its compiled functions, without a source.
local errors = require "catga.error"
local compile = require "catga.stream.compile"
local keeping = require "catga.stream.keeping"
local lazy = require "catga.lazy"
local sinks = require "catga.stream.sinks"
local states = require "catga.stream.state"
local watermarks = require "catga.stream.watermark"

local windows = lazy.module "catga.stream.windows"
local timing = lazy.module "catga.stream.timing"

local M = {}

-- Which module makes the object of an operator.
local MAKERS = { scan = keeping, take = keeping, skip = keeping, reduce = keeping, buffer = keeping,
  batch = keeping, distinct = keeping, tumbling = windows, hopping = windows,
  session = lazy.module "catga.stream.session", sliding = lazy.module "catga.stream.sliding",
  join = lazy.module "catga.stream.join", throttle = timing, debounce = timing, sample = timing,
  delay = timing, queue = lazy.module "catga.stream.queue", each = sinks, to = sinks, list = sinks }

---@class catga.StreamInstance
---@field app catga.App
---@field graph catga.StreamGraph
---@field is_durable boolean
---@field now number          the clock when the items at work came
---@field ops table<integer, table>
---@field order table[]       the same in the order of the chain
---@field watermark catga.StreamWatermark
---@field X table             compiled functions
---@field guard function?     while items that have failed are gone through
---@field sinks integer       calls of sinks since the last checkpoint
---@field ended boolean?      nobody wants more items
---@field late_count integer
local Instance = {}
Instance.__index = Instance

local function is_nil(node)
  error(("stream:%s (%s) returned nil; leave items out by where"):format(node.kind, node.at), 0)
end

local function is_no_list(node)
  error(("stream:flat_map (%s) must return a list"):format(node.at), 0)
end

-- One who wants no more items lets the sources end, when nobody else is left.
local function take_ended(self, node)
  self.closed[node] = true
  local function is_closed(one)
    if self.closed[one] then return true end
    if one.is_sink then return false end
    for _, edge in ipairs(one.children) do
      if not is_closed(edge.node) then return false end
    end
    return true
  end
  for _, source in ipairs(self.graph.sources) do
    if not is_closed(source) then return end
  end
  self.ended = true
end

local function refs_of(self, is_guarded)
  local refs = { F = {}, O = self.ops, N = self.graph.nodes, X = {}, instance = self,
    watermark = self.watermark, sources = self.sources, times = self.times,
    H = { guard = is_guarded and self.guard_fn, is_nil = is_nil, is_no_list = is_no_list,
      type = type, ROOT = states.ROOT, failed = sinks.failed, new_table = require "table.new",
      take_ended = function(node) take_ended(self, node) end } }
  refs.H.open, refs.H.touch, refs.H.see = states.State.open, states.State.touch, self.watermark.see
  for _, node in ipairs(self.graph.nodes) do refs.F[node.id] = node.fn end
  return refs
end

-- Makes the functions of one form.
local function functions(self, is_guarded)
  local refs = refs_of(self, is_guarded)
  compile.chunk(self.graph, is_guarded)(refs)
  return refs.X
end

--- A chain at its beginning.
---@param app catga.App
---@param graph catga.StreamGraph
---@param guard fun(node: table, fn: function, ...): boolean, any  calls a function of an item that
---  may fail; false: the item is not to go on
---@return catga.StreamInstance
function M.new(app, graph, guard)
  local settings = app.settings
  local self = setmetatable({ app = app, graph = graph, is_durable = graph.is_durable,
    now = app.clock:now(), ops = {}, order = {}, sources = {}, times = {}, closed = {}, sinks = 0,
    keys_max = settings.stream_keys_max, windows_max = settings.stream_windows_max,
    guard_fn = guard, late_count = 0, said_late = 1 }, Instance)
  self.watermark = watermarks.new()
  for _, node in ipairs(graph.nodes) do
    local maker = MAKERS[node.kind]
    local op = maker and maker[node.kind](self, node)
    if op then
      self.ops[node.id], self.order[#self.order + 1] = op, op
      op:reset()
    end
  end
  for i, node in ipairs(graph.sources) do
    local o = node.options
    local idle = o.idle_timeout
    if idle == nil then idle = settings.stream_idle_timeout end
    self.sources[node.id] = self.watermark:add({ lateness = o.lateness,
      idle_timeout = idle or nil }, self.now)
    node.nth = i
    if node.event_time then self.times[node.id] = watermarks.reader(node.event_time, node.at) end
  end
  self:use(false)
  return self
end

--- Takes one of the two forms.
---@param is_guarded boolean
function Instance:use(is_guarded)
  local field = is_guarded and "guarded" or "plain"
  self[field] = self[field] or functions(self, is_guarded)
  local X = self[field]
  self.X, self.guard = X, is_guarded and self.guard_fn or nil
  self.watermark.move = X.move
  for _, op in ipairs(self.order) do
    op.down = X["d" .. op.node.id]
    local late = op.node.late
    if late then op.late = X["n" .. late.id] end
  end
end

--- Takes the functions that its nodes have now; the state stays.
function Instance:renew()
  for _, op in ipairs(self.order) do
    local node = op.node
    op.fold, op.by_fn, op.keys, op.merge = node.reduce, node.by, node.keys, node.merge
    if node.kind == "join" then op.pair = node.fn end
    if node.initial ~= nil and op.make then op.make = states.maker(node.initial) end
  end
  for _, node in ipairs(self.graph.sources) do
    local source, o = self.sources[node.id], node.options
    source.lateness = o.lateness
    if node.event_time then self.times[node.id] = watermarks.reader(node.event_time, node.at) end
  end
  self.plain, self.guarded = nil, nil
  self:use(self.guard ~= nil)
end

--- Forgets all state.
function Instance:reset()
  self.now = self.app.clock:now()
  self.sinks, self.ended, self.closed, self.late_count = 0, nil, {}, 0
  for _, op in ipairs(self.order) do op:reset() end
  self.watermark:reset(self.now)
end

--- Something came too late for a window: said once, and again at ten times as many.
function Instance:note_late(op)
  self.late_count = self.late_count + 1
  if op.late or self.late_count < self.said_late then return end
  self.said_late = self.late_count * 10
  self.app:say("warn", ("stream %s: %d item%s too late for %s (%s); stream:late takes them, "
    .. "lateness waits longer"):format(self.graph.name, self.late_count,
    self.late_count == 1 and " was" or "s were", op.node.kind, op.node.at))
end

--- Events of a source, from its list.
---@param source table  node
---@param items table[]
---@param from integer
---@param to integer
function Instance:feed(source, items, from, to)
  self.watermark:arrived(self.sources[source.id], self.now)
  self.X["s" .. source.id](items, from, to)
end

--- The end of what was read at once.
function Instance:pass()
  for _, op in ipairs(self.order) do
    if op.pass then op:pass() end
  end
end

--- Does what is due by the clock; `now` is that of the instance.
function Instance:tick()
  local now = self.now
  for _, op in ipairs(self.order) do
    if op.due and op.due <= now then op:tick(now) end
  end
end

--- Looks which sources are idle: to be called only when all that there is was read.
function Instance:look_idle()
  if self.graph.has_event_time then self.watermark:tick(self.now) end
end

--- There is more to read: nobody is known to be idle.
function Instance:is_behind()
  for _, source in pairs(self.sources) do self.watermark:arrived(source, self.now) end
end

--- When the clock must be looked at; math.huge: no time.
---@return number
function Instance:due()
  local due, closes = math.huge, math.huge
  for _, op in ipairs(self.order) do
    if op.due and op.due < due then due = op.due end
    if op.closes and op.closes < closes then closes = op.closes end
  end
  if closes < math.huge then due = math.min(due, self.watermark:due(closes)) end
  return due
end

--- Is there no room for more?
---@return boolean
function Instance:is_full()
  for _, op in ipairs(self.order) do
    if op.is_full and op:is_full() then return true end
  end
  return false
end

--- The sources have ended: what is open is given on, in the order of the chain.
function Instance:finish()
  for _, op in ipairs(self.order) do
    if op.finish then op:finish() end
  end
end

--- What must be on the disk before a commit.
function Instance:sync()
  for _, op in ipairs(self.order) do
    if op.sync then op:sync() end
  end
end

function Instance:close()
  for _, op in ipairs(self.order) do
    if op.close then op:close() end
  end
end

local function each_change(self, method, add)
  for _, op in ipairs(self.order) do
    if op[method] then op[method](op, add) end
  end
end

--- Hands on what has changed since the last call, as JSON.
---@param add fun(text: string)
function Instance:changes(add) each_change(self, "changes", add) end

--- Hands on the whole state.
---@param add fun(text: string)
function Instance:dump(add) each_change(self, "dump", add) end

--- Takes a change.
---@param change any[]  decoded
function Instance:load(change)
  local op = self.ops[change[1]]
  if not op then
    error(errors.new("corrupt", ("the state of stream %s speaks of operator %s, which is not there")
      :format(self.graph.name, tostring(change[1]))), 0)
  end
  op:load(change[2], states.key_of(change[3]), unpack(change, 4))
end

-- What is counted of an operator, and kept over restarts.
local COUNTS = { "late_count", "missed_count", "dropped_count" }

--- The counts, for a checkpoint.
---@return table[] list  { operator, late, missed, dropped }
function Instance:stored_counts()
  local list = {}
  for _, op in ipairs(self.order) do
    local one, sum = { op.node.id }, 0
    for i, name in ipairs(COUNTS) do
      one[i + 1] = op[name] or 0
      sum = sum + one[i + 1]
    end
    if sum > 0 then list[#list + 1] = one end
  end
  return list
end

--- All of a checkpoint was taken.
---@param watermark table  as it was stored
---@param counts table[]
function Instance:loaded(watermark, counts)
  self.watermark:load(watermark)
  for _, one in ipairs(counts) do
    local op = self.ops[one[1]]
    for i, name in ipairs(COUNTS) do op[name] = one[i + 1] end
    self.late_count = self.late_count + one[2]
  end
  for _, op in ipairs(self.order) do
    if op.node.is_window then op.wm = self.watermark.wm end
    if op.loaded then op:loaded() end
  end
end

--- What is to be seen of it.
---@return { late: integer, missed: integer, dropped: integer, windows: integer, keys: integer }
---  missed: items that came too late for some of their hopping windows
function Instance:counts()
  local counts = { late = 0, missed = 0, dropped = 0, windows = 0, keys = 0 }
  for _, op in ipairs(self.order) do
    counts.late = counts.late + (op.late_count or 0)
    counts.missed = counts.missed + (op.missed_count or 0)
    counts.dropped = counts.dropped + (op.dropped_count or 0)
    if op.node.is_window then
      counts.windows = counts.windows + op:size()
    elseif op.size then
      counts.keys = counts.keys + op:size()
    end
  end
  return counts
end

-- They run between batches, over a few operators: nothing to compile.
for _, name in ipairs { "pass", "tick", "look_idle", "is_behind", "due", "is_full" } do
  jit.off(Instance[name])
end

return M
