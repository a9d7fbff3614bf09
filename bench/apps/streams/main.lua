--- main.lua - events a second through chains of operators, beside a bare loop that does the same;
--- aborted traces; memory with a slow sink; a durable stream over the log.
local catga = require "catga"
local clocks = require "catga.native.clock"
local host = require "catga.native.host"
local errors_of_traces = require("jit.vmdef").traceerr

local EVENTS = tonumber(os.getenv("BENCH_EVENTS") or 10000000)
local DURABLE = math.min(EVENTS, 300000) -- Events of the log.
local POOL = 1024
local WINDOW_MS = 1000
local APPEND = 1000
local SLOW_EVERY = 10000 -- The slow sink waits a millisecond for so many events.

local NOT_COMPILED = "JIT compilation disabled for function"

local clock = clocks.system()
local pool = {}
for i = 0, POOL - 1 do pool[i] = { amount = i, key = (i * 7) % POOL, at = 0 } end

local seen = 0 -- Events of the run that is measured.

local function source()
  seen = -1
  return function()
    local i = seen + 1
    seen = i
    if i >= EVENTS then return nil end
    local one = pool[i % POOL]
    one.at = i
    return one
  end
end

local function is_even(e) return e.amount % 2 == 0 end
local function triple(e) return e.amount * 3 end
local function add_amount(sum, e) return sum + e.amount end

local result

local function count(list) result = result + #list end
local function add(sum) result = result + sum end
local function set(sum) result = sum end

local CHAINS = {
  plain = function()
    catga.stream.of(source()):where(is_even):select(triple):buffer(100):each(count)
  end,
  scan = function() catga.stream.of(source()):scan(add_amount, 0):each(set) end,
  group = function() catga.stream.of(source()):group_by("key"):buffer(100):each(count) end,
  tumbling = function()
    catga.stream.of(source(), { event_time = "at" }):tumbling(WINDOW_MS .. "ms")
      :reduce(add_amount, 0):each(add)
  end,
}

-- The same as one would write it by hand, with the same functions.
local LOOPS = {
  plain = function()
    local list, n = {}, 0
    for e in source() do
      if is_even(e) then
        n = n + 1
        list[n] = triple(e)
        if n == 100 then
          count(list)
          list, n = {}, 0
        end
      end
    end
    count(list)
  end,
  scan = function()
    local sum = 0
    for e in source() do
      sum = add_amount(sum, e)
      set(sum)
    end
  end,
  group = function()
    local lists = {}
    for e in source() do
      local list = lists[e.key]
      if not list then
        list = { n = 0 }
        lists[e.key] = list
      end
      local n = list.n + 1
      list.n, list[n] = n, e
      if n == 100 then
        count(list)
        lists[e.key] = nil
      end
    end
    for _, list in pairs(lists) do count(list) end
  end,
  tumbling = function()
    local start, sum
    for e in source() do
      local own = e.at - e.at % WINDOW_MS
      if own ~= start then
        if start then add(sum) end
        start, sum = own, 0
      end
      sum = add_amount(sum, e)
    end
    add(sum)
  end,
}

local function measure(run)
  collectgarbage()
  collectgarbage()
  result = 0
  local begin = clock:mono()
  run()
  return EVENTS / (clock:mono() - begin) * 1000, result
end

-- How many traces were given up while fn ran: while its code was new, and after that. Where the
-- compiled loop is left at the end of a slice it meets code that is not to be compiled: that is on
-- the path of no event, and not counted.
local function aborts_of(fn)
  local new, warm = 0, 0
  seen = -1
  local function on_trace(what, _, _, _, code)
    if what ~= "abort" or errors_of_traces[code] == NOT_COMPILED then return end
    if seen < EVENTS / 100 then
      new = new + 1
    elseif seen < EVENTS then -- Later the chain only ends.
      warm = warm + 1
    end
  end
  jit.attach(on_trace, "trace")
  fn()
  jit.attach(on_trace)
  return new, warm
end

local function resident_mib()
  local file = io.open("/proc/self/status")
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return tonumber(text:match("VmRSS:%s*(%d+)") or 0) / 1024
end

-- How much memory a slow sink behind a fast source takes beyond what there was before.
local function measure_slow()
  collectgarbage()
  collectgarbage()
  local heap, resident, n = collectgarbage("count") / 1024, resident_mib(), 0
  local heap_most, resident_most = heap, resident
  catga.stream.of(source()):queue(1000):each(function()
    n = n + 1
    if n % SLOW_EVERY == 0 then
      catga.sleep("1ms")
      heap_most = math.max(heap_most, collectgarbage("count") / 1024)
      resident_most = math.max(resident_most, resident_mib())
    end
  end)
  assert(n == EVENTS, "events were lost")
  return heap_most - heap, resident_most - resident
end

local done_at

catga.stream("Measured", { durable = "measured", event_time = "at" }):tumbling(WINDOW_MS .. "ms")
  :reduce(add_amount, 0):to { append = "Windows", type = "Window" }

local function measure_durable()
  assert(catga.streams.pause("measured"))
  for first = 0, DURABLE - 1, APPEND do
    local list = {}
    for i = first, first + APPEND - 1 do
      list[#list + 1] = { type = "Measured", data = { amount = i % POOL, at = i } }
    end
    assert(catga.events.append("Measured", list))
  end
  local begin = clock:mono()
  assert(catga.streams.resume("measured"))
  repeat
    catga.sleep("1ms")
    done_at = catga.streams.get("measured").events
  until done_at >= DURABLE
  return DURABLE / (clock:mono() - begin) * 1000
end

catga.main(function()
  local new, warm = 0, 0
  for _, kind in ipairs { "plain", "scan", "group", "tumbling" } do
    local rate, found
    local of_new, of_warm = aborts_of(function() rate, found = measure(CHAINS[kind]) end)
    new, warm = new + of_new, warm + of_warm
    print(("streams %s: %.0f events/s"):format(kind, rate))
    local floor, wanted = measure(LOOPS[kind])
    print(("loop %s: %.0f events/s"):format(kind, floor))
    assert(found == wanted, "the chain and the loop differ")
  end
  print(("streams, aborted traces: %d traces"):format(warm))
  print(("streams, aborted traces in the first hundredth: %d traces"):format(new))
  local heap, resident = measure_slow()
  print(("slow sink, Lua heap: %.2f MiB"):format(heap))
  print(("slow sink, resident: %.2f MiB"):format(resident))
  print(("durable tumbling over the log: %.0f events/s"):format(measure_durable()))
  host.exit(0)
end)
