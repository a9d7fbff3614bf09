--- Schedules: processes start at their times, obey the overlap policy, and start when asked for.
local testing = require "catga.testing"
local support = dofile "spec/support/schedule.lua"
local catga = require "catga"
local define_process = support.process

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(source, opts) app = support.open(source, opts) end

local function ran(prefix) return support.ran(app, prefix) end

local function get(name) return assert(app:call(catga.schedules.get, name or "nightly")) end

describe("a schedule", function()
  it("starts a process at each of its times", function()
    open(function()
      define_process()
      catga.schedule("nightly", "0 3 * * *", "Report", { kind = "daily" },
        { timezone = "Europe/Berlin" })
    end)
    app:advance("48h")
    assert.same({ "2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z" }, ran())
    local notes = app:call(catga.events.read, "Notes")
    assert.same({ kind = "daily", scheduled_time = "2026-01-01T02:00:00Z" }, notes[1].data)
    assert.equal(2, #notes)
    local shown = get()
    assert.equal(2, shown.runs)
    assert.equal("active", shown.status)
    assert.equal("nightly/2026-01-02T02:00:00Z", shown.last_id)
    assert.equal(1767405600000, shown.next)
    assert.equal(5, #shown.upcoming)
    assert.equal("completed", app:wait("nightly/2026-01-02T02:00:00Z"))
    assert.equal(2, #app:call(catga.processes.list, { tags = { schedule = "nightly" } }))
    assert.equal(0, #app:call(catga.processes.list, { tags = { schedule = "other" } }))
  end)

  it("begins at the same moment within its jitter", function()
    local function define()
      define_process()
      catga.schedule("nightly", "0 * * * *", "Report", nil, { jitter = "10m" })
    end
    local starts = {}
    for round = 1, 2 do
      open(define)
      app:advance("12h")
      starts[round] = {}
      for _, process in ipairs(app:call(catga.processes.list)) do
        local late = process.started % 3600000
        assert.is_true(late <= 600000)
        starts[round][process.id] = late
      end
      if round == 1 then app:stop() end
    end
    assert.same(starts[1], starts[2])
    local distinct, count = {}, 0
    for _, late in pairs(starts[1]) do
      if not distinct[late] then count = count + 1 end
      distinct[late] = true
    end
    assert.is_true(count > 5)
  end)

  it("goes by intervals since 1970", function()
    open(function()
      define_process()
      catga.schedule("nightly", "@every 90s", "Report")
    end, { start = 1767225600000 + 30000 })
    app:advance("3m")
    assert.same({ "2026-01-01T00:01:30Z", "2026-01-01T00:03:00Z" }, ran())
  end)

  it("leaves out a time while the run before goes on", function()
    open(function()
      define_process("90s")
      catga.schedule("nightly", "* * * * *", "Report")
    end)
    app:advance("5m")
    assert.same({ "2026-01-01T00:01:00Z", "2026-01-01T00:03:00Z", "2026-01-01T00:05:00Z" }, ran())
    assert.equal(2, get().skipped)
    assert.same({ "nightly/2026-01-01T00:05:00Z" }, get().running)
  end)

  it("queues up to queue_max", function()
    open(function()
      define_process("150s")
      catga.schedule("nightly", "* * * * *", "Report", nil, { overlap = "queue", queue_max = 2 })
    end)
    app:advance("4m")
    assert.same({ "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z" }, ran())
    assert.equal(2, get().queued)
    app:advance("1m")
    assert.equal(1, get().skipped)
    assert.matches("its queue is full", table.concat(app.lines, "\n"))
    app:call(catga.schedules.pause, "nightly")
    app:advance("20m")
    assert.same({ "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z" }, ran())
    app:call(catga.schedules.resume, "nightly")
    app:advance("4m")
    assert.same({ "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z", "2026-01-01T00:03:00Z",
      "2026-01-01T00:04:00Z" }, ran())
  end)

  it("cancels the run before", function()
    open(function()
      define_process("90s")
      catga.schedule("nightly", "* * * * *", "Report", nil, { overlap = "cancel" })
    end)
    app:advance("210s")
    assert.same({ "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z", "2026-01-01T00:03:00Z" }, ran())
    assert.equal("cancelled", app:call(catga.processes.get, "nightly/2026-01-01T00:01:00Z").status)
    assert.equal("cancelled", app:call(catga.processes.get, "nightly/2026-01-01T00:02:00Z").status)
    assert.equal("waiting", app:call(catga.processes.get, "nightly/2026-01-01T00:03:00Z").status)
  end)

  it("may let runs overlap", function()
    open(function()
      define_process("90s")
      catga.schedule("nightly", "* * * * *", "Report", nil, { overlap = "allow" })
    end)
    app:advance("130s")
    assert.equal(2, #get().running)
  end)

  it("takes a run that is there already for its own", function()
    open(function()
      define_process("90s")
      catga.schedule("nightly", "* * * * *", "Report")
    end)
    assert(app:call(function()
      return app.app.engine:start("Report", { scheduled_time = "2026-01-01T00:01:00Z" },
        { id = "nightly/2026-01-01T00:01:00Z" })
    end))
    app:advance("61s")
    assert.same({ "nightly/2026-01-01T00:01:00Z" }, get().running)
    assert.equal(0, get().runs)
  end)

  it("goes on when a start fails", function()
    open(function()
      define_process()
      catga.schedule("nightly", "* * * * *", "Report")
    end)
    assert(app:call(catga.start, "Report", { id = "nightly/2026-01-01T00:01:00Z" }))
    local start = app.app.engine.start
    app.app.engine.start = function(self, name, input, opts)
      if opts and opts.id:find("00:02:00") then return nil, catga.error("broken", "no way") end
      if opts and opts.id:find("00:03:00") then error("a tag is wrong") end
      return start(self, name, input, opts)
    end
    app:advance("2m")
    assert.equal("no way", get().error)
    app:advance("1m")
    assert.matches("a tag is wrong", get().error)
    assert.equal("active", get().status)
    app:advance("1m")
    assert.is_nil(get().error)
    assert.equal(1, get().runs) -- The first was there before, the others failed.
    assert.equal(2, get().failed)
    assert.same({ "2026-01-01T00:01:00Z", "2026-01-01T00:04:00Z" }, ran())
  end)
end)

describe("a spec that waits for what never comes", function()
  it("is told so though schedules go on", function()
    open(function()
      define_process()
      catga.schedule("nightly", "@yearly", "Report")
    end)
    local ok, fault = pcall(function()
      return app:call(function() return require("catga.task").future():wait() end)
    end)
    assert.is_false(ok)
    assert.matches("has not come in a year of its clock", fault)
  end)
end)

describe("the names and options of schedules", function()
  local function fault(fn)
    local opened, err = testing.app(function()
      define_process()
      fn()
    end)
    assert.is_nil(opened)
    return err.message
  end

  it("are checked when scripts are loaded", function()
    assert.matches("schedule nightly: no process is called Reprot; did you mean Report%?",
      fault(function() catga.schedule("nightly", "0 3 * * *", "Reprot") end))
    assert.matches("schedule_spec.lua:%d+: schedule nightly: cron.*hour \"25\": 25 is out of range",
      fault(function() catga.schedule("nightly", "0 25 * * *", "Report") end))
    assert.matches("there is a schedule nightly already, at .*schedule_spec.lua:%d+",
      fault(function()
        catga.schedule("nightly", "0 3 * * *", "Report")
        catga.schedule("nightly", "0 4 * * *", "Report")
      end))
    assert.matches("there is no option time_zone; did you mean timezone%?", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { time_zone = "UTC" })
    end))
    assert.matches("schedule nightly: time zone Europe/Berlim", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { timezone = "Europe/Berlim" })
    end))
    assert.matches("time zone %.%./passwd", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { timezone = "../passwd" })
    end))
    assert.matches("overlap is one of skip, queue, cancel, allow", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { overlap = "wait" })
    end))
    assert.matches("jitter is a duration", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { jitter = 5 })
    end))
    assert.matches("jitter is at most 24h", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { jitter = "25h" })
    end))
    assert.matches("catch_up is at least 10s", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", nil, { catch_up = "1s" })
    end))
    assert.matches("name of a schedule has", fault(function()
      catga.schedule("night/ly", "0 3 * * *", "Report")
    end))
    assert.matches("the input is a table of fields", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", { 1, 2 })
    end))
    assert.matches("input.scheduled_time", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", { scheduled_time = 1 })
    end))
    assert.matches("the input: .*function", fault(function()
      catga.schedule("nightly", "0 3 * * *", "Report", { f = print })
    end))
  end)
