--- Staging in the open unit of work, or in one of its own that is committed at once.
local state = require "catga.state"
local unit_of = require "catga.unit".of

local M = {}

--- Runs a function that stages; when it fails, what it staged is taken back. Outside of a unit of
--- work the commit follows, and is durable when this returns. May yield.
---@generic T
---@param fn fun(unit: catga.Unit): T?, catga.Error?
---@return T? result
---@return catga.Error? err
function M.run(fn)
  local task = state[1]
  local is_joining = task.in_unit or task.limit
  local unit = unit_of(task)
  local n, after = unit:mark()
  local result, err = fn(unit)
  if is_joining then
    if result == nil then unit:take_back(n, after) end
    return result, err
  end
  task.unit = nil
  if result == nil then
    unit:let_go()
    return nil, err
  end
  local ok, fault = unit:commit()
  if not ok then return nil, fault end
  return result
end

return M
