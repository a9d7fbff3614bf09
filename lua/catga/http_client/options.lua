--- What a call of catga.http asks for: its options checked, and turned into a request.
local errors = require "catga.error"
local duration = require "catga.duration"
local settings = require "catga.settings"
local registries = require "catga.registry"
local json = require "catga.native.json"
local base64 = require "catga.base64"
local urls = require "catga.http_client.url"
local raw_pairs = require "catga.sandbox".raw.pairs

local M = {}

local METHODS = { GET = true, HEAD = true, POST = true, PUT = true, PATCH = true, DELETE = true,
  OPTIONS = true, TRACE = true }
local HEADERS_MAX = 500

--- The options of a request; all may be left out.
---@class catga.HttpOptions
---@field method string?
---@field headers table<string, string|number|string[]>?
---@field query table<string, any>?   added to the url; a list stands for several fields
---@field json any                    sent as JSON
---@field form table<string, any>?    sent as a form
---@field body string|(fun(): string?)|nil  sent as it is; a function gives it piece by piece
---@field body_size integer?          bytes that the function gives, when that is known
---@field auth { user: string, password: string }|{ token: string }|nil
---@field timeout string?             for everything; with `stream` there is none by default
---@field connect_timeout string?
---@field idle_timeout string?        without a byte in either direction
---@field body_max string?            of the answer, "16MiB"
---@field redirects integer?          followed at most; 0: none is followed
---@field on_data (fun(chunk: string))?  gets the body piece by piece; the answer has none then
---@field stream boolean?             the body is read by res:chunks() or res:read()
---@field raise boolean?              raise errors, also statuses that are not 200 to 299
---@field policy string|table|nil     of resilience, see catga.policy
---@field idempotency boolean|string|nil  true: header Idempotency-Key, the same in all attempts
---@field traceparent boolean|string|nil  true: header traceparent, of this conversation
---@field proxy string|false|nil      url; false: none, whatever the environment says
---@field ca_file string?             certificates to trust instead of the system's
---@field cert_file string?           own certificate (PEM)
---@field key_file string?            its key, when it is not in cert_file
---@field unsafe_tls boolean?         do not check who answers: for tests only
local KNOWN = { method = "string", headers = "table", query = "table", json = "any", form = "table",
  body = "any", body_size = "number", auth = "table", timeout = "duration",
  connect_timeout = "duration", idle_timeout = "duration", body_max = "size",
  redirects = "number", on_data = "function", stream = "boolean", raise = "boolean",
  policy = "any", idempotency = "any", traceparent = "any", proxy = "any", ca_file = "string",
  cert_file = "string", key_file = "string", unsafe_tls = "boolean" }

--- Raises at the caller of catga.http when an option is wrong.
---@param what string  the function, for errors
---@param opts catga.HttpOptions
---@param level integer  as of error, from here
function M.check(what, opts, level)
  for name, value in raw_pairs(opts) do
    local kind = KNOWN[name]
    if not kind then
      local near = registries.suggest(tostring(name), KNOWN)
      error(("%s: unknown option %s; there are %s%s"):format(what, tostring(name),
        table.concat(registries.sorted_names(KNOWN), ", "),
        near and "; did you mean " .. near .. "?" or ""), level + 1)
    end
    if kind == "duration" or kind == "size" then
      local ok, fault = pcall(kind == "duration" and duration.ms or settings.size, value,
        what .. ": " .. name)
      if not ok then error(tostring(fault), level + 1) end
    elseif kind ~= "any" and type(value) ~= kind then
      error(("%s: %s is a %s, got %s"):format(what, name, kind, type(value)), level + 1)
    end
  end
  local bodies = (opts.json ~= nil and 1 or 0) + (opts.form and 1 or 0)
    + (opts.body ~= nil and 1 or 0)
  if bodies > 1 then error(what .. ": one of json, form and body, not several", level + 1) end
  local kind = type(opts.body)
  if kind ~= "nil" and kind ~= "string" and kind ~= "function" then
    error(("%s: body is text or a function that gives pieces of it, got %s"):format(what, kind),
      level + 1)
  end
end

local function invalid(text, ...) return nil, errors.new("invalid", text:format(...)) end

