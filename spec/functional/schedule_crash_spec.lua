--- Schedules: each time runs once, over crashes and clocks that are set; and very many of them.
local support = dofile "spec/support/schedule.lua"
local catga = require "catga"
local times = require "catga.time"
local define_process = support.process

local app

after_each(function()
  if app then app:stop() end
  app = nil
end)

local function open(source, opts) app = support.open(source, opts) end

local function ran(prefix) return support.ran(app, prefix) end

local function get(name) return assert(app:call(catga.schedules.get, name or "nightly")) end

describe("a schedule and a crash", function()
  local function define()
    define_process("20s")
    catga.schedule("nightly", "* * * * *", "Report", { of = "nightly" }, { overlap = "queue" })
    catga.schedule("other", "*/2 * * * *", "Report", { of = "other" },
      { jitter = "30s", overlap = "allow" })
  end

  local function minutes(...)
    local list = {}
    for i, minute in ipairs { ... } do list[i] = ("2026-01-01T00:%02d:00Z"):format(minute) end
    return list
  end

  it("runs each time once, wherever the program is killed", function()
    open(define)
    local first = app:position()
    app:advance("270s")
    local last = app:position()
    app:stop()
    assert.is_true(last - first > 20)
    for position = first, last do
      open(define)
      app:advance("270s")
      app = assert(app:crash(position))
      app:advance("5m")
      local at = "killed at " .. position
      assert.same(minutes(1, 2, 3, 4, 5, 6, 7, 8, 9), ran(), at)
      assert.same(minutes(2, 4, 6, 8), ran("other/"), at)
      local count = {}
      for _, event in ipairs(app:call(catga.events.read, "Notes", { max = 1000 })) do
        local key = event.data.of .. event.data.scheduled_time
        assert.is_nil(count[key], key .. " " .. at)
        count[key] = true
      end
      app:stop()
    end
    app = nil
  end)

  it("runs each time once, killed at random again and again", function()
    for seed = 1, tonumber(os.getenv "CATGA_SEEDS") or 20 do
      math.randomseed(seed)
      open(define)
      local first = app:position()
      for _ = 1, 6 do
        app:advance(math.random(1, 150) .. "s")
        if math.random(3) == 1 then app.clock:advance(math.random(1, 200) * 1000) end
        app = assert(app:crash(math.max(first, app:position() - math.random(0, 5))))
      end
      app:advance("10m")
      local wanted, now = {}, app.clock:now()
      for ms = 1767225660000, now, 60000 do wanted[#wanted + 1] = times.format(ms) end
      local found = ran()
      assert.is_true(#found >= #wanted - 1, "seed " .. seed)
      for i, time in ipairs(found) do
        assert.equal(wanted[i]:gsub("%.000", ""), time, "seed " .. seed)
      end
      local others = ran "other/"
      assert.is_true(#others >= math.floor(#wanted / 2) - 1, "seed " .. seed)
      local count = {}
      for _, event in ipairs(app:call(catga.events.read, "Notes", { max = 1000 })) do
        local key = event.data.of .. event.data.scheduled_time
        assert.is_nil(count[key], key .. ", seed " .. seed)
        count[key] = true
      end
      app:stop()
    end
    app = nil
  end)

  it("makes up for times that were missed while it was down, within catch_up", function()
    open(function()
      define_process()
      catga.schedule("nightly", "0 * * * *", "Report", nil, { overlap = "allow", catch_up = "3h" })
    end)
    app:advance("61m")
    app.clock:advance(569 * 60000)
    app = assert(app:crash())
    app:settle()
    assert.same({ "2026-01-01T01:00:00Z", "2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z",
      "2026-01-01T10:00:00Z" }, ran())
    assert.equal(6, get().missed)
    assert.matches("6 times from 2026%-01%-01T02:00:00Z to 2026%-01%-01T07:00:00Z were missed",
      table.concat(app.lines, "\n"))
  end)

  it("passes quickly over years", function()
    open(function()
      define_process()
      catga.schedule("nightly", "* * * * * *", "Report")
    end)
    app.clock:advance(10 * 365 * 86400000)
    app = assert(app:crash())
    app:settle()
    assert.equal(1000, get().missed)
    assert.matches("1000 or more times from 2026%-01%-01T00:00:01Z to 2035%-12%-29T22:59:59Z",
      table.concat(app.lines, "\n"))
    app:advance("2s")
    assert.is_true(get().runs >= 2)
    assert.equal(1000, get().missed)
  end)

  it("cancels what it was about to cancel", function()
    open(function()
      define_process("10m")
      catga.schedule("nightly", "*/2 * * * *", "Report", nil, { overlap = "cancel" })
    end)
    app:stop()
    for back = 0, 6 do
      open(app.source)
      app:advance("4m")
      app = assert(app:crash(app:position() - back))
      app:advance("30s")
      assert.equal("cancelled", app:call(catga.processes.get,
        "nightly/2026-01-01T00:02:00Z").status, "back " .. back)
      assert.same({ "nightly/2026-01-01T00:04:00Z" }, get().running, "back " .. back)
      app:stop()
    end
    app = nil
  end)
end)

describe("a clock that is set", function()
  local function define()
    define_process()
    catga.schedule("nightly", "0 * * * *", "Report")
  end

  it("back a little, runs nothing twice", function()
    open(define)
    app:advance("61m")
    app.clock:step_back(30 * 60000)
    app:advance("31m")
    assert.same({ "2026-01-01T01:00:00Z" }, ran())
    app:advance("1h")
    assert.same({ "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z" }, ran())
  end)

  it("forward, is noticed within a minute", function()
    open(define)
    app:advance("1m")
    app.clock:step_forward(59.5 * 60000)
    app:advance("1m")
    assert.same({ "2026-01-01T01:00:00Z" }, ran())
  end)

  it("forward by years and back, goes on from now", function()
    open(define)
    app:advance("1m")
    app.clock:step_forward(3650 * 86400000)
    app:advance("1m")
    assert.equal(1, #ran()) -- Within catch_up there is one.
    app.clock:step_back(3650 * 86400000)
    app:advance("1h")
    assert.equal(2, #ran())
    assert.matches("the clock was set back", table.concat(app.lines, "\n"))
    app = assert(app:crash())
    app:advance("1h")
    assert.equal(3, #ran())
  end)

  it("back by years while the program was down, goes on from now", function()
    open(define, { start = 1767225600000 + 1000 * 86400000 })
    app:advance("61m")
    app.clock:step_back(1000 * 86400000)
    app = assert(app:crash())
    app:advance("61m")
    assert.equal(2, #ran())
  end)
end)

describe("ten thousand schedules", function()
  it("have one timer, and all start in their minute", function()
    open(function()
      local Job = catga.process "Job"
      function Job:execute() return 1 end
      for i = 1, 10000 do
        catga.schedule("job-" .. i, ("%d %d * * *"):format(i % 60, 1 + i % 12), "Job")
      end
    end)
    app.app.clock:next()
    local begun = os.clock()
    app:advance("59m")
    assert.equal(0, #app:call(catga.processes.list, { max = 10 }))
    assert.is_true(os.clock() - begun < 1)
    app:advance("1h")
    local runs = 0
    for _, schedule in ipairs(app:call(catga.schedules.list, { max = 10000 })) do
      runs = runs + schedule.runs
    end
    assert.equal(833, runs)
    app = assert(app:crash())
    app:advance("1m")
    assert.equal(1, app:call(catga.schedules.get, "job-24").runs)
  end)

  it("are not remembered twice in the queue", function()
    open(function()
      define_process()
      catga.schedule("nightly", "0 3 1 1 *", "Report")
    end)
    app:call(function()
      for _ = 1, 1200 do
        catga.schedules.pause("nightly")
        catga.schedules.resume("nightly")
      end
    end)
    assert.is_true(app.app.schedules.due.n <= 1003)
    assert.equal(1767236400000, get().next)
    app:advance("3h")
    assert.equal(1, get().runs)
  end)

  it("that are due at once start all, none twice", function()
    open(function()
      local Job = catga.process "Job"
      function Job:execute() return 1 end
      for i = 1, 1500 do catga.schedule("job-" .. i, "0 * * * *", "Job") end
    end)
    app:advance("61m")
    for _, schedule in ipairs(app:call(catga.schedules.list, { max = 10000 })) do
      assert.equal(1, schedule.runs)
    end
  end)
end)
