--- Keys of messages, and copies of values: what several kinds of policies need.
local errors = require "catga.error"
local protected = require "catga.protected".call
local raw = require "catga.sandbox".raw
local null = require "catga.native.json".null

local M = {}

local DEPTH_MAX = 100 -- Of values that are copied or made a key of.

--- The key of a message by a policy's function.
---@param fn fun(data: any, ctx: table): any
---@param data any
---@param ctx table
---@param what string  "command Pay: limiter.key", for the error
---@return string|number|nil key
---@return catga.Error? err  "invalid": it gave none
function M.of(fn, data, ctx, what)
  local ok, key = xpcall(protected, errors.catch, fn, data, ctx)
  if not ok then return nil, key end
  local kind = type(key)
  if kind == "string" or kind == "number" and key == key then return key end
  return nil, errors.new("invalid", ("%s gives no string or number for this message, but %s")
    :format(what, key == nil and "nothing" or kind))
end

local function copy(value, depth)
  if type(value) ~= "table" then return value end
  if depth > DEPTH_MAX then error("the value is nested too deep to be copied", 0) end
  local result = {}
  for key, one in raw.next, value do result[key] = copy(one, depth + 1) end
  return setmetatable(result, getmetatable(value))
end

--- A copy of a value that nobody else has; metatables are shared. Raises for cycles.
---@param value any
---@return any
function M.copy(value) return copy(value, 1) end

local function write(value, out, depth)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = ("%q"):format(value)
  elseif kind == "number" then
    out[#out + 1] = ("%.17g"):format(value)
  elseif kind == "boolean" or value == null or kind == "nil" then
    out[#out + 1] = value == null and "null" or tostring(value)
  elseif kind == "table" and depth <= DEPTH_MAX then
    local names = {}
    for name in raw.next, value do
      local of = type(name)
      if of ~= "string" and of ~= "number" then error("a key of type " .. of, 0) end
      names[#names + 1] = name
    end
    table.sort(names, function(a, b)
      local ta, tb = type(a), type(b)
      if ta ~= tb then return ta < tb end
      return a < b
    end)
    out[#out + 1] = "{"
    for i = 1, #names do
      write(names[i], out, depth + 1)
      out[#out + 1] = "="
      write(value[names[i]], out, depth + 1)
      out[#out + 1] = ","
    end
    out[#out + 1] = "}"
  else
    error("a value of type " .. kind, 0)
  end
end

--- A text that two equal values share, whatever the order of their fields.
---@param value any
---@return string? text  nil: it holds something that has none, such as a function
function M.text(value)
  local out = {}
  local ok = pcall(write, value, out, 1)
  return ok and table.concat(out) or nil
end

return M
