--- Operators that keep something from item to item: scan, buffer, batch, take, skip, reduce at the
--- end of a bounded source, distinct.
---
--- The generated code (lua/catga/stream/compile.lua) does the frequent part of scan, buffer, take
--- and skip itself, on the entries that are made here.
local states = require "catga.stream.state"
local new_table = require "table.new"

local M = {}

local ROOT, NEW_MAX = states.ROOT, 1024
local EMPTY_MAX = 1024 -- Keys of a buffer beyond which those without items are let go.

--- What operators with a state by key have in common.
local Keyed = {}
Keyed.__index = Keyed
M.Keyed = Keyed

function Keyed:reset()
  self.state:reset()
  self.due = math.huge
  if self.is_root then self.E = self.state:get(nil) end
end

function Keyed:changes(add)
  self.state:changes(function(e, put, is_whole) self:write(e, put, is_whole) end, add)
end

function Keyed:dump(add)
  self.state:dump(function(e, put, is_whole) self:write(e, put, is_whole) end, add)
end

function Keyed:load(kind, key, ...)
  if kind ~= "x" then return self:take(kind, self.state:get(key), ...) end
  local e = self.state.by[key]
  if not e then return end
  self.state.by[key] = nil
  self.state.count = self.state.count - 1
  if self.dropped then self:dropped(e) end
end

--- How many keys it has.
function Keyed:size() return self.state.count end

--- An operator of a class.
---@param class table
---@param instance table
---@param node table
---@param make fun(k: any): table
function M.keyed(class, instance, node, make)
  local op = setmetatable({ instance = instance, node = node, due = math.huge,
    is_durable = instance.is_durable }, class)
  op.state = states.new(node, instance.keys_max, make)
  op.is_root = not node.is_keyed and not class.has_short_entries
  return op
end

local function derive()
  local class = setmetatable({}, { __index = Keyed })
  class.__index = class
  return class
end
M.derive = derive

-- One value by key: what scan has come to, or a count.
local Value = derive()

function Value:write(e, add)
  add(("[%d,\"v\",%s,%s]"):format(self.node.id, states.key_text(e.k),
    states.encode(self.node, e.v)))
  e.is_saved = true
end

function Value.take(_, _, e, value) e.v, e.is_saved = value, true end

function M.scan(instance, node)
  local make = states.maker(node.initial)
  return M.keyed(Value, instance, node, function() return { v = make() } end)
end

local function counter(instance, node)
  return M.keyed(Value, instance, node, function() return { v = 0 } end)
end
M.take, M.skip = counter, counter

-- Folds a bounded source and gives the result at its end.
local Fold = setmetatable({}, { __index = Value })
Fold.__index = Fold

