--- Schedules: pauses last, and scripts may change.
local app_dir = dofile "spec/support/app_dir.lua"
local support = dofile "spec/support/schedule.lua"
local catga = require "catga"
local define_process = support.process

local app

after_each(function()
  if app then app:stop() end
  app = nil
  app_dir.remove_all()
end)

local function open(source, opts) app = support.open(source, opts) end

local function ran(prefix) return support.ran(app, prefix) end

local function get(name) return assert(app:call(catga.schedules.get, name or "nightly")) end

describe("a pause", function()
  it("lasts over a crash, and its times are not made up for", function()
    open(function()
      define_process()
      catga.schedule("nightly", "0 * * * *", "Report")
    end)
    assert.is_true(app:call(catga.schedules.pause, "nightly", "being mended"))
    app:advance("2h")
    app = assert(app:crash())
    app:advance("150m")
    assert.same({}, ran())
    assert.equal("paused", get().status)
    assert.equal("being mended", get().note)
    assert.is_nil(get().next)
    assert.is_true(app:call(catga.schedules.resume, "nightly"))
    assert.is_nil(get().note)
    app:advance("1h")
    assert.same({ "2026-01-01T05:00:00Z" }, ran())
    app = assert(app:crash())
    assert.equal("active", get().status)
  end)

  it("holds back what waits, but not what is asked for", function()
    open(function()
      define_process("150s")
      catga.schedule("nightly", "* * * * *", "Report", nil, { overlap = "queue" })
    end)
    app:advance("2m")
    assert.equal(1, get().queued)
    app:call(catga.schedules.pause, "nightly")
    local id = assert(app:call(catga.schedules.trigger, "nightly"))
    assert.equal(2, get().queued)
    app:advance("2m")
    assert.same({ id }, get().running)
    app:advance("5m")
    assert.equal(1, get().queued)
    assert.equal(2, get().runs)
  end)

  it("may be how it begins", function()
    open(function()
      define_process()
      catga.schedule("nightly", "0 * * * *", "Report", nil, { paused = true, note = "not yet" })
    end)
    app:advance("2h")
    assert.equal("paused", get().status)
    assert.equal("not yet", get().note)
    assert.is_true(app:call(catga.schedules.resume, "nightly"))
    app = assert(app:crash())
    app:advance("1h")
    assert.same({ "2026-01-01T03:00:00Z" }, ran())
  end)
end)

describe("a reload", function()
  local SCRIPT = [[
local catga = require "catga"
local Report = catga.process "Report"
function Report:execute(input) return input.scheduled_time end
%s
]]
  local dir

  local function script(text) return SCRIPT:format(text) end

  local function reload(text)
    app_dir.write(dir, "main.lua", script(text))
    assert(app:call(function() return app.app:reload() end))
    app:settle()
  end

  before_each(function()
    dir = app_dir.new { ["main.lua"] = script
      [[catga.schedule("nightly", "0 * * * *", "Report")]] }
    open(dir)
  end)

  it("takes up what is new, changed and removed", function()
    app:advance("90m")
    reload [[catga.schedule("nightly", "*/20 * * * *", "Report")
      catga.schedule("other", "0 * * * *", "Report")]]
    app:settle()
    assert.same({ "2026-01-01T01:00:00Z" }, ran()) -- 01:20 is not made up for.
    app:advance("31m")
    assert.same({ "2026-01-01T01:00:00Z", "2026-01-01T01:40:00Z", "2026-01-01T02:00:00Z" }, ran())
    assert.same({ "2026-01-01T02:00:00Z" }, ran "other/")
    reload [[catga.schedule("other", "0 * * * *", "Report")]]
    app:advance("60m")
    assert.equal(3, #ran())
    assert.equal(2, #ran "other/")
    reload [[catga.schedule("nightly", "*/20 * * * *", "Report")]]
    assert.equal(3, #ran())
    app:advance("19m")
    assert.equal(4, #ran())
    assert.equal(2, #ran "other/")
  end)

  it("keeps a pause, counters and runs that wait", function()
    app:advance("61m")
    app:call(catga.schedules.pause, "nightly", "why")
    reload [[catga.schedule("nightly", "*/20 * * * *", "Report")]]
    app:advance("1h")
    assert.equal("paused", get().status)
    assert.equal("why", get().note)
    assert.equal(1, get().runs)
    assert.equal("*/20 * * * *", get().cron)
  end)

  it("that takes a process away lets the start fail, until it is back", function()
    assert.is_truthy(app:call(catga.schedules.create, "made", "*/10 * * * *", "Report"))
    app_dir.write(dir, "main.lua", "require('catga').process('Z').execute = print")
    assert(app:call(function() return app.app:reload() end))
    app:advance("11m")
    assert.equal(1, get("made").failed)
    assert.matches("no process is called Report", get("made").error)
    app = assert(app:crash())
    app:advance("10m")
    assert.equal(2, get("made").failed)
    reload ""
    app:advance("10m")
    assert.equal(1, get("made").runs)
  end)

  it("with a script's schedule of the same name goes before the one that was made", function()
    assert.is_truthy(app:call(catga.schedules.create, "made", "*/10 * * * *", "Report"))
    reload [[catga.schedule("made", "0 0 1 1 *", "Report")]]
    assert.equal("0 0 1 1 *", get("made").cron)
    assert.matches("main.lua:4", get("made").defined)
    assert.equal("invalid", select(2, app:call(catga.schedules.delete, "made")).code)
    app = assert(app:crash())
    assert.equal("0 0 1 1 *", get("made").cron)
    reload ""
    assert.equal("*/10 * * * *", get("made").cron)
    app:advance("10m")
    assert.equal(1, get("made").runs)
  end)

  it("tells once that a schedule is gone", function()
    reload ""
    for _ = 1, 3 do app = assert(app:crash()) end
    local store = app.app.store
    local stream = store:stream "$schedule-nightly"
    local types = {}
    for i, record in ipairs(store:read(stream, 0, 100)) do types[i] = record.type end
    assert.same({ "ScheduleAdded", "ScheduleRemoved" }, types)
  end)

  it("while the program is down is a reload too", function()
    app:advance("30m")
    app = assert(app:crash(nil, app_dir.new { ["main.lua"] = script "" }))
    app:advance("2h")
    app = assert(app:crash(nil, dir)) -- It is there again, and what was missed is no concern of it.
    app:advance("29m")
    assert.same({}, ran())
    app:advance("1m")
    assert.same({ "2026-01-01T03:00:00Z" }, ran())
  end)
end)
