--- Every command that a step or an undo sends is told to the sink, with its key, before it is
--- handled: that is the effect which the crash spec counts.
local catga = require "catga"
local sink = require "sink"

catga.behavior("tell the sink", function(_, ctx, next)
  sink.write(("call %s %s"):format(ctx.key, ctx.name))
  return next()
end, { only = "command" })
