--- Windows of fixed places in event time: tumbling and hopping, of a length or of the calendar.
---
--- A window is given on once, when the watermark has come to its end; an item for which every
--- window has been given on is late. A pane holds the entries of one window, one a key.
local errors = require "catga.error"
local due = require "catga.schedule.due"
local states = require "catga.stream.state"

local M = {}

local ROOT, INFINITY = states.ROOT, math.huge
local new_table = require "table.new"

--- Items in the order of their times; those of one time stay as they are. Sorts in place.
---@param list any[]
---@param times number[]
---@param n integer
function M.sort(list, times, n)
  local order = {}
  for i = 1, n do order[i] = i end
  table.sort(order, function(a, b)
    return times[a] < times[b] or times[a] == times[b] and a < b
  end)
  local items, stamps = {}, {}
  for i = 1, n do items[i], stamps[i] = list[order[i]], times[order[i]] end
  for i = 1, n do list[i], times[i] = items[i], stamps[i] end
end

--- An item that no window takes any more: counted, and given to who asked for it.
---@param op table
function M.late(op, v, k, w, t)
  op.late_count = op.late_count + 1
  op.instance:note_late(op)
  if op.late then op.late(v, k, w, t) end
end

local Panes = {}
Panes.__index = Panes

function Panes:reset()
  self.by_start, self.heap, self.last, self.closes = {}, due.new(), nil, INFINITY
  self.count, self.dirty, self.dirty_count, self.closed = 0, {}, 0, {}
  self.late_count, self.missed_count = 0, 0
  self.wm = -INFINITY
end

function Panes:size() return self.count end

local function add_pane(self, start, stop)
  local pane = { start = start, stop = stop, by = {}, list = {}, n = 0 }
  self.by_start[start] = pane
  self.heap:push(stop, pane)
  if stop < self.closes then self.closes = stop end
  return pane
end

-- The pane that is open for a window; nil: it has been given on.
local function pane_of(self, start, stop)
  if stop <= self.wm then return nil end
  local pane = self.by_start[start] or add_pane(self, start, stop)
  self.last = pane
  return pane
end

local function open(self, pane, k)
  states.check_key(self.node, k)
  if self.count >= self.max then
    error(errors.new("limit", ("%s (%s) has %d open windows, which is stream_windows_max; raise it "
      .. "in catga.lua, or take longer windows"):format(self.node.kind, self.node.at, self.count)),
      0)
  end
  local e = { k = k, pane = pane, n = 0, saved = 0 }
  if self.fold then
    e.v = self.make()
  else
    e.list, e.times = new_table(4, 0), new_table(4, 0)
  end
  return e
end

local function touch(self, e)
  e.dirty = true
  local n = self.dirty_count + 1
  self.dirty_count, self.dirty[n] = n, e
end

-- Puts an item into a pane.
local function put(self, pane, v, k, w, t)
  if k == nil then k = ROOT end
  local e = pane.by[k]
  local is_new = e == nil
  if is_new then e = open(self, pane, k) end
  if self.fold then
    local value = self.fold(e.v, v, k ~= ROOT and k or nil, w)
    if value == nil then error(("reduce (%s) returned nil"):format(self.node.reduce_at), 0) end
    e.v = value
  else
    local n = e.n + 1
    e.list[n], e.times[n] = v, t
    if n > 1 and t < e.times[n - 1] then e.is_unsorted = true end
    e.n = n
  end
  if is_new then
    pane.by[k] = e
    pane.n = pane.n + 1
    pane.list[pane.n] = e
    self.count = self.count + 1
  end
  if self.is_durable and not e.dirty then touch(self, e) end
end

--- Takes an item into its window.
function Panes:push(v, k, w, t)
  local pane = self.last
  if not (pane and t >= pane.start and t < pane.stop) then
    pane = pane_of(self, self.bounds(t))
    if not pane then return M.late(self, v, k, w, t) end
  end
  put(self, pane, v, k, w, t)
end

-- Takes an item into all windows that it belongs to.
local function push_hopping(self, v, k, w, t)
  local size, hop = self.node.size, self.node.hop
  local start = t - (t - self.node.offset) % hop
  local put_count, missed = 0, 0
  while start > t - size do
    local pane = pane_of(self, start, start + size)
    if pane then
      put(self, pane, v, k, w, t)
      put_count = put_count + 1
    else
      missed = missed + 1
    end
    start = start - hop
  end
  if put_count == 0 and missed > 0 then return M.late(self, v, k, w, t) end
  if missed > 0 then self.missed_count = self.missed_count + 1 end
