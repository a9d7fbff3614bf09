--- Cron expressions: reading them, and the next local time that one matches.
---
---   minute hour day-of-month month day-of-week      "30 3 * * MON-FRI"
---   second minute hour day-of-month month day-of-week
---   @yearly (@annually)  @monthly  @weekly  @daily (@midnight)  @hourly
---   @every 90s           each multiple of the duration since 1970, without a calendar
---
--- A field is "*" or a list of numbers or names, ranges and steps: "1,15", "9-17", "*/5",
--- "10-40/10", "JAN-MAR". As in Vixie's cron, a day matches when day of month OR day of week match,
--- unless one of the two begins with "*": then both must.
---
--- Which values a field has is a string of "0" and "1": the same fields of many expressions are one
--- string, and the next value is found by string.find.
local duration = require "catga.duration"
local times = require "catga.time"

local M = {}

local DAY = 86400
local EVERY_MS_MIN = 1000
local TEXT_BYTES_MAX = 512

--- An expression that was read.
---@class catga.Cron
---@field every number?     ms; then nothing of what follows is there
---@field second string     "0" and "1" for 0 to 59
---@field minute string
---@field hour string       for 0 to 23
---@field day string        of the month, for 1 to 31
---@field month string      for 1 to 12
---@field weekday string    for 0 (Sunday) to 6
---@field is_either boolean a day matches by day of month or by day of week
---@field every_hour boolean  it has all 24 hours

local MONTHS = { JAN = 1, FEB = 2, MAR = 3, APR = 4, MAY = 5, JUN = 6, JUL = 7, AUG = 8, SEP = 9,
  OCT = 10, NOV = 11, DEC = 12 }
local WEEKDAYS = { SUN = 0, MON = 1, TUE = 2, WED = 3, THU = 4, FRI = 5, SAT = 6 }

-- The fields, in their order; weekdays have two Sundays.
local FIELDS = {
  { key = "second", name = "second", least = 0, most = 59 },
  { key = "minute", name = "minute", least = 0, most = 59 },
  { key = "hour", name = "hour", least = 0, most = 23 },
  { key = "day", name = "day of month", least = 1, most = 31 },
  { key = "month", name = "month", least = 1, most = 12, names = MONTHS, sample = "JAN-DEC" },
  { key = "weekday", name = "day of week", least = 0, most = 7, names = WEEKDAYS,
    sample = "SUN-SAT" },
}

