--- Projections: read models that are built from the log's events by handlers, and their lives from
--- start to stop, over reloads and new versions.
---
--- Everything here can be rebuilt from the log: a version is a table of documents with a checkpoint
--- in `models.sqlite`. A new version is built beside the one that serves reads, and takes over when
--- it has caught up.
local errors = require "catga.error"
local tasks = require "catga.task"
local native = require "catga.native.model"
local model = require "catga.model"
local runners = require "catga.lazy".module "catga.projection.runner"
local registries = require "catga.registry"

local M = {}

local NAME_BYTES_MAX = 200
local VERSION_MAX = 2 ^ 31 - 1
local FIELDS = { version = true, on = true }

-- The table `on` of a definition: assigning a function registers a handler, once for each type.
local function handler_table(definition)
  return setmetatable({}, {
    __index = definition.handlers,
    __newindex = function(_, name, handler)
      local where = "projection " .. definition.name
      if type(name) ~= "string" or name == "" then
        error(where .. ": an event type is a string that is not empty", 2)
      end
      if type(handler) ~= "function" then
        error(("%s: the handler of %s is a function, got %s"):format(where, name, type(handler)), 2)
      end
      if definition.handlers[name] then
        error(("%s handles %s already"):format(where, name), 2)
      end
      definition.handlers[name] = handler
      if name:find("^Process") then definition.with_journals = true end
    end,
  })
end

local function set_field(definition, field, value)
  local where = "projection " .. definition.name
  if not FIELDS[field] then
    error(("%s has no field \"%s\"; set version, and handlers as on.<EventType>")
      :format(where, tostring(field)), 3)
  end
  if field == "version" then
    if type(value) ~= "number" or value % 1 ~= 0 or value < 1 or value > VERSION_MAX then
      error(("%s: the version is a whole number from 1, got %s"):format(where, tostring(value)), 3)
    end
    definition.version = value
    return
  end
  if type(value) ~= "table" then error(where .. ": on is a table of handlers", 3) end
  for name, handler in pairs(value) do definition.on[name] = handler end
end

--- Defines a projection; the script fills in `version` and `on.<EventType>`.
---@param registry catga.Registry
---@param name string  1 to 200 bytes: letters, digits, "_", "-" and "."
---@return table face
function M.define(registry, name)
  if type(name) == "string" and (#name > NAME_BYTES_MAX
    or name:find("[^%w_%-%.\128-\255]") or name:lower():find("^catga_")
    or name:lower():find("^sqlite_")) then
    error(("%s: \"%s\" cannot be the name of a projection: it has up to %d letters, digits, _, - "
      .. "and ., and does not begin with catga_ or sqlite_"):format(registries.caller(), name,
      NAME_BYTES_MAX), 0)
  end
  local definition = { name = name, version = 1, handlers = {} }
  registry:named("projection", name, definition)
  definition.on = handler_table(definition)
  return setmetatable({}, {
    __index = definition,
    __newindex = function(_, field, value) set_field(definition, field, value) end,
  })
end

---@class catga.Projections
---@field app catga.App
---@field models catga.Models?              open once there is a projection
---@field runners table<string, catga.Runner>  by name: of the version that the scripts define
---@field former table<string, catga.Runner>   by name: of the version that serves until then
---@field versions table<string, integer>   by name: the version that serves reads
---@field waiters table[]                   { position, future }
local Projections = {}
Projections.__index = Projections

---@param app catga.App
---@return catga.Projections
function M.new(app)
  return setmetatable({ app = app, runners = {}, former = {}, versions = {}, waiters = {} },
    Projections)
end

-- Reads all checkpoints: name -> version -> { position, is_serving }.
local function checkpoints(self)
  local list, err = model.await(self.models:list())
  if not list then error(err, 0) end
  local found = {}
  for i = 1, #list, 4 do
    found[#found + 1] = { name = list[i], version = tonumber(list[i + 1]),
      position = tonumber(list[i + 2]), is_serving = list[i + 3] == "1" }
  end
  return found
end

-- The error for a checkpoint beyond the log's tail; nil when there is none.
local function beyond_tail(self, found)
  local last = self.app.store:positions() - 1
  for _, checkpoint in ipairs(found) do
    if checkpoint.position > last then
      return errors.new("corrupt", ("read model %s (version %d) stands at position %d, but the "
        .. "event log ends at position %d: the log has lost durable events. Bring back the log's "
        .. "files; or, to go on with this log, delete %s and the files beside it that begin with "
        .. "its name: the read models are then rebuilt"):format(checkpoint.name,
        checkpoint.version, checkpoint.position, last, self.path or "the read models"))
    end
  end
end

local function open(self)
  local err
  self.path = self.app.data and self.app.data .. "/models.sqlite"
  self.models, err = native.open(self.path)
  if not self.models then error(err, 0) end
  local found = checkpoints(self)
  local lost = beyond_tail(self, found)
  if not lost then return found end
  self.models:close()
  self.models = nil
  if self.app.settings.durability == "fsync" or not self.path then error(lost, 0) end
  -- Without fsync the log may lose its end when the machine stops: that is what was asked for.
  self.app:say("warn", ("the event log has lost its end, as durability = \"%s\" allows; all read "
    .. "models are rebuilt"):format(self.app.settings.durability))
  for _, ending in ipairs { "", "-wal", "-shm" } do os.remove(self.path .. ending) end
  return open(self)
end

-- Makes what the definition's version needs and starts its runner.
local function launch(self, definition)
  local job = self.models:define(definition.name, definition.version)
  local position, is_serving = model.await(job)
  if not position then error(is_serving, 0) end
  local runner = runners.new(self, definition, position)
  runner.is_serving = is_serving
  if is_serving then self.versions[definition.name] = definition.version end
  self.runners[definition.name] = runner
  if next(definition.handlers) == nil then
    self.app:say("warn", ("projection %s handles no events"):format(definition.name))
  end
  runner:start()
