--- What scripts see: catga.outbox. See verbs.lua beside it.
local running = require "catga.face".running
local verbs = require "catga.outbox.verbs"

local M = {}

for _, name in ipairs { "list", "get", "cancel", "retry", "status" } do
  local what, fn = "catga.outbox." .. name, verbs[name]
  M[name] = function(...) return fn(running(what, "do it in a step"), ...) end
end

return M
