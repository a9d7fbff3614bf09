--- What a script or catga.lua says of policies: checked, and several of them made into one.
---
--- A specification is a table by kind; a kind's value is a table of fields, or the one value that
--- its short form means, or false: not this kind. Whoever comes later in a merge goes before, field
--- by field, and it stays known where each field is from.
local duration = require "catga.duration"
local kinds = require "catga.policy.kinds"

local M = {}

-- The registry requires what this module is required by.
local function registry() return require "catga.registry" end

local CHECK = {}

local function wrong(where, text, value)
  error(("%s %s, not %s"):format(where, text, type(value) == "string" and ('"%s"'):format(value)
    or tostring(value)), 0)
end

function CHECK.duration(where, field, value)
  local ms, fault = duration.parse(value, where)
  if not ms then error(fault, 0) end
  local least = field[3] or 1
  if ms < least then wrong(where, ("is a duration from %d ms"):format(least), value) end
  return ms
end

function CHECK.count(where, field, value)
  local low, high = field[3] or 1, field[4] or 1e9
  if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
    wrong(where, ("is a whole number from %d to %d"):format(low, high), value)
  end
  return value
end

function CHECK.number(where, field, value)
  local low, high = field[3], field[4]
  if type(value) ~= "number" or not (value >= low and value <= high) then
    wrong(where, ("is a number from %g to %g"):format(low, high), value)
  end
  return value
end

function CHECK.choice(where, field, value)
  for _, choice in ipairs(field[3]) do
    if value == choice then return value end
  end
  wrong(where, "is one of " .. table.concat(field[3], ", "), value)
end

-- So many calls, or a duration.
function CHECK.window(where, _, value)
  if type(value) ~= "string" then
    return CHECK.count(where, { "count", nil, 1, 100000 }, value)
  end
  return setmetatable({ ms = CHECK.duration(where, { "duration", nil, 10 }, value) },
    { __tostring = function(window) return window.ms .. " ms" end })
end

CHECK["function"] = function(where, _, value)
  if type(value) ~= "function" then wrong(where, "is a function", value) end
  return value
end

function CHECK.flag(where, _, value)
  if type(value) ~= "boolean" then wrong(where, "is true or false", value) end
  return value
end

function CHECK.text(where, _, value)
  if type(value) ~= "string" or value == "" then wrong(where, "is a string", value) end
  return value
end

function CHECK.any(_, _, value) return value end

-- A list of strings, or one, as a set.
function CHECK.codes(where, _, value)
  local list = type(value) == "string" and { value } or value
  if type(list) ~= "table" or #list == 0 then
    wrong(where, "is a list of error codes, such as { \"timeout\" }", value)
  end
  local set = {}
  for _, code in ipairs(list) do
    if type(code) ~= "string" or code == "" then wrong(where, "lists error codes", code) end
    set[code] = true
  end
  return set
end

