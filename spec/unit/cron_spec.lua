--- Cron expressions and the times they stand for, in time zones too.
local cron = require "catga.schedule.cron"
local calendar = require "catga.schedule.calendar"
local times = require "catga.time"
local errors_of = function(text) return select(2, cron.parse(text)) end

local app = { settings = { zoneinfo = "/usr/share/zoneinfo" } }

-- The first `count` times after a moment, as text.
local function list(text, after, count, zone)
  local c, found = assert(cron.parse(text)), {}
  local at = assert(times.parse(after))
  for i = 1, count do
    at = assert(calendar.next(c, assert(calendar.zone(app, zone or "UTC")), at))
    found[i] = times.format(at):gsub(":00%.000Z$", ""):gsub("%.000Z$", "")
  end
  return found
end

describe("a cron expression", function()
  it("has lists, ranges and steps", function()
    assert.same({ "2026-01-01T00:05", "2026-01-01T00:20", "2026-01-01T00:35", "2026-01-01T00:50" },
      list("5/15 * * * *", "2026-01-01T00:00:00Z", 4))
    assert.same({ "2026-01-01T09:00", "2026-01-01T11:00", "2026-01-01T13:00", "2026-01-02T09:00" },
      list("0 9-13/2 * * *", "2026-01-01", 4))
    assert.same({ "2026-01-01T00:01", "2026-01-01T00:03", "2026-01-01T12:01" },
      list("1,3 0,12 * * *", "2026-01-01", 3))
  end)

  it("has names, and two Sundays", function()
    assert.same({ "2026-01-05T03:30", "2026-01-06T03:30" },
      list("30 3 * * mon-FRI", "2026-01-03", 2))
    assert.same({ "2026-01-04T00:00", "2026-01-11T00:00" }, list("0 0 * * 7", "2026-01-01", 2))
    assert.same(list("0 0 * * 0", "2026-01-01", 3), list("0 0 * * SUN", "2026-01-01", 3))
    assert.same({ "2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00", "2026-01-09T00:00" },
      list("0 0 * * FRI-SUN", "2026-01-01", 4))
    assert.same({ "2026-03-01T00:00", "2026-06-01T00:00" },
      list("0 0 1 MAR,jun *", "2026-01-01", 2))
  end)

  it("may have seconds", function()
    assert.same({ "2026-01-01T00:00:20", "2026-01-01T00:00:40", "2026-01-01T00:01" },
      list("*/20 * * * * *", "2026-01-01", 3))
    assert.same({ "2026-01-01T12:30:15" }, list("15 30 12 * * *", "2026-01-01T12:30:14Z", 1))
    assert.same({ "2026-01-02T12:30:15" }, list("15 30 12 * * *", "2026-01-01T12:30:15Z", 1))
  end)

  it("matches a day by day of month or of week, unless one begins with *", function()
    assert.same({ "2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00", "2026-01-16T00:00" },
      list("0 0 13 * FRI", "2026-01-01", 4))
    assert.same({ "2026-01-09T00:00", "2026-01-23T00:00" }, list("0 0 */2 * FRI", "2026-01-02", 2))
    assert.same({ "2026-01-13T00:00", "2026-02-13T00:00" }, list("0 0 13 * *", "2026-01-01", 2))
  end)

  it("has nicknames", function()
    assert.same({ "2027-01-01T00:00" }, list("@yearly", "2026-01-01", 1))
    assert.same({ "2026-02-01T00:00" }, list("@monthly", "2026-01-01", 1))
    assert.same({ "2026-01-04T00:00" }, list("@weekly", "2026-01-01", 1))
    assert.same({ "2026-01-02T00:00" }, list("@daily", "2026-01-01", 1))
    assert.same({ "2026-01-01T01:00" }, list("@hourly", "2026-01-01", 1))
    assert.same({ "2026-01-01T00:01:30", "2026-01-01T00:03" }, list("@every 90s", "2026-01-01", 2))
  end)

  it("knows leap days and the lengths of months", function()
    assert.same({ "2028-02-29T12:00", "2032-02-29T12:00" }, list("0 12 29 2 *", "2026-01-01", 2))
    assert.same({ "2104-02-29T00:00" }, list("0 0 29 2 *", "2096-03-01", 1))
    assert.same({ "2026-01-31T00:00", "2026-03-31T00:00", "2026-05-31T00:00" },
      list("0 0 31 * *", "2026-01-01", 3))
  end)

  it("says what is wrong with which field", function()
    assert.equal("cron expression \"61 * * * *\": minute \"61\": 61 is out of range; allowed are "
      .. "numbers from 0 to 59, *, lists (1,2), ranges (1-5) and steps (*/5)",
      errors_of "61 * * * *")
    assert.matches("hour \"24\": 24 is out of range", errors_of "0 24 * * *")
    assert.matches("day of month \"0\".*from 1 to 31", errors_of "0 0 0 * *")
    assert.matches("month \"FOO\": \"FOO\" is no value.*JAN%-DEC", errors_of "0 0 1 FOO *")
    assert.matches("day of week \"8\"", errors_of "0 0 * * 8")
    assert.matches("second \"60\"", errors_of "60 0 0 * * *")
    assert.matches("5%-1 runs backward", errors_of "5-1 * * * *")
    assert.matches("\"0\" is no step", errors_of "*/0 * * * *")
    assert.matches("\"\" is no step", errors_of "*/ * * * *")
    assert.matches("a part of the list is empty", errors_of "1,,2 * * * *")
    assert.matches("\"L\" is no value", errors_of "0 0 L * *")
    assert.matches("no value", errors_of "1-2-3 * * * *")
    assert.matches("it has 4 fields", errors_of "* * * *")
    assert.matches("it has 0 fields", errors_of "")
    assert.matches("it is a string", errors_of(5))
    assert.matches("no date is ever like that", errors_of "0 0 30 2 *")
    assert.matches("there are @yearly", errors_of "@fortnightly")
    assert.matches("there are @yearly", errors_of "@daily 5")
    assert.matches("@every \"90\" is no duration", errors_of "@every 90")
    assert.matches("at least 1s", errors_of "@every 10ms")
    assert.matches("option timezone", errors_of "CRON_TZ=UTC 0 0 * * *")
  end)

  it("agrees with looking at every minute", function()
    local random = math.random
    local function field(least, most, star)
      if random() < star then return "*" end
      local low = random(least, most)
      local kind = random(4)
      if kind == 1 then return ("%d-%d"):format(low, random(low, most)) end
      if kind == 2 then return ("*/%d"):format(random(1, most)) end
      if kind == 3 then return ("%d,%d"):format(low, random(least, most)) end
      return tostring(low)
    end
    local function has(text, value, least, most)
      for part in text:gmatch("[^,]+") do
        local step = tonumber(part:match("/(%d+)$")) or 1
        local low, high = part:match("^(%d+)%-(%d+)")
        if part:sub(1, 1) == "*" then low, high = least, most end
        low = tonumber(low or part)
        high = tonumber(high or low)
        if value >= low and value <= high and (value - low) % step == 0 then return true end
      end
      return false
    end
    for _ = 1, 20 do
      local m, h = field(0, 59, 0.3), field(0, 23, 0.3)
      local d, mo, w = field(1, 31, 0.5), field(1, 12, 0.7), field(0, 6, 0.5)
      local text = table.concat({ m, h, d, mo, w }, " ")
      local c = cron.parse(text)
      local from = times.days_of(2026, random(12), random(28)) * 86400 + random(0, 86399)
      local wanted
      for minute = math.ceil(from / 60), math.floor((from + 40 * 86400) / 60) do
        local _, month, day = times.date_of(math.floor(minute / 1440))
        local by_day = has(d, day, 1, 31)
        local by_week = has(w, (math.floor(minute / 1440) + 4) % 7, 0, 6)
        local is_day = by_day and by_week
        if d:sub(1, 1) ~= "*" and w:sub(1, 1) ~= "*" then is_day = by_day or by_week end
        if is_day and has(mo, month, 1, 12) and has(h, math.floor(minute / 60) % 24, 0, 23)
          and has(m, minute % 60, 0, 59) then
          wanted = minute * 60
          break
        end
      end
      local found = c and cron.next_local(c, from, from + 40 * 86400)
      assert.equal(wanted, found, text .. " from " .. from)
    end
  end)
end)

