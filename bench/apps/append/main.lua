--- main.lua - catga.events.append from Lua: one writer that waits each time, then 64 that do, and a
--- durable step of a process alone. Each append is one event of about 250 bytes on disk.
---
--- Environment: BENCH_COUNT is how many appends and steps the lone writer does (default 2000); the
--- 64 append 10 times as many.
local catga = require "catga"
local clocks = require "catga.native.clock"

local WRITERS = 64
local clock -- Of the run, made in main.

local function event(number)
  return { { type = "OrderPlaced", data = {
    order_id = "o" .. number, customer_id = "c" .. number % 100, amount = 99.5,
    address = "12 High Street, Springfield", note = "leave at the door please, not at the gate",
  } } }
end

local function append(stream, number)
  local result, err = catga.events.append(stream, event(number))
  if not result then error(err) end
end

--- Prints the percentiles of durations in ms.
local function print_percentiles(what, samples_ms)
  table.sort(samples_ms)
  local function at(part) return samples_ms[math.max(1, math.floor(#samples_ms * part))] * 1000 end
  print(("%s, p50: %.1f us"):format(what, at(0.50)))
  print(("%s, p99: %.1f us"):format(what, at(0.99)))
end

local function append_alone(count)
  local samples = {}
  for number = 1, count do
    local begin = clock:mono()
    append("Alone-" .. number % 10, number)
    samples[number] = clock:mono() - begin
  end
  return samples
end

local function measure_writers(count)
  local number = 0
  local begin = clock:mono()
  catga.map(function()
    if number < count then
      number = number + 1
      return number
    end
  end, function(n) append("Shared-" .. n % WRITERS, n) end, { max = WRITERS })
  print(("append of %d writers: %.0f a second"):format(WRITERS,
    count / (clock:mono() - begin) * 1000))
end

local Steps = catga.process "Steps"

function Steps:execute(input)
  local samples = {}
  for number = 1, input.count do
    local begin = clock:mono()
    self:work(number)
    samples[number] = clock:mono() - begin
  end
  print_percentiles("durable step alone", samples)
end

function Steps:work(number) -- luacheck: ignore self
  return { number = number }
end

catga.main(function()
  local count = tonumber(os.getenv("BENCH_COUNT") or 2000)
  clock = clocks.system()
  append_alone(200) -- Warms up.
  print_percentiles("append alone", append_alone(count))
  measure_writers(count * 10)
  catga.run("Steps", { id = "alone", count = count })
  clock:close()
  catga.exit(0)
end)
