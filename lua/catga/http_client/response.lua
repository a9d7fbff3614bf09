--- The answer to a request. Its fields are data, so it can be the result of a step; its methods are
--- there until it was stored.
local errors = require "catga.error"
local state = require "catga.state"
local tasks = require "catga.task"
local json = require "catga.native.json"

local M = {}

-- Statuses that another attempt may change.
local RETRYABLE = { [408] = true, [425] = true, [429] = true, [500] = true, [502] = true,
  [503] = true, [504] = true }
local SHOWN_BYTES = 200 -- Of a body in an error.

---@class catga.HttpResponse
---@field status integer
---@field ok boolean                     status 200 to 299
---@field headers table<string, string>  names in lower case; any case finds them; several of one
---  name are joined by ", "
---@field url string                     that was asked last, without secrets
---@field redirects integer?             how many were followed
---@field body string?                   nil: it is streamed
local Response = {}
Response.__index = Response

local HEADERS = {
  __index = function(headers, name)
    if type(name) ~= "string" then return nil end
    local lower = name:lower()
    if lower ~= name then return rawget(headers, lower) end
  end,
}

local lists = setmetatable({}, { __mode = "k" })     -- All values of headers, by response.
local exchanges = setmetatable({}, { __mode = "k" }) -- What still has to be read.

local function parse_head(lines)
  local headers, all, last = setmetatable({}, HEADERS), {}, nil
  for line in lines:gmatch("[^\r\n]+") do
    local name, value = line:match("^([^%s:]+)%s*:%s*(.-)%s*$")
    if name and not line:find("^HTTP/") then
      name = name:lower()
      local list = all[name] or {}
      all[name], last = list, name
      list[#list + 1] = value
      headers[name] = table.concat(list, ", ")
    elseif last and line:find("^%s") then -- A value that goes on in the next line.
      local list = all[last]
      list[#list] = list[#list] .. " " .. line:match("^%s*(.-)%s*$")
      headers[last] = table.concat(list, ", ")
    end
  end
  return headers, all
end

--- The answer whose head has come.
---@param status integer
---@param lines string  of the head
---@param url string    as it may be shown
---@return catga.HttpResponse
function M.new(status, lines, url)
  local headers, all = parse_head(lines)
  local response = setmetatable({ status = status, ok = status >= 200 and status < 300,
    headers = headers, url = url }, Response)
  lists[response] = all
  return response
end

--- A response whose body is read piece by piece. It is aborted when the task ends.
---@param response catga.HttpResponse
---@param exchange catga.HttpExchange
---@param body_max integer?
---@param wrap fun(err: catga.Error): catga.Error  adds to errors what was asked
function M.stream(response, exchange, body_max, wrap)
  exchanges[response] = { exchange = exchange, left = body_max, wrap = wrap, task = state[1],
    body_max = body_max }
  tasks.at_end(state[1], exchange, function() exchange:close() end)
end

local function end_stream(response, stream)
  exchanges[response] = nil
  tasks.at_end(stream.task, stream.exchange, nil)
  stream.exchange:close()
end

--- All values of a header, in the order in which they came.
---@param name string
---@return string[]
function Response:header_all(name)
  local all = lists[self]
  if not all then return { self.headers[name:lower()] } end
  return all[name:lower()] or {}
end

--- The body as a value of JSON.
---@return any? value
---@return catga.Error? err  "invalid": it is none
function Response:json()
  if self.body == nil then
    return nil, errors.new("invalid", "the body was not read whole: leave stream and on_data out")
  end
  local value, err = json.decode(self.body)
  if value ~= nil or not err then return value end
  return nil, errors.new("invalid", ("%s: the body is no JSON: %s"):format(self.url, err.message))
end

--- The next piece of a streamed body. May yield.
---@return string? chunk     nil: that was all
---@return catga.Error? err  it broke off, or is larger than body_max
function Response:read()
  local stream = exchanges[self]
  if not stream then return nil end
  local chunk, err = stream.exchange:read()
  if chunk and stream.left then
    stream.left = stream.left - #chunk
    if stream.left < 0 then
      chunk, err = nil, errors.new("too_large", ("the body is over %d bytes"):format(
        stream.body_max))
    end
  end
  if chunk then return chunk end
  end_stream(self, stream)
  if err then return nil, stream.wrap(err) end
end

--- The pieces of a streamed body: for chunk in res:chunks() do ... end. A body that breaks off
--- raises. A loop that is left early: res:close(). May yield.
---@return fun(): string?
function Response:chunks()
  return function()
    local chunk, err = self:read()
    if err then error(err, 0) end
    return chunk
  end
end

--- Ends a streamed body where it stands. Harmless when it is read.
function Response:close()
  local stream = exchanges[self]
  if stream then end_stream(self, stream) end
end

-- Milliseconds that the server asks to wait.
local function retry_after_ms(response)
  local seconds = tonumber(response.headers["retry-after"] or "")
  return seconds and seconds >= 0 and seconds * 1000 or nil
end

--- The error that a status stands for, or nil when it is 200 to 299.
---@param method string?
---@return catga.Error?
function Response:error(method)
  if self.ok then return nil end
  local body = self.body and self.body ~= "" and ": " .. self.body:sub(1, SHOWN_BYTES) or ""
  return errors.new("http_status", ("%s%s answered %d%s"):format(method and method .. " " or "",
    self.url, self.status, body), { retryable = RETRYABLE[self.status] or false,
    status = self.status, retry_after_ms = retry_after_ms(self) })
end

--- Raises unless the status is 200 to 299.
---@return catga.HttpResponse self
function Response:raise()
  local err = self:error()
  if err then
    self:close()
    error(err, 0)
  end
  return self
end

return M
