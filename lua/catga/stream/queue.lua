--- Bounded buffers between tasks, what happens when one is full, and the operator `queue`.
---
--- They are rings of Lua tables: what goes through them are Lua values, which C could hold only by
--- references, and a call into C costs more than all of a push here.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"

local M = {}

---@class catga.StreamRing
---@field max integer
---@field overflow "block"|"drop_newest"|"drop_oldest"|"latest"|"fail"
---@field count integer
---@field dropped integer
local Ring = {}
Ring.__index = Ring

--- An empty ring.
---@param max integer
---@param overflow string
---@param what string  for the error of "fail"
---@return catga.StreamRing
function M.new(max, overflow, what)
  return setmetatable({ max = max, overflow = overflow, what = what, count = 0, first = 1,
    dropped = 0, v = {}, k = {}, w = {}, t = {} }, Ring)
end

--- Wakes who waits for something of an object.
---@param self table
---@param name string
function M.signal(self, name)
  local list = self[name]
  if not list then return end
  self[name] = nil
  for i = 1, #list do
    list[i].is_over = true
    native_task.wake(list[i].task)
  end
end

--- Waits for it. Cannot be interrupted: what publishing has committed stays so. May yield.
---@param self table
---@param name string
function M.await(self, name)
  local entry = { task = state[1] }
  local list = self[name] or {}
  self[name] = list
  list[#list + 1] = entry
  while not entry.is_over do native_task.park() end
end

local signal, await = M.signal, M.await

-- Makes room for an item; false: it is dropped. May yield.
local function make_room(self)
  local overflow = self.overflow
  if overflow == "drop_newest" then
    self.dropped = self.dropped + 1
    return false
  elseif overflow == "drop_oldest" then
    self.dropped = self.dropped + 1
    self:shift()
  elseif overflow == "latest" then
    self.dropped = self.dropped + self.count
    while self.count > 0 do self:shift() end
  elseif overflow == "fail" then
    error(errors.new("limit", ("%s is full (%d items)"):format(self.what, self.max),
      { retryable = true }), 0)
  else
    while self.count >= self.max and not self.is_closed do await(self, "room") end
  end
  return not self.is_closed
end

--- Adds an item. May yield.
---@return boolean taken
function Ring:push(v, k, w, t)
  if self.count >= self.max and not make_room(self) then return false end
  local place = (self.first + self.count - 1) % self.max + 1
  self.v[place], self.k[place], self.w[place], self.t[place] = v, k, w, t
  self.count = self.count + 1
  if self.filled then signal(self, "filled") end
  return true
end

--- Takes the first item out; there must be one.
function Ring:shift()
  local place = self.first
  local v, k, w, t = self.v[place], self.k[place], self.w[place], self.t[place]
  self.v[place], self.k[place], self.w[place], self.t[place] = nil, nil, nil, nil
  self.first, self.count = place % self.max + 1, self.count - 1
  if self.room then signal(self, "room") end
  return v, k, w, t
end

--- Waits until there is an item. May yield.
---@return boolean  false: it was closed and is empty
function Ring:wait()
  while self.count == 0 do
    if self.is_closed then return false end
    await(self, "filled")
  end
  return true
end

--- Nothing more comes: who waits goes on.
function Ring:close()
  self.is_closed = true
  signal(self, "filled")
  signal(self, "room")
end

-- The operator: what comes behind it runs in a task of its own.
local Queue = {}
Queue.__index = Queue

function Queue:reset()
  if self.task then native_task.drop(self.task) end
  self.task, self.is_busy = nil, false
  self.ring = M.new(self.node.count, self.node.overflow, ("stream:queue (%s)"):format(self.node.at))
end

local function consume(self)
  while self.ring:wait() do
    self.is_busy = true
    self.down(self.ring:shift())
    self.is_busy = false
    if self.ring.count == 0 and self.idle then signal(self, "idle") end
  end
end

function Queue:push(v, k, w, t)
  if self.failure then error(self.failure, 0) end
  if not self.task then
    self.task = tasks.spawn(self.instance.app, function()
      local ok, failure = xpcall(consume, errors.catch, self)
      self.task = nil
      if not ok then
        self.failure = failure
        self.instance.failed(failure)
      end
      if self.idle then signal(self, "idle") end
    end)
  end
  self.ring:push(v, k, w, t)
  self.dropped_count = self.ring.dropped
end

--- Waits until all of it went through. May yield.
function Queue:finish()
  while self.task and (self.ring.count > 0 or self.is_busy) do await(self, "idle") end
  self:close()
  if self.failure then error(self.failure, 0) end
end

function Queue:close()
  if self.task then native_task.drop(self.task) end
  self.task = nil
  self.ring:close()
end

function M.queue(instance, node)
  return setmetatable({ instance = instance, node = node, due = math.huge }, Queue)
end

return M
