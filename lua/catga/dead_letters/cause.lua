--- What is kept of a failure: texts that can be stored, the chain of causes, and the group of
--- failures that are alike.
local errors = require "catga.error"
local storable_text = require "catga.process.journal".storable_text

local M = {}

local CODE_BYTES_MAX = 200
local MESSAGE_BYTES_MAX = 4000
local TRACEBACK_BYTES_MAX = 4000
local CAUSES_MAX = 10       -- Links of a chain that are kept.
local GROUP_BYTES_MAX = 500

local function text_of(value, bytes_max) return storable_text(tostring(value), bytes_max) end

--- Code and message of an error, as they are stored.
---@param err any  an error value, or whatever was raised
---@return { code: string, message: string }
function M.reason(err)
  local e = errors.from(err)
  return { code = text_of(e.code, CODE_BYTES_MAX), message = text_of(e.message, MESSAGE_BYTES_MAX) }
end

--- The traceback of an error, as it is stored; nil: it has none.
---@param err any
---@return string?
function M.traceback(err)
  local traceback = type(err) == "table" and err.traceback
  if type(traceback) ~= "string" then return nil end
  return text_of((traceback:gsub("^%s+", "")), TRACEBACK_BYTES_MAX)
end

--- The errors that an error names as its cause, and theirs, the nearest first; nil: there is none.
---@param err any  `cause` is an error value or a text
---@return { code: string, message: string }[]?
function M.causes(err)
  local list, is_seen = {}, { [err] = true }
  local cause = type(err) == "table" and err.cause or nil
  while cause ~= nil and not is_seen[cause] and #list < CAUSES_MAX do
    is_seen[cause] = true
    list[#list + 1] = M.reason(cause)
    cause = type(cause) == "table" and cause.cause or nil
  end
  return list[1] and list or nil
end

-- file:line of a text that begins with it, or of the first line of a traceback that is no code of
-- ours.
local function place_of(message, traceback)
  local place = message and message:match("^%s*([^%s:]+%.lua:%d+):")
  if place then return place end
  for line in (traceback or ""):gmatch("[^\n]+") do
    place = line:match("^%s*([^%s:]+%.lua:%d+):")
    if place and not place:find("^lua/catga/") then return place end
  end
end

--- What failures have in common that are alike: kind, source, code and the place in the scripts.
---@param letter { kind: string, source: string, reason: table, traceback: string? }
---@return string
function M.group(letter)
  local place = place_of(letter.reason.message, letter.traceback)
  return text_of(("%s %s: %s%s"):format(letter.kind, letter.source, letter.reason.code,
    place and " at " .. place or ""), GROUP_BYTES_MAX)
end

return M
