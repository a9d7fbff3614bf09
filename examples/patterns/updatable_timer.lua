--- Updatable timer: an alarm whose time a signal sets anew, as often as one likes.
local catga = require "catga"

local Alarm = catga.process "Alarm"

function Alarm:execute(alarm)
  local due = alarm.due -- Unix ms
  while true do
    local left = due - self:now()
    if left <= 0 then break end
    local moved, err = self:receive("set", { timeout = ("%dms"):format(left) })
    if err then break end
    due = moved.due
  end
  return { due = due, rang = self:ring(alarm.id) }
end

function Alarm:ring(id)
  assert(catga.events.append("Alarm-" .. id, { { type = "Rang" } }))
  return true
end
