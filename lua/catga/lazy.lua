--- Modules that are loaded when something of them is asked for, so that a program that does not use
--- them starts as fast as without them.
local M = {}

local function load_field(self, key)
  local value = require(self[M])[key]
  self[key] = value
  return value
end

local META = { __index = load_field }

--- Stands for a module: its functions and constants are there, at their first use the module is
--- loaded. Not for modules whose fields change.
---@param name string  of the module
---@return table
function M.module(name) return setmetatable({ [M] = name }, META) end

--- Stands for one function of a module, which may yield.
---@param name string  of the module
---@param field string
---@return function
function M.call(name, field)
  return function(...) return require(name)[field](...) end
end

return M
