--- Durations: strings with a unit, "200ms", "1.5s", "24h". A bare number is an error.
local M = {}

local MS = { ms = 1, s = 1000, m = 60000, min = 60000, h = 3600000, d = 86400000 }
local MS_MAX = 100 * 366 * 86400000

--- Milliseconds of a duration, or nil and what is wrong with it.
---@param text string   number and unit: ms, s, m (or min), h, d; at most 100 years
---@param what string?  what it is for, for the message
---@return number? ms   at least 0
---@return string? fault
function M.parse(text, what)
  what = what or "duration"
  if type(text) ~= "string" then
    return nil, ("%s must be a string with a unit such as \"200ms\", \"5s\", \"24h\"; got %s %s")
      :format(what, type(text), tostring(text))
  end
  local digits, unit = text:match("^%s*(%d+%.?%d*)%s*(%a+)%s*$")
  local factor = unit and MS[unit]
  if not factor then
    return nil, ("%s \"%s\" is no duration; write a number and a unit (ms, s, m, h, d), such as "
      .. "\"200ms\""):format(what, text)
  end
  local ms = tonumber(digits) * factor
  if ms > MS_MAX then return nil, ("%s \"%s\" is over 100 years"):format(what, text) end
  return ms
end

--- The same; raises when it is wrong, at the caller of the function that asks.
---@param text string
---@param what string?
---@return number ms
function M.ms(text, what)
  local ms, fault = M.parse(text, what)
  if not ms then error(fault, 3) end
  return ms
end

return M