end)

describe("a run that is asked for", function()
  before_each(function()
    open(function()
      define_process("1m")
      catga.schedule("nightly", "0 3 * * *", "Report", { of = "x" })
    end)
  end)

  local function start(overlap)
    return app:call(function()
      return catga.schedules.trigger("nightly", overlap and { overlap = overlap })
    end)
  end

  it("starts now, paused or not", function()
    app:call(catga.schedules.pause, "nightly")
    app:advance("1s")
    local id = assert(start())
    assert.matches("^nightly/trigger%-%d+$", id)
    assert.equal("completed", (app:wait(id)))
    assert.same({ of = "x", scheduled_time = "2026-01-01T00:00:01Z" },
      app:call(catga.events.read, "Notes")[1].data)
  end)

  it("obeys an overlap policy", function()
    local id = assert(start())
    local _, err = start()
    assert.equal("busy", err.code)
    assert.matches(id, err.message, 1, true)
    local queued = assert(start "queue")
    assert.equal(1, get().queued)
    app = assert(app:crash())
    app:advance("61s")
    assert.same({ queued }, get().running)
    local newer = assert(start "cancel")
    app:settle()
    assert.same({ newer }, get().running)
    assert.equal("cancelled", app:call(catga.processes.get, queued).status)
    local beside = assert(start "allow")
    assert.same({ newer, beside }, get().running)
    assert.equal("invalid", select(2, start "soon").code)
  end)

  it("is no part of the unit of work in which it is asked for", function()
    app:stop()
    open(function()
      define_process()
      catga.schedule("nightly", "0 3 * * *", "Report")
      catga.command("Try", function()
        assert(catga.schedules.trigger("nightly"))
        return nil, catga.error("no")
      end)
    end)
    assert.equal("no", select(2, app:send("Try", {})).code)
    app:settle()
    assert.equal(1, get().runs)
  end)
end)

