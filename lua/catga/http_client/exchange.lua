--- One request and its answer on the wire: what the client needs of the native side. The testing
--- kit has another kind with the same methods, see lua/catga/http_client/canned.lua.
local errors = require "catga.error"
local tasks = require "catga.task"
local fetch = require "catga.native.fetch"

local M = {}

local RETRYABLE = { timeout = true, dns = true, refused = true, reset = true }

--- Connections of an app.
---@class catga.HttpPool
---@field app catga.App
---@field native catga.FetchPool
local Pool = {}
Pool.__index = Pool

---@class catga.HttpExchange
---@field native catga.Fetch
---@field is_sent boolean?  the body of the request went out, or need not any more
local Exchange = {}
Exchange.__index = Exchange

--- Opens the client of an app.
---@param app catga.App
---@return catga.HttpPool? pool
---@return catga.Error? err  libcurl is missing
function M.open(app)
  local set = app.settings
  local native, err = fetch.pool {
    connections_max = set.http_connections_max,
    host_connections_max = set.http_host_connections_max,
    idle_connections_max = set.http_idle_connections_max,
  }
  if not native then return nil, err end
  return setmetatable({ app = app, native = native }, Pool)
end

--- Aborts what is under way and closes the connections.
function Pool:close() self.native:close() end

--- Starts a request.
---@param request table  of lua/catga/http_client/options.lua
---@return catga.HttpExchange? exchange
---@return catga.Error? err
function Pool:start(request)
  local most = self.app.settings.http_requests_max
  if self.native:count() >= most then
    return nil, errors.new("limit", ("%d requests are under way, which is the most "
      .. "(http_requests_max in catga.lua)"):format(most), { retryable = true })
  end
  local native, err = self.native:start {
    method = request.method, url = request.url.text, unix_path = request.url.unix_path,
    proxy = request.proxy, ca_file = request.ca_file, cert_file = request.cert_file,
    key_file = request.key_file, is_unverified = request.is_unverified,
    headers = request.headers, body = request.body, streams_body = request.pieces ~= nil,
    stream_size = request.stream_size, connect_ms = request.connect_ms,
    total_ms = request.total_ms, idle_ms = request.idle_ms,
    body_max = not request.is_streamed and request.body_max or 0,
  }
  if not native then return nil, err end
  return setmetatable({ native = native }, Exchange)
end

-- Waits; what is interrupted is over.
local function wait(self, what)
  local ok, failure = pcall(tasks.wait, self.native.wait, self.native, what)
  if ok then return end
  self:close()
  error(failure, 0)
end

-- nil and the error of a request that failed; nothing otherwise.
local function failure_of(self)
  local outcome, message = self.native:outcome()
  if outcome == nil or outcome == "ok" then return end
  return nil, errors.new(outcome, message, { retryable = RETRYABLE[outcome] or false })
end

--- Sends a piece of the body; waits while many are on the way. May yield.
---@param piece string
---@return boolean goes_on  false: the answer has come already
function Exchange:write(piece)
  self.native:write(piece)
  wait(self, "room")
  return self.native:outcome() == nil and self.native:head() == nil
end

--- The body is whole.
function Exchange:finish() self.native:finish() end

--- Waits for the head of the answer. May yield.
---@return integer? status
---@return string|catga.Error lines  of the head
function Exchange:head()
  wait(self, "head")
  local status, lines = self.native:head()
  if status then return status, lines end
  return failure_of(self)
end

--- Waits for the next bytes of the body. May yield.
---@return string? chunk     nil: that was all
---@return catga.Error? err  it broke off
function Exchange:read()
  wait(self, "data")
  local chunk = self.native:take()
  if chunk then return chunk end
  return failure_of(self)
end

--- Waits for the whole body. May yield.
---@return string? body
---@return catga.Error? err
function Exchange:read_all()
  wait(self, "end")
  local none, err = failure_of(self)
  if err then return none, err end
  return self.native:take() or ""
end

--- The absolute url that the answer sends to, once it is over.
---@return string?
function Exchange:redirect() return self.native:redirect() end

--- Aborts what is under way. Harmless when repeated.
function Exchange:close() self.native:close() end

return M
