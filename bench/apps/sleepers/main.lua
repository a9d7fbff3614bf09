--- main.lua - many processes that wait: bytes each, recovery after a restart, timers due at once.
---
--- BENCH_PHASE is "start" (BENCH_PROCESSES processes do a step and sleep; measures their bytes; the
--- program ends as a kill would), "recover" (time until it serves, until all waits are known, and
--- how many of BENCH_WAKE that are due at once wake a second).
local catga = require "catga"
local clocks = require "catga.native.clock"
local state = require "catga.state"

local count = tonumber(os.getenv("BENCH_PROCESSES") or 1000000)
local wake = tonumber(os.getenv("BENCH_WAKE") or 100000)
local phase = os.getenv("BENCH_PHASE") or "start"
local woken, early, last_late = 0, 0, 0

local Waiting = catga.process "Waiting"

function Waiting:execute(input)
  local order = self:reserve(input.id)
  if input.due then
    self:sleep(input.due - self:now() .. "ms")
    self:woke(input.due)
  else
    self:sleep("100h")
  end
  return order
end

function Waiting:reserve(id) return { reservation_id = "R" .. id } end -- luacheck: ignore self

function Waiting:woke(due) -- luacheck: ignore self
  local late = catga.now() - due
  woken = woken + 1
  if late < 0 then early = early + 1 end
  last_late = math.max(last_late, late)
  return true
end

local function measure()
  collectgarbage()
  collectgarbage()
  local file = assert(io.open("/proc/self/status"))
  local resident = file:read("*a"):match("RssAnon:%s*(%d+) kB")
  file:close()
  return collectgarbage("count") * 1024, tonumber(resident) * 1024
end

local function start(first, last, due)
  local number = first - 1
  catga.map(function()
    if number < last then
      number = number + 1
      return number
    end
  end, function(n) assert(catga.start("Waiting", { id = "o" .. n, due = due })) end,
    { max = 1000 })
end

local function await(what)
  while not what() do catga.sleep("2ms") end
end

local phases = {}

function phases.start(clock)
  local engine = state[1].app.engine
  start(1, 20000)
  catga.sleep("500ms")
  local heap_before, resident_before = measure()
  local begin = clock:mono()
  start(20001, 20000 + count)
  local seconds = (clock:mono() - begin) / 1000
  await(function() return engine.active_count <= 10000 end)
  catga.sleep("3s") -- What the index can let go of it does.
  local heap, resident = measure()
  print(("sleeping process, Lua heap: %.0f bytes"):format((heap - heap_before) / count))
  print(("sleeping process, resident: %.0f bytes"):format((resident - resident_before) / count))
  print(("sleeping processes started: %.0f a second"):format(count / seconds))
  start(count + 20001, count + 20000 + wake, catga.now() + wake / 10 + 20000)
  catga.sleep("1s")
end

function phases.recover(clock)
  local engine = state[1].app.engine
  local begin = clock:mono()
  assert(catga.start("Waiting", { id = "new" }))
  print(("first start after main began: %.0f ms"):format(clock:mono() - begin))
  await(function()
    local dormant = engine.dormant
    return dormant and dormant.dues:count() + woken + engine.active_count >= count + wake
  end)
  print(("all waits known: %.0f ms"):format(clock:mono() - begin))
  await(function() return woken > 0 end)
  begin = clock:mono()
  await(function() return woken >= wake end)
  print(("woken at once: %.0f a second"):format(wake / (clock:mono() - begin) * 1000))
  print(("early: %d, late at most: %.0f ms"):format(early, last_late))
end

catga.main(function()
  local clock = clocks.system()
  phases[phase](clock)
  clock:close()
  catga.exit(0)
end)