function Fold:finish()
  local list = {}
  for k, e in pairs(self.state.by) do list[#list + 1] = { k = k, e = e } end
  table.sort(list, function(a, b) return a.e.nth < b.e.nth end)
  for _, one in ipairs(list) do
    local k = one.k
    if k == ROOT then k = nil end
    self.down(one.e.v, k, nil, self.instance.now)
  end
end

function M.reduce(instance, node)
  local make, nth = states.maker(node.initial), 0
  return M.keyed(Fold, instance, node, function()
    nth = nth + 1
    return { v = make(), nth = nth }
  end)
end

-- Lists of items, given on when they are full or old enough.
local Buffer = derive()

local function empty(e, size)
  e.list, e.n, e.saved, e.due = new_table(size, 0), 0, 0, nil
end

function Buffer:write(e, add, is_whole)
  local key = states.key_text(e.k)
  if e.saved == 0 or is_whole then
    add(("[%d,\"n\",%s,%s]"):format(self.node.id, key, e.due and ("%.17g"):format(e.due) or "null"))
  end
  states.write_items(self.node, "a", key, e.list, is_whole and 1 or e.saved + 1, e.n, nil, add)
  e.saved, e.is_saved = e.n, true
end

function Buffer:take(kind, e, value)
  e.is_saved = true
  if kind == "n" then
    empty(e, self.size_hint)
    if type(value) == "number" then
      e.due = value
      self:queue(e)
    end
    return
  end
  for _, item in ipairs(value) do
    e.n = e.n + 1
    e.list[e.n] = item
  end
  e.saved = e.n
end

-- Timed lists wait in the order in which they began, which is that of their ends.
function Buffer:queue(e)
  self.last = self.last + 1
  self.waiting[self.last] = { e = e, list = e.list, due = e.due }
  if e.due < self.due then self.due = e.due end
end

--- The first item of a list has come.
function Buffer:started(e)
  e.due = self.instance.now + self.node.ms
  self:queue(e)
end

--- Gives a list on.
function Buffer:flush(e, t)
  local list, k = e.list, e.k
  if k == ROOT then k = nil end
  if self.state.count > EMPTY_MAX then
    self.state:forget(e)
  else
    empty(e, self.size_hint)
    if self.is_durable then self.state:touch(e) end
  end
  self.down(list, k, nil, t)
end

function Buffer:tick(now)
  while self.first <= self.last and self.waiting[self.first].due <= now do
    local one = self.waiting[self.first]
    self.waiting[self.first] = nil
    self.first = self.first + 1
    local e = one.e
    if not e.gone and e.list == one.list and e.n > 0 then self:flush(e, now) end
  end
  local head = self.waiting[self.first]
  -- What was full before its time is not waited for.
  while head and (head.e.gone or head.e.list ~= head.list) do
    self.waiting[self.first] = nil
    self.first = self.first + 1
    head = self.waiting[self.first]
  end
  self.due = head and head.due or math.huge
end

function Buffer:reset()
  self.waiting, self.first, self.last = {}, 1, 0
  Keyed.reset(self)
end

-- The waiting lists in the order of their ends, as they come out of a checkpoint in any.
function Buffer:loaded()
  local list = {}
  for i = self.first, self.last do
    local one = self.waiting[i]
    if not one.e.gone and one.e.list == one.list then list[#list + 1] = one end
  end
  table.sort(list, function(a, b) return a.due < b.due end)
  self.waiting, self.first, self.last = list, 1, #list
  self.due = list[1] and list[1].due or math.huge
end

--- Gives all lists on, the oldest first: the source has ended.
function Buffer:finish()
  local list = {}
  for _, e in pairs(self.state.by) do
    if e.n > 0 then list[#list + 1] = e end
  end
  table.sort(list, function(a, b) return a.nth < b.nth end)
  for _, e in ipairs(list) do self:flush(e, self.instance.now) end
end

function M.buffer(instance, node)
  local op, nth
  nth = 0
  op = M.keyed(Buffer, instance, node, function()
    nth = nth + 1
    local e = { nth = nth }
    empty(e, op.size_hint)
    return e
  end)
  op.size_hint = math.min(node.count or 16, node.is_keyed and 16 or NEW_MAX)
  return op
end

--- A buffer that is given on at the end of what was read at once.
function M.batch(instance, node)
  local op = M.buffer(instance, node)
  op.pass = op.finish
  return op
end

-- Items that were seen already, the oldest forgotten first.
local Distinct = {}
Distinct.__index = Distinct

function Distinct:reset()
  self.seen, self.order, self.first, self.last, self.from = {}, {}, 1, 0, 1
  self.forgotten = 0
  self.due = math.huge
end

function Distinct:size() return self.last - self.first + 1 end

local function forget_old(self, now)
  local within = self.node.within
  while self.first <= self.last do
    local one = self.order[self.first]
    if self.last - self.first < self.node.max and not (within and now - one.at >= within) then
      break
    end
    self.order[self.first] = nil
    self.first = self.first + 1
    if self.seen[one.k] == one then self.seen[one.k] = nil end
  end
end

--- Was there none like it before?
---@return boolean
function Distinct:push(v, k, w)
  local key = v
  if self.by_fn then key = self.by_fn(v, k, w) end
  if key == nil then
    error(("distinct (%s): the key of an item is nil"):format(self.node.at), 0)
  end
  states.check_key(self.node, key)
  if k ~= nil then key = tostring(k) .. "\0" .. type(key) .. tostring(key) end
  local now = self.instance.now
  if self.node.within then forget_old(self, now) end
  if self.seen[key] then return false end
  local one = { k = key, at = now }
  self.last = self.last + 1
  self.order[self.last], self.seen[key] = one, one
  forget_old(self, now)
  return true
end

local function write_seen(self, from, add)
  if from <= self.last then
    local list, times = {}, {}
    for i = from, self.last do
      list[#list + 1], times[#times + 1] = self.order[i].k, self.order[i].at
    end
    states.write_items(self.node, "s", "null", list, 1, #list, times, add)
  end
end

function Distinct:changes(add)
  write_seen(self, math.max(self.from, self.first), add)
  self.from = self.last + 1
end

function Distinct:dump(add) write_seen(self, self.first, add) end

function Distinct:load(_, _, keys, times)
  for i, key in ipairs(keys) do
    local one = { k = key, at = times[i] }
    self.last = self.last + 1
    self.order[self.last], self.seen[key] = one, one
  end
  self.from = self.last + 1
  forget_old(self, 0)
end

function M.distinct(instance, node)
  return setmetatable({ instance = instance, node = node, by_fn = node.by, due = math.huge },
    Distinct)
end

return M
