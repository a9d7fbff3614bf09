--- Hello: one step, and its result. The least that is durable.
local catga = require "catga"

local Hello = catga.process "Hello"

function Hello:execute(name)
  return self:greet(name)
end

function Hello:greet(name)
  return "Hello, " .. name
end