end

-- Gives a pane on, its keys in the order in which they came.
local function close(self, pane)
  self.by_start[pane.start] = nil
  if self.last == pane then self.last = nil end
  self.count = self.count - pane.n
  pane.is_closed = true
  if pane.is_saved then self.closed[#self.closed + 1] = pane.start end
  local window = { start = pane.start, stop = pane.stop }
  for i = 1, pane.n do
    local e = pane.list[i]
    local k = e.k
    if k == ROOT then k = nil end
    if e.is_unsorted then M.sort(e.list, e.times, e.n) end
    if self.fold then
      self.down(e.v, k, window, pane.stop - 1)
    else
      self.down(e.list, k, window, pane.stop - 1)
    end
  end
end

--- The watermark has come here.
function Panes:advance(wm)
  while true do
    local stop, pane = self.heap:first()
    if not stop or stop > wm then
      self.closes = stop or INFINITY
      return
    end
    self.heap:pop()
    close(self, pane)
  end
end

--- The source has ended: gives all on.
function Panes:finish() self:advance(INFINITY) end

local function place_of(e)
  return ("%s,%.17g,%.17g"):format(states.key_text(e.k), e.pane.start, e.pane.stop)
end

local function write(self, e, add, is_whole)
  if self.fold then
    add(("[%d,\"v\",%s,%s]"):format(self.node.id, place_of(e), states.encode(self.node, e.v)))
  else
    states.write_items(self.node, "i", place_of(e), e.list, is_whole and 1 or e.saved + 1, e.n,
      e.times, add)
    e.saved = e.n
  end
  e.pane.is_saved = true
end

function Panes:changes(add)
  for i = 1, #self.closed do
    add(("[%d,\"c\",null,%.17g]"):format(self.node.id, self.closed[i]))
  end
  for i = 1, self.dirty_count do
    local e = self.dirty[i]
    e.dirty = nil
    if not e.pane.is_closed then write(self, e, add) end
  end
  self.closed, self.dirty, self.dirty_count = {}, {}, 0
end

function Panes:dump(add)
  local panes = {}
  for _, pane in pairs(self.by_start) do panes[#panes + 1] = pane end
  table.sort(panes, function(a, b) return a.start < b.start end)
  for _, pane in ipairs(panes) do
    for i = 1, pane.n do write(self, pane.list[i], add, true) end
  end
end

local function take(e, kind, value, times)
  if kind == "v" then
    e.v = value
    return
  end
  for i, item in ipairs(value) do
    e.n = e.n + 1
    e.list[e.n], e.times[e.n] = item, times[i]
    if e.n > 1 and e.times[e.n] < e.times[e.n - 1] then e.is_unsorted = true end
  end
  e.saved = e.n
end

function Panes:load(kind, key, start, stop, value, times)
  local pane = self.by_start[start]
  if kind == "c" then
    if not pane then return end
    self.by_start[start], pane.is_closed = nil, true
    self.count = self.count - pane.n
    return
  end
  pane = pane or add_pane(self, start, stop)
  pane.is_saved = true
  local e = pane.by[key]
  if not e then
    e = open(self, pane, key)
    pane.by[key], pane.n = e, pane.n + 1
    pane.list[pane.n] = e
    self.count = self.count + 1
  end
  take(e, kind, value, times)
end

--- All of a checkpoint was loaded.
function Panes:loaded()
  self.heap, self.closes = due.new(), INFINITY
  for _, pane in pairs(self.by_start) do
    self.heap:push(pane.stop, pane)
    if pane.stop < self.closes then self.closes = pane.stop end
  end
end

-- Start and end of the window of a time, for windows of a length.
local function fixed(size, offset)
  return function(t)
    local start = t - (t - offset) % size
    return start, start + size
  end
end

local function panes(instance, node)
  local op = setmetatable({ instance = instance, node = node, max = instance.windows_max,
    is_durable = instance.is_durable, fold = node.reduce, due = INFINITY }, Panes)
  if node.reduce then op.make = states.maker(node.initial) end
  return op
end

function M.tumbling(instance, node)
  local op = panes(instance, node)
  if node.unit then
    op.bounds = require("catga.stream.calendar").bounds(instance.app, node)
  else
    op.bounds = fixed(node.size, node.offset)
  end
  return op
end

function M.hopping(instance, node)
  local op = panes(instance, node)
  op.push = push_hopping
  return op
end

return M
