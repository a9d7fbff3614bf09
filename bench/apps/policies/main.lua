--- main.lua - nanoseconds of a send whose command has a policy that has nothing to do.
---
--- Environment: BENCH_POLICY is the kind, "none", "behavior", "window" (a limiter with a sliding
--- window) or "all". BENCH_CALLS is how many sends.
local catga = require "catga"
local clocks = require "catga.native.clock"

local CALLS = tonumber(os.getenv "BENCH_CALLS") or 200000
local WARM_UP_CALLS = 20000
local MANY = 1000000

local kind = os.getenv "BENCH_POLICY" or "none"
local input = { id = "o1", amount = 99.5 }

local POLICIES = {
  none = {},
  behavior = {},
  authorize = { authorize = function(cmd) return cmd.amount > 0 end },
  fallback = { fallback = 0 },
  total_timeout = { total_timeout = "1m" },
  timeout = { timeout = "5s" },
  retry = { attempts = 3 },
  breaker = { breaker = {} },
  limiter = { limiter = { rate = MANY, per = "1ms" } },
  window = { limiter = { rate = 100000, per = "1ms", kind = "sliding_window" } },
  bulkhead = { bulkhead = 10 },
  order_by = { order_by = "id" },
  lock = { lock = "id" },
  deduplicate = { deduplicate = { key = function(cmd) return cmd.nth end, max = 100 } },
  cache = { cache = { ttl = "1h", key = "id" } },
  all = { attempts = 3, timeout = "5s", breaker = {}, fallback = 0, bulkhead = 10,
    limiter = { rate = MANY, per = "1ms" } },
}

local spec = { name = "Work", handle = function(cmd) return cmd.amount end }
for name, value in pairs(POLICIES[kind]) do spec[name] = value end
local is_query = kind == "cache"
local deliver = is_query and catga.ask or catga.send
if is_query then catga.query(spec) else catga.command(spec) end

if kind == "behavior" then
  local count = 0
  catga.behavior("count", function(_, _, next)
    count = count + 1
    return next()
  end)
end

local nth = 0
local function send_many(calls, clock)
  local begin = clock:mono()
  for _ = 1, calls do
    nth = nth + 1
    input.nth = nth
    local value, err = deliver("Work", input)
    if not value then error(err) end
  end
  return (clock:mono() - begin) / calls * 1e6
end

catga.main(function()
  catga.sleep("300ms")
  local clock = clocks.system()
  send_many(WARM_UP_CALLS, clock)
  print(("send with %s: %.1f ns"):format(kind, send_many(CALLS, clock)))
  clock:close()
  catga.exit(0)
end)
