--- Input schemas of commands and queries: field name to type, compiled to one check function.
---
--- A field's type is "string", "number", "integer", "boolean", "table" or "any", with "?" behind it
--- when it may be left out; a function(value) that returns whether it is right and, if not, what it
--- must be (raising means no); or a table, which is a schema of its own for a nested object. Other
--- fields pass.
local errors = require "catga.error"
local null = require "catga.native.json".null
local call_rule = require "catga.protected".call

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

local FIELDS_AT_ONCE = 50 -- Checks of one generated function, which has a bound of its variables.

-- Whether a value is right, as text over the variable v; and the type of the field behind it.
local INLINE = {
  string = 'type(v) == "string"', number = 'type(v) == "number" and v == v',
  integer = 'type(v) == "number" and v % 1 == 0', boolean = 'type(v) == "boolean"',
  table = 'type(v) == "table"', any = "v ~= nil and v ~= null",
}

-- The lines that look at one field: what is right costs no call.
local function lines_of(k, name, rule)
  local kind, optional
  if type(rule) == "string" then kind, optional = rule:match("^(%a+)(%??)$") end
  local test = kind and INLINE[kind]
  local call = ("fault = c%d(v) if fault then return fault end"):format(k)
  if not test then return ("v = data[%q] %s"):format(name, call) end
  if optional == "?" then test = "v == nil or " .. test end
  return ("v = data[%q] if not (%s) then %s end"):format(name, test, call)
end

-- One function that looks at the fields from the i-th on, one after the other. It is made as text:
-- a loop over closures is more than LuaJIT puts into one trace, and one closure for all strings
-- would be compiled for the first of them.
local function straighten(names, rules, checks, i)
  local last = math.min(#names, i + FIELDS_AT_ONCE - 1)
  local variables, values = { "type", "null" }, { type, null }
  local lines = {}
  for k = i, last do
    variables[#variables + 1], values[#values + 1] = "c" .. k, checks[k]
    lines[#lines + 1] = lines_of(k, names[k], rules[names[k]])
  end
  if last < #names then
    variables[#variables + 1] = "rest"
    values[#values + 1] = straighten(names, rules, checks, last + 1)
    lines[#lines + 1] = "return rest(data)"
  end
  local text = ("local %s = ...\nreturn function(data)\nlocal v, fault\n%s\nend"):format(
    table.concat(variables, ", "), table.concat(lines, "\n"))
  return assert(loadstring(text, "=schema"))(unpack(values))
end

local function field_check(path, rule)
  if type(rule) == "function" then
    return function(value)
      local ran, ok, must = pcall(call_rule, rule, value)
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
  return straighten(names, schema, checks, 1)
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
