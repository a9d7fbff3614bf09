--- main.lua - nanoseconds of a step with the log in memory, live and on replay.
---
--- A memory log is durable at once, so a live step does not park; what parking costs is measured
--- apart, by many tasks that yield to the scheduler. The app under test is opened inside this one,
--- by the testing kit, which has the memory log.
local catga = require "catga"
local clocks = require "catga.native.clock"
local host = require "catga.native.host"
local native_task = require "catga.native.task"
local testing = require "catga.testing"

local STEPS = 100000
local RECORDED_STEPS = 10000
local TASKS = 100
local YIELDS = 5000 -- Of each task.

local clock -- Of the run, made in main.
local opened_ms, begun_ms, replayed_ms -- Of the recovery.

local function define()
  opened_ms = clock:mono()
  local Long = catga.process "Long"

  function Long:execute(input)
    begun_ms = clock:mono()
    for number = 1, input.steps do
      self:work(number)
    end
    replayed_ms = clock:mono()
    self:sleep("1h")
  end

  function Long:work(number) -- luacheck: ignore self
    return { number = number }
  end
end

local function measure_live(app, steps)
  assert(app:start("Long", { id = "live" .. steps, steps = steps }))
  app:settle()
  return (replayed_ms - begun_ms) / steps * 1e6
end

local function measure_replay(steps)
  local app = assert(testing.app(define))
  assert(app:start("Long", { id = "long", steps = steps }))
  app:settle()
  app = assert(app:crash())
  local body_ns = (replayed_ms - begun_ms) / steps * 1e6
  local whole_ns = (replayed_ms - opened_ms) / steps * 1e6
  app:kill()
  return body_ns, whole_ns
end

local function measure_yield()
  local tasks = {}
  for number = 1, TASKS do tasks[number] = number end
  local begin = clock:mono()
  catga.map(tasks, function()
    for _ = 1, YIELDS do native_task.yield() end
  end, { max = TASKS })
  return (clock:mono() - begin) / (TASKS * YIELDS) * 1e6
end

catga.main(function()
  clock = clocks.system()
  print(("task yield and resume: %.0f ns"):format(measure_yield()))
  local app = assert(testing.app(define))
  measure_live(app, 2000) -- Warms up.
  print(("step, log in memory: %.0f ns"):format(measure_live(app, STEPS)))
  app:kill()
  local body_ns, whole_ns = measure_replay(RECORDED_STEPS)
  print(("replayed step, in the body: %.0f ns"):format(body_ns))
  print(("replayed step, with reading its record: %.0f ns"):format(whole_ns))
  clock:close()
  host.exit(0) -- This task belonged to the app under test in between.
end)
