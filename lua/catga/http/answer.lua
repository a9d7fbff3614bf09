--- What the handlers of HTTP requests share: answers, problem documents (RFC 9457), arguments.
---
--- A handler is called with the app, the name behind the folder of the path (or nothing) and the
--- request, { query, headers, data }; it gives status, content type, body and at most one header.
local errors = require "catga.error"
local codec = require "catga.native.json"
local times = require "catga.time"

local M = {}

local JSON = "application/json"
local PROBLEM = "application/problem+json"

local STATUS_OF = {
  not_found = 404, validation = 422, invalid = 422, conflict = 409, exists = 409, busy = 409,
  timeout = 504, closed = 503, failed = 503, fenced = 503, disk_full = 507, no_memory = 503,
  error = 500, script_error = 500, io_error = 500, corrupt = 500, would_deadlock = 500,
  permission = 500, apply_failed = 500, upcast_failed = 500, deleted = 410, truncated = 410,
  forgotten = 410, ended = 409, forbidden = 403, rate_limited = 429, circuit_open = 503,
  bulkhead_full = 503, locked = 409, lock_lost = 503, behind = 503, projection_failed = 503,
}

local TITLES = {
  [400] = "bad request", [403] = "forbidden", [404] = "not found", [405] = "method not allowed",
  [409] = "conflict", [410] = "gone",
  [413] = "too large", [422] = "refused", [429] = "too many", [500] = "failed",
  [503] = "unavailable",
  [504] = "not done in time", [507] = "no space left",
}

local function status_of(err)
  if err.code:find("^unknown_") then return 404 end
  if err.code == "limit" then return err.retryable and 503 or 422 end
  return STATUS_OF[err.code] or 422
end

--- A problem document.
---@param status integer
---@param code string
---@param message string
---@param more table?  further fields
---@return integer status
---@return string content_type
---@return string body
function M.problem(status, code, message, more)
  local document = { type = "about:blank", title = TITLES[status] or "failed", status = status,
    code = code, detail = message }
  for name, value in pairs(more or {}) do document[name] = value end
  return status, PROBLEM, assert(codec.encode(document))
end

--- The problem document of an error.
---@param err any      a catga.Error, or what was raised
---@param more table?  further fields
---@return integer status
---@return string content_type
---@return string body
---@return string? header_name  "Retry-After"
---@return string? header_value
function M.refuse(err, more)
  err = errors.from(err)
  more = more or {}
  more.retryable = err.retryable == true
  local after = err.retry_after_ms
  if not after then return M.problem(status_of(err), err.code, tostring(err.message), more) end
  more.retry_after_ms = after
  local status, kind, body = M.problem(status_of(err), err.code, tostring(err.message), more)
  return status, kind, body, "Retry-After", tostring(math.ceil(after / 1000))
end

--- The answer that is a value; more results are a header.
---@param status integer
---@param value any
---@param ... string?  name and value of the header
---@return integer status
---@return string content_type
---@return string body
function M.answer(status, value, ...)
  local text, err = codec.encode(value)
  if not text then return M.refuse(errors.new("error", "the answer: " .. err.message)) end
  return status, JSON, text, ...
end

--- The same for a value that may be more than JSON can hold, as those of processes with a
--- serializer: what JSON has not is shown as well as it can be.
---@param status integer
---@param value any
---@param ... string?  name and value of the header
---@return integer status
---@return string content_type
---@return string body
function M.answer_shown(status, value, ...)
  if codec.encode(value) then return M.answer(status, value, ...) end
  return M.answer(status, require("catga.process.serializer").shown(value), ...)
end

--- Is a flag of the query set?
---@param value string?
---@return boolean
function M.is_set(value)
  return value ~= nil and value ~= "0" and value ~= "false"
end

--- Percent-encodes a name for a path.
---@param text string
---@return string
function M.escape(text)
  return (text:gsub("[^%w%-%._~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
end

--- Calls fn, which may wait for long: a graceful stop does not wait for that. May yield.
---@param app catga.App
---@param fn function
---@return any ...  its results
function M.waiting(app, fn, ...)
  app.handling = app.handling - 1
  local function finish(ok, ...)
    app.handling = app.handling + 1
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn, ...))
end

--- A whole number of the query, or false and what to answer.
---@param query table<string, string>
---@param name string
---@param least number
---@param most number
---@return boolean ok
---@return any value  nil: it is not there; or the status, content type and body of the answer
function M.number_of(query, name, least, most)
  local text = query[name]
  if text == nil then return true, nil end
  local number = text:find("^%d+$") and tonumber(text)
  if not number or number < least or number > most then
    return false, M.problem(400, "invalid",
      ("%s must be a whole number from %d to %.0f, got \"%s\""):format(name, least, most, text))
  end
  return true, number
end

--- A point in time of the query as Unix ms, or nothing; and what is wrong with it.
---@param query table<string, string>
---@param name string
---@return number? ms
---@return string? fault
function M.time_of(query, name)
  local text = query[name]
  if text == nil then return nil end
  -- Four digits would be a year.
  return times.parse(text:find("^%d+$") and #text ~= 4 and tonumber(text) or text, name)
end

--- Several whole numbers of the query, or nothing and what to answer.
---@param query table<string, string>
---@param wanted table<string, number[]>  { name = { least, most } }
---@return table<string, number>? values
function M.numbers_of(query, wanted)
  local values = {}
  for name, range in pairs(wanted) do
    local ok, value, kind, text = M.number_of(query, name, range[1], range[2])
    if not ok then return nil, value, kind, text end
    values[name] = value
  end
  return values
end

--- What is expected of a stream, as a query says it.
---@param text string?
---@return integer|string|nil
function M.expect_of(text)
  return text and text:find("^%d+$") and tonumber(text) or text
end

--- The list of types in a query, separated by commas.
---@param text string?
---@return string[]?
function M.types_of(text)
  if not text then return nil end
  local list = {}
  for name in text:gmatch("[^,]+") do list[#list + 1] = name end
  return list
end

return M