local NICKNAMES = {
  ["@yearly"] = "0 0 1 1 *", ["@annually"] = "0 0 1 1 *", ["@monthly"] = "0 0 1 * *",
  ["@weekly"] = "0 0 * * 0", ["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *",
  ["@hourly"] = "0 * * * *",
}

-- Raises what is wrong with a field.
local function wrong(field, text, why)
  local names = field.sample and (" or " .. field.sample) or ""
  error(("%s \"%s\": %s; allowed are numbers from %d to %d%s, *, lists (1,2), ranges (1-5) and "
    .. "steps (*/5)"):format(field.name, text, why, field.least, field.most, names), 0)
end

local function value_of(field, text, word)
  local value = word:find("^%d+$") and tonumber(word)
    or field.names and field.names[word:upper()]
  if not value then wrong(field, text, ("\"%s\" is no value"):format(word)) end
  if value < field.least or value > field.most then
    wrong(field, text, ("%s is out of range"):format(word))
  end
  return value
end

-- The first and last value of one part of a field, without its step.
local function range_of(field, text, range, has_step)
  if range == "*" then return field.least, field.most end
  local low, high = range:match("^([^-]+)%-([^-]+)$")
  if not low then
    local value = value_of(field, text, range)
    return value, has_step and field.most or value
  end
  local first, last = value_of(field, text, low), value_of(field, text, high)
  if field.key == "weekday" and last == 0 and first > 0 then last = 7 end -- "FRI-SUN"
  if first > last then wrong(field, text, ("%s runs backward"):format(range)) end
  return first, last
end

local function set_part(field, text, part, set)
  local range, step = part:match("^([^/]+)/(.*)$")
  local by = step and step:find("^%d+$") and tonumber(step) or nil
  if step and (not by or by < 1 or by > field.most) then
    wrong(field, text, ("\"%s\" is no step"):format(step))
  end
  local first, last = range_of(field, text, range or part, step ~= nil)
  for value = first, last, by or 1 do set[value] = true end
end

-- The string of a field.
local function read_field(field, text)
  local set = {}
  if text:find("^,") or text:find(",$") or text:find(",,", 1, true) then
    wrong(field, text, "a part of the list is empty")
  end
  for part in text:gmatch("[^,]+") do set_part(field, text, part, set) end
  local most = field.most
  if field.key == "weekday" then
    set[0] = set[0] or set[7]
    most = 6
  end
  local digits = {}
  for value = field.least, most do digits[#digits + 1] = set[value] and "1" or "0" end
  return table.concat(digits)
end

local function read_fields(text)
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = word end
  if #words == 5 then table.insert(words, 1, "0") end
  if #words ~= 6 then
    error(("it has %d fields; there are 5 (minute, hour, day of month, month, day of week), or 6 "
      .. "with the second before them"):format(#words), 0)
  end
  local cron = {}
  for i, field in ipairs(FIELDS) do cron[field.key] = read_field(field, words[i]) end
  cron.is_either = words[4]:sub(1, 1) ~= "*" and words[6]:sub(1, 1) ~= "*"
  cron.every_hour = not cron.hour:find("0", 1, true)
  return cron
end

local function read_every(text)
  local ms, fault = duration.parse(text, "@every")
  if not ms then error(fault, 0) end
  if ms < EVERY_MS_MIN or ms % 1 ~= 0 then error("@every is at least 1s, and whole ms", 0) end
  return { every = ms }
end

local function read(text)
  if type(text) ~= "string" or #text > TEXT_BYTES_MAX then
    error(("it is a string of at most %d bytes"):format(TEXT_BYTES_MAX), 0)
  end
  if text:find("^%s*@") then
    local word, rest = text:match("^%s*(@%S*)%s*(.-)%s*$")
    if word == "@every" then return read_every(rest) end
    local fields = rest == "" and NICKNAMES[word:lower()]
    if fields then return read_fields(fields) end
    error("there are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and "
      .. "@every 90s", 0)
  end
  if text:find("TZ=", 1, true) then error("the time zone is the option timezone", 0) end
  local cron = read_fields(text)
  if not M.next_local(cron, 0, 10 * 366 * DAY) then error("no date is ever like that", 0) end
  return cron
end

--- Reads an expression.
---@param text string
---@return catga.Cron? cron
---@return string? fault  names the field and what is allowed
function M.parse(text)
  local ok, cron = pcall(read, text)
  if ok then return cron end
  return nil, ("cron expression \"%s\": %s"):format(tostring(text), cron)
end

-- The least value of a field from `value` on, or nil. `least` is that of the field.
local function at_or_after(digits, value, least)
  local place = digits:find("1", value - least + 1, true)
  return place and place + least - 1
end

-- The first time of day from `seconds` on, in seconds, or nil.
local function next_time(cron, seconds)
  local hour, minute, second = math.floor(seconds / 3600), math.floor(seconds / 60) % 60,
    seconds % 60
  local first_second, first_minute = at_or_after(cron.second, 0, 0), at_or_after(cron.minute, 0, 0)
  local at = at_or_after(cron.hour, hour, 0)
  if not at then return nil end
  if at > hour then return at * 3600 + first_minute * 60 + first_second end
  local of_hour = at_or_after(cron.minute, minute, 0)
  if of_hour == minute then
    local of_minute = at_or_after(cron.second, second, 0)
    if of_minute then return at * 3600 + minute * 60 + of_minute end
    of_hour = at_or_after(cron.minute, minute + 1, 0)
  end
  if of_hour then return at * 3600 + of_hour * 60 + first_second end
  at = at_or_after(cron.hour, hour + 1, 0)
  return at and at * 3600 + first_minute * 60 + first_second
end

local ONE = ("1"):byte()

local function is_day(cron, days, day)
  local by_day = cron.day:byte(day) == ONE
  local by_weekday = cron.weekday:byte((days + 4) % 7 + 1) == ONE -- 1970-01-01 was a Thursday.
  if cron.is_either then return by_day or by_weekday end
  return by_day and by_weekday
end

-- The first day that matches, from `days` since 1970 on and up to `last`, or nil.
local function next_day(cron, days, last)
  local year, month, day = times.date_of(days)
  while days <= last do
    if cron.month:byte(month) == ONE then
      for of_month = day, times.month_days(year, month) do
        if days > last then return nil end
        if is_day(cron, days, of_month) then return days end
        days = days + 1
      end
    end
    year, month, day = month == 12 and year + 1 or year, month % 12 + 1, 1
    days = times.days_of(year, month, 1)
  end
end

--- The first local time that matches, as if it were UTC.
---@param cron catga.Cron  not one of "@every"
---@param from integer     seconds since 1970
---@param to integer       the time is below this
---@return integer? seconds
function M.next_local(cron, from, to)
  if from >= to then return nil end
  local days = math.floor(from / DAY)
  local today = next_day(cron, days, days)
  local of_day = today and next_time(cron, from % DAY)
  if not of_day then
    days = next_day(cron, days + 1, math.floor((to - 1) / DAY))
    of_day = days and next_time(cron, 0)
  end
  local found = of_day and days * DAY + of_day
  return found and found < to and found or nil
end

return M
