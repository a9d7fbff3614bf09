--- The table catga.schedules: list, get, create, pause, resume, trigger, backfill and delete, as
--- lua/catga/schedule/verbs.lua has them, without the app.
local running = require "catga.face".running
local verbs = require "catga.schedule.verbs"

local M = {}

for name, fn in pairs(verbs) do
  local what = "catga.schedules." .. name
  M[name] = function(...) return fn(running(what, "do it in a step"), ...) end
end

return M
