---@meta catga.native.dues

-- Annotations of the module catga.native.dues, which is C (src/bind/bind_dues.c): when streams are
-- due that are not in memory otherwise.
-- For editors only: this file is never loaded.

local M = {}

--- A heap of times and stream numbers, 16 bytes each.
---@class catga.Dues
local Dues = {}

--- An empty one.
---@return catga.Dues
function M.new() end

--- Adds a stream; it may be in it several times.
---@param due_ms number  Unix ms, from 0 to 2^53
---@param stream integer
function Dues:push(due_ms, stream) end

--- The earliest time, or nil when it is empty.
---@return number? due_ms
function Dues:next() end

--- Takes one entry of a stream out. Looks at all of them.
---@param stream integer
---@return boolean was_there
function Dues:remove(stream) end

--- Takes those that are due, the earliest first.
---@param now_ms number
---@param max integer  1 to 100,000
---@return integer[] streams
function Dues:pop(now_ms, max) end

--- How many are in it.
---@return integer
function Dues:count() end

return M
