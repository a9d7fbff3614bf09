--- All streams of an app: their lives from start to stop, over reloads, and what can be done with
--- them from outside.
local errors = require "catga.error"
local tasks = require "catga.task"
local commits = require "catga.commit"
local registries = require "catga.registry"
local lazy = require "catga.lazy"
local graphs = require "catga.stream.graph"

local processors = lazy.module "catga.stream.processor"
local live = lazy.module "catga.stream.live"

local M = {}

---@class catga.Streams
---@field app catga.App
---@field runners table<string, table>  by name: processors and live ones
local Streams = {}
Streams.__index = Streams

---@param app catga.App
---@return catga.Streams
function M.new(app) return setmetatable({ app = app, runners = {} }, Streams) end

local function graphs_of(app)
  local made = app.registry.streams
  return made and made.graphs or {}
end

local function launch(self, graph)
  local maker = graph.is_durable and processors or live
  local runner = maker.new(self.app, graph)
  self.runners[graph.name] = runner
  runner:start()
end

--- Starts those of the scripts that do not run; must run in a task.
function Streams:start()
  local all = graphs_of(self.app)
  for _, name in ipairs(registries.sorted_names(all)) do
    if not self.runners[name] then launch(self, all[name]) end
  end
end

-- Runs fn when nobody else starts or ends the runner. May yield.
local function alone(runner, fn)
  while runner.turn do runner.turn:wait() end
  local turn = tasks.future()
  runner.turn = turn
  local function finish(ok, ...)
    runner.turn = nil
    turn:set()
    if not ok then error((...), 0) end
    return ...
  end
  return finish(xpcall(fn, errors.catch))
end

-- Ends a runner and begins again with another graph.
local function replace(self, runner, graph)
  tasks.spawn(self.app, function()
    local ok, failure = xpcall(alone, errors.catch, runner, function()
      local next_runner
      if graph and not graph.is_durable and not runner.is_durable
        and graph.shape == runner.graph.shape and runner.status ~= "failed" then
        return runner:adopt(graph)
      end
      runner:finish()
      if self.runners[runner.name] ~= runner or self.is_stopping then return end
      self.runners[runner.name] = nil
      if not graph then return end
      next_runner = (graph.is_durable and processors or live).new(self.app, graph)
      self.runners[graph.name] = next_runner
      next_runner:start()
    end)
    if not ok and not self.app.is_closed then
      self.app:say("error", ("stream %s: %s"):format(runner.name, tostring(failure.message)))
    end
  end)
end

--- Why a generation of scripts cannot take over: the state of one of its streams does not fit. nil:
--- it can.
---@param app catga.App
---@param registry catga.Registry
---@return catga.Error?
function M.check(app, registry)
  for _, graph in pairs(registry.streams and registry.streams.graphs or {}) do
    local err = graph.is_durable and processors.mismatch(app, graph)
    if err then return err end
  end
end

--- Takes over the definitions of a new generation of scripts; state stays.
function Streams:reloaded()
  if self.is_stopping then return end
  local all = graphs_of(self.app)
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    local runner = self.runners[name]
    if runner.graph ~= all[name] then replace(self, runner, all[name]) end
  end
  self:start()
end

--- How many batches are under way.
---@return integer
function Streams:working()
  local count = 0
  for _, runner in pairs(self.runners) do count = count + runner.working end
  return count
end

--- Lets nothing more begin.
function Streams:halt()
  self.is_stopping = true
  for _, runner in pairs(self.runners) do runner:halt() end
end

--- Ends all; those that have recorded where they stand go on from there.
function Streams:stop()
  self:halt()
  for _, runner in pairs(self.runners) do runner:drop() end
end

--- Ends as a crash would.
Streams.abandon = Streams.stop

local function find(self, name)
  local runner = self.runners[name]
  if runner then return runner end
  return nil, errors.new("not_found", ("no stream is called %s%s"):format(tostring(name),
    graphs.hint(name, self.runners)))
end

--- All streams by name.
---@return table[]
function Streams:list()
  local list = {}
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    list[#list + 1] = self.runners[name]:describe()
  end
  return list
end

--- One of them, or nil and an error.
---@param name string
function Streams:get(name)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return runner:describe()
end

local function set_paused(self, runner, is_paused)
  if runner.is_durable then
    local ok, err = commits.records(self.app, function(add)
      add(runner.stream_name, "StreamPaused", { paused = is_paused })
    end)
    if not ok then return nil, err end
  end
  runner:pause(is_paused)
  return true
end

--- Stops a stream until it is resumed; a durable one also over a restart. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function Streams:pause(name)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return alone(runner, function() return set_paused(self, runner, true) end)
end

--- Goes on after a pause or a failure. May yield.
---@param name string
---@return boolean? ok
---@return catga.Error? err
function Streams:resume(name)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  return alone(runner, function()
    local ok, fault = set_paused(self, runner, false)
    if ok and runner.status == "failed" then runner:start() end
    return ok, fault
  end)
end

--- Begins a durable stream again behind a position, without its state. What its sinks have done
--- stays done. May yield.
---@param name string
---@param place integer|"start"|"end"
---@return boolean? ok
---@return catga.Error? err
function Streams:reset(name, place)
  local runner, err = find(self, name)
  if not runner then return nil, err end
  if not runner.is_durable then
    return nil, errors.new("invalid", ("stream %s is not durable: it has no place to begin at")
      :format(name))
  end
  local last = self.app.store:positions() - 1
  local to = place == "start" and 0 or place == "end" and last or place
  if type(to) ~= "number" or to % 1 ~= 0 or to < 0 or to > last then
    return nil, errors.new("invalid", ("the position is \"start\", \"end\" or a number from 0 to "
      .. "%d, not %s"):format(last, tostring(place)))
  end
  return alone(runner, function()
    runner:finish()
    local ok, fault = runner:begin_anew(to)
    runner:start()
    return ok or nil, fault
  end)
end

return M
