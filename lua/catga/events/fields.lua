--- What a user may write into the metadata of a stream or category.
local errors = require "catga.error"
local duration = require "catga.duration"

local M = {}

local NUMBER_MAX = 2 ^ 53

local function check_version(name)
  return function(value)
    if type(value) == "number" and value % 1 == 0 and value >= 0 and value <= NUMBER_MAX then
      return
    end
    return ("%s is a version (0, 1, 2, ...), not %s"):format(name, tostring(value))
  end
end

-- What each field may be: nothing, or what is wrong with it.
local FIELDS = {
  max_age = function(value)
    local ms, fault = duration.parse(value, "max_age")
    if not ms then return fault end
    if ms < 1 then return "max_age is at least \"1ms\"" end
  end,
  max_count = function(value)
    if type(value) == "number" and value % 1 == 0 and value >= 1 and value <= NUMBER_MAX then
      return
    end
    return "max_count is a whole number from 1, not " .. tostring(value)
  end,
  truncate_before = check_version "truncate_before",
  begins = check_version "begins",
  tags = function(value)
    if type(value) ~= "table" then return "tags is a list of strings, not " .. type(value) end
    for key, tag in pairs(value) do
      if type(key) ~= "number" or type(tag) ~= "string" then return "tags is a list of strings" end
    end
  end,
  custom = function(value)
    if type(value) ~= "table" then return "custom is a table, not " .. type(value) end
  end,
}

--- Checks fields that a user gives.
---@param fields table
---@return catga.Error? err
function M.check(fields)
  local registry = require "catga.registry" -- It needs this module itself, while it is loaded.
  for _, name in ipairs(registry.sorted_names(fields)) do
    if not FIELDS[name] then
      local near = registry.suggest(tostring(name), FIELDS)
      local hint = near and "did you mean " .. near .. "?"
        or "there are " .. table.concat(registry.sorted_names(FIELDS), ", ")
      return errors.new("invalid", ("metadata has no field %s; %s"):format(tostring(name), hint))
    end
    local fault = FIELDS[name](fields[name])
    if fault then return errors.new("invalid", fault) end
  end
end

--- What is wrong with metadata that was stored; fields that this version does not know are passed
--- over.
---@param fields any
---@return string? fault
function M.stored_fault(fields)
  if type(fields) ~= "table" then return "it is no object" end
  for name, check in pairs(FIELDS) do
    local fault = fields[name] ~= nil and check(fields[name])
    if fault then return fault end
  end
  if fields.deleted ~= nil and fields.deleted ~= true then return "deleted must be true" end
end

return M
