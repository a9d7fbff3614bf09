--- Dates as shops write them: ISO (2010-12-01, with or without a time) and 12/1/2010 8:26.
local M = {}

local DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function days_in(year, month)
  if month == 2 and (year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) then return 29 end
  return DAYS[month]
end

local function is_time(text)
  local hour, minute, rest = text:match("^[T ] ?(%d%d?):(%d%d)(.*)$")
  if not hour or tonumber(hour) > 23 or tonumber(minute) > 59 then return false end
  if rest == "" or rest == "Z" then return true end
  local second = rest:match("^:(%d%d)$") or rest:match("^:(%d%d)%.?%d*Z?$")
  return second ~= nil and tonumber(second) < 60
end

--- Reads a date; a time of day behind it is checked and left out.
---@param text string  "2010-12-01", "2010-12-01 08:26:00", "12/1/2010 8:26" (month first)
---@return string? date  "2010-12-01"; nil when it is no date
function M.parse(text)
  local year, month, day, rest = text:match("^%s*(%d%d%d%d)-(%d%d)-(%d%d)(.-)%s*$")
  if not year then
    month, day, year, rest = text:match("^%s*(%d%d?)/(%d%d?)/(%d%d%d%d)(.-)%s*$")
  end
  if not year or rest ~= "" and not is_time(rest) then return nil end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if month < 1 or month > 12 or day < 1 or day > days_in(year, month) then return nil end
  return ("%04d-%02d-%02d"):format(year, month, day)
end

return M
