--- main.lua - messages of the outbox: how many a second from enqueue to handled, and what very many
--- cost that wait.
---
--- BENCH_PHASE is "rate" (BENCH_MESSAGES messages, BENCH_IN_FLIGHT of them at a time: enqueued,
--- handled, and the next one), "wait" (BENCH_MESSAGES messages wait for an hour: bytes each; the
--- program ends as a kill would), "recover" (time until all of them are known again, and how fast
--- one goes that is enqueued meanwhile). BENCH_PROFILE writes LuaJIT's profile to that file.
local catga = require "catga"
local clocks = require "catga.native.clock"
local state = require "catga.state"
local tasks = require "catga.task"

local WARM_UP = 2000 -- Messages that are not measured.

local phase = os.getenv("BENCH_PHASE") or "rate"
local count = tonumber(os.getenv("BENCH_MESSAGES") or 20000)
local in_flight = tonumber(os.getenv("BENCH_IN_FLIGHT") or 1000)
local waiting = {}

catga.command("Handle", function(cmd)
  local future = waiting[cmd.n]
  waiting[cmd.n] = nil
  if future then future:set() end
  return true
end)

local function measure()
  collectgarbage()
  collectgarbage()
  local file = assert(io.open("/proc/self/status"))
  local resident = file:read("*a"):match("RssAnon:%s*(%d+) kB")
  file:close()
  return collectgarbage("count") * 1024, tonumber(resident) * 1024
end

-- Calls fn with the numbers from first to last, so many at a time.
local function each(first, last, max, fn)
  local number = first - 1
  catga.map(function()
    if number < last then
      number = number + 1
      return number
    end
  end, fn, { max = max })
end

local function enqueue_and_wait(n)
  local future = tasks.future()
  waiting[n] = future
  assert(catga.enqueue("Handle", { n = n, order_id = "o" .. n, amount = 99.5 }))
  future:wait()
end

local phases = {}

function phases.rate(clock)
  local outbox = function() return state[1].app.outbox end
  each(1, WARM_UP, in_flight, enqueue_and_wait)
  while outbox().waiting > 0 do catga.sleep("1ms") end
  local profile = os.getenv("BENCH_PROFILE")
  if profile then require("jit.p").start(os.getenv("BENCH_PROFILE_MODE") or "3si4m1", profile) end
  local begin, times = clock:mono(), {}
  each(WARM_UP + 1, WARM_UP + count, in_flight, function(n)
    local before = clock:mono()
    enqueue_and_wait(n)
    times[#times + 1] = clock:mono() - before
  end)
  while outbox().waiting > 0 do catga.sleep("1ms") end
  local seconds = (clock:mono() - begin) / 1000
  if profile then require("jit.p").stop() end
  print(("messages %d in flight: %.0f a second"):format(in_flight, count / seconds))
  table.sort(times)
  print(("messages %d in flight, p50: %.0f us"):format(in_flight, times[count / 2] * 1000))
end

function phases.wait(clock)
  local function enqueue(n)
    assert(catga.enqueue("Handle", { n = n, order_id = "o" .. n, amount = 99.5 },
      { delay = "1h" }))
  end
  each(1, WARM_UP, 1000, enqueue)
  local heap_before, resident_before = measure()
  local begin = clock:mono()
  each(WARM_UP + 1, WARM_UP + count, 1000, enqueue)
  local seconds = (clock:mono() - begin) / 1000
  catga.sleep("3s") -- What the index can let go of it does.
  local heap, resident = measure()
  print(("waiting message, Lua heap: %.0f bytes"):format((heap - heap_before) / count))
  print(("waiting message, resident: %.0f bytes"):format((resident - resident_before) / count))
  print(("delayed messages enqueued: %.0f a second"):format(count / seconds))
end

function phases.recover(clock)
  local outbox = state[1].app.outbox
  local begin = clock:mono()
  assert(catga.send("Handle", { n = 0 }))
  enqueue_and_wait(count + WARM_UP + 1)
  print(("new message beside waiting ones: %.0f ms"):format(clock:mono() - begin))
  while not outbox.is_open do catga.sleep("2ms") end
  print(("waiting messages known again: %.0f ms"):format(clock:mono() - begin))
  assert(outbox.waiting == count + WARM_UP, outbox.waiting)
  local heap, resident = measure()
  print(("waiting message after a restart, Lua heap: %.0f bytes"):format(heap / count))
  print(("waiting message after a restart, resident: %.0f bytes"):format(resident / count))
end

catga.main(function()
  phases[phase](clocks.system())
  local file = phase == "wait" and io.open("/proc/self/stat")
  if not file then return catga.exit(0) end
  io.stdout:flush()
  os.execute("kill -KILL " .. file:read("*n"))
end)
