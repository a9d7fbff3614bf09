--- The testing kit: an app on a memory log and a virtual clock, inside a spec.
---
---   local testing = require "catga.testing"
---   local app = assert(testing.app("examples/orders", { stubs = { Pay = function() ... end } }))
---   local result, err = app:run("OrderProcess", { id = "1", amount = 5 })
---   app = app:crash()        -- what a kill would have left; a new app on the same log
---   app:stop()
local state = require "catga.state"
local errors = require "catga.error"
local apps = require "catga.app"
local tasks = require "catga.task"
local duration = require "catga.duration"
local clocks = require "catga.native.clock"
local native_task = require "catga.native.task"
local journal = require "catga.process.journal"
local scenarios = require "catga.testing.aggregate"

local M = {}

local opened = setmetatable({}, { __mode = "k" }) -- The test apps by their app.

local SKIP_MS_MAX = 366 * 86400000 -- Of one call: schedules would go on for ever.
local START_MS = 1767225600000 -- 2026-01-01T00:00:00Z, where virtual clocks start.

---@class catga.TestApp
---@field app catga.App
---@field clock userdata
---@field lines string[]  what the app said
---@field http_requests table[]?  what was asked by catga.http, when `http` answers
local TestApp = {}
TestApp.__index = TestApp

local function open(source, opts)
  local t = setmetatable({ source = source, opts = opts, lines = opts.lines or {} }, TestApp)
  t.clock = opts.clock or clocks.virtual(opts.start or START_MS)
  local app, err = apps.open {
    dir = type(source) == "string" and source or nil,
    define = type(source) == "function" and source or nil,
    clock = t.clock, memory = opts.memory, keys = opts.keys, manual = opts.manual, data = opts.data,
    settings = opts.settings, stubs = opts.stubs, config = opts.config,
    sink = function(level, text) t.lines[#t.lines + 1] = level .. " " .. text end,
  }
  if not app then return nil, err end
  t.app, opened[app] = app, t
  if opts.http then
    opts.http_requests = opts.http_requests or {}
    t.http_requests = opts.http_requests
    app.http_stub = require("catga.http_client.canned").new(app, opts.http, t.http_requests)
  end
  if not opts.main then app.registry.main = nil end
  local task = state[1]
  local before = task.app
  app:start()
  t.before = before and not before.stopping and before or nil
  task.app = app -- catga.* in the spec itself means the newest app.
  t:settle()
  return t
end

--- Runs a process once, then kills it at every record of its journal; see
--- lua/catga/testing/chaos.lua.
---@param source string|fun()
---@param name string
---@param input any
---@param opts table?
---@return string? fault  nil: it came to the same end every time
---@return integer kills
function M.chaos(source, name, input, opts)
  return require("catga.testing.chaos").run(function(from, given, more)
    for _, key in ipairs { "settings", "stubs", "http", "config" } do more[key] = given[key] end
    return open(from, more)
  end, source, name, input, opts)
end

-- Drops the tasks that an app which has ended leaves behind: a kill would have ended them.
local function drop_tasks(app)
  for _, task in ipairs(native_task.live()) do
    if task.app == app then native_task.drop(task) end
  end
end

--- Opens an app for a spec. Must run in a task, as specs do. A relative directory begins where
--- `catga test` was started.
---@param source string|fun()  app directory, or a function that registers things
---@param opts { stubs: table<string, function>?, settings: table?, start: number?, data: string?,
---  manual: boolean?, main: boolean?, http: table|function|nil,
---  config: table? }?  catga.main runs only with main = true; http: answers to catga.http, see
---  lua/catga/http_client/canned.lua; config: values of catga.config, before all others
---@return catga.TestApp? app
---@return catga.Error? err
function M.app(source, opts)
  return open(source, opts or {})
end

--- Runs everything that can run now; waits for outside work and projections. May yield.
function TestApp.settle(_)
  native_task.settle()
end

--- Turns the clock on, firing what becomes due in order. May yield.
---@param text string  duration
function TestApp:advance(text)
  local left = duration.ms(text, "advance")
  self:settle()
  while true do
    local ms = self.clock:next()
    if not ms or ms > left then break end
    left = left - ms
    self.clock:advance(ms)
    self.clock:fire()
    self:settle()
  end
  self.clock:advance(left)
  self:settle()
end

-- Runs fn as a task of the app; turns the clock to the next timer whenever everything waits.
local function call(t, fn, ...)
  local future = tasks.future()
  local function finish(ok, ...)
    if not ok then return future:set(false, (...)) end
    future:set(true, ...)
  end
  tasks.spawn(t.app, function(...) finish(xpcall(fn, errors.catch, ...)) end, ...)
  local skipped = 0
  while true do
    native_task.settle()
    if future.is_done then break end
    local ms = t.clock:next()
    if not ms then error("the app waits for something that no timer will bring", 3) end
    skipped = skipped + ms
    if t.app.schedules and skipped > SKIP_MS_MAX then
      error("the app waits for something that has not come in a year of its clock, while its "
        .. "schedules go on; app:advance turns the clock further", 3)
    end
    t.clock:advance(ms)
    t.clock:fire()
  end
  local function results(ok, ...)
    if not ok then error((...), 0) end
    return ...
  end
  return results(unpack(future.values, 1, future.n))
end

--- Runs a function as a task of this app and returns its results. Time is skipped as needed.
---@param fn function
function TestApp:call(fn, ...) return call(self, fn, ...) end

--- Sends a command.
function TestApp:send(name, data, opts)
  return call(self, function()
    local app = self.app
    return app.mediator:send("command", name, data, app.mediator.outside(opts))
  end)
end

--- Asks a query.
function TestApp:ask(name, data)
  return call(self, function() return self.app.mediator:send("query", name, data) end)
end

--- Publishes an event.
function TestApp:publish(name, data, opts)
  return call(self, function() return self.app.mediator:publish(name, data, opts) end)
end

--- Starts a process: id, or nil and an error.
function TestApp:start(name, input)
  return call(self, function()
    local id, err = self.app.engine:start(name, input)
    return id, err
  end)
end

--- Runs a process to its end: result, or nil and an error with the status.
function TestApp:run(name, input)
  return call(self, function() return self.app.engine:run(name, input) end)
end

--- Waits for a process: status, result, error.
function TestApp:wait(id)
  return call(self, function() return self.app.engine:wait(id) end)
end

--- Reads a projection's documents: app:model("Name"):get(key) inside app:call, or this shorthand.
---@param name string
---@param key string
function TestApp:document(name, key)
  return call(self, function() return self.app.projections:model(name):get(key) end)
end

--- A scenario of an aggregate: app:aggregate("Order"):given{...}:when(fn):expect{...}
---@param name string
---@return catga.AggregateScenario
function TestApp:aggregate(name)
  return scenarios.new(self.app.registry, name, function(fn, ...) return call(self, fn, ...) end)
end

--- The same in the app that was opened last.
---@param name string
---@return catga.AggregateScenario
function M.aggregate(name)
  local t = opened[state[1].app]
  if not t then error("open an app first: testing.app(...)", 2) end
  return t:aggregate(name)
end

--- All records of a process's journal.
---@param id string
---@return table[] records
function TestApp:journal(id)
  local stream = self.app.store:stream(journal.PREFIX .. id)
  return stream and journal.records(self.app, stream) or {}
end

--- The position the next record would get.
---@return integer
function TestApp:position() return (self.app.store:positions()) end

--- Ends the app as a kill would, keeping the records below a position (default: all), and opens it
--- again on them, with the same scripts and clock, or others.
---@param position integer?
---@param source (string|fun())?
---@return catga.TestApp? app
---@return catga.Error? err
function TestApp:crash(position, source)
  local snapshot = self:snapshot(position)
  self.app:abandon()
  drop_tasks(self.app)
  local opts = {}
  for key, value in pairs(self.opts) do opts[key] = value end
  opts.memory, opts.clock, opts.lines = snapshot, self.clock, self.lines
  opts.keys = self.app.personal
  return open(source or self.source, opts)
end

--- A copy of the records below a position, for `memory` of another app.
---@param position integer?
---@return userdata
---@return integer position  behind its last record: a commit is there as a whole, or not
function TestApp:snapshot(position)
  return self.app.store:snapshot(position or self:position())
end

--- Stops the app.
function TestApp:stop()
  local ok, err = call(self, function() return self.app:stop() end)
  drop_tasks(self.app)
  if state[1].app == self.app then state[1].app = self.before end
  return ok, err
end

--- Ends the app as a kill would, without opening it again.
function TestApp:kill()
  self.app:abandon()
  drop_tasks(self.app)
  if state[1].app == self.app then state[1].app = self.before end
  if self.clock then self.clock:close() end
end

return M
