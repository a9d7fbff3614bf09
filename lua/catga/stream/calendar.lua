--- Windows of the calendar: days, weeks (from Monday), months, quarters and years of a time zone.
local times = require "catga.time"

local M = {}

local DAY_MS = 86400000

--- Units of calendar windows.
M.UNITS = { day = true, week = true, month = true, quarter = true, year = true }

-- First day of a unit, in days since 1970-01-01, and the first behind it.
local DAYS = {
  day = function(day) return day, day + 1 end,
  week = function(day)
    local monday = day - (day + 3) % 7 -- 1970-01-01 was a Thursday.
    return monday, monday + 7
  end,
}

local function months(count)
  return function(day)
    local year, month = times.date_of(day)
    local first = month - (month - 1) % count
    local year_behind, behind = year, first + count
    if behind > 12 then year_behind, behind = year + 1, behind - 12 end
    return times.days_of(year, first, 1), times.days_of(year_behind, behind, 1)
  end
end

DAYS.month, DAYS.quarter, DAYS.year = months(1), months(3), months(12)

-- The moment at which a local time comes first, in ms.
local function moment(zone, ms)
  local offset = zone:span(math.floor(ms / 1000))
  local at = ms - offset * 1000
  local there = zone:span(math.floor(at / 1000))
  if there ~= offset then at = ms - there * 1000 end
  return at
end

--- A function that gives start and end of the window of a time.
---@param app catga.App
---@param node { unit: string, zone: string, at: string }
---@return fun(t: number): number, number
function M.bounds(app, node)
  local days = DAYS[node.unit]
  if node.zone == "UTC" then
    return function(t)
      local first, behind = days(math.floor(t / DAY_MS))
      return first * DAY_MS, behind * DAY_MS
    end
  end
  local zone, err = require("catga.schedule.calendar").zone(app, node.zone)
  if not zone then error(err, 0) end
  return function(t)
    local offset = zone:span(math.floor(t / 1000))
    local first, behind = days(math.floor((t + offset * 1000) / DAY_MS))
    return moment(zone, first * DAY_MS), moment(zone, behind * DAY_MS)
  end
end

return M
