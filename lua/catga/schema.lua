--- Input schemas of commands and queries: field name to type, compiled to one check function.
---
--- A field's type is "string", "number", "integer", "boolean", "table" or "any", with "?" behind it
--- when it may be left out; a function(value) that returns whether it is right and, if not, what it
--- must be (raising means no); or a table, which is a schema of its own for a nested object. Other
--- fields pass.
local errors = require "catga.error"
local null = require "catga.native.json".null

local M = {}

local TYPES = {
  string = function(v) return type(v) == "string" end,
  number = function(v) return type(v) == "number" and v == v end,
  integer = function(v) return type(v) == "number" and v % 1 == 0 end,
  boolean = function(v) return type(v) == "boolean" end,
  table = function(v) return type(v) == "table" end,
  any = function() return true end,
}

-- With its article, for errors.
local SPOKEN = { string = "a string", number = "a number", integer = "an integer",
  boolean = "a boolean", table = "a table", any = "a value" }

local compile

local function field_check(path, rule)
  if type(rule) == "function" then
    return function(value)
      local ran, ok, must = pcall(rule, value)
      if ran and ok then return nil end
      if ran then return path .. " " .. tostring(must or "is not valid") end
      if value == nil or value == null then return path .. " is missing" end
      return path .. " is not valid: " .. tostring(ok)
    end
  elseif type(rule) == "table" then
    local nested = compile(path .. ".", rule)
    return function(value)
      if type(value) ~= "table" then return path .. " must be an object" end
      return nested(value)
    end
  end
  local name, optional = tostring(rule):match("^(%a+)(%??)$")
  local is = TYPES[name]
  if not is then
    error(("the schema of field %s: \"%s\" is no type; use string, number, integer, boolean, "
      .. "table, any (with ? when it may be left out), a function or a table"):format(path,
      tostring(rule)), 0)
  end
  return function(value)
    if value == nil or value == null then
      if optional == "?" then return nil end
      return path .. " is missing; it must be " .. SPOKEN[name]
    end
    if not is(value) then
      return ("%s must be %s, got %s"):format(path, SPOKEN[name], type(value))
    end
  end
end

function compile(prefix, schema)
  local names = {}
  for name in pairs(schema) do
    if type(name) ~= "string" then
      error(("the names of fields are strings, not %s (%s)"):format(tostring(name), type(name)), 0)
    end
    names[#names + 1] = name
  end
  table.sort(names)
  local checks = {}
  for i, name in ipairs(names) do checks[i] = field_check(prefix .. name, schema[name]) end
  return function(data)
    for i = 1, #names do
      local fault = checks[i](data[names[i]])
      if fault then return fault end
    end
  end
end

--- Compiles a schema. Raises when the schema itself is wrong.
---@param message string  name of the command or query, for errors
---@param schema table<string, any>
---@return fun(data: any): catga.Error?
function M.compile(message, schema)
  if type(schema) ~= "table" then error(message .. ": input must be a table of fields", 0) end
  local ok, check = pcall(compile, "", schema)
  if not ok then error(message .. ": " .. tostring(check), 0) end
  return function(data)
    local fault
    if type(data) ~= "table" then
      fault = "the data must be an object, got " .. type(data)
    else
      fault = check(data)
    end
    if fault then return errors.new("validation", ("%s: %s"):format(message, fault)) end
  end
end

return M
