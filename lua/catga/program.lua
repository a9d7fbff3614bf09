--- What the C program around an app calls: opening it, sending it messages, stopping it.
---
--- Every function runs in a task; answers go to a function of C, as JSON text or as an error.
local state = require "catga.state"
local errors = require "catga.error"
local host = require "catga.native.host"
local codec = require "catga.native.json"
local apps = require "catga.app"
local settings = require "catga.settings"
local http = require "catga.http"
local protected = require "catga.protected"

local M = {}

local GUARD_MS_MIN = 20 -- The guard is not finer than that.
local WARM_UP_MS = 100  -- After the start.
local LOOK_MS = 5       -- How often a stop looks whether handlers still run.

--- An open app as C holds it.
---@class catga.Program
---@field app catga.App
---@field request function  handles one HTTP request
local Program = {}
Program.__index = Program

-- The guard stands before the scripts are loaded: loading may run too long as well.
local function apply_settings(opts)
  local known = opts.dir and settings.load(opts.dir) or settings.resolve {}
  if not known then return end -- apps.open says what is wrong.
  if opts.guard and known.handler_timeout > 0 then
    host.guard(math.max(GUARD_MS_MIN, math.floor(known.handler_timeout)))
  end
  if known.memory_max > 0 then host.set_memory_max(known.memory_max) end
end

-- Registers the handlers written in C in every generation of the scripts.
local function registrar(handlers)
  return function(registry)
    for _, handler in ipairs(handlers) do
      local fn = handler.fn
      registry:handler(handler.kind, { name = handler.name, handle = function(data)
        local json, err = codec.encode(data)
        if not json then return nil, err end
        local answer, code, message = fn(json)
        if not answer then return nil, errors.new(code, message) end
        return codec.decode(answer)
      end })
    end
  end
end

local function open(opts)
  apply_settings(opts)
  local app, err = apps.open {
    dir = opts.dir, data = opts.data, on_fatal = opts.on_fatal,
    natives = #opts.handlers > 0 and registrar(opts.handlers) or nil,
  }
  if not app then return nil, err end
  state.app = app
  app.handling = 0 -- Messages from outside whose handlers run.
  return setmetatable({ app = app, request = http.handler(app) }, Program)
end

--- Opens an app; must run in a task. opts.opened gets the program, or nil and an error.
---@param opts { dir: string?, data: string?, guard: boolean, handlers: table[], opened: function,
---  on_fatal: fun(err) }
function M.open(opts)
  local ok, program, err = xpcall(open, errors.catch, opts)
  if not ok then program, err = nil, program end
  opts.opened(program, err)
end

--- Begins the app's own work: recovery, projections, main, watching.
---@param watch boolean  load the scripts anew when they change
function Program:start(watch)
  self.app:start()
  -- Not before it serves, and not in a program that ends at once.
  self.app.clock:after(WARM_UP_MS, protected.warm_up)
  if not watch or not self.app.dir then return end
  local ok, err = self.app:watch()
  if not ok then
    self.app:say("warn", "changed scripts will not be loaded by themselves: " .. err.message)
  end
end

local function decode(app, json)
  if json == "" then return nil end
  if #json > app.settings.message_size_max then
    return nil, errors.new("limit", ("the message has %d bytes, more than message_size_max (%d)")
      :format(#json, app.settings.message_size_max))
  end
  return codec.decode(json)
end

-- What a message of each kind does.
local PERFORM = {
  command = function(app, name, data, key)
    return app.mediator:send("command", name, data, key and app.mediator.outside { key = key })
  end,
  query = function(app, name, data) return app.mediator:send("query", name, data) end,
  event = function(app, name, data) return app.mediator:publish(name, data) end,
  process = function(app, name, data)
    local id, err = app.engine:start(name, data)
    return id, err
  end,
  result = function(app, id)
    local status, result, err = app.engine:wait(id)
    if not status then return nil, errors.new("not_found", "there is no process " .. id) end
    return result, err
  end,
}

local function perform(app, kind, name, json, key)
  if app.stopping or app.is_draining then
    return nil, errors.new("closed", "the app is stopping", { retryable = true })
  end
  local data, fault = decode(app, json)
  if fault then return nil, fault end
  local value, err = PERFORM[kind](app, name, data, key)
  if value == nil and err ~= nil then return nil, err end
  local ok, lost = app:flushed() -- What leaves the program rests only on what is durable.
  if not ok then return nil, lost end
  return codec.encode(value)
end

--- Handles one message of the C program; must run in a task. May yield.
---@param kind "command"|"query"|"event"|"process"|"result"
---@param name string   of the message or process; the id for "result"
---@param json string   its data; "" for none
---@param key string?
---@param answer fun(json: string?, code: string?, message: string?, retryable: boolean?)
function Program:call(kind, name, json, key, answer)
  local app = self.app
  state[1].app = app
  local counts = kind ~= "result" and 1 or 0
  app.handling = app.handling + counts
  local ok, text, err = xpcall(perform, errors.catch, app, kind, name, json, key)
  app.handling = app.handling - counts
  if not ok then text, err = nil, text end
  if text then return answer(text) end
  err = errors.from(err)
  answer(nil, err.code, tostring(err.message), err.retryable == true)
end

-- A failed log has nothing to wait for: the program ends as a crash would end it.
local function stop(app)
  app.is_draining = true
  if not app.is_failed then
    local deadline = app.clock:mono() + app.settings.stop_timeout
    while app.handling > 0 and app.clock:mono() < deadline do app.clock:sleep(LOOK_MS) end
    return app:stop()
  end
  if app.watcher then app.watcher:stop() end
  app:abandon()
  app.clock:close()
  return true
end

--- Stops the app: messages whose handlers run are answered first. Must run in a task; `stopped`
--- gets nothing, or what went wrong. May yield.
---@param stopped fun(message: string?)
function Program:stop(stopped)
  state[1].app = self.app
  local ok, done, err = xpcall(stop, errors.catch, self.app)
  if not ok then err = done end
  stopped(err and tostring(errors.from(err).message))
end

return M
