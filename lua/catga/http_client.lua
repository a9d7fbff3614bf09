--- HTTP requests of scripts.
---
---   local res, err = catga.http.get("https://example.org/orders/42", { timeout = "5s" })
---   if res and res.ok then local order = res:json() ... end
---   catga.http.post(url, { json = { id = "42" }, idempotency = true, raise = true })
---
--- A status is no error, unless `raise` asks for it. In a step the call counts against the step's
--- timeout, and ends with it.
local state = require "catga.state"
local errors = require "catga.error"
local host = require "catga.native.host"
local effect = require "catga.face".effect
local options = require "catga.http_client.options"
local responses = require "catga.http_client.response"
local urls = require "catga.http_client.url"

local M = {}

-- Redirects that keep method and body; after the others the next request is a GET.
local KEEPS = { [307] = true, [308] = true }
local FOLLOWED = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }
local REPEATABLE = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true }
local PRIVATE = { authorization = true, cookie = true, ["proxy-authorization"] = true }
local ABOUT_BODY = { ["content-type"] = true, ["content-length"] = true,
  ["content-encoding"] = true }

local function pool_of(app)
  if app.http_stub then return app.http_stub end
  if app.http_client then return app.http_client end
  local pool, err = require("catga.http_client.exchange").open(app)
  if not pool then return nil, err end
  app.http_client = pool
  return pool
end

-- Says in an error what was asked.
local function wrapper(request)
  return function(err)
    local url = request.url
    local shown = urls.redact(url.unix_path and "http+unix://" .. url.unix_path .. url.rest
      or url.text)
    local copy = errors.new(err.code, ("%s %s: %s"):format(request.method, shown, err.message), err)
    copy.message = ("%s %s: %s"):format(request.method, shown, err.message)
    return copy
  end
end

-- Sends a body that comes piece by piece; stops when the answer is there before its end.
local function send_pieces(exchange, pieces)
  local ok, failure = xpcall(function()
    for piece in pieces do
      if type(piece) ~= "string" then
        error("the body's function gives text, then nil; it gave a " .. type(piece), 0)
      end
      if not exchange:write(piece) then return end
    end
  end, errors.catch)
  if ok then return exchange:finish() end
  exchange:close()
  error(failure, 0)
end

