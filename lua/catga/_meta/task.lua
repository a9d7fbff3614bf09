---@meta catga.native.task

-- Annotations of the module catga.native.task, which is C (src/bind/bind_task.c): the scheduler's
-- own functions. Scripts use catga.spawn and what waits; the Lua half parks through catga.task.
-- For editors only: this file is never loaded.
--
-- What parks raises where code cannot wait: outside of tasks, and inside require, table.sort and
-- gsub callbacks, which LuaJIT cannot leave half way.

local M = {}

--- Starts a task; it runs when its turn comes.
---@param fn function
---@param ... any   at most 999
---@return catga.Task task  its table, also state[1] while it runs
function M.spawn(fn, ...) end

--- Parks until wake or interrupt. May yield.
---@return any ...  what wake passed; nothing after an interrupt
function M.park() end

--- May the calling code wait?
---@return boolean
function M.can_park() end

--- Forbids or allows parking; for the shims over coroutines.
---@param is_forbidden boolean
---@return boolean before
function M.forbid_parks(is_forbidden) end

--- Makes a parked task ready.
---@param task catga.Task
---@param ... any  what its wait returns
---@return boolean woken  false: it is not parked, or gone
function M.wake(task, ...) end

--- Cancels what a parked task waits for and makes it ready.
---@param task catga.Task
---@return boolean done  false: it is not parked, or its wait cannot be cancelled
function M.interrupt(task) end

--- Ends a parked or ready task where it stands: it never runs again.
---@param task catga.Task
---@return boolean done  false: it runs, is gone, or its wait cannot be cancelled
function M.drop(task) end

--- Ends the running task where it stands. Does not return.
function M.abandon() end

--- Parks until no other task can run and no outside work is under way. May yield.
function M.settle() end

--- Lets the other ready tasks run first. May yield.
function M.yield() end

--- Counts outside work that settle waits for.
---@param change integer  1 when it begins, -1 when it has ended
function M.busy(change) end

--- The tasks that are ready or parked, in no order.
---@return catga.Task[]
function M.live() end

--- The coroutine of a parked task, for debug.getinfo and debug.getlocal: nobody may resume it.
---@param task catga.Task
---@return thread?  nil: it is not parked
function M.thread(task) end

--- How much the scheduler holds.
---@return integer live        tasks that are ready, running or parked
---@return integer references  Lua values held by C, those of tasks included
---@return integer idle        pooled tasks
function M.counts() end

return M
