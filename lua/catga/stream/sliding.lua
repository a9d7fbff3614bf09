--- Sliding windows in event time: for each item, in the order of times, the items of the length
--- before it and itself.
---
--- An item's window is given on when the watermark has passed its time. What was given on, and what
--- is needed no more, follows from the watermark: so a checkpoint holds the items alone.
local errors = require "catga.error"
local due = require "catga.schedule.due"
local states = require "catga.stream.state"
local windows = require "catga.stream.windows"

local M = {}

local ROOT, INFINITY = states.ROOT, math.huge

local Sliding = {}
Sliding.__index = Sliding

function Sliding:reset()
  self.by, self.heap, self.closes, self.count = {}, due.new(), INFINITY, 0
  self.fresh, self.fresh_count = {}, 0
  self.late_count, self.wm = 0, -INFINITY
end

function Sliding:size() return self.count end

-- Puts an item among those of its key, in the order of times.
local function insert(self, k, v, t)
  states.check_key(self.node, k)
  if self.count >= self.max then
    error(errors.new("limit", ("sliding (%s) holds %d items, which is stream_windows_max; raise it "
      .. "in catga.lua, or take a shorter window"):format(self.node.at, self.count)), 0)
  end
  local e = self.by[k]
  if not e then
    e = { k = k, n = 0, first = 1, items = {}, times = {} }
    self.by[k] = e
  end
  e.n = e.n + 1
  local at = e.n
  while at > e.first and e.times[at - 1] > t do
    e.items[at], e.times[at] = e.items[at - 1], e.times[at - 1]
    at = at - 1
  end
  e.items[at], e.times[at] = v, t
  self.count = self.count + 1
  return e
end

local function wait(self, e, t)
  self.heap:push(t + 1, e) -- The least watermark that has passed it.
  if t + 1 < self.closes then self.closes = t + 1 end
end

--- Takes an item.
function Sliding:push(v, k, w, t)
  if t < self.wm then return windows.late(self, v, k, w, t) end
  local key = k == nil and ROOT or k
  wait(self, insert(self, key, v, t), t)
  if self.is_durable then
    self.fresh_count = self.fresh_count + 1
    self.fresh[self.fresh_count] = { key, v, t }
  end
end

local function fold_all(self, e, first, last, k, window)
  local value = self.make()
  for i = first, last do value = self.fold(value, e.items[i], k, window) end
  return value
end

-- Gives on the window that ends with item `last` of an entry.
local function emit(self, e, last)
  local t, k = e.times[last], e.k
  if k == ROOT then k = nil end
  local first = e.first
  while e.times[first] <= t - self.node.size do first = first + 1 end
  local window = { start = t - self.node.size + 1, stop = t + 1 }
  local value
  if self.fold then
    local guard, ok = self.instance.guard, true
    if guard then
      ok, value = guard(self.node, fold_all, self, e, first, last, k, window)
    else
      value = fold_all(self, e, first, last, k, window)
    end
    if not ok then return end
  else
    value = {}
    for i = first, last do value[i - first + 1] = e.items[i] end
  end
  if value == nil then error(("reduce (%s) returned nil"):format(self.node.reduce_at), 0) end
  self.down(value, k, window, t)
end

-- Lets go of what no window needs any more.
local function evict(self, e, wm)
  while e.first <= e.n and e.times[e.first] <= wm - self.node.size do
    e.items[e.first], e.times[e.first] = nil, nil
    e.first, self.count = e.first + 1, self.count - 1
  end
  if e.first > e.n then self.by[e.k] = nil end
end

--- The watermark has come here.
function Sliding:advance(wm)
  while true do
    local at, e = self.heap:first()
    if not at or at > wm then break end
    self.heap:pop()
    local place = math.max((e.emitted or 0) + 1, e.first) -- Those of a key come in order.
    e.emitted = place
    emit(self, e, place)
    self.stale[e] = true
  end
  self.closes = self.heap:first() or INFINITY
  for e in pairs(self.stale) do
    self.stale[e] = nil
    if self.by[e.k] == e then evict(self, e, wm) end
  end
end

function Sliding:finish() self:advance(INFINITY) end

function Sliding:changes(add)
  for i = 1, self.fresh_count do
    local key, v, t = unpack(self.fresh[i])
    if t > self.wm - self.node.size then
      states.write_items(self.node, "i", states.key_text(key), { v }, 1, 1, { t }, add)
    end
  end
  self.fresh, self.fresh_count = {}, 0
end

function Sliding:dump(add)
  for k, e in pairs(self.by) do
    states.write_items(self.node, "i", states.key_text(k), e.items, e.first, e.n, e.times, add)
  end
end

function Sliding:load(_, key, items, times)
  for i, item in ipairs(items) do insert(self, key, item, times[i]) end
end

--- All of a checkpoint was loaded; the watermark is known.
function Sliding:loaded()
  self.heap, self.closes = due.new(), INFINITY
  for _, e in pairs(self.by) do
    for i = e.first, e.n do
      if e.times[i] < self.wm then e.emitted = i else wait(self, e, e.times[i]) end
    end
    evict(self, e, self.wm)
  end
end

function M.sliding(instance, node)
  local op = setmetatable({ instance = instance, node = node, max = instance.windows_max,
    is_durable = instance.is_durable, fold = node.reduce, due = INFINITY, stale = {} }, Sliding)
  if node.reduce then op.make = states.maker(node.initial) end
  return op
end

return M