describe("a backfill", function()
  local function fill(from, to, opts)
    return app:call(catga.schedules.backfill, "nightly", from, to, opts)
  end

  before_each(function()
    open(function()
      define_process("1m")
      catga.schedule("nightly", "0 3 * * *", "Report")
    end)
    app:advance("48h")
  end)

  it("runs the times of a span one after the other, those left out that have run", function()
    assert.same({ count = 3 }, fill("2025-12-31", "2026-01-03"))
    app:advance("30s")
    assert.equal(1, #get().running)
    assert.equal(1, get().backfills)
    app = assert(app:crash())
    app:advance("5m")
    assert.same({ "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z", "2025-12-31T03:00:00Z" }, ran())
    assert.equal(3, get().runs)
    assert.equal(0, get().backfills)
  end)

  it("may run them all at once", function()
    assert.same({ count = 365 }, fill("2025-01-01T03:00:00Z", "2025-12-31T03:00:00Z",
      { overlap = "allow" }))
    app:settle()
    assert.equal(100, #get().running) -- The others are let go.
    app:advance("2m")
    assert.equal(367, get().runs)
    assert.equal(0, #get().running)
  end)

  it("says what is wrong with it", function()
    assert.matches("to lies before from", select(2, fill("2026-01-02", "2026-01-01")).message)
    assert.matches("in the future", select(2, fill("2026-01-02", "2026-02-01")).message)
    assert.matches("from must be a time", select(2, fill("monday", "2026-01-01")).message)
    assert.matches("overlap is one of queue, allow", select(2, fill("2026-01-01", "2026-01-02",
      { overlap = "skip" })).message)
    assert.matches("at most 10000 times", select(2, fill("1970-01-01", "2026-01-01")).message)
    assert.same({ count = 0 }, fill("2026-01-01", "2026-01-01"))
  end)
end)

describe("a schedule that is made while the app runs", function()
  local function create(name, cron, process, input, opts)
    return app:call(catga.schedules.create, name or "nightly", cron or "0 * * * *",
      process or "Report", input, opts)
  end

  before_each(function()
    open(function()
      define_process()
    end)
  end)

  it("costs nothing until then", function()
    assert.is_nil(app.app.schedules)
    assert.same({}, app:call(catga.schedules.list))
  end)

  it("lasts until it is deleted", function()
    assert.equal("while the app ran", create(nil, nil, nil, { of = "y" },
      { timezone = "Asia/Kolkata", overlap = "queue" }).defined)
    app:advance("61m")
    app = assert(app:crash())
    app:advance("1h")
    assert.same({ "2026-01-01T00:30:00Z", "2026-01-01T01:30:00Z" }, ran())
    assert.equal("queue", get().overlap)
    assert.same({ of = "y" }, get().input)
    assert.is_true(app:call(catga.schedules.delete, "nightly"))
    assert.equal("not_found", select(2, app:call(catga.schedules.get, "nightly")).code)
    app:advance("1h")
    app = assert(app:crash())
    app:advance("1h")
    assert.equal(2, #ran())
    assert.is_truthy(create())
    assert.equal(0, get().runs)
    app:advance("1h")
    assert.equal(3, #ran())
  end)

  it("is checked as one of the scripts", function()
    assert.matches("hour", select(2, create(nil, "0 99 * * *")).message)
    assert.equal("unknown_process", select(2, create(nil, nil, "Reprot")).code)
    assert.equal("not_found", select(2, create(nil, nil, nil, nil, { timezone = "X/Y" })).code)
    assert.is_truthy(create())
    assert.equal("exists", select(2, create()).code)
    assert.matches("did you mean nightly", select(2, app:call(catga.schedules.pause,
      "nightli")).message)
  end)

  it("has bounds", function()
    app:stop()
    open(function() define_process() end, { settings = { schedules_max = 2 } })
    assert.is_truthy(create "a")
    assert.is_truthy(create "b")
    assert.equal("limit", select(2, create "c").code)
    local list = app:call(catga.schedules.list, { after = "a" })
    assert.equal(1, #list)
    assert.equal("b", list[1].name)
  end)

  it("is found again after many changes", function()
    for i = 1, 250 do
      assert.is_truthy(create("s" .. i % 7))
      if i % 7 ~= 3 then assert.is_true(app:call(catga.schedules.delete, "s" .. i % 7)) end
      if i % 7 == 3 then create "s3" end
      if i < 250 and i % 7 == 3 then assert.is_true(app:call(catga.schedules.delete, "s3")) end
    end
    assert.is_truthy(create "last")
    app = assert(app:crash())
    local list = app:call(catga.schedules.list)
    assert.equal(1, #list)
    assert.equal("last", list[1].name)
    assert.is_true(app.app.schedules.increments < 150)
  end)
end)
