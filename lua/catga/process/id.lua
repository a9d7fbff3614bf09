--- The id of a process: out of its class, its input, or new.
local errors = require "catga.error"
local json = require "catga.native.json"

local M = {}

local ID_BYTES_MAX = 512

-- Whole numbers as their digits, as far as a number holds them.
local function number_id(number)
  if number % 1 ~= 0 then return number == number and ("%.17g"):format(number) or nil end
  return math.abs(number) <= 2 ^ 53 and ("%.0f"):format(number) or nil
end

-- An id is in the name of a stream, in keys and in messages: text, without control characters.
local function is_id(id)
  if type(id) ~= "string" or id == "" or #id > ID_BYTES_MAX then return false end
  if not id:find("[%c\128-\255]") then return true end
  return not id:find("%c") and json.encode(id) ~= nil
end

--- The id that a process of this class gets for an input.
---@param class catga.ProcessClass
---@param input any
---@param app catga.App
---@param given string?  an id that who starts it has given
---@return string? id
---@return catga.Error? err
function M.of(class, input, app, given)
  local id
  if given ~= nil then
    id = given
  elseif class.face.process_id then
    id = class.face.process_id(input)
  elseif type(input) == "string" then
    id = input
  elseif type(input) == "table" and input.id ~= nil then
    id = input.id
  else
    return app:new_id()
  end
  local text = type(id) == "number" and number_id(id) or id
  if is_id(text) then return text end
  return nil, errors.new("invalid", ("process %s: the process id must be UTF-8 text of 1 to %d "
    .. "bytes without control characters, or a whole number up to 2^53, got %s"):format(class.name,
    ID_BYTES_MAX, type(id) == "number" and ("%.17g"):format(id) or type(id)))
end

return M
