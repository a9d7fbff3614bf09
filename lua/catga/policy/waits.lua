--- Waiting inside of policies. A wait that is interrupted (an outer time limit) gives nil and the
--- error instead of raising, so that what surrounds it lets go of what it holds.
local state = require "catga.state"
local native = require "catga.native.task"
local tasks = require "catga.task"
local errors = require "catga.error"

local M = {}

--- Sleeps. May yield.
---@param app catga.App
---@param ms number  rounded up: never shorter
---@return boolean? ok
---@return catga.Error? err  an outer time limit has passed
function M.sleep(app, ms)
  local clock = app.clock
  local ok, fault = pcall(tasks.wait, clock.sleep, clock, math.ceil(ms))
  if ok then return true end
  return nil, errors.from(fault)
end

--- One task that waits for another one to let it go on.
---@class catga.Waiter
---@field task catga.Task
---@field result any?       what it was woken with
---@field is_over boolean?  it waits no more

local function park_as(waiter)
  if not native.can_park() then waiter.is_over = true end -- Then park raises.
  native.park()
end

--- Parks the running task until `wake`, at most so long. May yield.
---@param app catga.App
---@param waiter catga.Waiter  new, { }
---@param ms number?           nil: for as long as it takes
---@return any result          what it was woken with; nil: the time is over, or with an error
---@return catga.Error? err    an outer time limit has passed
function M.park(app, waiter, ms)
  waiter.task = state[1]
  local timer
  if ms then
    timer = app.clock:after(math.ceil(ms), function()
      timer = nil
      if not waiter.is_over then
        waiter.is_over = true
        native.wake(waiter.task)
      end
    end)
  end
  local ok, fault = pcall(tasks.wait, park_as, waiter)
  waiter.is_over = true
  if timer then app.clock:cancel(timer) end
  if waiter.result ~= nil then return waiter.result end
  if not ok then return nil, errors.from(fault) end
  return nil
end

--- Parks the running task until what another task does has an outcome. May yield.
---@param app catga.App
---@param flight table  task: that task; it wakes those who are in the list
---@return any result
---@return catga.Error? err
function M.join(app, flight)
  local waiter, task = {}, state[1]
  flight[#flight + 1] = waiter
  task.awaits = flight.task
  local result, err = M.park(app, waiter)
  task.awaits = nil
  return result, err
end

--- Lets a waiter go on, unless it waits no more or is gone.
---@param waiter catga.Waiter
---@param result any  not nil
---@return boolean woken
function M.wake(waiter, result)
  if waiter.is_over or not waiter.task.handle then return false end
  waiter.is_over, waiter.result = true, result
  native.wake(waiter.task)
  return true
end

return M
