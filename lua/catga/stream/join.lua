--- A windowed join of two streams: items of one key whose times are at most `within` apart.
---
--- A pair is given on when its second item comes. With kind "left" an item of the left side that
--- met nobody is given on alone when the watermark says that nobody can come any more.
local errors = require "catga.error"
local due = require "catga.schedule.due"
local states = require "catga.stream.state"
local windows = require "catga.stream.windows"

local M = {}

local INFINITY = math.huge

local Join = {}
Join.__index = Join

function Join:reset()
  self.by, self.heap, self.closes, self.count = {}, due.new(), INFINITY, 0
  self.fresh, self.fresh_count, self.next_id = {}, 0, 1
  self.late_count, self.wm = 0, -INFINITY
end

function Join:size() return self.count end

local function add(self, key, item)
  states.check_key(self.node, key)
  if self.count >= self.max then
    error(errors.new("limit", ("join (%s) holds %d items, which is stream_windows_max; raise it in "
      .. "catga.lua, or make `within` shorter"):format(self.node.at, self.count)), 0)
  end
  local e = self.by[key]
  if not e then
    e = { k = key, [1] = {}, [2] = {} }
    self.by[key] = e
  end
  table.insert(e[item.side], item)
  item.e = e
  self.count = self.count + 1
end

-- The least watermark at which nobody can meet the item any more.
local function over_at(self, item) return item.t + self.node.within + 1 end

local function wait(self, item)
  local at = over_at(self, item)
  self.heap:push(at, item)
  if at < self.closes then self.closes = at end
end

-- To be written into the next checkpoint.
local function touch(self, item)
  if not self.is_durable or item.dirty then return end
  item.dirty = true
  self.fresh_count = self.fresh_count + 1
  self.fresh[self.fresh_count] = item
end

local function give(self, left, right, key, t)
  local l, r = left.v, right and right.v
  local value
  if self.pair then
    local guard, ok = self.instance.guard, true
    if guard then
      ok, value = guard(self.node, self.pair, l, r, key)
    else
      value = self.pair(l, r, key)
    end
    if not ok then return end
    if value == nil then error(("join (%s) returned nil"):format(self.node.at), 0) end
  else
    value = { left = l, right = r }
  end
  self.down(value, key, nil, t)
end

local function meet(self, item, key)
  local others = self.by[key] and self.by[key][3 - item.side]
  for i = 1, others and #others or 0 do
    local other = others[i]
    if math.abs(other.t - item.t) <= self.node.within then
      local left, right = item, other
      if item.side == 2 then left, right = other, item end
      if not left.met then
        left.met = true
        if self.is_left and left ~= item then touch(self, left) end
      end
      give(self, left, right, key, math.max(item.t, other.t))
    end
  end
end

-- Takes an item of a side.
local function push(self, side, v, k, w, t)
  if t < self.wm then return windows.late(self, v, k, w, t) end
  local key = k
  local of_side = self.keys and self.keys[side]
  if of_side then key = of_side(v, k, w) end
  if key == nil then error(("join (%s): the key of an item is nil"):format(self.node.at), 0) end
  local item = { id = self.next_id, side = side, v = v, t = t }
  self.next_id = self.next_id + 1
  meet(self, item, key)
  add(self, key, item)
  wait(self, item)
  touch(self, item)
end

function Join:push_left(v, k, w, t) push(self, 1, v, k, w, t) end
function Join:push_right(v, k, w, t) push(self, 2, v, k, w, t) end

local function drop(self, item)
  local e = item.e
  local list = e[item.side]
  for i = 1, #list do
    if list[i] == item then
      table.remove(list, i)
      break
    end
  end
  if #e[1] == 0 and #e[2] == 0 then self.by[e.k] = nil end
  self.count, item.is_gone = self.count - 1, true
end

--- The watermark has come here.
function Join:advance(wm)
  while true do
    local at, item = self.heap:first()
    if not at or at > wm then
      self.closes = at or INFINITY
      return
    end
    self.heap:pop()
    drop(self, item)
    if self.is_left and item.side == 1 and not item.met then
      give(self, item, nil, item.e.k, item.t + self.node.within)
    end
  end
end

function Join:finish() self:advance(INFINITY) end

local function write(self, item, put)
  put(("[%d,\"j\",%s,%d,%d,%.17g,%s,%s]"):format(self.node.id, states.key_text(item.e.k), item.side,
    item.id, item.t, tostring(item.met == true), states.encode(self.node, item.v)))
end

function Join:changes(put)
  for i = 1, self.fresh_count do
    local item = self.fresh[i]
    item.dirty = nil
    if not item.is_gone then write(self, item, put) end
  end
  self.fresh, self.fresh_count = {}, 0
end

function Join:dump(put)
  for _, e in pairs(self.by) do
    for side = 1, 2 do
      for _, item in ipairs(e[side]) do write(self, item, put) end
    end
  end
end

function Join:load(_, key, side, id, t, met, v)
  local e = self.by[key]
  for _, item in ipairs(e and e[side] or {}) do
    if item.id == id then
      item.met = met
      return
    end
  end
  add(self, key, { id = id, side = side, t = t, met = met or nil, v = v })
  self.next_id = math.max(self.next_id, id + 1)
end

--- All of a checkpoint was loaded; the watermark is known: what it has passed was given on.
function Join:loaded()
  self.heap, self.closes = due.new(), INFINITY
  local all = {}
  for _, e in pairs(self.by) do
    for side = 1, 2 do
      table.sort(e[side], function(a, b) return a.id < b.id end)
      for _, item in ipairs(e[side]) do all[#all + 1] = item end
    end
  end
  table.sort(all, function(a, b) return a.id < b.id end)
  for _, item in ipairs(all) do
    if over_at(self, item) <= self.wm then drop(self, item) else wait(self, item) end
  end
end

function M.join(instance, node)
  return setmetatable({ instance = instance, node = node, max = instance.windows_max,
    is_durable = instance.is_durable, keys = node.keys, pair = node.fn,
    is_left = node.join_kind == "left", due = INFINITY }, Join)
end

return M
