--- Points in time: Unix milliseconds, and their text of RFC 3339, "2026-01-01T00:00:00.000Z".
local M = {}

local DAY_MS = 86400000
local MS_MAX = 253402300799999 -- The last millisecond of the year 9999.

--- Days from 1970-01-01 to a day of the Gregorian calendar. (Years are counted from March in it, so
--- that a leap day is the last of its year.)
---@param year integer
---@param month integer
---@param day integer
---@return integer
local function days_of(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end

local MONTH_DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

--- How many days a month has.
---@param year integer
---@param month integer
---@return integer
local function month_days(year, month)
  local is_leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  return month == 2 and is_leap and 29 or MONTH_DAYS[month]
end

-- Milliseconds into the day, and what is left of the text: the zone.
local function clock_of(text)
  local hour, minute, rest = text:match("^[Tt ](%d%d):(%d%d)(.*)$")
  if not hour then return nil end
  local second, zone = rest:match("^:(%d%d)(.*)$")
  local fraction, behind = (zone or ""):match("^%.(%d+)(.*)$")
  if fraction then zone = behind end
  if tonumber(hour) > 23 or tonumber(minute) > 59 or tonumber(second or 0) > 59 then return nil end
  local ms = tonumber(((fraction or "") .. "000"):sub(1, 3)) -- Cut, so that it stays in its second.
  return (tonumber(hour) * 60 + tonumber(minute)) * 60000 + tonumber(second or 0) * 1000 + ms,
    zone or rest
end

-- Milliseconds that a zone is ahead of UTC.
local function zone_ms(zone)
  if zone == "Z" or zone == "z" then return 0 end
  local sign, hour, minute = zone:match("^([+-])(%d%d):(%d%d)$")
  if not sign or tonumber(hour) > 23 or tonumber(minute) > 59 then return nil end
  return (sign == "+" and 1 or -1) * (tonumber(hour) * 60 + tonumber(minute)) * 60000
end

local function parse_text(text)
  local year, month, day, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$")
  if not year then return nil end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if month < 1 or month > 12 or day < 1 or day > month_days(year, month) then return nil end
  local ms = days_of(year, month, day) * DAY_MS
  if rest == "" then return ms end
  local of_day, zone = clock_of(rest)
  local ahead = of_day and zone_ms(zone)
  return ahead and ms + of_day - ahead
end

--- Unix milliseconds of a point in time, or nil and what is wrong with it.
---@param value string|number  "2026-01-01T00:00:00Z" (or another zone, "+02:00"), "2026-01-01" (its
---  first moment in UTC), or milliseconds
---@param what string?         what it is for, for the message
---@return number? ms
---@return string? fault
function M.parse(value, what)
  if type(value) == "number" and value % 1 == 0 and value >= 0 and value <= MS_MAX then
    return value
  end
  local ms = type(value) == "string" and parse_text(value)
  if ms and ms >= 0 and ms <= MS_MAX then return ms end
  return nil, ("%s must be a time such as \"2026-01-01T00:00:00Z\", or milliseconds since 1970, "
    .. "not %s"):format(what or "time", tostring(value))
end

--- Year, month and day of a number of days since 1970-01-01.
---@param days integer
---@return integer year
---@return integer month
---@return integer day
local function date_of(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  year = year + era * 400
  if month < 10 then return year, month + 3, day end
  return year + 1, month - 9, day
end

--- The text of a point in time, in UTC, with milliseconds.
---@param ms number  from 0 to the end of the year 9999
---@return string
function M.format(ms)
  local year, month, day = date_of(math.floor(ms / DAY_MS))
  local rest = ms % DAY_MS
  return ("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ"):format(year, month, day,
    math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60,
    rest % 1000)
end

M.days_of, M.month_days, M.date_of = days_of, month_days, date_of

return M
