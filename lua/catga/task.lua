--- Waiting: every function of the Lua half that parks a task does it through here, so that time
--- limits and cancelling work in one place.
local native = require "catga.native.task"
local state = require "catga.state"
local errors = require "catga.error"
local host = require "catga.native.host"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

-- The step attempt that runs in the task has a time limit: armed at its first wait.
local function arm(task, step)
  local timer
  timer = task.app.clock:after(step.timeout_ms, function()
    if task.timer ~= timer then return end -- It fired when the attempt had just ended.
    task.timer = nil
    task.timed_out = true
    task.interrupt = errors.new("timeout", ("step %s took longer than its timeout of %d ms")
      :format(step.name, step.timeout_ms), { retryable = true })
    native.interrupt(task)
  end)
  task.timer = timer
end

--- Ends the time limit of a step attempt; tells whether it had passed.
---@param task catga.Task
---@return boolean timed_out
function M.end_limit(task)
  if task.timer then
    task.app.clock:cancel(task.timer)
    task.timer = nil
  end
  local timed_out = task.timed_out == true
  task.timed_out, task.interrupt = nil, nil
  return timed_out
end

--- A time limit of a policy that counts in a task, armed at the first wait below it.
---@class catga.Limit
---@field ms number
---@field what string           what took too long, for the error
---@field outer catga.Limit?    the one around it
---@field timer userdata?
---@field failure catga.Error?  it has passed
---@field is_over boolean?      it counts no more

local function arm_limit(task, limit)
  limit.timer = task.app.clock:after(limit.ms, function()
    limit.timer = nil
    if limit.is_over then return end
    limit.failure = errors.new("timeout", ("%s of %d ms"):format(limit.what, limit.ms),
      { retryable = true })
    if task.in_wait then -- What waits otherwise is short, and goes on: a commit.
      task.interrupt = limit.failure
      native.interrupt(task)
    end
  end)
end

local function finish(task, ...)
  local interrupt = task.interrupt
  if interrupt then
    task.interrupt = nil
    error(interrupt, 0)
  end
  return ...
end

local function finish_timed(task, ...)
  task.in_wait = nil
  return finish(task, ...)
end

-- A wait below time limits: all of them count from now on.
local function wait_timed(task, wait_fn, ...)
  local limit = task.timed
  while limit do
    if limit.failure then error(limit.failure, 0) end
    if not limit.timer then arm_limit(task, limit) end
    limit = limit.outer
  end
  task.in_wait = true
  return finish_timed(task, wait_fn(...))
end

--- Parks the running task in `wait_fn(...)` and returns what it is woken with. Raises the error of
--- an interrupt (a time limit). May yield.
---@param wait_fn function  a native function that parks
---@return any ...
function M.wait(wait_fn, ...)
  local task = state[1]
  if not task then error("only a task can wait; use catga.main or catga.spawn", 3) end
  local step = task.limit
  if step and not task.timer then
    if task.timed_out then
      error(errors.new("timeout", ("step %s has used up its timeout"):format(step.name),
        { retryable = true }), 0)
    end
    arm(task, step)
  end
  if task.timed then return wait_timed(task, wait_fn, ...) end
  return finish(task, wait_fn(...))
end

--- Starts a task that belongs to an app.
---@param app catga.App
---@param fn function
---@return catga.Task
function M.spawn(app, fn, ...)
  local task = native.spawn(fn, ...)
  task.app = app
  return task
end

local function run_all(list)
  for _, fn in raw_pairs(list) do
    local ok, failure = xpcall(fn, errors.catch)
    if not ok then host.say("error", "at the end of a task: " .. tostring(failure)) end
  end
end

--- Lets something be done when a task has ended, however it ends: it returned, failed, or was
--- dropped. What is done must not wait. Then another task may run it.
---@param task catga.Task
---@param key any      of this use: a second one replaces the first
---@param fn function?  nil: nothing any more
function M.at_end(task, key, fn)
  local list = task.ending
  if not list then
    if not fn then return end
    list = {}
    task.ending = list
    task.at_end = function() run_all(list) end
  end
  list[key] = fn
end

--- Something that a task holds and lets go of: a place in a bulkhead, a lock.
---@class catga.Hold
---@field release fun(self: catga.Hold)  called once, also when the task is dropped

local function release_from(holds, first)
  for i = #holds, first, -1 do
    local hold = holds[i]
    holds[i] = nil
    hold:release()
  end
end

--- Remembers what the running task holds, until `let_go` or the end of the task.
---@param task catga.Task
---@param hold catga.Hold
function M.hold(task, hold)
  local holds = task.holds
  if not holds then
    holds = {}
    task.holds = holds
    M.at_end(task, M.hold, function() release_from(holds, 1) end)
  end
  holds[#holds + 1] = hold
end

--- Forgets something that a task holds, without releasing it.
---@param task catga.Task
---@param hold catga.Hold
function M.unhold(task, hold)
  local holds = task.holds
  for i = #holds, 1, -1 do -- It is the last one, or near to it.
    if holds[i] == hold then return table.remove(holds, i) end
  end
end

--- Lets go of what the task has begun to hold since it held so many things, the last one first.
---@param task catga.Task
---@param count integer?  default 0: of everything
function M.let_go(task, count) release_from(task.holds, (count or 0) + 1) end

--- Ends a parked or ready task where it stands; it lets go of what it holds at once.
---@param task catga.Task
---@return boolean done  false: it runs, is gone, or its wait cannot be cancelled
function M.drop(task)
  if not native.drop(task) then return false end
  if task.holds then M.let_go(task) end
  return true
end

--- Would the running task wait for itself if it waited for what another one does? Who waits for a
--- task without a limit says so in `awaits`.
---@param other catga.Task
---@return boolean
function M.is_circular(other)
  while other and other ~= state[1] do other = other.awaits end
  return other ~= nil
end

--- The running task; raises outside of tasks.
---@param what string  the function that needs it, for the error
---@return catga.Task
function M.current(what)
  local task = state[1]
  if not task then error(what .. " needs a running task; nothing runs while scripts load", 3) end
  return task
end

--- A result that tasks wait for.
---@class catga.Future
---@field is_done boolean
local Future = {}
Future.__index = Future

--- A future without a result yet.
---@return catga.Future
function M.future()
  return setmetatable({ is_done = false }, Future)
end

--- Sets the results, once; wakes who waits. Later calls do nothing.
function Future:set(...)
  if self.is_done then return end
  self.is_done = true
  self.n = select("#", ...)
  self.values = { ... }
  local waiters = self.waiters
  self.waiters = nil
  for i = 1, waiters and #waiters or 0 do
    if waiters[i][1] then native.wake(waiters[i][1]) end
  end
end

--- Does a task wait for the results?
---@return boolean
function Future:is_awaited() return self.waiters ~= nil end

local function park_as(entry)
  if not native.can_park() then entry[1] = nil end -- Then park raises.
  native.park()
  entry[1] = nil -- An interrupted task must not be woken a second time.
end

--- The results; parks until they are there. May yield.
function Future:wait()
  if not self.is_done then
    local entry = { state[1] }
    local waiters = self.waiters
    if not waiters then
      waiters = {}
      self.waiters = waiters
    end
    waiters[#waiters + 1] = entry
    M.wait(park_as, entry)
  end
  return unpack(self.values, 1, self.n)
end

return M
