--- The job of `make run`: read the orders, run them, say how it went.
local catga = require "catga"
local intake = require "intake"
local orders_file = require "orders_file"
local summary = require "summary"

local M = {}

local PROGRESS_EVERY = "500ms"

local function read_file(path)
  local handle, fault = io.open(path, "rb")
  if not handle then return nil, fault end
  local text, failure = handle:read("*a")
  handle:close()
  if not text then return nil, ("%s: %s"):format(path, failure or "it cannot be read") end
  local file
  file, fault = orders_file.read(text, function() catga.sleep("1ms") end)
  if not file then return nil, ("%s, %s"):format(path, fault) end
  return file
end

--- The orders of a file, or of the simulated shop when there is none. May yield.
---@param path string?
---@return orders.File? file
---@return string? fault
function M.orders(path)
  if path then return read_file(path) end
  local invoices, err = catga.ask("SimulatedOrders", {})
  if not invoices then return nil, tostring(err) end
  return { layout = "simulated shop", invoices = invoices, rejected = {} }
end

local function show_progress(tally, write)
  local start = catga.now()
  catga.spawn(function()
    catga.sleep(PROGRESS_EVERY)
    while tally.ended < tally.total do
      write(summary.progress(tally, catga.now() - start))
      catga.sleep(PROGRESS_EVERY)
    end
  end)
end

--- Runs the job. May yield.
---@param opts { path: string?, write: fun(line: string), quiet: boolean? }
---@return boolean ok
---@return orders.Tally? tally
function M.run(opts)
  local write = opts.write
  local file, fault = M.orders(opts.path)
  if not file then
    write("no orders: " .. fault)
    return false
  end
  write(("orders %d from %s (%s)"):format(#file.invoices,
    opts.path or "examples/orders/simulate.lua", file.layout))
  local tally = intake.new_tally(#file.invoices)
  if not opts.quiet then show_progress(tally, write) end
  intake.run(file.invoices, { tally = tally })
  local ok = summary.write(file.invoices, tally, write)
  summary.rejected(file.rejected, write)
  return ok, tally
end

return M
