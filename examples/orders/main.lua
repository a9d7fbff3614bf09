--- The main job: every order of the file in CATGA_ORDERS_FILE, or of the simulated shop.
local catga = require "catga"
local job = require "job"

local function write(line)
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

local NEXT = [[

next:
  build/catga process list --data build/orders-data --status compensated
  build/catga process show order-ID --data build/orders-data
  build/catga stream read Order-ID --data build/orders-data
  examples/orders/order_process.lua is the flow, examples/orders/revenue.lua the read model]]

catga.main(function()
  local path = os.getenv("CATGA_ORDERS_FILE")
  local ok = job.run { path = path ~= "" and path or nil, write = write }
  write(NEXT)
  catga.exit(ok and 0 or 1)
end)
