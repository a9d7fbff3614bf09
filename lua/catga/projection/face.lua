--- `catga.projections`: what can be done with projections from outside.
local face = require "catga.face"
local control = require "catga.projection.control"

local M = {}

local running = face.running

for _, name in ipairs { "get", "list", "skipped", "pause", "resume", "stop", "start", "rebuild" } do
  M[name] = function(...)
    return control[name](running("catga.projections." .. name, name .. " in a step"), ...)
  end
end

return M
