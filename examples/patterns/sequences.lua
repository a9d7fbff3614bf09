--- Sequences side by side: as many branches as the input says, each with steps one after the other.
local catga = require "catga"

local Shift = catga.process "Shift"

function Shift:execute(shift)
  return self:map(shift.workers, function(worker)
    local hours = 0
    for _, task in ipairs(shift.tasks) do hours = hours + self:work(worker, task) end
    self:sleep("15m")
    return ("%s %d"):format(worker, hours)
  end, { max = #shift.workers, name = "workers" })
end

function Shift:work(_, task)
  return #task
end
