--- Checks of options that several areas share. A check takes a value, and the definition of the
--- option as { kind, default, ... } with its bounds or choices from 3 on; it gives the value to
--- use, or nil and what is wrong with it: "is true or false".
local duration = require "catga.duration"
local json = require "catga.native.json"

local M = {}

local NAME_BYTES_MAX = 200
local TEXT_BYTES_MAX = 1024
local POSITION_MAX = 2 ^ 53

--- A name that becomes part of a stream's name.
function M.name(value)
  if type(value) == "string" and value ~= "" and #value <= NAME_BYTES_MAX
    and not value:find("[^%w_%-%.\128-\255]") and json.encode(value) then
    return value
  end
  return nil, ("has 1 to %d letters, digits, _, - and ."):format(NAME_BYTES_MAX)
end

function M.text(value)
  if type(value) == "string" and value ~= "" and #value <= TEXT_BYTES_MAX then return value end
  return nil, ("is a string of 1 to %d bytes"):format(TEXT_BYTES_MAX)
end

--- Types of events.
function M.list(value)
  local fault = "is a list of event types"
  if type(value) ~= "table" or #value == 0 then return nil, fault end
  local list = {}
  for i, name in ipairs(value) do
    if not M.text(name) then return nil, fault end
    list[i] = name
  end
  return list
end

function M.flag(value)
  if type(value) == "boolean" then return value end
  return nil, "is true or false"
end

M["function"] = function(value)
  if type(value) == "function" then return value end
  return nil, "is a function"
end

function M.count(value, known)
  if type(value) == "number" and value % 1 == 0 and value >= known[3] and value <= known[4] then
    return value
  end
  return nil, ("is a whole number from %d to %.0f"):format(known[3], known[4])
end

--- In milliseconds.
function M.duration(value)
  local ms, fault = duration.parse(value, "it")
  if ms then return ms end
  return nil, "is a duration: " .. fault
end

function M.choice(value, known)
  local names = {}
  for i, choice in ipairs(known[3]) do
    if choice == value then return value end
    names[i] = tostring(choice)
  end
  return nil, "is one of " .. table.concat(names, ", ")
end

--- Where a reader of the log begins.
function M.place(value)
  if value == "start" or value == "end" then return value end
  if M.position(value) then return value end
  return nil, "is \"start\", \"end\" or a position"
end

--- A position of the log, or 0.
function M.position(value)
  if type(value) == "number" and value >= 0 and value % 1 == 0 and value < POSITION_MAX then
    return value
  end
  return nil, "is a position"
end

return M
