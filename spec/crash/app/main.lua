--- The main job of the crash spec: the orders example, and a trip for every 50th order, each end
--- told to the sink. With CATGA_DUMP it also writes what the log and the read model hold.
local catga = require "catga"
local dump = require "dump"
local intake = require "intake"
local job = require "job"
local sink = require "sink"
local summary = require "summary"

local TRIP_EVERY = 50

local function invoices_of()
  local path = os.getenv("CATGA_ORDERS_FILE")
  if path then return assert(job.orders(path)).invoices end
  return assert(catga.ask("SimulatedOrders", { count = tonumber(os.getenv("CATGA_ORDERS_COUNT")) }))
end

local function run_trip(id)
  local before = catga.processes.get(id)
  local _, err = catga.run("TripProcess", { id = id })
  if not (before and before.ended) then sink.write(("end %s %s"):format(id, err.status)) end
end

catga.main(function()
  local invoices = invoices_of()
  local has_trip = {}
  for place, invoice in ipairs(invoices) do
    if place % TRIP_EVERY == 0 then has_trip["order-" .. invoice.id] = "trip-" .. invoice.id end
  end
  local outcomes = {}
  local tally = intake.run(invoices, { on_end = function(id, outcome, before)
    outcomes[id] = outcome
    if not (before and before.ended) then sink.write(("end %s %s"):format(id, outcome)) end
    if has_trip[id] then run_trip(has_trip[id]) end
  end })
  summary.wait_for_model(tally)
  local path = os.getenv("CATGA_DUMP")
  if path then dump.write(path, invoices, outcomes) end
  catga.exit(0)
end)