local function without(headers, names)
  local kept = {}
  for _, line in ipairs(headers) do
    if not names[line:match("^[^:;]+"):lower()] then kept[#kept + 1] = line end
  end
  return kept
end

local function refuse(text, ...) return nil, errors.new("redirect", text:format(...)) end

-- The request that a redirect leads to.
local function redirected(request, status, place)
  local url, err = urls.parse(place)
  if not url then return nil, err end
  if request.url.scheme == "https" and url.scheme ~= "https" then
    return refuse("redirected to %s, which is not encrypted", urls.redact(place))
  end
  local copy = {}
  for name, value in pairs(request) do copy[name] = value end
  copy.url = url
  local is_same = url.authority == request.url.authority and url.scheme == request.url.scheme
  if is_same then
    url.unix_path = request.url.unix_path
  else
    copy.headers = without(copy.headers, PRIVATE)
    copy.cert_file, copy.key_file = nil, nil
  end
  if KEEPS[status] then
    if copy.pieces then
      return refuse("redirected by %d, but a body given by a function cannot be sent again",
        status)
    end
  elseif not (copy.method == "HEAD" or copy.method == "GET") then
    copy.method, copy.body, copy.pieces = "GET", nil, nil
    copy.headers = without(copy.headers, ABOUT_BODY)
  end
  return copy
end

-- One request and the head of its answer: the response and its exchange, or nil and an error.
local function send(pool, request)
  local exchange, err = pool:start(request)
  if not exchange then return nil, err end
  if request.pieces then send_pieces(exchange, request.pieces) end
  local status, lines = exchange:head()
  if not status then
    exchange:close()
    return nil, lines
  end
  local url = request.url
  return responses.new(status, lines, urls.redact(url.unix_path
    and "http+unix://" .. urls.encode(url.unix_path) .. url.rest or url.text)), exchange
end

-- The body of an answer that is not streamed to the caller.
local function read(response, exchange, opts, request)
  if not opts.on_data then
    local body, err = exchange:read_all()
    exchange:close()
    if not body then return nil, err end
    response.body = body
    return response
  end
  responses.stream(response, exchange, request.body_max, function(err) return err end)
  while true do
    local chunk, err = response:read()
    if err then return nil, err end
    if not chunk then return response end
    local ok, failure = xpcall(opts.on_data, errors.catch, chunk)
    if not ok then
      response:close()
      error(failure, 0)
    end
  end
end

-- Sends, follows redirects, reads: the response, or nil and an error.
local function perform(pool, request, opts)
  local followed = 0
  while true do
    local wrap = wrapper(request)
    local response, exchange = send(pool, request)
    if not response then return nil, wrap(exchange) end
    response.redirects = followed > 0 and followed or nil
    local is_redirect = FOLLOWED[response.status] and response.headers.location
      and request.redirects_max > 0
    if not is_redirect then
      if opts.stream then
        responses.stream(response, exchange, request.body_max, wrap)
        return response
      end
      local done, err = read(response, exchange, opts, request)
      if not done then return nil, wrap(err) end
      return response
    end
    exchange:read_all()
    local place = exchange:redirect()
    exchange:close()
    if followed >= request.redirects_max then
      return nil, wrap(errors.new("redirect", ("redirected more than %d times"):format(followed)))
    end
    local next_request, err = redirected(request, response.status, place or "")
    if not next_request then return nil, wrap(err) end
    request, followed = next_request, followed + 1
  end
end

-- The key of what the running step or handler does next, the same in all its attempts.
local function effect_key(task)
  local ctx, p = task.ctx, task.process
  if ctx then
    ctx.sent = ctx.sent + 1
    return ctx.key .. "/" .. ctx.sent
  end
  if not (task.limit and p) then return nil end
  p.nth = p.nth + 1
  local id = p.id:gsub("[%%/]", { ["%"] = "%25", ["/"] = "%2F" })
  return id .. "/" .. p.run .. "/" .. (p.path or p.key or p.op) .. "/" .. p.nth
end

local function add_header(request, name, value)
  if not request.given[name:lower()] then
    request.headers[#request.headers + 1] = name .. ": " .. value
  end
end

local function add_idempotency(request, wanted, level)
  if not wanted then return end
  local key = wanted
  if wanted == true then
    key = effect_key(state[1])
    if not key then
      error("catga.http: idempotency = true is for steps and handlers, whose work has a key; "
        .. "here give one: idempotency = \"order-42\"", level + 1)
    end
  end
  add_header(request, "Idempotency-Key", tostring(key))
end

-- The trace of a conversation is named by its correlation id.
local function add_traceparent(app, request, wanted)
  if not wanted then return end
  if type(wanted) == "string" then return add_header(request, "traceparent", wanted) end
  local task = state[1]
  local of = task.ctx and task.ctx.correlation_id
    or task.process and (task.process.correlation_id or task.process.id) or app:new_id()
  add_header(request, "traceparent", ("00-%s-%s-01"):format(host.sha256(of):sub(1, 32),
    host.sha256(app:new_id()):sub(1, 16)))
end

-- With a policy a status that may change counts as a failure; the last answer is given anyway.
local function with_policy(app, wanted, opts, fn)
  local wrapped = require("catga.policy").wrap(app, opts.policy, function()
    local response, err = fn()
    if not response then return nil, err end
    local failure = response:error()
    if not (failure and failure.retryable) then return response end
    failure.response = response
    return nil, failure
  end, { idempotent = opts.idempotency ~= nil or REPEATABLE[wanted.method] })
  local response, err = wrapped()
  if response or not (err and err.response) then return response, err end
  return err.response
end

local function request(what, method, url, opts, level)
  local app = effect(what, level)
  opts = opts or {}
  if type(url) ~= "string" then
    error(("%s: the url is text, got %s"):format(what, type(url)), level)
  end
  if type(opts) ~= "table" then
    error(("%s: the options are a table, got %s"):format(what, type(opts)), level)
  end
  options.check(what, opts, level)
  local wanted, err = options.request(app, method, url, opts)
  local pool
  if wanted then pool, err = pool_of(app) end
  local response
  if pool then
    add_idempotency(wanted, opts.idempotency, level)
    add_traceparent(app, wanted, opts.traceparent)
    local function attempt() return perform(pool, wanted, opts) end
    if opts.policy then
      response, err = with_policy(app, wanted, opts, attempt)
    else
      response, err = attempt()
    end
  end
  if not opts.raise then return response, err end
  if not response then error(err, 0) end
  local failure = response:error(wanted.method)
  if not failure then return response end
  response:close()
  error(failure, 0)
end

--- Sends a request and waits for the answer. May yield.
---@param url string  http, https, or http+unix://%2Fpath%2Fof.sock/path
---@param opts catga.HttpOptions?  also `method`, GET by default
---@return catga.HttpResponse? response
---@return catga.Error? err  timeout, refused, dns, reset (retryable); tls, too_large, redirect,
---  protocol, invalid, limit, http_failed
function M.request(url, opts)
  local method = type(opts) == "table" and opts.method or "GET"
  local response, err = request("catga.http.request", method, url, opts, 4)
  return response, err
end

for _, method in ipairs { "get", "post", "put", "patch", "delete", "head" } do
  local what, upper = "catga.http." .. method, method:upper()
  --- The same with the method of its name. May yield.
  ---@param url string
  ---@param opts catga.HttpOptions?
  ---@return catga.HttpResponse? response
  ---@return catga.Error? err
  M[method] = function(url, opts)
    local response, err = request(what, upper, url, opts, 4)
    return response, err
  end
end

return M