-- The name of a field of the message, "customer.id" for one in a table; or a function.
function CHECK.key(where, _, value)
  if type(value) == "function" then return value end
  if type(value) ~= "string" or value == "" or value:find("^%.") or value:find("%.%.")
    or value:find("%.$") then
    wrong(where, "is the name of a field, or a function(message, ctx) that gives a key", value)
  end
  if not value:find(".", 1, true) then
    return function(data) return type(data) == "table" and data[value] or nil end
  end
  local path = {}
  for name in value:gmatch("[^%.]+") do path[#path + 1] = name end
  return function(data)
    for i = 1, #path do
      if type(data) ~= "table" then return nil end
      data = data[path[i]]
    end
    return data
  end
end

-- Event types: a list, or types with the field (or function) that gives the key each is about.
function CHECK.events(where, _, value)
  if type(value) == "string" then value = { value } end
  if type(value) ~= "table" or next(value) == nil then
    wrong(where, "is a list of event types, or keys by event type", value)
  end
  local by_type = {}
  for name, key in pairs(value) do
    if type(name) == "number" then
      if type(key) ~= "string" or key == "" then wrong(where, "lists event types", key) end
      by_type[key] = false
    else
      by_type[name] = CHECK.key(("%s.%s"):format(where, tostring(name)), nil, key)
    end
  end
  return by_type
end

-- How a value is shown: functions by their place.
local function shown(value)
  if type(value) == "function" then
    local info = debug.getinfo(value, "S")
    return ("function at %s:%d"):format(info.short_src, info.linedefined)
  end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, one in pairs(value) do copy[key] = shown(one) end
  return copy
end

local function unknown(where, what, name, names)
  local near = registry().suggest(tostring(name), names)
  error(("%s: unknown %s \"%s\"%s; there are %s"):format(where, what, tostring(name),
    near and ("; did you mean %s?"):format(near) or "",
    table.concat(registry().sorted_names(names), ", ")), 0)
end

local function parse_field(where, kind, name, value)
  local field = kind.fields[name]
  if not field then unknown(where, "option", name, kind.fields) end
  return { value = CHECK[field[1]](where .. "." .. name, field, value), shown = shown(value) }
end

local function parse_kind(where, name, value)
  if value == false then return false end
  local kind = kinds.of(name)
  local short = kind.short
  if type(value) ~= "table" or kind.is_short and kind.is_short(value) then
    if not short then wrong(where .. "." .. name, "is a table of options", value) end
    return { [short] = { value = CHECK[kind.fields[short][1]](where .. "." .. name,
      kind.fields[short], value), shown = shown(value) } }
  end
  local fields = {}
  for option, one in pairs(value) do
    fields[option] = parse_field(where .. "." .. name, kind, option, one)
  end
  return fields
end

--- Checks a specification; raises with its place.
---@param given any    { retry = { attempts = 3 }, timeout = "5s", attempts = 3, ... }
---@param where string  "policy payments", "command Pay"
---@return table<string, table|false> parsed  fields by kind, each { value, shown }
function M.parse(given, where)
  if type(given) ~= "table" then wrong(where, "is a table of policies", given) end
  local parsed = {}
  for name, value in pairs(given) do
    if kinds.is_kind(name) then
      parsed[name] = parse_kind(where, name, value)
    elseif not kinds.ALIASES[name] then
      unknown(where, "policy", name, kinds.names())
    end
  end
  for name, target in pairs(kinds.ALIASES) do
    local value = given[name]
    if value ~= nil then
      local kind, option = target[1], target[2]
      local fields = parsed[kind]
      if fields == false or fields and fields[option] then
        error(("%s: %s says twice what %s.%s is; take one of them"):format(where, name, kind,
          option), 0)
      end
      if not fields then
        fields = {}
        parsed[kind] = fields
      end
      fields[option] = parse_field(where, kinds.of(kind), option, value)
    end
  end
  return parsed
end

--- One source of a merge.
---@class catga.PolicySource
---@field parsed table<string, table|false>
---@field from string    "a.lua:3", "catga.lua", "policy payments, a.lua:3"
---@field policy string? the name of the policy whose memory is shared

--- One kind as it holds in the end.
---@class catga.PolicyKind
---@field p table<string, any>        values, durations in ms
---@field shown table<string, any>    as they were written
---@field from table<string, string>  where each is from; "default"
---@field policy string?              all of it is from the policy of this name

local function fill_defaults(kind, one)
  for name, field in pairs(kind.fields) do
    if one.p[name] == nil and field[2] ~= nil then
      one.p[name] = CHECK[field[1]](name, field, field[2])
      one.shown[name], one.from[name] = field[2], "default"
    end
  end
end

local function take(one, fields, source)
  for name, field in pairs(fields) do
    one.p[name], one.shown[name], one.from[name] = field.value, field.shown, source.from
  end
  if one.policy == nil then
    one.policy = source.policy or false
  elseif one.policy ~= source.policy then
    one.policy = false
  end
end

--- Makes one of several; later ones go before.
---@param sources catga.PolicySource[]
---@param where string  for errors
---@return table<string, catga.PolicyKind>? effective  by kind; nil: nothing at all
function M.merge(sources, where)
  local effective = {}
  for _, source in ipairs(sources) do
    for name, fields in pairs(source.parsed) do
      if fields == false then
        effective[name] = nil
      else
        local one = effective[name] or { p = {}, shown = {}, from = {} }
        effective[name] = one
        take(one, fields, source)
      end
    end
  end
  for name, one in pairs(effective) do
    local kind = kinds.of(name)
    fill_defaults(kind, one)
    one.policy = one.policy or nil
    local ok, fault = pcall(kind.check or function() end, one.p)
    if not ok then error(("%s: %s"):format(where, tostring(fault)), 0) end
  end
  return next(effective) and effective
end

return M
