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

-- An end is told in every run of the program: a kill may have come between the end and its telling.
local function tell_end(id, outcome, before)
  local tell = before and before.ended and sink.keep or sink.write
  tell(("end %s %s"):format(id, outcome))
end

local function run_trip(id)
  local before = catga.processes.get(id)
  local _, err = catga.run("TripProcess", { id = id })
  tell_end(id, err.status, before)
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
    tell_end(id, outcome, before)
    if has_trip[id] then run_trip(has_trip[id]) end
  end })
  sink.flush()
  summary.wait_for_model(tally)
  local path = os.getenv("CATGA_DUMP")
  if path then dump.write(path, invoices, outcomes) end
  catga.exit(0)
end)
