--- Money in whole thousandths of a pound, so that sums are exact.
local M = {}

local DIGITS_MAX = 12 -- Before the point: thousandths then stay below 2^53.

--- Whole pounds as thousandths.
---@param pounds integer
---@return integer milli
function M.pounds(pounds) return pounds * 1000 end

--- Reads a decimal number, rounded to the nearest thousandth (half away from zero). Works on the
--- digits themselves: the text "22.200000000000003" is 22200, whatever a double would make of it.
---@param text string  "139.12", "-7", ".5"
---@return integer? milli  nil when it is no such number
function M.parse(text)
  local sign, whole, point, fraction = text:match("^%s*([+-]?)(%d*)(%.?)(%d*)%s*$")
  if not sign or #whole + #fraction == 0 or #whole > DIGITS_MAX then return nil end
  if point == "" and fraction ~= "" then return nil end
  local milli = (tonumber(whole) or 0) * 1000 + tonumber((fraction .. "000"):sub(1, 3))
  if (fraction:byte(4) or 0) >= ("5"):byte() then milli = milli + 1 end
  if sign == "-" and milli > 0 then milli = -milli end
  return milli
end

--- Thousandths as text with three decimals: 8042073744 is "8042073.744".
---@param milli integer
---@return string
function M.format(milli)
  local size = math.abs(milli)
  return ("%s%.0f.%03d"):format(milli < 0 and "-" or "", math.floor(size / 1000), size % 1000)
end

return M