-- Adds a header unless the caller has given it.
local function add(request, name, value)
  if not request.given[name:lower()] then
    request.headers[#request.headers + 1] = name .. ": " .. value
  end
end

local function add_given(request, name, value)
  local text = tostring(value)
  if type(name) ~= "string" or not name:find("^[%w!#$&'*+.^_`|~-]+$") then
    return invalid("header %s: that is no name of a header", tostring(name))
  end
  if (type(value) ~= "string" and type(value) ~= "number") or text:find("[\r\n%z]") then
    return invalid("header %s: a value is text without line ends", name)
  end
  request.given[name:lower()] = true
  -- libcurl leaves a header out whose line ends in a colon; with a semicolon it is sent empty.
  request.headers[#request.headers + 1] = text == "" and name .. ";" or name .. ": " .. text
  return true
end

local function add_all(request, headers)
  for _, name in ipairs(registries.sorted_names(headers)) do
    local values = headers[name]
    if type(values) ~= "table" then values = { values } end
    for _, value in ipairs(values) do
      local ok, err = add_given(request, name, value)
      if not ok then return nil, err end
    end
  end
  if #request.headers > HEADERS_MAX then return invalid("over %d headers", HEADERS_MAX) end
  return true
end

local function add_auth(request, auth, userinfo)
  if auth and auth.token then
    add(request, "Authorization", "Bearer " .. auth.token)
  elseif auth then
    add(request, "Authorization", "Basic " .. base64.encode(("%s:%s"):format(auth.user or "",
      auth.password or "")))
  elseif userinfo then
    if not userinfo:find(":", 1, true) then userinfo = userinfo .. ":" end
    add(request, "Authorization", "Basic " .. base64.encode(userinfo))
  end
end

local function form_of(form)
  local url = assert(urls.parse("http://x/", form))
  return (url.rest:gsub("^/%??", ""):gsub("%%20", "+"))
end

local function add_body(request, opts)
  if opts.json ~= nil then
    local text, err = json.encode(opts.json)
    if not text then return nil, err end
    request.body = text
    add(request, "Content-Type", "application/json")
    add(request, "Accept", "application/json")
  elseif opts.form then
    request.body = form_of(opts.form)
    add(request, "Content-Type", "application/x-www-form-urlencoded")
  elseif type(opts.body) == "function" then
    request.pieces, request.stream_size = opts.body, opts.body_size or -1
  elseif opts.body ~= nil then
    request.body = opts.body
    -- Otherwise libcurl says it were a form.
    add(request, "Content-Type", "application/octet-stream")
  elseif request.method == "POST" or request.method == "PUT" or request.method == "PATCH" then
    request.body = ""
  end
  return true
end

local function ms(text, default) return text and duration.ms(text) or default end

-- 0 stands for "no limit" in the library; a limit of "0s" is over at once.
local function at_least_1(value) return value and math.max(1, value) end

--- The request that options ask for.
---@param app catga.App
---@param method string
---@param url string
---@param opts catga.HttpOptions
---@return table? request
---@return catga.Error? err  "invalid"
function M.request(app, method, url, opts)
  method = method:upper()
  if not METHODS[method] and not method:find("^%u[%u-]*$") then
    return invalid("%s is no method of a request", method)
  end
  local parsed, err = urls.parse(url, opts.query)
  if not parsed then return nil, err end
  local set = app.settings
  local request = { method = method, url = parsed, headers = {}, given = {},
    total_ms = at_least_1(ms(opts.timeout, not opts.stream and set.http_timeout or nil)) or 0,
    connect_ms = at_least_1(ms(opts.connect_timeout, set.http_connect_timeout)),
    idle_ms = at_least_1(ms(opts.idle_timeout, set.http_idle_timeout)),
    body_max = opts.body_max and settings.size(opts.body_max, "body_max") or set.http_body_max,
    redirects_max = opts.redirects or set.http_redirects_max,
    is_streamed = (opts.stream or opts.on_data ~= nil) and true or false,
    proxy = opts.proxy == false and "" or opts.proxy or set.http_proxy or nil,
    ca_file = opts.ca_file or set.http_ca_file or nil, cert_file = opts.cert_file,
    key_file = opts.key_file, is_unverified = opts.unsafe_tls }
  if opts.stream and not opts.body_max then request.body_max = nil end
  if opts.on_data and not opts.body_max then request.body_max = nil end
  local ok
  ok, err = add_all(request, opts.headers or {})
  if ok then ok, err = add_body(request, opts) end
  if not ok then return nil, err end
  add_auth(request, opts.auth, parsed.userinfo)
  add(request, "Expect", "")
  add(request, "User-Agent", "catga")
  return request
end

return M