describe("a time zone", function()
  it("moves the times with the clocks", function()
    assert.same({ "2026-03-28T02:00", "2026-03-29T01:00", "2026-03-30T01:00" },
      list("0 3 * * *", "2026-03-28", 3, "Europe/Berlin"))
    assert.same({ "2026-10-24T01:00", "2026-10-25T02:00" },
      list("0 3 * * *", "2026-10-24", 2, "Europe/Berlin"))
  end)

  it("runs what does not exist once, after the jump", function()
    assert.same({ "2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30" },
      list("30 2 * * *", "2026-03-28", 3, "Europe/Berlin"))
    assert.same({ "2026-03-29T00:45", "2026-03-29T01:00", "2026-03-29T01:15" },
      list("*/15 1-3 * * *", "2026-03-29T00:30:00Z", 3, "Europe/Berlin"))
    assert.same({ "2026-03-29T01:00", "2026-03-30T00:00" },
      list("0,10,59 2 * * *", "2026-03-28T12:00:00Z", 2, "Europe/Berlin"))
  end)

  it("runs what exists twice once, the first time", function()
    assert.same({ "2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30" },
      list("30 2 * * *", "2026-10-24", 3, "Europe/Berlin"))
    assert.same({ "2026-10-26T01:30" }, list("30 2 * * *", "2026-10-25T01:15:00Z", 1,
      "Europe/Berlin"))
    assert.same({ "2026-11-01T05:30", "2026-11-02T06:30" },
      list("30 1 * * *", "2026-10-31T12:00:00Z", 2, "America/New_York"))
  end)

  it("goes by the hour when there is one in every hour", function()
    assert.same({ "2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00" },
      list("0 * * * *", "2026-10-24T23:00:00Z", 3, "Europe/Berlin"))
    assert.same({ "2026-03-29T00:30", "2026-03-29T01:30" },
      list("30 * * * *", "2026-03-29T00:00:00Z", 2, "Europe/Berlin"))
  end)

  it("may have no daylight saving time, half hours, and days that are not there", function()
    assert.same({ "2026-01-01T03:30" }, list("0 9 * * *", "2026-01-01", 1, "Asia/Kolkata"))
    assert.same({ "2026-04-04T15:45", "2026-04-05T15:45" }, -- 30 minutes of daylight saving time.
      list("15 2 * * *", "2026-04-04T12:00:00Z", 2, "Australia/Lord_Howe"))
    assert.same({ "2026-10-03T15:30", "2026-10-04T15:15" },
      list("15 2 * * *", "2026-10-03T12:00:00Z", 2, "Australia/Lord_Howe"))
    assert.same({ "2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00" },
      list("0 0 * * *", "2011-12-28T12:00:00Z", 3, "Pacific/Apia"))
  end)

  it("goes on behind the table of its file", function()
    assert.same({ "2400-07-01T01:00" }, list("0 3 1 7 *", "2400-01-01", 1, "Europe/Berlin"))
    assert.is_nil((calendar.next(assert(cron.parse "@yearly"), assert(calendar.zone(app, "UTC")),
      253402300799000)))
  end)

  it("must exist", function()
    local _, err = calendar.zone(app, "Europe/Berlim")
    assert.equal("not_found", err.code)
    assert.matches("Europe/Berlim.*IANA", err.message)
    assert.equal("invalid", select(2, calendar.zone(app, "../passwd")).code)
    assert.is_truthy(calendar.zone({ settings = { zoneinfo = "/nowhere" } }, "UTC"))
  end)
end)
