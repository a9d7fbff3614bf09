--- The main job: every order of the file in CATGA_ORDERS_FILE, or of the simulated shop.
---
--- The program ends with the job; with CATGA_ORDERS_SERVE=1 it goes on serving.
local catga = require "catga"
local job = require "job"

local function write(line)
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

catga.main(function()
  local path = os.getenv("CATGA_ORDERS_FILE")
  local ok = job.run { path = path ~= "" and path or nil, write = write }
  if os.getenv("CATGA_ORDERS_SERVE") == "1" then return end -- Until a signal ends it.
  catga.exit(ok and 0 or 1)
end)
