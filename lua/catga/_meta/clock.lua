---@meta catga.native.clock

-- Annotations of the module catga.native.clock, which is C (src/bind/bind_clock.c): clocks and
-- their timers. For editors only: this file is never loaded.

local M = {}

--- A clock with its timers. Every method raises once it is closed.
---@class catga.Clock
local Clock = {}

--- A timer that runs a function.
---@class catga.Timer

--- The system's clock; its timers fire by themselves.
---@return catga.Clock
function M.system() end

--- A clock that stands until it is advanced; its timers fire only in `fire`.
---@param start_ms number  milliseconds since the Unix epoch, from 0 to 2^53
---@return catga.Clock
function M.virtual(start_ms) end

--- Milliseconds since the Unix epoch; may go back when the system's clock is set.
---@return integer ms
function Clock:now() end

--- Milliseconds that only grow, with fractions, from no particular moment on.
---@return number ms
function Clock:mono() end

--- Turns a virtual clock on; fires nothing. Raises for the system's clock.
---@param ms number  from 0
function Clock:advance(ms) end

--- Sets `now` of a virtual clock back; `mono` and the timers stay. Raises for the system's clock.
---@param ms number  from 0
function Clock:step_back(ms) end

--- Sets `now` of a virtual clock forward; `mono` and the timers stay, as after a suspend of the
--- machine. Raises for the system's clock.
---@param ms number  from 0
function Clock:step_forward(ms) end

--- Parks the task. Raises where the code cannot wait. May yield.
---@param ms number  from 0; a fraction is cut off
function Clock:sleep(ms) end

--- Starts a timer: the function runs as a task of its own when it is due.
---@param ms number  from 0; a fraction is cut off
---@param fn fun()
---@return catga.Timer
function Clock:after(ms, fn) end

--- Ends a timer of this clock.
---@param timer catga.Timer
---@return boolean was_to_fire  false: it has fired, or was ended before
function Clock:cancel(timer) end

--- Fires the timers that are due now: their tasks run when their turn comes.
---@return integer count
function Clock:fire() end

--- Milliseconds until the first timer is due, 0 when it is overdue; nothing without timers.
---@return integer? ms
function Clock:next() end

--- Drops the timers: what sleeps is never woken. May be called again.
function Clock:close() end

return M
