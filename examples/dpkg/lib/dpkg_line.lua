--- One line of dpkg's log, and the event that it becomes.
---
---   2026-01-02 03:04:05 startup archives unpack
---   2026-01-02 03:04:05 install curl:amd64 <none> 7.88.1-10
---   2026-01-02 03:04:06 status unpacked curl:amd64 7.88.1-10
---   2026-01-02 03:04:06 configure curl:amd64 7.88.1-10 <none>
local M = {}

local ACTIONS = { install = true, upgrade = true, configure = true, trigproc = true,
  remove = true, purge = true, disappear = true }

local MONTH_DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- Days from 1970-01-01 to a date.
local function days(year, month, day)
  local count = (year - 1970) * 365 + math.floor((year - 1969) / 4)
    - math.floor((year - 1901) / 100) + math.floor((year - 1601) / 400)
  for m = 1, month - 1 do count = count + MONTH_DAYS[m] end
  local is_leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  if month > 2 and is_leap then count = count + 1 end
  return count + day - 1
end

-- Milliseconds of the log's own clock, which has no time zone.
local function ms_of(year, month, day, hour, minute, second)
  return ((days(year, month, day) * 24 + hour) * 60 + minute) * 60000 + second * 1000
end

--- What a line says.
---@class dpkg.Line
---@field text string
---@field at number?        ms; nil: the line has no time
---@field kind "action"|"status"|"note"
---@field what string?      the action or the status
---@field package string?   "curl:amd64"
---@field version string?   of a status; of an action the new one
---@field before string?    of an action the version that was there

---@param text string
---@return dpkg.Line
function M.parse(text)
  local year, month, day, hour, minute, second, rest =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d) (%d%d):(%d%d):(%d%d) (.*)$")
  local line = { text = text, kind = "note" }
  if not year or tonumber(month) < 1 or tonumber(month) > 12 then return line end
  line.at = ms_of(tonumber(year), tonumber(month), tonumber(day), tonumber(hour), tonumber(minute),
    tonumber(second))
  local word, second_word, third, fourth = rest:match("^(%S+) (%S+) (%S+) ?(%S*)")
  if word == "status" and fourth ~= "" then
    line.kind, line.what, line.package, line.version = "status", second_word, third, fourth
  elseif ACTIONS[word or ""] and fourth ~= "" then
    line.kind, line.what, line.package, line.before, line.version = "action", word, second_word,
      third, fourth
  end
  return line
end

return M
