--- Error values: { code, message, retryable } with a readable tostring.
---@class catga.Error
---@field code string        what went wrong, for programs
---@field message string     what, where and how to mend it, for people
---@field retryable boolean  may the same work succeed when tried again?
---@field traceback string?  of a raised Lua error
---@field file string?       of a syntax error or a divergence
local M = {}

local NO_MEMORY = "not enough memory" -- What LuaJIT raises, without calling a message handler.

local Error = {}
Error.__index = Error
Error.__name = "catga.Error"
function Error.__tostring(e) return e.code .. ": " .. e.message end

--- Is the value an error value of ours or of the host?
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and type(value.code) == "string" and value.code ~= ""
end

--- Makes an error value. It is not retryable unless it says so.
---@param code string        e.g. "payment_refused"
---@param message string?    for people; the code when left out
---@param opts { retryable: boolean? }?  other fields are kept as data
---@return catga.Error
function M.new(code, message, opts)
  if type(code) ~= "string" or code == "" then
    error("catga.error: the code must be a string that is not empty, got " .. type(code), 2)
  end
  if message ~= nil and type(message) ~= "string" then
    error("catga.error: the message must be a string, got " .. type(message), 2)
  end
  local e = setmetatable({ code = code, message = message or code, retryable = false }, Error)
  if opts then
    for key, value in pairs(opts) do e[key] = value end
  end
  return e
end

local function describe_table(value)
  local mt = getmetatable(value)
  if type(mt) == "table" and mt.__tostring then return tostring(value) end
  if type(value.message) == "string" then return value.message end
  return "an error value of type table without a code; raise catga.error(code, message) instead"
end

--- Turns whatever was raised or returned as an error into an error value.
---@param failure any
---@return catga.Error
function M.from(failure)
  if M.is(failure) then
    if getmetatable(failure) ~= nil and type(failure.message) == "string" then return failure end
    local e = M.new(failure.code, nil, failure)
    if type(e.message) ~= "string" then e.message = e.code end
    return e
  end
  if failure == NO_MEMORY then
    return M.new("no_memory", "ran into the memory cap and was stopped; keep less in memory, or "
      .. "raise memory_max in catga.lua", { retryable = true })
  end
  if type(failure) == "string" then
    return M.new("error", failure, { retryable = true })
  end
  if type(failure) == "table" then
    return M.new("error", describe_table(failure), { retryable = true })
  end
  return M.new("error", "an error value of type " .. type(failure), { retryable = true })
end

--- Message handler for xpcall: an error value, with the traceback where there was a plain string.
---@param failure any
---@return catga.Error
function M.catch(failure)
  local e = M.from(failure)
  if type(failure) == "string" then e.traceback = debug.traceback("", 2) end
  return e
end

--- What of an error is stored in a journal.
---@param e catga.Error
---@return { code: string, message: string, retryable: boolean }
function M.stored(e)
  return { code = e.code, message = tostring(e.message), retryable = e.retryable == true }
end

return M
