--- Paths of personal fields: "name", "address.street", "contacts[].phone", "tags[]".
---
--- A path in a declaration has [] for every element of a list; a place in one event has the number
--- of the element instead, "contacts[2].phone".
local json = require "catga.native.json"

local M = {}

local PATH_BYTES_MAX = 256
local DEPTH_MAX = 32
local ARRAY = json.array_mt

---@class catga.PersonalPath
---@field text string
---@field has_lists boolean
---@field [integer] string|true  names of fields; true: every element of a list

--- Is the value a decoded JSON object?
---@param value any
---@return boolean
function M.is_object(value) return type(value) == "table" and getmetatable(value) ~= ARRAY end

local function is_list(value) return type(value) == "table" and getmetatable(value) == ARRAY end

-- One name with its [] behind, into the path. False when it is none.
local function compile_part(part, path)
  local name, lists = part:match("^([^%[%]%c]+)([%[%]]*)$")
  if not name or name == "$personal" or lists:gsub("%[%]", "") ~= "" then return false end
  path[#path + 1] = name
  for _ = 1, #lists / 2 do
    path[#path + 1] = true
    path.has_lists = true
  end
  return true
end

--- Compiles the path of a declaration.
---@param text any
---@return catga.PersonalPath? path
---@return string? fault
function M.compile(text)
  if type(text) ~= "string" or text == "" or #text > PATH_BYTES_MAX then
    return nil, ("a path is a string of 1 to %d bytes, such as \"name\" or \"contacts[].phone\"")
      :format(PATH_BYTES_MAX)
  end
  local path = { text = text, has_lists = false }
  for part in (text .. "."):gmatch("([^.]*)%.") do
    if not compile_part(part, path) then
      return nil, ("\"%s\" is no path; write \"name\", \"address.street\" or \"contacts[].phone\"")
        :format(text)
    end
  end
  if #path > DEPTH_MAX then return nil, ("\"%s\" is deeper than %d"):format(text, DEPTH_MAX) end
  return path
end

--- Does one of the paths lead to the other's value, or into it?
---@param a catga.PersonalPath
---@param b catga.PersonalPath
---@return boolean
function M.overlap(a, b)
  for i = 1, math.min(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

--- The value at a path without lists; nil when there is none.
---@param data any
---@param path catga.PersonalPath
---@return any
function M.get(data, path)
  for i = 1, #path do
    if not M.is_object(data) then return nil end
    data = data[path[i]]
  end
  return data
end

local take

-- One field or element: takes it, or goes on inside.
local function take_at(holder, key, place, path, i, places, values)
  local value = holder[key]
  if value == nil or value == json.null then return end
  if i < #path then return take(value, path, i + 1, place, places, values) end
  places[#places + 1], values[#values + 1] = place, value
  holder[key] = json.null
end

function take(holder, path, i, prefix, places, values)
  local step = path[i]
  if type(holder) == "table" and next(holder) == nil then return end -- {} may mean [].
  if step == true then
    if not is_list(holder) then
      return ("%s is no list, but %s is declared personal"):format(prefix, path.text)
    end
    for n = 1, #holder do
      local fault = take_at(holder, n, ("%s[%d]"):format(prefix, n), path, i, places, values)
      if fault then return fault end
    end
    return
  end
  if not M.is_object(holder) then
    return ("%s is no object, but %s is declared personal"):format(prefix, path.text)
  end
  return take_at(holder, step, prefix == "" and step or prefix .. "." .. step, path, i, places,
    values)
end

--- Takes the values at a path out of decoded data: null stays in their places. What is missing or
--- null is left out.
---@param data table
---@param path catga.PersonalPath
---@param places string[]  gets where they were
---@param values any[]     gets the values
---@return string? fault   something stands where the path cannot go through
function M.take(data, path, places, values) return take(data, path, 1, "", places, values) end

-- The keys that lead to a place: names and numbers; nil when it is none.
local function keys_of(place)
  local keys = {}
  for part in (place .. "."):gmatch("([^.]*)%.") do
    local name, numbers = part:match("^([^%[%]]+)([%[%]%d]*)$")
    if not name or numbers:gsub("%[%d+%]", "") ~= "" then return nil end
    keys[#keys + 1] = name
    for number in numbers:gmatch("%d+") do keys[#keys + 1] = tonumber(number) end
  end
  return keys
end

--- Puts a value at a place that take has given.
---@param data table
---@param place string
---@param value any
---@return boolean ok  false: there is no such place
function M.put(data, place, value)
  local keys = keys_of(place)
  if not keys then return false end
  for i = 1, #keys - 1 do
    if type(data) ~= "table" then return false end
    data = data[keys[i]]
  end
  if type(data) ~= "table" or data[keys[#keys]] ~= json.null then return false end
  data[keys[#keys]] = value
  return true
end

return M
