--- The times of a schedule: its cron expression in its time zone.
---
--- A local time that the clocks jump over stands for the moment after the jump; several of them in
--- one jump are that one moment. A local time that comes twice counts the first time only. But an
--- expression that has every hour of the day goes by what the clock shows, jump or no jump.
local cron = require "catga.schedule.cron"
local zones = require "catga.native.zone"
local errors = require "catga.error"

local M = {}

local AHEAD_MAX = 10 * 366 * 86400 -- How far a time may be away: leap days may be 8 years apart.
local LAST = 253402300799          -- The end of the year 9999.

-- UTC needs no file.
local UTC = { span = function() return 0, -62135596800, LAST + 1, 0 end }

--- A time zone by its name; those that were read are kept.
---@param app catga.App
---@param name string
---@return table? zone  span(self, seconds), as of catga.Zone
---@return catga.Error? err
function M.zone(app, name)
  if name == "UTC" then return UTC end
  app.zones = app.zones or {}
  if app.zones[name] then return app.zones[name] end
  local zone, err = zones.open(app.settings.zoneinfo, name)
  if not zone then
    return nil, errors.new(err.code, ("time zone %s: %s (names are those of the IANA database, "
      .. "such as \"Europe/Berlin\"; setting zoneinfo, Debian package tzdata)"):format(name,
      err.message))
  end
  app.zones[name] = zone
  return zone
end

local function next_of_cron(c, zone, from)
  local limit = math.min(from + AHEAD_MAX, LAST)
  local offset, begin, finish, before = zone:span(from)
  while true do
    local first = from + offset
    if before > offset and not c.every_hour then first = math.max(first, begin + before) end
    local found = cron.next_local(c, first, math.min(finish, limit) + offset)
    if found then return found - offset end
    if finish >= limit then return nil end
    from = finish
    local ahead = offset
    offset, begin, finish, before = zone:span(from)
    if not c.every_hour and cron.next_local(c, from + ahead, from + offset) then return from end
  end
end

--- The first time above a moment; nil: none within ten years.
---@param c catga.Cron
---@param zone table
---@param after number  Unix ms
---@return number? ms
function M.next(c, zone, after)
  if c.every then
    local ms = (math.floor(after / c.every) + 1) * c.every
    return ms <= LAST * 1000 and ms or nil
  end
  local from = math.floor(after / 1000) + 1
  if from >= LAST then return nil end
  local seconds = next_of_cron(c, zone, from)
  return seconds and seconds * 1000
end

return M
