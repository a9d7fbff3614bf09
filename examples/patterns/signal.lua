--- Signal: three signals are taken in the order in which the flow needs them, in whichever they
--- come; the last one has a deadline.
local catga = require "catga"

local Assembly = catga.process "Assembly"

function Assembly:execute()
  local frame = self:receive("frame")
  local engine = self:receive("engine")
  local paint, err = self:receive("paint", { timeout = "2d" })
  if err then paint = "white" end -- err.code is "timeout"
  return self:assemble(frame, engine, paint)
end

function Assembly:assemble(frame, engine, paint)
  return ("%s with %s, %s"):format(frame, engine, paint)
end

-- From a handler: the signal goes out together with all else that the handler does.
catga.command("DeliverPart", function(part)
  return catga.processes.signal(part.assembly, part.kind, part.name, { id = part.delivery })
end)
