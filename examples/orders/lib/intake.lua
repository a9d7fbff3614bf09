--- Runs a process for every invoice, so many at the same time, and counts how they end.
---
--- An invoice that was run before is found by its process id: its stored outcome counts, nothing
--- runs again. One that was under way when the program ended goes on where it stood.
local catga = require "catga"

local M = {}

local IN_FLIGHT_MAX = 1000
local FAULTS_MAX = 10 -- Kept for the report; the others are only counted.

--- What became of the invoices.
---@class orders.Tally
---@field total integer
---@field ended integer          so far
---@field found integer          of them, those that had ended before this run
---@field resumed integer        of them, those that had begun before this run
---@field in_flight integer      now
---@field completed integer
---@field completed_milli integer
---@field compensated integer
---@field compensated_milli integer
---@field refunded integer
---@field refunded_milli integer
---@field months table<string, integer>  completed_milli by month
---@field failed integer         neither completed nor undone
---@field faults string[]        of the first of them
---@field latencies number[]     ms from start to end, of those that ran from the start here
---@field ms number              how long it took

---@param total integer
---@return orders.Tally
function M.new_tally(total)
  return { total = total, ended = 0, found = 0, resumed = 0, in_flight = 0, completed = 0,
    completed_milli = 0, compensated = 0, compensated_milli = 0, refunded = 0, refunded_milli = 0,
    months = {}, failed = 0, faults = {}, latencies = {}, ms = 0 }
end

local function count(tally, outcome, invoice)
  tally[outcome] = tally[outcome] + 1
  local sum, month = outcome .. "_milli", invoice.date:sub(1, 7)
  tally[sum] = tally[sum] + invoice.amount_milli
  if outcome == "completed" then
    tally.months[month] = (tally.months[month] or 0) + invoice.amount_milli
  end
end

local function fail(tally, id, err)
  tally.failed = tally.failed + 1
  if #tally.faults < FAULTS_MAX then
    tally.faults[#tally.faults + 1] = ("%s: %s"):format(id, tostring(err))
  end
end

local function run_one(tally, invoice, on_end)
  local name = invoice.is_return and "RefundProcess" or "OrderProcess"
  local id = (invoice.is_return and "refund-" or "order-") .. invoice.id
  local before = catga.processes.get(id)
  local start = catga.now()
  tally.in_flight = tally.in_flight + 1
  local result, err = catga.run(name, { id = invoice.id, date = invoice.date,
    customer_id = invoice.customer_id, amount_milli = invoice.amount_milli })
  tally.in_flight, tally.ended = tally.in_flight - 1, tally.ended + 1
  if not before then
    tally.latencies[#tally.latencies + 1] = catga.now() - start
  elseif before.ended then
    tally.found = tally.found + 1
  else
    tally.resumed = tally.resumed + 1
  end
  local outcome = result and (invoice.is_return and "refunded" or "completed")
    or err and err.status == "compensated" and "compensated"
  if outcome then
    count(tally, outcome, invoice)
  else
    fail(tally, id, err)
  end
  if on_end then on_end(id, outcome or "failed", before) end
end

--- Runs all of them. May yield.
---@param invoices orders.Invoice[]
---@param opts { tally: orders.Tally?, in_flight: integer?, on_end: fun(id: string,
---  outcome: string, before: table?)? }?  before: how the process stood when it was started
---@return orders.Tally
function M.run(invoices, opts)
  opts = opts or {}
  local tally = opts.tally or M.new_tally(#invoices)
  local start = catga.now()
  catga.map(invoices, function(invoice)
    run_one(tally, invoice, opts.on_end)
  end, { max = opts.in_flight or IN_FLIGHT_MAX })
  tally.ms = catga.now() - start
  return tally
end

return M
