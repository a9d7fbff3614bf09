--- Sinks that handle several items at a time; those of one key go in order.
---
--- In a durable stream the items of a batch are handled together at its end, each in a unit of work
--- of its own; what they staged becomes part of the batch's commit, in the order of the items. In
--- others the workers go on beside the chain, with a bounded number of items that wait.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local native_task = require "catga.native.task"
local units = require "catga.unit"
local queues = require "catga.stream.queue"

local M = {}

local signal, await = queues.signal, queues.await

local Workers = {}
Workers.__index = Workers


function Workers:reset()
  self:close()
  self.ready, self.first, self.last = {}, 1, 0
  self.behind, self.count, self.working, self.failure = {}, 0, 0, nil
  self.due = math.huge
  self.dropped_count = 0
end

-- Calls the function of the script. Raises.
local function give(self, one)
  local _, err = self.node.fn(one.v, one.k, one.w)
  if err ~= nil then require("catga.stream.sinks").failed(self.node, err) end
end

local function handle(self, one)
  local guard = self.instance.guard
  if guard then return guard(self.node, give, self, one, one.k, one.w) end
  give(self, one)
end

local function make_ready(self, one)
  self.last = self.last + 1
  self.ready[self.last] = one
end

local function take(self)
  local one = self.ready[self.first]
  if not one then return nil end
  self.ready[self.first] = nil
  self.first = self.first + 1
  return one
end

-- An item is done: the next one of its key may begin.
local function done(self, one)
  self.count = self.count - 1
  if one.k ~= nil then
    local list = self.behind[one.k]
    local next_one = list[list.first]
    if next_one then
      list[list.first] = nil
      list.first = list.first + 1
      make_ready(self, next_one)
    else
      self.behind[one.k] = nil
    end
  end
  if self.room then signal(self, "room") end
end

local function add(self, one)
  self.count = self.count + 1
  local k = one.k
  if k == nil then return make_ready(self, one) end
  local list = self.behind[k]
  if not list then
    self.behind[k] = { first = 1, last = 0 }
    return make_ready(self, one)
  end
  list.last = list.last + 1
  list[list.last] = one
end

local function run(self, before, after)
  local task = state[1]
  while not self.failure do
    local one = take(self)
    if not one then break end
    if before then before(task) end
    local ok, failure = xpcall(handle, errors.catch, self, one)
    if after then after(task, one) end
    if not ok then self.failure = self.failure or failure end
    done(self, one)
  end
  self.tasks[task] = nil
  self.working = self.working - 1
  if self.working > 0 then return end
  signal(self, "idle")
  if self.failure and self.instance.failed then self.instance.failed(self.failure) end
end

local function pump(self, before, after)
  while self.working < self.node.max and self.last - self.first + 1 > 0
    and self.working < self.count do
    self.working = self.working + 1
    local task = tasks.spawn(self.instance.app, run, self, before, after)
    self.tasks[task] = true
    if self.working >= self.last - self.first + 1 then break end
  end
end

-- Puts what the items staged into the unit of the batch.
local function join_units(list)
  local into
  for _, one in ipairs(list) do
    local unit = one.unit
    if unit then
      into = into or units.of(state[1])
      into:absorb(unit)
    end
  end
end

--- The end of a batch of a durable stream: handles what has come. May yield.
function Workers:pass()
  if not self.is_durable or #self.batch == 0 then return end
  local batch = self.batch
  self.batch = {}
  for _, one in ipairs(batch) do add(self, one) end
  local function before(task) task.unit, task.in_unit = nil, true end
  local function after(task, one)
    one.unit = task.unit
    task.unit, task.in_unit = nil, nil
  end
  repeat
    pump(self, before, after)
    if self.working > 0 then await(self, "idle") end
  until self.failure or self.count == 0
  if self.failure then error(self.failure, 0) end
  join_units(batch)
end

-- An item for which there is no room; false: it is not taken. May yield.
local function make_room(self)
  local overflow = self.node.overflow
  if overflow == "fail" then
    error(errors.new("limit", ("stream:each (%s): its buffer is full (%d items)"):format(
      self.node.at, self.node.count), { retryable = true }), 0)
  elseif overflow == "block" then
    while self.count >= self.node.count and not self.failure do await(self, "room") end
    return not self.failure
  elseif overflow ~= "drop_newest" then
    local count = overflow == "latest" and self.last - self.first + 1 or 1
    for _ = 1, count do
      local oldest = take(self)
      if oldest then
        done(self, oldest)
        self.dropped_count = self.dropped_count + 1
      end
    end
    if self.count < self.node.count then return true end
  end
  self.dropped_count = self.dropped_count + 1
  return false
end

--- Takes an item. May yield.
function Workers:push(v, k, w)
  self.instance.sinks = self.instance.sinks + 1
  local one = { v = v, k = k, w = w }
  if self.is_durable then
    self.batch[#self.batch + 1] = one
    return
  end
  if self.failure then error(self.failure, 0) end
  if self.count >= self.node.count and not make_room(self) then return end
  add(self, one)
  pump(self)
end

--- Waits until all is handled. May yield.
function Workers:finish()
  if self.is_durable then return self:pass() end
  while self.working > 0 do await(self, "idle") end
  if self.failure then error(self.failure, 0) end
end

function Workers:close()
  for task in pairs(self.tasks or {}) do native_task.drop(task) end
  self.tasks, self.batch = {}, {}
end

function Workers.changes() end
function Workers.dump() end

function M.new(instance, node)
  return setmetatable({ instance = instance, node = node, is_durable = instance.is_durable },
    Workers)
end

return M
