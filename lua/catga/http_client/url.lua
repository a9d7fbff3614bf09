--- Urls of requests: taken apart, put together, and shown without their secrets.
local errors = require "catga.error"

local M = {}

local URL_BYTES_MAX = 65536
local SOCKET_PATH_MAX = 107 -- What the system's address of a socket holds.
-- Fields of a query whose values are not shown.
local SECRETS = { "token", "secret", "password", "passwd", "key", "signature", "sig", "auth",
  "credential", "session", "code" }

--- A url taken apart.
---@class catga.HttpUrl
---@field scheme "http"|"https"
---@field authority string    host and port
---@field rest string         path, query
---@field userinfo string?    "user:password", decoded
---@field unix_path string?   socket to connect to
---@field text string         without user, for the library

--- Text of percent codes.
---@param text string
---@return string
function M.decode(text)
  return (text:gsub("%%(%x%x)", function(code) return string.char(tonumber(code, 16)) end))
end

--- Percent codes for all but letters, digits and -._~
---@param text string
---@return string
function M.encode(text)
  return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function redact_query(query)
  return (query:gsub("([^&=]+)=([^&]*)", function(name, value)
    local lower = M.decode(name):lower()
    for _, secret in ipairs(SECRETS) do
      if lower:find(secret, 1, true) then return name .. "=***" end
    end
    return name .. "=" .. value
  end))
end

--- A url as it may be shown: without user and password, and without values of a query that look
--- like secrets.
---@param text string
---@return string
function M.redact(text)
  text = text:gsub("^(%a[%w+.-]*://)[^/?#]*@", "%1***@")
  text = text:gsub("#.*$", "")
  return (text:gsub("%?(.*)$", function(query) return "?" .. redact_query(query) end))
end

local function invalid(text, why)
  return nil, errors.new("invalid", ("url %s: %s"):format(M.redact(text):sub(1, 200), why))
end

local function query_of(query)
  local names, parts = {}, {}
  for name in pairs(query) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    local values = query[name]
    if type(values) ~= "table" then values = { values } end
    for _, value in ipairs(values) do
      parts[#parts + 1] = M.encode(tostring(name)) .. "=" .. M.encode(tostring(value))
    end
  end
  return table.concat(parts, "&")
end

-- The socket's path of http+unix://%2Frun%2Fx.sock/path.
local function parse_unix(text)
  local host, rest = text:match("^http%+unix://([^/?#]+)(.*)$")
  if not host then return invalid(text, "http+unix://PATH/..., its slashes as %2F") end
  local path = M.decode(host)
  if #path > SOCKET_PATH_MAX or path:find("%z") then
    return invalid(text, ("the path of a socket has at most %d bytes"):format(SOCKET_PATH_MAX))
  end
  if rest:sub(1, 1) ~= "/" then rest = "/" .. rest end
  return { scheme = "http", authority = "localhost", rest = rest, unix_path = path }
end

local function parse_plain(text)
  local scheme, authority, rest = text:match("^(%a[%w+.-]*)://([^/?#]*)(.*)$")
  if not scheme then return invalid(text, "begins with http://, https:// or http+unix://") end
  scheme = scheme:lower()
  if scheme ~= "http" and scheme ~= "https" then
    return invalid(text, "there are http, https and http+unix, not " .. scheme)
  end
  local userinfo, host = authority:match("^(.*)@(.-)$")
  if host then authority = host end
  if authority == "" then return invalid(text, "it names no host") end
  if rest:sub(1, 1) ~= "/" then rest = "/" .. rest end
  return { scheme = scheme, authority = authority, rest = rest,
    userinfo = userinfo and M.decode(userinfo) }
end

--- Takes a url apart.
---@param text string
---@param query table<string, any>?  fields to add; a list stands for several
---@return catga.HttpUrl? url
---@return catga.Error? err  "invalid"
function M.parse(text, query)
  if #text > URL_BYTES_MAX then
    return invalid(text, ("over %d bytes"):format(URL_BYTES_MAX))
  end
  if text:find("[%c ]") then
    return invalid(text, "blanks and control characters must be encoded, a blank as %20")
  end
  text = text:gsub("#.*$", "")
  local url, err = (text:find("^http%+unix:") and parse_unix or parse_plain)(text)
  if not url then return nil, err end
  if query and next(query) ~= nil then
    url.rest = url.rest .. (url.rest:find("?", 1, true) and "&" or "?") .. query_of(query)
  end
  url.text = url.scheme .. "://" .. url.authority .. url.rest
  return url
end

return M
