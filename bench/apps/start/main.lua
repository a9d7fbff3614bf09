--- main.lua - the smallest app: says "ready" when its first command was handled.
---
--- It then waits until its standard input ends, so that it can be looked at.
local catga = require "catga"

catga.command("Hello", function(cmd)
  return "hello " .. cmd.name
end)

catga.main(function()
  local greeting = assert(catga.send("Hello", { name = "world" }))
  io.write("ready ", greeting, "\n")
  io.flush()
  io.read("*l")
  catga.exit(0)
end)
