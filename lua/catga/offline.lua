--- A data directory that no program has open, or scripts that nobody runs, served to a verb of the
--- command in its own process: the same requests as over HTTP, and nothing runs but what is asked
--- for.
local state = require "catga.state"
local errors = require "catga.error"
local apps = require "catga.app"
local http = require "catga.http"

local M = {}

local SIZE_MAX = "64MiB" -- Of an event: the app that will read it says what it takes.

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

-- Path and query of a target such as "/export?after=5".
local function split(target)
  local path, rest = target:match("^([^?]*)%??(.*)$")
  local query = {}
  for name, value in rest:gmatch("([^&=]+)=([^&]*)") do query[unescape(name)] = unescape(value) end
  return unescape(path), query
end

local function open(opts)
  local app, err = apps.open(opts)
  if not app then return nil, err end
  app.handling = 0
  state.app = app
  return app
end

-- Opens an app that is not started, and answers its requests.
local function serve(opts, opened)
  local ok, app, err = xpcall(open, errors.catch, opts)
  if not ok then app, err = nil, app end
  if not app then return opened(nil, err.message, err.code) end
  local handle = http.handler(app)
  opened(function(method, target, body, give)
    if method == nil then
      local done, fault = app:stop()
      return give(done and 0 or 1, fault and fault.message or "", "")
    end
    local path, query = split(target)
    handle(method, path, query, {}, body, function(status, _, text, name, value)
      give(status, text, name == "Catga-Next" and value or "")
    end)
  end)
end

--- Opens the data directory, without scripts; must run in a task.
---@param data string
---@param opened fun(call: function?, message: string?, code: string?)  call(method, target, body,
---  give) answers with give(status, body, next), in a task; call(nil) closes: give(ok, message)
function M.open(data, opened)
  serve({ data = data, define = function() end, settings = { message_size_max = SIZE_MAX } },
    opened)
end

--- Loads the scripts of a directory, without data; nothing of them runs. Must run in a task.
---@param dir string
---@param opened function  as for open
function M.open_scripts(dir, opened) serve({ dir = dir }, opened) end

return M
