--- Child: a process starts another one and waits for its result, or catches its error.
local catga = require "catga"

local Parent = catga.process "Parent"

function Parent:execute(input)
  local greeting = self:run("Child", { name = input.name })
  local ok, err = pcall(function() return self:run("Child", {}) end)
  return { greeting = greeting, second = ok and "greeted" or err.code }
end

local Child = catga.process "Child"

function Child:execute(input)
  self:sleep("1h")
  return self:greet(input.name)
end

function Child:greet(name)
  if not name then error(catga.error("nameless", "nobody to greet")) end
  return "Hello, " .. name
end
