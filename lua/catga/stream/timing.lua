--- Operators that go by the app's clock: throttle, debounce, sample, delay. (The time of a
--- buffer is in lua/catga/stream/keeping.lua.)
local states = require "catga.stream.state"
local keeping = require "catga.stream.keeping"
local due = require "catga.schedule.due"

local M = {}

local INFINITY, ROOT = math.huge, states.ROOT

local function number(value) return value and ("%.17g"):format(value) or "null" end

-- JSON of an item that is kept, with its window and time.
local function item_text(node, one)
  local w = one.w
  return ("%s,%s,%s,%s"):format(states.encode(node, one.v), number(w and w.start),
    number(w and w.stop), number(one.t))
end

local function plain(value) return type(value) == "number" and value or nil end

-- Sets what item_text has written.
local function set_item(one, v, start, stop, t)
  one.v, one.t = v, plain(t)
  one.w = plain(start) and { start = start, stop = stop } or nil
end

local function key_of(e)
  if e.k == ROOT then return nil end
  return e.k
end

-- Lets so many pass in each span of time; the others are dropped, and counted.
local Throttle = keeping.derive()

function Throttle:reset()
  self.dropped_count = 0
  keeping.Keyed.reset(self)
  self.swept = 0
end

function Throttle:push(_, k)
  local now, node = self.instance.now, self.node
  local e = self.state.by[k == nil and ROOT or k]
  if not e then
    if self.state.count >= self.state.max then self:sweep(now) end
    e = self.state:get(k)
  end
  if now - e.since >= node.ms or now < e.since then e.since, e.n = now, 0 end
  if e.n >= node.count then
    self.dropped_count = self.dropped_count + 1
    return false
  end
  e.n = e.n + 1
  if self.is_durable then self.state:touch(e) end
  return true
end

-- Forgets keys whose span is over.
function Throttle:sweep(now)
  for _, e in pairs(self.state.by) do
    if now - e.since >= self.node.ms then self.state:forget(e) end
  end
end

function Throttle:write(e, add)
  add(("[%d,\"v\",%s,%.17g,%d]"):format(self.node.id, states.key_text(e.k), e.since, e.n))
end

function Throttle.take(_, _, e, since, n) e.since, e.n, e.is_saved = since, n, true end

function M.throttle(instance, node)
  return keeping.keyed(Throttle, instance, node, function() return { since = -INFINITY, n = 0 } end)
end

-- Keeps the newest item of a key, and gives it on at a time.
local Newest = keeping.derive()
Newest.has_short_entries = true

function Newest:reset()
  keeping.Keyed.reset(self)
  self.heap = due.new()
  self.dropped_count = 0
end

local function wait(self, e)
  self.heap:push(e.due, e)
  e.is_queued = true
  if e.due < self.due then self.due = e.due end
end

function Newest:push(v, k, w, t)
  local e = self.state:get(k)
  if e.due then self.dropped_count = self.dropped_count + 1 end
  local now = self.instance.now
  e.v, e.w, e.t = v, w, t
  if self.node.kind == "debounce" then
    e.due = now + self.node.ms
    if not e.is_queued then wait(self, e) end
  elseif not e.due then
    e.due = (math.floor(now / self.node.ms) + 1) * self.node.ms
    wait(self, e)
  end
  if self.is_durable then self.state:touch(e) end
end

local function give(self, e)
  self.state:forget(e)
  self.down(e.v, key_of(e), e.w, e.t)
end

function Newest:tick(now)
  local at, e = self.heap:first()
  while at and at <= now do
    self.heap:pop()
    if e.due <= now then give(self, e) else wait(self, e) end -- Another one came since.
    at, e = self.heap:first()
  end
  self.due = at or INFINITY
end

function Newest:finish() self:tick(INFINITY) end

function Newest:write(e, add)
  add(("[%d,\"v\",%s,%s,%s]"):format(self.node.id, states.key_text(e.k), number(e.due),
    item_text(self.node, e)))
end

function Newest.take(_, _, e, at, ...)
  e.due, e.is_saved = at, true
  set_item(e, ...)
end

function Newest:loaded()
  local list = {}
  for _, e in pairs(self.state.by) do list[#list + 1] = e end
  table.sort(list, function(a, b) return a.due < b.due end)
  self.heap, self.due = due.new(), INFINITY
  for _, e in ipairs(list) do wait(self, e) end
end

local function newest(instance, node)
  return keeping.keyed(Newest, instance, node, function() return {} end)
end
M.debounce, M.sample = newest, newest

-- Gives each item on later.
local Delay = {}
Delay.__index = Delay

function Delay:reset()
  self.queue, self.first, self.last, self.saved, self.taken = {}, 1, 0, 0, 0
  self.due = INFINITY
end

function Delay:size() return self.last - self.first + 1 end

--- Is there no room? Then nothing is read until the first one is given on.
function Delay:is_full() return self.last - self.first + 1 >= self.node.max end

function Delay:push(v, k, w, t)
  local at = self.instance.now + self.node.ms
  self.last = self.last + 1
  self.queue[self.last] = { v = v, k = k, w = w, t = t, due = at }
  if at < self.due then self.due = at end
end

local function give_first(self)
  local one = self.queue[self.first]
  self.queue[self.first] = nil
  self.first = self.first + 1
  self.down(one.v, one.k, one.w, one.t)
end

function Delay:tick(now)
  while self.first <= self.last and self.queue[self.first].due <= now do give_first(self) end
  local head = self.queue[self.first]
  self.due = head and head.due or INFINITY
end

function Delay:finish()
  while self.first <= self.last do give_first(self) end
  self.due = INFINITY
end

local function write(self, place, add)
  local one = self.queue[place]
  local k = one.k
  if k == nil then k = ROOT end
  add(("[%d,\"i\",%s,%d,%.17g,%s]"):format(self.node.id, states.key_text(k), place, one.due,
    item_text(self.node, one)))
end

function Delay:changes(add)
  for place = math.max(self.first, self.saved + 1), self.last do write(self, place, add) end
  if self.first - 1 > self.taken then
    add(("[%d,\"t\",null,%d]"):format(self.node.id, self.first - 1))
  end
  self.saved, self.taken = self.last, self.first - 1
end

function Delay:dump(add)
  for place = self.first, self.last do write(self, place, add) end
  add(("[%d,\"t\",null,%d]"):format(self.node.id, self.first - 1))
end

function Delay:load(kind, k, place, at, ...)
  if kind == "t" then
    for i = self.first, place do self.queue[i] = nil end
    self.first, self.last = place + 1, math.max(self.last, place)
    self.taken, self.saved = place, self.last
    return
  end
  local one = { k = k ~= ROOT and k or nil, due = at }
  set_item(one, ...)
  if self.last == 0 then self.first = place end
  self.queue[place], self.last, self.saved = one, place, place
end

function Delay:loaded()
  local head = self.queue[self.first]
  self.due = head and head.due or INFINITY
end

function M.delay(instance, node)
  return setmetatable({ instance = instance, node = node, is_durable = instance.is_durable,
    due = INFINITY }, Delay)
end

return M
