--- Answers of the testing kit to catga.http: nothing reaches the network, what was asked is kept.
---
---   testing.app(dir, { http = {
---     ["GET https://shop.example/orders/42"] = { json = { id = "42" } },
---     ["https://shop.example/*"] = function(request) return { status = 404 } end,
---   } })
---   app.http_requests[1].method, .url, .path, .query, .headers, .body, .json
local errors = require "catga.error"
local tasks = require "catga.task"
local duration = require "catga.duration"
local json = require "catga.native.json"
local urls = require "catga.http_client.url"
local registries = require "catga.registry"

local M = {}

local FIELDS = { status = true, headers = true, body = true, json = true, chunks = true,
  delay = true, error = true }

--- One answer.
---@class catga.CannedAnswer
---@field status integer?     200 by default
---@field headers table<string, string|string[]>?
---@field body string?
---@field json any            the body as a value
---@field chunks string[]?    the body piece by piece
---@field delay string?       before the head, on the app's clock
---@field error { code: string, message: string?, retryable: boolean? }|string|nil  it fails so

---@class catga.CannedPool
---@field app catga.App
---@field answers table|function
---@field requests table[]  what was asked
local Pool = {}
Pool.__index = Pool

local Exchange = {}
Exchange.__index = Exchange

--- A client that answers by itself.
---@param app catga.App
---@param answers table<string, any>|fun(request: table): any  by "METHOD url" or "url", where *
---  at the end stands for anything; each an answer, a status, a body, a function of the request,
---  or a list of answers that are given in turn, the last one again and again
---@param requests table[]  where to put what was asked
---@return catga.CannedPool
function M.new(app, answers, requests)
  return setmetatable({ app = app, answers = answers, requests = requests, turns = {} }, Pool)
end

function Pool.close(_) end

function Pool:start(request)
  return setmetatable({ pool = self, request = request, sent = {} }, Exchange)
end

local function shown_url(url)
  if url.unix_path then return "http+unix://" .. urls.encode(url.unix_path) .. url.rest end
  return url.text
end

-- What the spec sees of a request.
local function describe(request, body)
  local url = request.url
  local path, query_text = url.rest:match("^([^?]*)%??(.*)$")
  local query, headers = {}, {}
  for name, value in query_text:gmatch("([^&=]+)=?([^&]*)") do
    query[urls.decode(name)] = urls.decode((value:gsub("%+", " ")))
  end
  for _, line in ipairs(request.headers) do
    local name, value = line:match("^([^:;]+)[:;]%s*(.*)$")
    local before = headers[name:lower()]
    headers[name:lower()] = before and before .. ", " .. value or value
  end
  headers.expect = nil
  local value = body and body ~= "" and json.decode(body) or nil
  return { method = request.method, url = shown_url(url), path = path, query = query,
    headers = headers, body = body, json = value }
end

local function match(pattern, text)
  if pattern:sub(-1) == "*" then return text:sub(1, #pattern - 1) == pattern:sub(1, -2) end
  return pattern == text
end

-- The answer for a request: the longest pattern that fits.
local function find(self, asked)
  if type(self.answers) == "function" then return self.answers end
  local best
  for pattern in pairs(self.answers) do
    local fits = match(pattern, asked.url) or match(pattern, asked.method .. " " .. asked.url)
    if fits and (not best or #pattern > #best) then best = pattern end
  end
  return best and self.answers[best], best
end

local function pick(self, asked)
  local answer, pattern = find(self, asked)
  if type(answer) == "function" then return answer(asked) end
  if type(answer) == "table" and answer[1] ~= nil then
    local turn = math.min((self.turns[pattern] or 0) + 1, #answer)
    self.turns[pattern] = turn
    answer = answer[turn]
    if type(answer) == "function" then return answer(asked) end
  end
  return answer
end

local function check(answer, asked)
  for name in pairs(answer) do
    if not FIELDS[name] then
      error(("the answer to %s %s has the field %s; there are %s"):format(asked.method, asked.url,
        tostring(name), table.concat(registries.sorted_names(FIELDS), ", ")), 0)
    end
  end
end

local function normalize(answer, asked)
  if type(answer) == "number" then return { status = answer } end
  if type(answer) == "string" then return { body = answer } end
  if type(answer) == "table" then
    check(answer, asked)
    return answer
  end
  return { error = { code = "no_answer", message = "the spec has no answer for this; give one in "
    .. "testing.app(..., { http = { [\"" .. asked.method .. " " .. asked.url .. "\"] = ... } })" } }
end

local function failure_of(given)
  if type(given) == "string" then given = { code = given } end
  return errors.new(given.code, given.message or given.code, { retryable = given.retryable
    or given.code == "timeout" or given.code == "refused" or given.code == "reset"
    or given.code == "dns" })
end

local function head_of(answer, body)
  local lines = { ("HTTP/1.1 %d"):format(answer.status or 200) }
  for _, name in ipairs(registries.sorted_names(answer.headers or {})) do
    local values = answer.headers[name]
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  if answer.json ~= nil then lines[#lines + 1] = "Content-Type: application/json" end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

function Exchange:write(piece)
  self.sent[#self.sent + 1] = piece
  return true
end

function Exchange.finish(_) end

-- Waits as long as the answer takes, or the request has time.
local function delay(self, answer)
  local app, request = self.pool.app, self.request
  local ms = answer.delay and duration.ms(answer.delay, "delay") or 0
  local limit = request.total_ms > 0 and math.min(request.total_ms, request.idle_ms)
    or request.idle_ms
  if ms > 0 then tasks.wait(app.clock.sleep, app.clock, math.min(ms, limit)) end
  if ms > limit then
    return errors.new("timeout", ("not done within %d ms"):format(limit), { retryable = true })
  end
end

--- May yield.
function Exchange:head()
  local request = self.request
  local asked = describe(request, request.pieces and table.concat(self.sent) or request.body)
  self.pool.requests[#self.pool.requests + 1] = asked
  local given, err = pick(self.pool, asked)
  if given == nil and err ~= nil then given = { error = err } end
  local answer = normalize(given, asked)
  local late = delay(self, answer)
  if late then return nil, late end
  if answer.error then return nil, failure_of(answer.error) end
  local body = answer.body or answer.json ~= nil and assert(json.encode(answer.json)) or nil
  self.chunks = answer.chunks or body and { body } or {}
  self.place, self.answer = 0, answer
  if request.method == "HEAD" then self.chunks = {} end
  return answer.status or 200, head_of(answer, body)
end

function Exchange:read()
  self.place = self.place + 1
  return self.chunks[self.place]
end

function Exchange:read_all()
  local body = table.concat(self.chunks)
  local most = self.request.body_max
  if most and #body > most then
    return nil, errors.new("too_large", ("the body is over %d bytes"):format(most))
  end
  return body
end

function Exchange:redirect()
  local headers = self.answer.headers or {}
  local place = headers.location or headers.Location
  if not place or place:find("^%a[%w+.-]*:") then return place end
  local url = self.request.url
  if place:sub(1, 1) ~= "/" then place = "/" .. place end
  return url.scheme .. "://" .. url.authority .. place
end

function Exchange.close(_) end

return M
