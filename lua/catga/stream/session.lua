--- Session windows in event time: items of a key that follow each other within a gap.
---
--- A session is given on when the watermark has passed its last item by more than the gap. Items
--- may come in any order; one that lies between two sessions makes them one.
local errors = require "catga.error"
local due = require "catga.schedule.due"
local states = require "catga.stream.state"
local windows = require "catga.stream.windows"

local M = {}

local ROOT, INFINITY = states.ROOT, math.huge

local Sessions = {}
Sessions.__index = Sessions

function Sessions:reset()
  self.by, self.heap, self.closes, self.count = {}, due.new(), INFINITY, 0
  self.dirty, self.dirty_count, self.gone, self.next_id = {}, 0, {}, 1
  self.late_count, self.wm = 0, -INFINITY
end

function Sessions:size() return self.count end

-- The least watermark at which a session of that last item is over.
local function over_at(self, last) return last + self.node.gap + 1 end

local function wait(self, session)
  local at = over_at(self, session.last)
  session.waits_for = at
  self.heap:push(at, session)
  if at < self.closes then self.closes = at end
end

local function touch(self, session)
  if session.dirty or not self.is_durable then return end
  session.dirty = true
  self.dirty_count = self.dirty_count + 1
  self.dirty[self.dirty_count] = session
end

