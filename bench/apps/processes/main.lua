--- main.lua - durable 3-step processes a second, so many in flight, start to result; and how long
--- one takes that is alone.
---
--- Environment: BENCH_STEPS is "plain" (steps are functions) or "command" (each step sends one),
--- BENCH_PROCESSES how many, BENCH_IN_FLIGHT how many at the same time. BENCH_PROFILE writes
--- LuaJIT's own profile to that file, in the mode BENCH_PROFILE_MODE; it takes the place of the
--- deadline of handlers, as there is only one profiler.
--- CPU is that of all threads.
local catga = require "catga"
local clocks = require "catga.native.clock"

local WARM_UP_PROCESSES = 2000 -- Or as many as are in flight; not measured.

catga.command("ReserveInventory", function(cmd)
  return { reservation_id = "R" .. cmd.order_id }
end)

catga.command("ProcessPayment", function(cmd)
  return { transaction_id = "T" .. cmd.order_id, amount = cmd.amount }
end)

catga.command("CreateShipment", function(cmd)
  return { tracking = "S" .. cmd.order_id }
end)

local OrderProcess = catga.process "OrderProcess"

function OrderProcess.process_id(order)
  return order.order_id
end

function OrderProcess:execute(order)
  local inventory = self:reserve_inventory(order.order_id, order.items)
  local payment = self:process_payment(order.order_id, order.amount)
  local shipment = self:create_shipment(order.order_id, order.address)
  return {
    order_id = order.order_id, inventory_id = inventory.reservation_id,
    payment_id = payment.transaction_id, shipment_id = shipment.tracking,
  }
end

local steps = os.getenv("BENCH_STEPS") or "plain"
if steps == "plain" then
  function OrderProcess:reserve_inventory(order_id) -- luacheck: ignore self
    return { reservation_id = "R" .. order_id }
  end
  function OrderProcess:process_payment(order_id, amount) -- luacheck: ignore self
    return { transaction_id = "T" .. order_id, amount = amount }
  end
  function OrderProcess:create_shipment(order_id) -- luacheck: ignore self
    return { tracking = "S" .. order_id }
  end
else
  function OrderProcess:reserve_inventory(order_id, items)
    return self:send("ReserveInventory", { order_id = order_id, items = items })
  end
  function OrderProcess:process_payment(order_id, amount)
    return self:send("ProcessPayment", { order_id = order_id, amount = amount })
  end
  function OrderProcess:create_shipment(order_id, address)
    return self:send("CreateShipment", { order_id = order_id, address = address })
  end
end

local function run_one(number)
  local result, err = catga.run("OrderProcess",
    { order_id = "o" .. number, items = { 1, 2, 3 }, amount = 99.5, address = "12 High St" })
  if not result then error(err) end
end

local started = 0

--- Calls `each` with so many numbers, none of them twice.
local function run(count, in_flight, each)
  local last = started + count
  catga.map(function()
    if started < last then
      started = started + 1
      return started
    end
  end, each, { max = in_flight })
end

--- Prints the percentiles of durations in ms.
local function print_percentiles(what, samples_ms)
  table.sort(samples_ms)
  local function at(part) return samples_ms[math.max(1, math.floor(#samples_ms * part))] * 1000 end
  print(("%s, p50: %.1f us"):format(what, at(0.50)))
  print(("%s, p99: %.1f us"):format(what, at(0.99)))
end

catga.main(function()
  local count = tonumber(os.getenv("BENCH_PROCESSES") or 10000)
  local in_flight = tonumber(os.getenv("BENCH_IN_FLIGHT") or 1000)
  local profile = os.getenv("BENCH_PROFILE")
  local clock = clocks.system()
  local samples_ms = {}
  local function run_timed(number)
    local begin = clock:mono()
    run_one(number)
    samples_ms[#samples_ms + 1] = clock:mono() - begin
  end
  run(math.max(in_flight, WARM_UP_PROCESSES), in_flight, run_one)
  if profile then require("jit.p").start(os.getenv("BENCH_PROFILE_MODE") or "vfi1", profile) end
  local begin, cpu_begin = clock:mono(), os.clock()
  run(count, in_flight, in_flight == 1 and run_timed or run_one)
  local seconds, cpu_seconds = (clock:mono() - begin) / 1000, os.clock() - cpu_begin
  if profile then require("jit.p").stop() end
  clock:close()
  local what = ("processes %s %d in flight"):format(steps, in_flight)
  print(("%s: %.0f a second"):format(what, count / seconds))
  print(("%s, CPU: %.2f us"):format(what, cpu_seconds / count * 1e6))
  if in_flight == 1 then print_percentiles(("processes %s alone"):format(steps), samples_ms) end
  catga.exit(0)
end)
