--- What scripts see: catga.dead_letters. See verbs.lua beside it.
local running = require "catga.face".running
local verbs = require "catga.dead_letters.verbs"

local M = {}

for _, name in ipairs { "list", "get", "groups", "edit", "retry", "retry_group", "purge" } do
  local what, fn = "catga.dead_letters." .. name, verbs[name]
  M[name] = function(...) return fn(running(what, "do it in a step"), ...) end
end

return M
