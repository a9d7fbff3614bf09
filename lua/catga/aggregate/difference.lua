--- The difference of two plain values, as a list of changes with their paths.
local M = {}

-- "lines[2].sku"; a key that is no identifier stands in brackets.
local function path_of(path, key)
  if type(key) == "number" then return ("%s[%d]"):format(path, key) end
  if type(key) ~= "string" or not key:find("^[%a_][%w_]*$") then
    return ("%s[%q]"):format(path, tostring(key))
  end
  return path == "" and key or path .. "." .. key
end

local function comes_before(a, b)
  if type(a) ~= type(b) then return type(a) == "number" end
  return a < b
end

local function keys_of(a, b)
  local keys, seen = {}, {}
  for _, t in ipairs { a, b } do
    for key in pairs(t) do
      if not seen[key] then
        seen[key], keys[#keys + 1] = true, key
      end
    end
  end
  table.sort(keys, comes_before)
  return keys
end

local function compare(list, path, before, after)
  if type(before) == "table" and type(after) == "table" then
    for _, key in ipairs(keys_of(before, after)) do
      compare(list, path_of(path, key), before[key], after[key])
    end
  elseif before ~= after then
    list[#list + 1] = { path = path, before = before, after = after }
  end
end

--- What has changed from one value to another, in the order of the keys.
---@param before table
---@param after table
---@return { path: string, before: any, after: any }[] changes  nil: it was, or is, not there
function M.between(before, after)
  local list = {}
  compare(list, "", before, after)
  return list
end

return M
