--- Apps with schedules for specs: what they share.
---
---   local schedule = dofile "spec/support/schedule.lua"
---   schedule.open(function() schedule.process() ... end)
local testing = require "catga.testing"
local catga = require "catga"

local M = {}

--- Opens an app.
---@param source string|fun()
---@param opts table?
---@return catga.TestApp
function M.open(source, opts) return assert(testing.app(source, opts)) end

--- Defines a process Report that takes a while and then notes its input in the stream Notes.
---@param takes string?  duration
function M.process(takes)
  local Report = catga.process "Report"
  function Report:execute(input)
    if takes then self:sleep(takes) end
    self:note(input)
    return input.scheduled_time
  end
  function Report.note(_, input)
    assert(catga.events.append("Notes", { { type = "Noted", data = input } }))
  end
end

--- What stands behind a prefix in the ids of processes, in the order of their starts.
---@param app catga.TestApp
---@param prefix string?  default "nightly/"
---@return string[]
function M.ran(app, prefix)
  prefix = prefix or "nightly/"
  local list = {}
  local all = app:call(catga.processes.list, { max = 1000 })
  table.sort(all, function(a, b)
    return a.started < b.started or a.started == b.started and a.id < b.id
  end)
  for _, process in ipairs(all) do
    if process.id:sub(1, #prefix) == prefix then list[#list + 1] = process.id:sub(#prefix + 1) end
  end
  return list
end

return M
