--- Values in journals that JSON cannot hold: text that is not UTF-8, lists with gaps, tables with
--- number keys, infinity. A process whose options name a serializer keeps them.
---
--- What JSON can hold is stored as JSON whatever the serializer is, so a journal reads as ordinary
--- events. For the rest, the record says "packed": { "as", "field" }, and that field is base64: of
--- the bytes of a string ("bytes"), of MessagePack ("msgpack"), or of LuaJIT's string.buffer
--- ("binary"). Arguments are { "packed": "binary", "data": "..." } in the place of the list. How a
--- value is read depends on its record alone, so a script may change its serializer at any time.
local errors = require "catga.error"
local base64 = require "catga.base64"
local json = require "catga.native.json"
local state = require "catga.state"
local raw = require "catga.sandbox".raw

local M = {}

local DEPTH_MAX = 30 -- Of tables within tables; MessagePack's library has a bound there.
local BYTES = "bytes"

local null = json.null

--- What P.options.serializer may be.
M.NAMES = { json = true, msgpack = true, binary = true }

local SCALAR = { string = true, number = true, boolean = true }

local function refuse(path, what)
  error(errors.new("invalid", ("%s %s; return data"):format(path, what)), 0)
end

-- A copy in which `from` is `to`; raises, with the path, for what no serializer can hold.
local function copy(value, path, above, depth, from, to)
  if value == from then return to end
  local kind = type(value)
  if SCALAR[kind] or value == null then return value end
  if kind ~= "table" then refuse(path, "is a " .. kind .. ", which cannot be stored") end
  if above[value] then refuse(path, "contains itself") end
  if depth > DEPTH_MAX then refuse(path, ("is over %d tables deep"):format(DEPTH_MAX)) end
  above[value] = true
  local twin = setmetatable({}, getmetatable(value) == json.array_mt and json.array_mt or nil)
  for key, field in raw.next, value do
    if not SCALAR[type(key)] then refuse(path, "has a key that is a " .. type(key)) end
    twin[key] = copy(field, ("%s.%s"):format(path, raw.tostring(key)), above, depth + 1, from, to)
  end
  above[value] = nil
  return twin
end

-- LuaJIT's own format; empty lists stay lists.
local function buffer()
  local buffers = require "string.buffer"
  return buffers.new { metatable = { json.array_mt } }
end

-- Its library cannot be opened twice in a Lua state, so what was opened is kept there.
local function mpack()
  if state.mpack then return state.mpack end
  local ok, module = pcall(require, "mpack")
  if not ok then
    error(errors.new("invalid", ("the serializer msgpack needs the Lua module mpack: install "
      .. "Debian's package lua-mpack, or take \"binary\" (%s)"):format(
      raw.tostring(module):match "^[^\n:]*")), 0)
  end
  state.mpack = module
  return module
end

local FORMATS = {
  binary = {
    pack = function(value, path) return buffer():encode(copy(value, path, {}, 1)):get() end,
    unpack = function(bytes) return buffer():set(bytes):decode() end,
    check = function() end,
  },
  msgpack = {
    pack = function(value, path)
      local module = mpack()
      return module.pack(copy(value, path, {}, 1, null, module.NIL))
    end,
    unpack = function(bytes)
      local module = mpack()
      return copy(module.unpack(bytes), "value", {}, -1, module.NIL, null)
    end,
    check = mpack,
  },
  [BYTES] = {
    pack = function(value) return value end,
    unpack = function(bytes) return bytes end,
  },
}

--- Raises an error value when a serializer cannot be used on this machine.
---@param name string
function M.check(name)
  if name ~= "json" then FORMATS[name].check() end
end

--- Was a record refused because JSON cannot hold its value?
---@param failure catga.Error
---@param value any
---@return boolean
function M.is_needed(failure, value)
  return (failure.code == "invalid" or failure.code == "limit") and not json.encode(value)
end

--- Packs a value.
---@param serializer string
---@param value any
---@param path string  what it is, for errors
---@return string? text  base64
---@return string|catga.Error as  how it is packed
function M.pack(serializer, value, path)
  local as = type(value) == "string" and BYTES or serializer
  local ok, bytes = pcall(FORMATS[as].pack, value, path)
  if ok then return base64.encode(bytes), as end
  if errors.is(bytes) then return nil, bytes end
  return nil, errors.new("invalid", ("%s cannot be stored as %s: %s"):format(path, as,
    tostring(bytes)))
end

--- The value back; raises an error value when it is damaged.
---@param as string
---@param text string
---@return any
function M.unpack(as, text)
  local format = FORMATS[as]
  local bytes = format and type(text) == "string" and base64.decode(text)
  local ok, value = false, nil
  if bytes then ok, value = pcall(format.unpack, bytes) end
  if ok then return value end
  if errors.is(value) then error(value, 0) end
  error(errors.new("damaged", ("a packed value (%s) cannot be read"):format(tostring(as))), 0)
end

--- The member of a record that says how a field is packed, with a comma behind.
---@param as string
---@param field string
---@return string
function M.member(as, field) return ('"packed":{"as":"%s","field":"%s"},'):format(as, field) end

--- Puts the value in the place of what is packed in the data of a record, in place.
---@param data table
function M.resolve(data)
  local packed = data.packed
  if type(packed) ~= "table" or not packed.field then return end
  data[packed.field], data.packed = M.unpack(packed.as, data[packed.field]), nil
end

--- Arguments as they are stored.
---@param serializer string
---@param args { args: any[], nils: integer[] }
---@return { packed: string, data: string }? stored
---@return catga.Error? err
function M.pack_arguments(serializer, args)
  local text, as = M.pack(serializer, args, "the arguments")
  if not text then return nil, as end
  return { packed = as, data = text }
end

--- Are two values the same, field by field?
---@param a any
---@param b any
---@return boolean
function M.is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b or a ~= a and b ~= b end
  for key, field in raw.next, a do
    if not M.is_same(field, b[key]) then return false end
  end
  for key in raw.next, b do
    if a[key] == nil then return false end
  end
  return true
end

-- Has it the keys 1 to n and no other?
local function is_list(value)
  local count = 0
  for key in raw.next, value do
    count = count + 1
    if type(key) ~= "number" then return false end
  end
  for i = 1, count do
    if value[i] == nil then return false end
  end
  return count > 0 or getmetatable(value) == json.array_mt
end

--- A value as JSON can show it: text that is not UTF-8 as { "$base64" }, numbers that JSON has not
--- as text, tables that are no lists as objects.
---@param value any
---@return any
function M.shown(value)
  if json.encode(value) then return value end
  local kind = type(value)
  if kind == "string" then return { ["$base64"] = base64.encode(value) } end
  if kind ~= "table" then return raw.tostring(value) end
  local twin = {}
  if is_list(value) then
    for i = 1, #value do twin[i] = M.shown(value[i]) end
    return json.array(twin)
  end
  for key, field in raw.next, value do
    key = raw.tostring(key)
    twin[json.encode(key) and key or base64.encode(key)] = M.shown(field)
  end
  return twin
end

return M
