--- Update: a running process is changed, and whoever asks for it gets the answer, or why not; the
--- validator refuses what makes no sense before anything is journaled.
local catga = require "catga"

local Counter = catga.process "Counter"

function Counter:execute()
  self.value = 0
  self:receive("done", { timeout = "30d" })
  return self.value
end

function Counter.updates:change(by)
  self.value = self.value + by
  return self.value
end

function Counter.validators:change(by)
  if by == 0 then return nil, catga.error("invalid", "a change of nothing") end
  return true
end

catga.command("ChangeCounter", function(cmd)
  return catga.processes.update(cmd.id, "change", cmd.by, { id = cmd.key })
end)
