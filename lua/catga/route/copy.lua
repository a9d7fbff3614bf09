--- A copy of a message, so that what one rule changes is not seen by the next.
local raw = require "catga.sandbox".raw

local DEPTH_MAX = 200 -- As deep as JSON of ours may be, and more.

local function copy(value, depth)
  if type(value) ~= "table" or depth > DEPTH_MAX then return value end
  local new = {}
  for key, one in raw.next, value do new[key] = copy(one, depth + 1) end
  return setmetatable(new, getmetatable(value))
end

--- Copies a value with all that is in it; lists stay lists.
---@param value any
---@return any
return function(value) return copy(value, 0) end