local function open(self, k, t)
  states.check_key(self.node, k)
  if self.count >= self.max then
    error(errors.new("limit", ("session (%s) has %d open sessions, which is stream_windows_max; "
      .. "raise it in catga.lua, or take a shorter gap"):format(self.node.at, self.count)), 0)
  end
  local session = { id = self.next_id, k = k, first = t, last = t, n = 0, saved = 0 }
  self.next_id = self.next_id + 1
  if not self.merge then session.list, session.times = {}, {} end
  local list = self.by[k]
  if not list then
    list = {}
    self.by[k] = list
  end
  list[#list + 1] = session
  self.count = self.count + 1
  return session
end

local function drop(self, session)
  local list = self.by[session.k]
  for i = 1, #list do
    if list[i] == session then
      table.remove(list, i)
      break
    end
  end
  if #list == 0 then self.by[session.k] = nil end
  self.count, session.is_gone = self.count - 1, true
  if session.is_saved then self.gone[#self.gone + 1] = session end
end

-- Puts the items of one session into another.
local function absorb(self, session, other)
  drop(self, other)
  session.first = math.min(session.first, other.first)
  session.last = math.max(session.last, other.last)
  if self.merge then
    local a, b = session, other
    if other.id < session.id then a, b = other, session end
    session.v = self.merge(a.v, b.v)
    return
  end
  for i = 1, other.n do
    session.n = session.n + 1
    session.list[session.n], session.times[session.n] = other.list[i], other.times[i]
  end
  session.is_unsorted = true
end

-- The session that takes an item: those that it joins are one now. nil: there is none.
local function find(self, k, t)
  local list, gap = self.by[k], self.node.gap
  local found
  for i = list and #list or 0, 1, -1 do
    local session = list[i]
    if t >= session.first - gap and t <= session.last + gap then
      if found then absorb(self, found, session) else found = session end
    end
  end
  return found
end

--- Takes an item into its session.
function Sessions:push(v, k, w, t)
  local key = k == nil and ROOT or k
  local session = find(self, key, t)
  if not session and over_at(self, t) <= self.wm then return windows.late(self, v, k, w, t) end
  local value
  if self.merge then value = self.fold(session and session.v or self.make(), v, k, w) end
  session = session or open(self, key, t)
  if self.merge then
    session.v = value
  else
    session.n = session.n + 1
    session.list[session.n], session.times[session.n] = v, t
    if session.n > 1 and t < session.times[session.n - 1] then session.is_unsorted = true end
  end
  if t < session.first then session.first = t end
  if t > session.last then session.last = t end
  if not session.waits_for then wait(self, session) end
  touch(self, session)
end

-- What a session without a merge function comes to.
local function fold_all(self, session, k, window)
  local value = self.make()
  for i = 1, session.n do value = self.fold(value, session.list[i], k, window) end
  return value
end

local function close(self, session)
  drop(self, session)
  local k = session.k
  if k == ROOT then k = nil end
  local window = { start = session.first, stop = over_at(self, session.last) }
  local value = session.list
  if session.is_unsorted and value then windows.sort(value, session.times, session.n) end
  if self.merge then
    value = session.v
  elseif self.fold then
    local guard, ok = self.instance.guard, true
    if guard then
      ok, value = guard(self.node, fold_all, self, session, k, window)
    else
      value = fold_all(self, session, k, window)
    end
    if not ok then return end
  end
  if value == nil then error(("reduce (%s) returned nil"):format(self.node.reduce_at), 0) end
  self.down(value, k, window, session.last)
end

--- The watermark has come here.
function Sessions:advance(wm)
  while true do
    local at, session = self.heap:first()
    if not at or at > wm then
      self.closes = at or INFINITY
      return
    end
    self.heap:pop()
    if not session.is_gone then
      if over_at(self, session.last) <= wm then
        close(self, session)
      else -- Others have come since.
        wait(self, session)
      end
    end
  end
end

function Sessions:finish() self:advance(INFINITY) end

local function write(self, session, add, is_whole)
  local key = ("%s,%d"):format(states.key_text(session.k), session.id)
  local value = ""
  if self.merge then value = "," .. states.encode(self.node, session.v) end
  add(("[%d,\"s\",%s,%.17g,%.17g%s]"):format(self.node.id, key, session.first, session.last, value))
  if not self.merge then
    states.write_items(self.node, "i", key, session.list, is_whole and 1 or session.saved + 1,
      session.n, session.times, add)
    session.saved = session.n
  end
  session.is_saved = true
end

function Sessions:changes(add)
  for i = 1, #self.gone do
    local session = self.gone[i]
    add(("[%d,\"g\",%s,%d]"):format(self.node.id, states.key_text(session.k), session.id))
  end
  for i = 1, self.dirty_count do
    local session = self.dirty[i]
    session.dirty = nil
    if not session.is_gone then write(self, session, add) end
  end
  self.gone, self.dirty, self.dirty_count = {}, {}, 0
end

function Sessions:dump(add)
  for _, list in pairs(self.by) do
    for _, session in ipairs(list) do write(self, session, add, true) end
  end
end

local function with_id(self, key, id)
  for _, session in ipairs(self.by[key] or {}) do
    if session.id == id then return session end
  end
end

function Sessions:load(kind, key, id, a, b, value)
  local session = with_id(self, key, id)
  if kind == "g" then
    if session then drop(self, session) end
    self.gone = {}
    return
  end
  if not session then
    session = open(self, key, a)
    session.id = id
  end
  self.next_id = math.max(self.next_id, id + 1)
  session.is_saved = true
  if kind == "s" then
    session.first, session.last, session.v = a, b, value
    return
  end
  for i, item in ipairs(a) do
    session.n = session.n + 1
    session.list[session.n], session.times[session.n] = item, b[i]
    if session.n > 1 and b[i] < session.times[session.n - 1] then session.is_unsorted = true end
  end
  session.saved = session.n
end

function Sessions:loaded()
  self.heap, self.closes, self.gone = due.new(), INFINITY, {}
  local all = {}
  for _, list in pairs(self.by) do
    for _, session in ipairs(list) do all[#all + 1] = session end
  end
  table.sort(all, function(a, b) return a.id < b.id end)
  for _, session in ipairs(all) do wait(self, session) end
end

function M.session(instance, node)
  local op = setmetatable({ instance = instance, node = node, max = instance.windows_max,
    is_durable = instance.is_durable, fold = node.reduce, merge = node.merge, due = INFINITY },
    Sessions)
  if node.reduce then op.make = states.maker(node.initial) end
  return op
end

return M
