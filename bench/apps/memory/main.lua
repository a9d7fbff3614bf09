--- main.lua - bytes of a process that has done a step and waits for a timer.
---
--- Lua heap: after two full collections. Resident: of the whole program, with the index of the
--- store and what the allocators keep.
local catga = require "catga"

local PROCESSES = 20000
local PAGE_BYTES = 4096

local Waiting = catga.process "Waiting"
local stepped = 0

function Waiting:execute(input)
  local order = self:reserve(input.id)
  self:sleep("1h")
  return order
end

function Waiting:reserve(id) -- luacheck: ignore self
  stepped = stepped + 1
  return { reservation_id = "R" .. id }
end

local function measure()
  collectgarbage()
  collectgarbage()
  local file = assert(io.open("/proc/self/statm"))
  local resident = file:read("*a"):match("^%d+ (%d+)")
  file:close()
  return collectgarbage("count") * 1024, tonumber(resident) * PAGE_BYTES
end

local function start(first, last)
  local number = first - 1
  catga.map(function()
    if number < last then
      number = number + 1
      return number
    end
  end, function(n) assert(catga.start("Waiting", { id = "o" .. n })) end, { max = 100 })
  while stepped < last do catga.sleep("5ms") end
  catga.sleep("200ms") -- Their timers get durable.
end

catga.main(function()
  start(1, 1000) -- What is made once is made.
  local heap_before, resident_before = measure()
  start(1001, 1000 + PROCESSES)
  local heap, resident = measure()
  print(("waiting process, Lua heap: %.0f bytes"):format((heap - heap_before) / PROCESSES))
  print(("waiting process, resident: %.0f bytes"):format((resident - resident_before) / PROCESSES))
  catga.exit(0)
end)
