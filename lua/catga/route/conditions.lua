--- Conditions on fields of a message that are data, not functions: { field, op, value }. They are
--- checked when they are made, can be shown, and those that ask for equality can be indexed.
local null = require "catga.native.json".null
local registries = require "catga.registry"

local M = {}

local TOKENS_MAX = 32   -- Of one path.
local VALUES_MAX = 10000 -- Of one "in".

--- A condition.
---@class catga.RouteCondition
---@field path string[]      where the field is
---@field field string       the same as text
---@field id string          the same for the same path
---@field op string
---@field value any          of "in" and "not in" a list
---@field keys any[]?        the condition asks for equality with one of these
---@field test fun(message: any): boolean
---@field text string        for people

local function is_scalar(value)
  local kind = type(value)
  return kind == "string" or kind == "number" and value == value or kind == "boolean"
    or value == null
end

local function show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if value == null then return "null" end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i = 1, math.min(#value, 5) do parts[i] = show(value[i]) end
  if #value > 5 then parts[6] = ("... (%d)"):format(#value) end
  return "(" .. table.concat(parts, ", ") .. ")"
end

-- Tokens of a path: numbers are places in lists, from 1.
local function path_of(field, where)
  local path = {}
  if type(field) == "string" and field ~= "" then
    for token in (field .. "."):gmatch("([^.]*)%.") do path[#path + 1] = token end
  elseif type(field) == "table" then
    for i, token in ipairs(field) do path[i] = token end
  end
  for i, token in ipairs(path) do
    if type(token) ~= "string" and type(token) ~= "number" or token == "" then path = {} break end
    if type(token) == "string" and token:find("^[1-9]%d*$") then path[i] = tonumber(token) end
  end
  if #path == 0 or #path > TOKENS_MAX then
    error(("%s: field is a path such as \"customer.country\" or \"lines.1.sku\", not %s"):format(
      where, tostring(field)), 0)
  end
  return path
end

--- A function that gives the value of a path in a message; nil when there is none.
---@param path (string|integer)[]
---@return fun(message: any): any
function M.getter(path)
  local a, b, n = path[1], path[2], #path
  if n == 1 then
    return function(m)
      if type(m) == "table" then return m[a] end
    end
  elseif n == 2 then
    return function(m)
      local inner = type(m) == "table" and m[a]
      if type(inner) == "table" then return inner[b] end
    end
  end
  return function(m)
    for i = 1, n do
      if type(m) ~= "table" then return nil end
      m = m[path[i]]
    end
    return m
  end
end

local function compared(compare)
  return function(get, value)
    local kind = type(value)
    return function(m)
      local is = get(m)
      return type(is) == kind and compare(is, value)
    end
  end
end

local function of_text(look)
  return function(get, value)
    return function(m)
      local is = get(m)
      return type(is) == "string" and look(is, value)
    end
  end
end

local function set_of(list)
  local set = {}
  for _, value in ipairs(list) do set[value] = true end
  return set
end

-- What each operator does, and what its value must be.
local OPS = {
  ["=="] = { "scalar", function(get, value) return function(m) return get(m) == value end end },
  ["~="] = { "scalar", function(get, value) return function(m) return get(m) ~= value end end },
  ["<"] = { "ordered", compared(function(a, b) return a < b end) },
  ["<="] = { "ordered", compared(function(a, b) return a <= b end) },
  [">"] = { "ordered", compared(function(a, b) return a > b end) },
  [">="] = { "ordered", compared(function(a, b) return a >= b end) },
  ["in"] = { "list", function(get, list)
    local set = set_of(list)
    return function(m)
      local is = get(m)
      return is ~= nil and set[is] == true
    end
  end },
  ["not in"] = { "list", function(get, list)
    local set = set_of(list)
    return function(m)
      local is = get(m)
      return is == nil or set[is] == nil
    end
  end },
  exists = { "nothing", function(get)
    return function(m)
      local is = get(m)
      return is ~= nil and is ~= null
    end
  end },
  missing = { "nothing", function(get)
    return function(m)
      local is = get(m)
      return is == nil or is == null
    end
  end },
  prefix = { "text", of_text(function(is, value) return is:sub(1, #value) == value end) },
  suffix = { "text", of_text(function(is, value)
    return value == "" or is:sub(-#value) == value
  end) },
  contains = { "text", of_text(function(is, value)
    return is:find(value, 1, true) ~= nil
  end) },
  matches = { "pattern", of_text(function(is, value) return is:find(value) ~= nil end) },
}

local NEEDS = {
  scalar = { "a string, a number, true, false or catga.null", is_scalar },
  ordered = { "a number or a string", function(value)
    return type(value) == "string" or type(value) == "number" and value == value
  end },
  text = { "a string", function(value) return type(value) == "string" end },
  nothing = { "left out", function(value) return value == nil end },
  pattern = { "a Lua pattern", function(value)
    return type(value) == "string" and pcall(string.find, "", value)
  end },
  list = { ("a list of 1 to %d strings, numbers, booleans"):format(VALUES_MAX), function(value)
    if type(value) ~= "table" or #value == 0 or #value > VALUES_MAX then return false end
    for key, one in pairs(value) do
      if type(key) ~= "number" or not is_scalar(one) then return false end
    end
    return true
  end },
}

--- Makes a condition. Raises when it is wrong.
---@param field string|(string|integer)[]  a path
---@param op string
---@param value any
---@param where string  file:line and what it is for, for errors
---@return catga.RouteCondition
function M.make(field, op, value, where)
  local path = path_of(field, where)
  local known = OPS[op]
  if not known then
    local near = type(op) == "string" and registries.suggest(op, OPS)
    error(("%s: there is no operator %s%s; there are %s"):format(where, tostring(op),
      near and "; did you mean " .. near .. "?" or "",
      table.concat(registries.sorted_names(OPS), ", ")), 0)
  end
  local need = NEEDS[known[1]]
  if not need[2](value) then
    error(("%s: the value of the operator %s is %s, not %s"):format(where, op, need[1],
      tostring(value)), 0)
  end
  local name = type(field) == "string" and field or table.concat(path, ".")
  local text = name .. " " .. op
  if value ~= nil then text = text .. " " .. show(value) end
  return { path = path, id = table.concat(path, "\0"), field = name, op = op, value = value,
    text = text, keys = op == "==" and { value } or op == "in" and value or nil,
    test = known[2](M.getter(path), value) }
end

return M