end

-- Starts, in the order of names, the projections that have no runner yet.
local function launch_new(self)
  local definitions = self.app.registry.projections
  if next(definitions) == nil then return end
  if not self.models then
    for _, checkpoint in ipairs(open(self)) do
      if checkpoint.is_serving then self.versions[checkpoint.name] = checkpoint.version end
    end
  end
  for _, name in ipairs(registries.sorted_names(definitions)) do
    if not self.runners[name] then launch(self, definitions[name]) end
  end
end

--- Opens the read models and starts all projections; must run in a task. Raises when it cannot: a
--- checkpoint beyond the log's tail is proof of a lost log. May yield.
function Projections:start()
  local ok, failure = xpcall(launch_new, errors.catch, self)
  self.is_started = true
  self:moved()
  if ok then return end
  if self.app.on_fatal then self.app.on_fatal(failure) end
  error(failure, 0)
end

-- What a reload means for a projection that runs.
local function replace(self, runner, definition)
  local name = runner.name
  if definition and definition.version == runner.version then
    runner.definition = definition
    if runner.status == "failed" then runner:start() end
    return
  end
  self.runners[name] = nil
  if definition and runner.is_serving then
    self.former[name] = runner -- It goes on until the new version takes over.
  else
    runner:stop()
  end
end

--- Takes over the definitions of a new generation of scripts.
function Projections:reloaded()
  if not self.is_started or self.is_stopping then return end
  local definitions = self.app.registry.projections
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    replace(self, self.runners[name], definitions[name])
  end
  for _, name in ipairs(registries.sorted_names(self.former)) do
    local former, definition = self.former[name], definitions[name]
    if not definition or definition.version == former.version then
      self.former[name] = nil
      if definition then
        former.definition, self.runners[name] = definition, former
      else
        former:stop()
      end
    end
  end
  tasks.spawn(self.app, function()
    local ok, failure = xpcall(launch_new, errors.catch, self)
    if not ok then self.app:say("error", "projections: " .. failure.message) end
  end)
end

--- Makes a runner's version the one that serves reads; called by the runner when it has caught up.
--- Raises when it cannot. May yield.
---@param runner catga.Runner
function Projections:take_over(runner)
  local name, before = runner.name, self.versions[runner.name]
  local former = self.former[name]
  self.former[name] = nil
  if former then former:stop() end
  self.versions[name] = runner.version -- Jobs run in order: reads from now on come after it.
  local ok, err = model.await(self.models:serve(name, runner.version))
  if not ok then
    self.versions[name] = before
    error(err, 0)
  end
  runner.is_serving = true
  self.app:say("info", ("projection %s: version %d took over from version %s"):format(name,
    runner.version, tostring(before)))
end

--- A face for reading a projection's documents. Raises for a name that no script defines.
---@param name string
---@return catga.Model
function Projections:model(name)
  local definitions = self.app.registry.projections
  if not definitions[name] then
    local near = type(name) == "string" and registries.suggest(name, definitions)
    error(errors.new("unknown_projection", ("no projection is called %s%s"):format(tostring(name),
      near and "; did you mean " .. near .. "?" or "")), 0)
  end
  return model.new(self, name)
end

--- Where reads of a projection go, or nil and an error.
---@param name string
---@return catga.Models? models
---@return integer|catga.Error version
function Projections:serving(name)
  local version = self.versions[name]
  if self.models and version then return self.models, version end
  return nil, errors.new("closed", ("the read model %s is not open; it is while the app runs")
    :format(name))
end

local function describe(self, runner)
  local _, durable = self.app.store:positions()
  return { name = runner.name, version = runner.version, position = runner.reached,
    lag = math.max(0, durable - 1 - runner.reached), status = runner.status, error = runner.error,
    is_serving = runner.is_serving }
end

--- All projections by name; a version that is being built stands behind the one that serves.
---@return { name: string, version: integer, position: integer, lag: integer, status: string,
---  error: table?, is_serving: boolean }[]
function Projections:status()
  local list = {}
  for _, name in ipairs(registries.sorted_names(self.runners)) do
    if self.former[name] then list[#list + 1] = describe(self, self.former[name]) end
    list[#list + 1] = describe(self, self.runners[name])
  end
  return list
end

-- Have all that run reached the position?
local function reached(self, position)
  if not self.is_started then return false end
  for _, runner in pairs(self.runners) do
    if runner.status == "running" and runner.reached < position then return false end
  end
  return true
end

--- Something moved on or ended: wakes those whose position is reached.
function Projections:moved()
  if #self.waiters == 0 then return end
  local left = {}
  for _, waiter in ipairs(self.waiters) do
    if reached(self, waiter.position) then waiter.future:set() else left[#left + 1] = waiter end
  end
  self.waiters = left
end

--- Waits until all projections that run have the events up to a position in their documents. A
--- version that is being built counts, one that has failed does not. May yield.
---@param position integer
function Projections:wait_for(position)
  if self.is_stopping or reached(self, position) then return end
  local future = tasks.future()
  self.waiters[#self.waiters + 1] = { position = position, future = future }
  future:wait()
end

--- Ends all projections and closes the read models. What is not committed is handled again.
function Projections:stop()
  self.is_stopping = true
  for _, runner in pairs(self.former) do runner:stop() end
  for _, runner in pairs(self.runners) do runner:stop() end
  self:moved()
  if self.models then self.models:close() end
  self.models = nil
end

--- Ends as a crash would: nothing is waited for but the transaction that runs.
Projections.abandon = Projections.stop

return M
